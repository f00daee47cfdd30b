"""The style of all figures, and how they are saved: PNG for papers, SVG with text as text. No pyplot.

Colours are those of Okabe & Ito (2008), the two palest darkened to stand on white, and every curve has a line style of its own: the
figures read the same to the colour-blind and on a grey printer.
"""

from __future__ import annotations

import io
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

INK, MUTED, RULE, PAPER = "#1f2328", "#59636e", "#d1d9e0", "#ffffff"
ON_CELL = "#fefefe"
"""Of text on a dark cell: white in whatever theme, unlike :data:`PAPER`."""
SERIES = ("#0072b2", "#3d9bd1", "#009e73", "#c88a00", "#d55e00")
CELL = "#0b4f8a"

_STYLE = MappingProxyType(
    {
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans", "sans-serif"],
        "font.size": 10,
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlepad": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": MUTED,
        "axes.labelcolor": INK,
        "axes.titlecolor": INK,
        "axes.axisbelow": True,
        "grid.color": RULE,
        "text.color": INK,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "legend.frameon": False,
        "legend.fontsize": 9,
        "svg.fonttype": "none",
        "svg.hashsalt": "kneexray",
    }
)


def style() -> AbstractContextManager[None]:
    """Return the context to draw figures in, so that they look like the others of a report."""
    return rc_context(dict(_STYLE))


def png(figure: Figure) -> bytes:
    """Return ``figure`` as PNG at 200 dpi on white."""
    return _saved(figure, format="png", dpi=200, facecolor=PAPER, metadata={"Software": None})


def svg(figure: Figure, *, transparent: bool = False) -> bytes:
    """Return ``figure`` as SVG, the same bytes every time; ``transparent`` leaves the page's own background."""
    return _saved(figure, format="svg", transparent=transparent, metadata={"Date": None, "Creator": None})


def _saved(figure: Figure, **options: Any) -> bytes:
    sink = io.BytesIO()
    with style():
        if figure.get_layout_engine() is not None:  # lay out once, so that PNG and SVG agree whichever is saved first
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
        figure.savefig(sink, **options)
    return sink.getvalue()
