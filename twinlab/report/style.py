"""How figures look: colours for colour-blind readers, units on every axis, words for those who do not see."""

from __future__ import annotations

import base64
import io
import textwrap
from typing import Any, Self

import matplotlib as mpl
import numpy as np
import xarray as xr
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

# Okabe and Ito (2008), without their yellow, which is faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_STYLE: Any = {
    "font.size": 9.5,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelcolor": "#27313d",
    "axes.edgecolor": "#8a96a3",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e8ee",
    "grid.linewidth": 0.7,
    "xtick.color": "#5b6776",
    "ytick.color": "#5b6776",
    "legend.frameon": False,
    "axes.prop_cycle": cycler(color=COLOURS),
    "figure.dpi": 100,
    "savefig.dpi": 150,
}


class Plot(Figure):
    """A figure that shows itself in a notebook with a text for those who do not see it.

    It needs no pyplot state and no backend: the notebook shows it when it is a cell's last value or is given
    to ``display``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.alt = "figure"

    def say(self, alt: str) -> Self:
        """Set the text that stands for the picture."""
        self.alt = " ".join(alt.split())
        return self

    def png(self) -> bytes:
        """The picture."""
        buffer = io.BytesIO()
        with mpl.rc_context(_STYLE):
            self.savefig(buffer, format="png", bbox_inches="tight", facecolor="white")
        return buffer.getvalue()

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        picture = self.png()
        width = (
            int.from_bytes(picture[16:20], "big") * 96 // _STYLE["savefig.dpi"]
        )  # IHDR; 96 page pixels an inch
        shown = {"alt": self.alt, "width": width}
        return {"image/png": base64.b64encode(picture).decode(), "text/plain": self.alt}, {"image/png": shown}


def axes(
    rows: int = 1, columns: int = 1, *, width_in: float = 8.0, height_in: float = 3.6, **grid: Any
) -> tuple[Plot, np.ndarray]:
    """A figure in the house style and its axes, shape (rows, columns)."""
    with mpl.rc_context(_STYLE):
        plot = Plot(figsize=(width_in, height_in), layout="constrained")
        return plot, plot.subplots(rows, columns, squeeze=False, **grid)


def shades(count: int) -> list[Any]:
    """Colours of ordered series, dark to light, all visible on white."""
    return [mpl.colormaps["viridis"](v) for v in np.linspace(0.05, 0.85, max(count, 2))][:count]


def quantity(array: xr.DataArray, fallback: str = "") -> str:
    """Axis label of a labelled variable: meaning and unit."""
    name = str(array.attrs.get("long_name") or array.name or fallback)
    units = pretty(str(array.attrs.get("units", "")))
    words = f"{name[:1].upper()}{name[1:]}" + (f" [{units}]" if units and units != "1" else "")
    return textwrap.fill(words, 44)


def pretty(units: str) -> str:
    """Units with their powers raised.

    Examples
    --------
    >>> pretty("HU2 mm2"), pretty("g cm-3"), pretty("mGy")
    ('HU² mm²', 'g cm⁻³', 'mGy')
    """
    raised = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    words = []
    for word in units.split():
        stem = word.rstrip("-0123456789")
        words.append(stem + word[len(stem) :].translate(raised))
    return " ".join(words)


def extent(image: xr.DataArray) -> tuple[float, float, float, float]:
    """Outer edges (left, right, bottom, top) of a 2-D image, mm, first row on top as stored."""
    rows, columns = (np.asarray(image[d], float) for d in image.dims)
    dr, dc = (float(v[1] - v[0]) if v.size > 1 else 1.0 for v in (rows, columns))
    return columns[0] - dc / 2, columns[-1] + dc / 2, rows[-1] + dr / 2, rows[0] - dr / 2


def bare(ax: Axes) -> None:
    """No ticks, no frame: for images."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def scale_bar(ax: Axes, *, length_mm: float = 100.0, colour: str = "white") -> None:
    """Bar of a known length in the lower left corner of an image in mm."""
    left, right = ax.get_xlim()
    bottom, top = ax.get_ylim()
    while length_mm > 0.45 * abs(right - left):
        length_mm /= 2
    x0, y0 = left + 0.05 * (right - left), bottom + 0.06 * (top - bottom)
    ax.add_line(Line2D([x0, x0 + np.sign(right - left) * length_mm], [y0, y0], color=colour, linewidth=2.2))
    text_y = y0 + 0.025 * (top - bottom)
    label = f"{length_mm / 10:g} cm" if length_mm >= 10 else f"{length_mm:g} mm"
    ax.text(x0, text_y, label, color=colour, fontsize=8, ha="left", va="bottom")


def sides(ax: Axes, left: str, right: str, *, colour: str = "white") -> None:
    """Letters of the patient's sides at the image's edges."""
    for x, letter, align in ((0.02, left, "left"), (0.98, right, "right")):
        ax.text(
            x,
            0.5,
            letter,
            transform=ax.transAxes,
            color=colour,
            fontsize=8,
            ha=align,
            va="center",
            alpha=0.85,
        )


def frame(ax: Axes, box: tuple[float, float, float, float], *, colour: str = COLOURS[5]) -> None:
    """Rectangle (left, right, bottom, top) in data units."""
    left, right, bottom, top = box
    patch = Rectangle((left, bottom), right - left, top - bottom, fill=False, edgecolor=colour, linewidth=1.3)
    ax.add_patch(patch)
