"""Points over which a reading is averaged: on the focal spot, on the detector cell, in the time of a view.

A reading is the mean of signals, not of line integrals, over these points; each is one more projection.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from twinlab.scanner import Protocol


@dataclass(frozen=True)
class Sample:
    """One point of the lattice over focal spot, cell and view.

    Attributes
    ----------
    shift_mm : (tangential, radial, z)
        Focal spot from its middle: along the rotation, away from the isocentre, towards the head.
    channel_fraction, row_fraction : float
        Place in the cell, in cells from its centre; channels ascending, rows towards the head.
    view_fraction : float
        Time from the middle of the view, in view steps.
    weight : float
        Share of the reading.
    """

    shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    channel_fraction: float = 0.0
    row_fraction: float = 0.0
    view_fraction: float = 0.0
    weight: float = 1.0


def sub_samples(protocol: Protocol) -> tuple[Sample, ...]:
    """Points that a protocol's ``sampling`` asks for: the product of midpoint rules, equal weights.

    The focal spot has the width and length of ``tube.focal_spot_mm`` as seen from the isocentre. It lies on the
    slope of the target, so that a point further towards the head is further from the isocentre by
    ``1 / tan(anode angle)``: off the central ray the spot looks wider. A cell is the square root of the fill
    factor of its pitch in both directions, and a view lasts one view step.

    Parameters
    ----------
    protocol : Protocol

    Returns
    -------
    tuple of Sample
        One of zeros when every count is 1.
    """
    counts, tube = protocol.sampling, protocol.scanner.tube
    width, length = tube.focal_spot_mm
    slope = 1.0 / math.tan(math.radians(tube.anode_angle_deg))
    active = math.sqrt(protocol.scanner.detector.fill_factor)
    axes = [
        width * midpoints(counts.focal_width),
        length * midpoints(counts.focal_length),
        active * midpoints(counts.cell_channel),
        active * midpoints(counts.cell_row),
        midpoints(counts.view),
    ]
    points = list(itertools.product(*(map(float, axis) for axis in axes)))
    return tuple(
        Sample((across, slope * along, along), channel, row, view, 1.0 / len(points))
        for across, along, channel, row, view in points
    )


def midpoints(n: int) -> np.ndarray:
    """Middles of ``n`` equal parts of the interval from -1/2 to 1/2.

    Examples
    --------
    >>> midpoints(2)
    array([-0.25,  0.25])
    """
    return (np.arange(n) + 0.5) / n - 0.5
