"""One look for all pictures: light, colour-blind safe, labels beside the data, the same bytes every time."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

INK = "#262626"
MUTED = "#707070"
RULE = "#e4e4e4"
#: Okabe and Ito's colours, which stay apart for all common kinds of colour blindness.
BLUE, ORANGE, GREEN, PURPLE, AMBER, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"

#: Of the smaller type: height of a line, and how much fits into it.
_LABEL_INCHES = 0.16
_CHARACTERS_PER_INCH = 15

_NAMED = {"chosen": BLUE, "prior": "#7d7d7d", "uniform": AMBER}
_OTHERS = (ORANGE, GREEN, PURPLE, SKY, "#8c6d31", "#4d4d4d")

_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.labelsize": 9.0,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "figure.dpi": 150.0,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "axes.unicode_minus": True,
}


@contextmanager
def style() -> Iterator[None]:
    """Draw in this module's look, whatever the reader's own matplotlib settings are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def new_figure(width: float, height: float, title: str, subtitle: str) -> Figure:
    """An empty figure whose parts keep clear of each other, below what it shows and how to read it.

    Args:
        width: Inches.
        height: Inches below the headline.
        title: What the picture shows.
        subtitle: How to read it.
    """
    lines = textwrap.wrap(subtitle, int(width * _CHARACTERS_PER_INCH))
    total = height + 0.42 + _LABEL_INCHES * len(lines)
    figure = Figure(figsize=(width, total), layout="constrained")
    FigureCanvasAgg(figure)
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(rect=(0, 0, 1, height / total))
    left = 0.1 / width
    figure.text(left, 1 - 0.1 / total, title, va="top", fontsize=11.5, fontweight="bold")
    figure.text(left, 1 - 0.36 / total, "\n".join(lines), va="top", fontsize=8.5, color=MUTED)
    return figure


def png(figure: Figure) -> bytes:
    """The bytes of a PNG, with nothing in it that changes from one time to the next."""
    picture = BytesIO()
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    with style():
        canvas.print_png(picture, metadata={"Software": None})  # `savefig` draws everything twice
    return picture.getvalue()


def colours(names: Sequence[str]) -> dict[str, str]:
    """One colour per name; `chosen`, `prior` and `uniform` always have the same."""
    others = iter(_OTHERS * (len(names) // len(_OTHERS) + 1))
    return {name: _NAMED.get(name) or next(others) for name in names}


def rows_axis(axes: Axes, labels: Sequence[str]) -> None:
    """Make the y axis one row per label, the first on top, with no lines of its own."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(False, axis="y")


def label_ends(axes: Axes, ends: Mapping[str, tuple[float, float]], colour: Mapping[str, str]) -> None:
    """Write each name beside the right end (x, y) of its line, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    inches = axes.get_window_extent().height / axes.figure.dpi
    gap = (high - low) * _LABEL_INCHES / inches
    names = sorted(ends, key=lambda name: ends[name][1])
    places = spread([ends[name][1] for name in names], gap)
    for name, place in zip(names, places, strict=True):
        axes.annotate(
            name,
            (ends[name][0], place),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            color=colour[name],
            fontweight="bold",
            annotation_clip=False,
        )


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Move sorted places apart until neighbours are at least `gap` away, as little as least squares allow.

    >>> spread([0.0, 0.0, 5.0], 1.0)
    [-0.5, 0.5, 5.0]
    """
    from sklearn.isotonic import isotonic_regression

    steps = gap * np.arange(len(places))
    return [float(place) for place in isotonic_regression(np.asarray(places) - steps) + steps]
