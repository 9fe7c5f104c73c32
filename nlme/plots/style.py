"""The one look of all pictures: colours that stay apart in print, axes that name their unit, when an axis is logarithmic.

Colours are from Okabe & Ito's palette for colour-blind readers. Blue and vermilion also differ in lightness, and lines
differ in dash and width, so that a black-and-white print loses nothing.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterable, Mapping, Sequence

import matplotlib
import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nlme.errors import DataError, name_error

INK = "#222222"
BLUE = "#0072B2"
VERMILION = "#D55E00"
GREY = "#8A8A8A"
PALE = "#C9D9E6"
COLOURS = (BLUE, VERMILION, INK, "#009E73", "#CC79A7", "#E69F00")  # of lines beside each other

OBSERVED = dict(linestyle="none", marker="o", markersize=4, markerfacecolor="none", markeredgecolor=INK, markeredgewidth=0.8)
CENSORED = dict(linestyle="none", marker="v", markersize=5, markerfacecolor=GREY, markeredgecolor=INK, markeredgewidth=0.6)
DOSE = dict(color=INK, linestyle="none", marker="^", markersize=4.5)
IDENTITY = dict(color=INK, linewidth=0.9, linestyle=(0, (5, 3)))
TREND = dict(color=VERMILION, linewidth=1.8, linestyle="-")
INDIVIDUAL = dict(color=BLUE, linewidth=1.5, linestyle="-")
POPULATION = dict(color=VERMILION, linewidth=1.2, linestyle=(0, (4, 2)))

_RC = {
    "font.size": 9,
    "font.family": "sans-serif",
    "text.parse_math": False,  # a $ in an ID or a unit is a letter
    "text.usetex": False,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-4, 5),
    "axes.unicode_minus": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.dpi": 110,
    "savefig.dpi": 180,
    "svg.fonttype": "path",  # the letters travel with the file: a page opened offline needs no fonts
    "svg.hashsalt": "nlme",  # the same picture gives the same file
}

WIDTH = 7.2  # inches: the text width of an A4 page
MANY_POINTS = 1000  # beyond this, points are drawn as an image inside a vector file


class Picture(Figure):
    """A Figure that a notebook shows without pyplot."""

    def _repr_png_(self) -> bytes:
        return _bytes(self, "png")


def picture(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Decorator of every drawing function: the house style holds inside, the user's own settings outside."""

    @functools.wraps(draw)
    def drawn(*args, **options):
        with matplotlib.rc_context(_RC):
            return draw(*args, **options)

    return drawn


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """Empty figure, sizes in inches, whose layout makes room for its labels."""
    figure = Picture(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06)
    return figure


def svg(figure: Figure) -> str:
    """The figure as an SVG document (vector lines, letters as outlines)."""
    return _bytes(figure, "svg").decode()


def png(figure: Figure, dpi: int) -> bytes:
    """The figure as a PNG file of so many dots an inch."""
    return _bytes(figure, "png", dpi=dpi)


def _bytes(figure: Figure, form: str, **options) -> bytes:
    out = io.BytesIO()
    with matplotlib.rc_context(_RC):
        figure.savefig(out, format=form, metadata={"Date": None} if form == "svg" else None, **options)
    return out.getvalue()


def legend(target: Figure | Axes, handles: Sequence, words: Sequence[str], **options) -> None:
    """A legend of a figure or of axes.  matplotlib leaves out a word that begins with an underscore, so the words come in later."""
    made = target.legend(handles, [f"{k}" for k in range(len(handles))], **options)
    for text, word in zip(made.get_texts(), words, strict=True):
        text.set_text(word)


def axis_label(what: str, unit: str | None) -> str:
    """'Time (h)', or 'Time' where no unit is known."""
    return f"{what} ({unit})" if unit else what


def subject_title(identity) -> str:
    """'ID 17'; the beginning of an ID that is longer than a panel is wide."""
    text = " ".join(str(identity).split())
    return f"ID {text if len(text) <= 20 else text[:19] + '…'}"


def known_units(units: Mapping[str, str] | None, names: Iterable[str]) -> dict[str, str]:
    """The units given by the user, of time, doses and the quantities ``names``.

    None is taken from the model's parameters: a clearance in mL/min does not say that the data count minutes, for the model may
    convert.  An axis has no unit rather than a guessed one.

    Raises
    ------
    DataError
        No dict, or a unit of something else.
    """
    if units is not None and not isinstance(units, Mapping):
        raise DataError(f'units=: a dict, such as {{"conc": "mg/L", "time": "h"}}; got {units!r}.')
    known = list(dict.fromkeys([*map(str, names), "time", "dose"]))
    for name in units or {}:
        if name not in known:
            raise DataError("units=: " + name_error("quantity", str(name), known, "What is shown"))
    return dict(units or {})


def units_of(fit, units: Mapping[str, str] | None) -> dict[str, str]:
    """The units given for a fit: of its endpoints as the model or the data name them, of time and of doses.

    Raises
    ------
    DataError
        As :func:`known_units`.
    """
    own, named = list(dict.fromkeys(fit.predictions["ENDPOINT"])), list(fit.population.endpoints)
    found = known_units(units, [*own, *named])
    if len(own) == len(named) == 1:  # one quantity, whichever of its names was given
        for one, other in ((*own, *named), (*named, *own)):
            if one in found:
                found.setdefault(other, found[one])
    return found


def wants_log(*values) -> bool:
    """Whether these values are read better on a logarithmic axis: all positive, and 5 to 95 % spanning more than 20-fold."""
    joined = np.concatenate([np.ravel(np.asarray(v, dtype=float)) for v in values])
    joined = joined[np.isfinite(joined)]
    if joined.size == 0 or joined.min() <= 0:
        return False
    low, high = np.quantile(joined, [0.05, 0.95])
    return bool(high > 20 * low)


def chosen_log(log: bool | None, endpoint: str, *values) -> bool:
    """``log`` as asked for, or as the values want it.

    Raises
    ------
    DataError
        A logarithm was asked for, and some values are not positive.
    """
    if log is None:
        return wants_log(*values)
    if log and any((np.asarray(v, dtype=float) <= 0).any() for v in values):
        raise DataError(f"log=True: some values of {endpoint} are not positive. Use log=False.")
    return log


def dense(count: int) -> dict:
    """Extra marker settings for ``count`` points: smaller and fainter as they crowd, an image inside SVG when very many."""
    if count <= 300:
        return {}
    size = 3.0 if count <= 1500 else 2.2
    return dict(markersize=size, alpha=0.7 if count <= 1500 else 0.45, rasterized=count > MANY_POINTS)


def log_axis(axes: Axes, which: str) -> None:
    """Make an axis ('x', 'y' or 'both') logarithmic, with plain numbers at its ticks."""
    for name in "xy" if which == "both" else which:
        getattr(axes, f"set_{name}scale")("log")
        axis = getattr(axes, f"{name}axis")
        axis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        low, high = sorted(getattr(axes, f"get_{name}lim")())
        # less than two decades would show one labelled tick; label 2 and 5 as well
        subs = (1.0, 2.0, 5.0) if high / low < 300 else (1.0,)
        axis.set_major_locator(matplotlib.ticker.LogLocator(subs=subs))
        axis.set_minor_formatter(matplotlib.ticker.NullFormatter())
