"""The page's plots: Vega-Lite, as DVC's own, drawn here into SVG by vl-convert, so that the page needs no script.

Colours are the page's CSS variables, which SVG takes as they are, so one plot serves light and dark. Each comes with a
text that says what is to be seen; the figures stand in a table beside it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

VEGA_LITE = "5.20"  # of those that vl-convert holds
WIDTH = 340  # CSS pixels of a plot whole: what a phone shows unscaled
LABEL, CHARACTER = 164, 7  # pixels that a name may take, and one of its characters in a wide font
TEXT = {"labelFont": "sans-serif", "titleFont": "sans-serif", "labelFontSize": 12, "titleFontSize": 12}
CONFIG = {
    "view": {"stroke": None},
    "font": "sans-serif",
    "aria": False,  # the figure as a whole has a text; its pieces would be read one by one
    "axis": {
        **TEXT,
        "titleFontWeight": "normal",
        "labelColor": "var(--muted)",
        "titleColor": "var(--muted)",
        "gridColor": "var(--line)",
        "domain": False,
        "ticks": False,
        "labelPadding": 6,
    },
    "legend": {
        **TEXT,
        "orient": "top",
        "title": None,
        "labelColor": "var(--ink)",
        "symbolStrokeWidth": 2.5,
        "offset": 6,
    },
    "mark": {"color": "var(--accent)"},
}


@dataclass(frozen=True)
class Chart:
    """An SVG element and the text that stands for it where it cannot be seen."""

    svg: str
    text: str


def curves(points: Sequence[tuple[str, int, float]], unit: str) -> str:
    """Loss over steps. ``points``: (rows: "training" or "held out", step, loss in ``unit``)."""
    of_rows = {"field": "rows", "type": "nominal", "sort": ["held out", "training"]}
    colour = {**of_rows, "scale": {"domain": ["held out", "training"], "range": ["var(--accent)", "var(--quiet)"]}}
    return _draw(
        {
            "height": 210,
            "data": {"values": [{"rows": rows, "step": step, "loss": loss} for rows, step, loss in points]},
            "encoding": {
                "x": {
                    "field": "step",
                    "type": "quantitative",
                    "title": "step",
                    "axis": {"grid": False, "tickCount": 6},
                },
                "y": {
                    "field": "loss",
                    "type": "quantitative",
                    "title": unit,
                    "scale": {"zero": False},
                    "axis": {"tickCount": 5},
                },
                "color": colour,
            },
            "layer": [
                {
                    "mark": {"type": "line", "strokeWidth": 1.25},
                    "transform": [{"filter": "datum.rows == 'training'"}],
                },
                {
                    "mark": {"type": "line", "strokeWidth": 2.5, "point": {"size": 42}},
                    "transform": [{"filter": "datum.rows == 'held out'"}],
                },
            ],
        }
    )


def bars(values: Sequence[tuple[str, float, str, str]], title: str) -> str:
    """Horizontal bars from zero. ``values``: (label, length, what stands at its end, its colour in CSS)."""
    return _draw(
        {
            "height": {"step": 30},
            "data": {
                "values": [
                    {"label": label, "value": value, "text": text, "colour": colour}
                    for label, value, text, colour in values
                ]
            },
            "encoding": {
                "y": _labels(label for label, *_ in values),
                "x": {
                    "field": "value",
                    "type": "quantitative",
                    "title": title,
                    # room for the text at the end of the longest
                    "scale": {"domain": [0, 1.5 * max((value for _, value, _, _ in values), default=1) or 1]},
                    "axis": None,
                },
            },
            "layer": [
                {
                    "mark": {"type": "bar", "height": 16},
                    "encoding": {"color": {"field": "colour", "type": "nominal", "scale": None}},
                },
                {
                    "mark": {"type": "text", "align": "left", "dx": 6, "fontSize": 12, "color": "var(--ink)"},
                    "encoding": {"text": {"field": "text", "type": "nominal"}},
                },
            ],
        }
    )


def intervals(values: Sequence[tuple[str, float, float | None, float | None, str]], title: str) -> str:
    """A dot and its interval a line. ``values``: (label, value, low, high, colour in CSS)."""
    return _draw(
        {
            "height": {"step": 28},
            "data": {
                "values": [
                    {"label": label, "value": value, "low": low, "high": high, "colour": colour}
                    for label, value, low, high, colour in values
                ]
            },
            "encoding": {
                "y": _labels(label for label, *_ in values),
                "color": {"field": "colour", "type": "nominal", "scale": None},
            },
            "layer": [
                {
                    "mark": {"type": "rule", "strokeWidth": 2},
                    "transform": [{"filter": "isValid(datum.low) && isValid(datum.high)"}],
                    "encoding": {
                        "x": {"field": "low", "type": "quantitative", "title": title, "scale": {"zero": False}},
                        "x2": {"field": "high"},
                    },
                },
                {
                    "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
                    "encoding": {
                        "x": {
                            "field": "value",
                            "type": "quantitative",
                            "title": title,
                            "scale": {"zero": False, "nice": True},
                            "axis": {"tickCount": 5},
                        }
                    },
                },
            ],
        }
    )


@dataclass(frozen=True)
class Point:
    """Of a scatter plot: where, its interval in y, what stands beside it, its colour in CSS, whether on the front."""

    x: float
    y: float
    low: float
    high: float
    label: str
    colour: str
    front: bool


def scatter(points: Sequence[Point], x: str, y: str) -> str:
    """Numbered points with an interval in y; those of the front joined by a line. ``x``, ``y``: what the axes show."""
    values = [vars(each) for each in points]
    along = {"field": "x", "type": "quantitative", "title": x, "scale": {"zero": False}, "axis": {"tickCount": 5}}
    up = {"type": "quantitative", "title": y, "scale": {"zero": False}, "axis": {"tickCount": 5}}
    colour = {"field": "colour", "type": "nominal", "scale": None}
    return _draw(
        {
            "height": 240,
            "data": {"values": values},
            "layer": [
                {
                    "mark": {"type": "line", "strokeWidth": 1, "color": "var(--quiet)"},
                    "transform": [{"filter": "datum.front"}],
                    "encoding": {"x": along, "y": {**up, "field": "y"}},
                },
                {
                    "mark": {"type": "rule", "strokeWidth": 1.5, "opacity": 0.6},
                    "encoding": {"x": along, "y": {**up, "field": "low"}, "y2": {"field": "high"}, "color": colour},
                },
                {
                    "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
                    "encoding": {"x": along, "y": {**up, "field": "y"}, "color": colour},
                },
                {
                    "mark": {"type": "text", "align": "left", "dx": 6, "dy": -6, "color": "var(--ink)"},
                    "encoding": {"x": along, "y": {**up, "field": "y"}, "text": {"field": "label", "type": "nominal"}},
                },
            ],
        }
    )


def _labels(labels: Iterable[str]) -> dict[str, Any]:
    """The axis of names. The browser's font may be wider than the one that is measured with here."""
    room = min(LABEL, max((len(label) * CHARACTER for label in labels), default=0))
    axis = {"labelLimit": LABEL, "minExtent": room, "labelColor": "var(--ink)", "grid": False}
    return {"field": "label", "type": "nominal", "title": None, "sort": None, "axis": axis}


def _draw(spec: dict[str, Any]) -> str:
    """The SVG element of a Vega-Lite specification, as wide as WIDTH whatever its labels take."""
    import vl_convert

    whole = {
        "width": WIDTH,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "background": None,
        "padding": 2,
        "config": CONFIG,
        **spec,
    }
    return vl_convert.vegalite_to_svg(whole, vl_version=VEGA_LITE, allowed_base_urls=[])
