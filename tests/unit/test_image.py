"""The tag of the image that the program came in."""

from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

import pytest

from relay_app import image


@pytest.mark.parametrize(
    ("content", "tag"),
    [
        ("1.2.3\n", "1.2.3"),
        ("main\n", "main"),
        ("0.1.0-1a2b3c\n", "0.1.0-1a2b3c"),
        ("unreleased\n", ""),
        (None, ""),
    ],
)
def test_the_tag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, tag: str) -> None:
    if content is not None:
        (tmp_path / image.FILE).write_text(content)

    def installed(name: str) -> Distribution:
        assert name == "smtp-relay"
        return PathDistribution(tmp_path)

    monkeypatch.setattr(image, "distribution", installed)
    assert image.tag() == tag


def test_where_the_program_runs_from_its_sources_there_is_none() -> None:
    assert image.tag() == ""


def test_the_dockerfile_writes_it() -> None:
    dockerfile = (Path(__file__).parents[2] / "Dockerfile").read_text("utf-8")
    assert f'echo "$VERSION" >"$site/smtp_relay-$version.dist-info/{image.FILE}"' in dockerfile
    assert dockerfile.count(f"ARG VERSION={image._NOT_GIVEN}") == 2
