"""The last 24 hours as an SVG drawing, made on the server.

Colours come from the style sheet. No colour is needed to read it: each outcome has a pattern of its own,
every bar says its numbers, and the page has them as a table, too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from markupsafe import Markup, escape

from relay_app.console.backend import HourCount

OUTCOMES = ("accepted", "deferred", "uncertain", "refused")
"""From the foot of a bar to its head."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 12, 10, 24  # room around the bars, in SVG units
_STEPS = (1, 2, 5)


@dataclass(frozen=True, slots=True)
class Words:
    """The texts in a chart. `bar` says what one bar shows, `clock` how an hour is written."""

    title: str
    description: str
    bar: Callable[[HourCount], str]
    clock: Callable[[datetime], str]


def draw(
    hours: Sequence[HourCount], words: Words, *, name: str, width: int, height: int = 190, every: int = 3
) -> Markup:
    """Draw stacked bars, oldest left. `name` keeps the ids of two charts apart.

    `width` and `height` in SVG units; `every`: hours between labels.
    """
    top = ceiling(max((sum(_counts(hour).values()) for hour in hours), default=0))
    across = (width - _LEFT - _RIGHT) / max(1, len(hours))
    upward = (height - _TOP - _BOTTOM) / top
    foot = height - _BOTTOM
    parts = [
        f'<svg class="chart chart-{escape(name)}" viewBox="0 0 {width} {height}" role="img"'
        f' aria-labelledby="{escape(name)}-title {escape(name)}-desc">',
        f'<title id="{escape(name)}-title">{escape(words.title)}</title>',
        f'<desc id="{escape(name)}-desc">{escape(words.description)}</desc>',
        _patterns(name),
    ]
    for value in _grid(top):
        y = _number(foot - value * upward)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="tick tick-value" x="{_LEFT - 8}" y="{y}" dy="0.32em">{value}</text>')
    for index, hour in enumerate(hours):
        x = _LEFT + index * across
        parts.append(_bar(hour, words.bar(hour), name, x + across * 0.12, across * 0.76, foot, upward))
        if (len(hours) - 1 - index) % every == 0:
            middle = _number(x + across / 2)
            label = escape(words.clock(hour.hour))
            parts.append(f'<text class="tick tick-hour" x="{middle}" y="{height - 6}">{label}</text>')
    parts.append("</svg>")
    return Markup("".join(parts))  # noqa: S704 - what is not a number was escaped


def swatch(outcome: str, name: str) -> Markup:
    """A small sample of what an outcome looks like, for the legend."""
    return Markup(  # noqa: S704 - see above
        f'<svg class="swatch" viewBox="0 0 14 14" aria-hidden="true">{_patterns(name)}'
        f"{_box(outcome, name, 0, 0, 14, 14)}</svg>"
    )


def ceiling(count: int) -> int:
    """The smallest of 4, 10, 20, 40, 100, ... that is not less than `count`: an end for the axis."""
    size = 1
    while True:
        for step in _STEPS:
            if (top := 2 * step * size) >= max(count, 4):
                return top
        size *= 10


def _grid(top: int) -> tuple[int, ...]:
    return (0, top // 2, top)


def _counts(hour: HourCount) -> Mapping[str, int]:
    """Its counts by the four outcomes; one that this drawing does not know is at least not lost."""
    counts = dict.fromkeys(OUTCOMES, 0)
    for outcome, count in hour.counts.items():
        counts[outcome if outcome in counts else "uncertain"] += count
    return counts


def _bar(hour: HourCount, text: str, name: str, x: float, width: float, foot: float, upward: float) -> str:
    boxes = []
    for outcome, count in _counts(hour).items():
        if count:
            foot -= count * upward
            boxes.append(_box(outcome, name, x, foot, width, count * upward))
    return f"<g><title>{escape(text)}</title>{''.join(boxes)}</g>"


def _box(outcome: str, name: str, x: float, y: float, width: float, height: float) -> str:
    frame = f'x="{_number(x)}" y="{_number(y)}" width="{_number(width)}" height="{_number(height)}"'
    if outcome == "accepted":
        return f'<rect class="box box-accepted" {frame}/>'
    return f'<rect class="box box-{outcome}" {frame}/><rect {frame} fill="url(#{escape(name)}-{outcome})"/>'


def _patterns(name: str) -> str:
    """Stripes, dots and a lattice to lie over the colours."""
    drawings = {
        "deferred": '<path class="ink" d="M0 6 6 0M-1 1 1 -1M5 7 7 5"/>',
        "uncertain": '<circle class="ink-dot" cx="3" cy="3" r="1.2"/>',
        "refused": '<path class="ink" d="M0 0 6 6M6 0 0 6"/>',
    }
    return "<defs>{}</defs>".format(
        "".join(
            f'<pattern id="{escape(name)}-{outcome}" width="6" height="6" patternUnits="userSpaceOnUse">'
            f"{drawing}</pattern>"
            for outcome, drawing in drawings.items()
        )
    )


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
