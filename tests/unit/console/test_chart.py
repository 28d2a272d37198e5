"""The drawing: its geometry, its words, and colours that everybody can tell apart."""

import itertools
import re
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from relay_app.console import chart
from relay_app.console.backend import HourCount

SVG = "{http://www.w3.org/2000/svg}"
STYLES = Path(chart.__file__).parent / "static" / "console.css"
START = datetime(2030, 3, 4, 0, 0, tzinfo=UTC)
WORDS = chart.Words(
    title="Title & more",
    description="All <in> one",
    bar=lambda hour: f"{hour.hour:%H}: {dict(hour.counts)}",
    clock=lambda moment: f"{moment:%H:%M}",
)


def hours(*counts: dict[str, int]) -> list[HourCount]:
    return [HourCount(START + timedelta(hours=index), each) for index, each in enumerate(counts)]


def drawn(counts: list[HourCount], **options: int) -> ET.Element:
    return ET.fromstring(chart.draw(counts, WORDS, name="day", width=360, **options))


def boxes(svg: ET.Element) -> dict[str, list[float]]:
    """The heights of the boxes, by outcome."""
    found: dict[str, list[float]] = {}
    for rect in svg.iter("rect"):
        if "box" in rect.get("class", "").split():
            outcome = rect.get("class", "").removeprefix("box box-")
            found.setdefault(outcome, []).append(float(rect.get("height", "")))
    return found


def test_heights_are_in_proportion() -> None:
    found = boxes(drawn(hours({"accepted": 2}, {"accepted": 1, "refused": 1}, {})))
    assert found.keys() == {"accepted", "refused"}
    two, one = found["accepted"]
    assert two == pytest.approx(2 * one, abs=0.2)
    assert found["refused"] == [one]


def test_outcomes_stand_on_each_other_and_within_the_frame() -> None:
    svg = drawn(hours(dict.fromkeys(chart.OUTCOMES, 5)), height=200)
    rects = [rect for rect in svg.iter("rect") if "box" in rect.get("class", "").split()]
    assert [rect.get("class", "").removeprefix("box box-") for rect in rects] == list(chart.OUTCOMES)
    edges = [(float(rect.get("y", "")), float(rect.get("height", ""))) for rect in rects]
    for (lower, _height), (y, height) in itertools.pairwise(edges):
        assert y + height == pytest.approx(lower, abs=0.2)
    assert 0 <= edges[-1][0] <= edges[0][0] + edges[0][1] <= 200


def test_an_outcome_that_is_not_known_is_not_lost() -> None:
    assert boxes(drawn(hours({"spirited away": 3}))).keys() == {"uncertain"}


def test_it_can_be_read_aloud() -> None:
    svg = drawn(hours({"accepted": 1}))
    named = {element.get("id"): element.text for element in svg.iter() if element.get("id")}
    labels = [named[name] for name in svg.get("aria-labelledby", "").split()]
    assert labels == ["Title & more", "All <in> one"]
    assert svg.get("role") == "img"
    assert [group.findtext("title") for group in svg.iter("g")] == ["00: {'accepted': 1}"]


def test_each_outcome_but_one_has_a_pattern_that_exists() -> None:
    svg = drawn(hours(dict.fromkeys(chart.OUTCOMES, 1)))
    used = {rect.get("fill", "")[5:-1] for rect in svg.iter("rect") if rect.get("fill")}
    assert used == {f"day-{outcome}" for outcome in chart.OUTCOMES if outcome != "accepted"}
    assert used == {pattern.get("id") for pattern in svg.iter("pattern")}


def test_labels_end_with_the_last_hour() -> None:
    labels = [text.text for text in drawn(hours(*[{}] * 7), every=3).iter("text") if text.text]
    assert labels == ["0", "2", "4", "00:00", "03:00", "06:00"]


@pytest.mark.parametrize(
    ("count", "top"), [(0, 4), (1, 4), (4, 4), (5, 10), (11, 20), (21, 40), (41, 100), (1001, 2000)]
)
def test_the_axis_ends_at_a_round_number(count: int, top: int) -> None:
    assert chart.ceiling(count) == top


def test_nothing_at_all() -> None:
    assert boxes(drawn([])) == {}


def test_nothing_that_the_content_security_policy_forbids() -> None:
    svg = chart.draw(hours({"refused": 1}), WORDS, name="day", width=360)
    assert "style=" not in svg
    assert "<script" not in svg


@pytest.mark.parametrize("outcome", chart.OUTCOMES)
def test_swatch(outcome: str) -> None:
    svg = ET.fromstring(chart.swatch(outcome, "legend"))
    assert svg.get("aria-hidden") == "true"
    assert [rect.get("class") for rect in svg.iter("rect") if rect.get("class")] == [f"box box-{outcome}"]


# --- colours --------------------------------------------------------------------------------------------


def _colours() -> dict[str, tuple[str, str]]:
    """The style sheet's colours: name -> light, dark."""
    css = STYLES.read_text("utf-8")
    pairs = re.findall(r"--([a-z-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\);", css)
    return {name: (light, dark) for name, light, dark in pairs}


def _luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    red, green, blue = (_linear(int(colour[index : index + 2], 16) / 255) for index in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(part: float) -> float:
    return part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4


def _contrast(one: str, other: str) -> float:
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("mark", "behind", "least"),
    [
        *((f"bar-{outcome}", "card", 3.0) for outcome in chart.OUTCOMES),  # WCAG 2.2, 1.4.11
        ("edge", "card", 3.0),
        *((text, back, 4.5) for text in ("text", "quiet", "link") for back in ("page", "card", "sunk")),
        *((f"{kind}", f"{kind}-back", 4.5) for kind in ("good", "warn", "bad", "odd")),
        *((kind, back, 4.5) for kind in ("good", "bad") for back in ("page", "card")),
        ("button-text", "button", 4.5),
    ],
)
def test_contrast(theme: int, mark: str, behind: str, least: float) -> None:
    colours = _colours()
    assert _contrast(colours[mark][theme], colours[behind][theme]) >= least
