"""Displaced focal spots: the same detector seen from another point, as a scan of the plain kind.

A focal spot that is shifted in the frame of the gantry is an undisplaced one of another radius at another
view angle; only the directions to the channels and the heights of the rows differ. Views that share a shift
are projected together, with kernels that know nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from twinlab.schema import refuse


@dataclass(frozen=True)
class Focus:
    """Views that share one displacement of the focal spot, and the detector as it is seen from there.

    Attributes
    ----------
    views : int array
        Which views.
    radius : float
        Distance of the displaced spot from the axis [mm].
    turn : float
        View angle of the displaced spot minus that of the undisplaced one [rad].
    rise : float
        z of the displaced spot minus that of the undisplaced one [mm]; rows lie lower by it.
    along, across, lengths : array (n_channel,)
        See :func:`twinlab.kernels.project.detector_rays`, from the displaced spot.
    """

    views: np.ndarray
    radius: float
    turn: float
    rise: float
    along: np.ndarray
    across: np.ndarray
    lengths: np.ndarray


def foci(
    shift_mm: np.ndarray | None,
    n_view: int,
    *,
    source_to_isocentre_mm: float,
    along: np.ndarray,
    across: np.ndarray,
    lengths: np.ndarray,
) -> Iterator[Focus]:
    """Groups of views by their displacement.

    Parameters
    ----------
    shift_mm : array (n_view, 3) or (3,), optional
        Tangential (along growing view angle), radial (away from the isocentre) and z.
    n_view : int
    along, across, lengths : array (n_channel,)
        Detector as seen from the undisplaced spot, around which an arc is centred.

    Raises
    ------
    InputError
        Another shape, or a spot displaced onto the axis.
    """
    if shift_mm is None or not np.any(shift_mm):
        yield Focus(np.arange(n_view), source_to_isocentre_mm, 0.0, 0.0, along, across, lengths)
        return
    shift = np.asarray(shift_mm, float)
    if shift.shape not in ((3,), (n_view, 3)):
        refuse("focal_shift_mm", f"shape (3,) or ({n_view}, 3): tangential, radial, z", shift.shape)
    states, member = np.unique(np.broadcast_to(shift, (n_view, 3)), axis=0, return_inverse=True)
    for state, (tangential, radial, rise) in enumerate(states):
        x, y = tangential, source_to_isocentre_mm + radial
        if y <= 0:
            refuse("focal_shift_mm", f"a radial shift above {-source_to_isocentre_mm:g} mm", radial)
        turn = np.arctan2(x, y)
        # the cell as seen from the displaced spot, then in the frame whose central ray meets the axis
        forward, lateral = lengths * along + radial, lengths * across - tangential
        forward, lateral = (
            forward * np.cos(turn) - lateral * np.sin(turn),
            lateral * np.cos(turn) + forward * np.sin(turn),
        )
        length = np.hypot(forward, lateral)
        yield Focus(
            np.flatnonzero(member.ravel() == state), float(np.hypot(x, y)), float(turn), float(rise),
            forward / length, lateral / length, length,
        )  # fmt: skip
