"""Prints a release's section of CHANGELOG.md. Fails if the tag, pyproject.toml and the change log disagree.

Usage: release_notes.py TAG
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


class NotReady(Exception):
    """What keeps this tag from being a release, and what to do."""


def notes(tag: str, root: Path) -> str:
    """The text of the section `## X.Y.Z` (a date may follow), without its heading."""
    if not re.fullmatch(r"v\d+\.\d+\.\d+", tag):
        raise NotReady(f"The tag {tag!r} is not vX.Y.Z with three numbers. Delete it, and make one that is.")
    version = tag.removeprefix("v")
    stated = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    if stated != version:
        raise NotReady(
            f"The tag says {version}, pyproject.toml says {stated}. "
            "Delete the tag, correct the version, tag again."
        )
    sections = re.split(r"^## +", (root / "CHANGELOG.md").read_text("utf-8"), flags=re.MULTILINE)[1:]
    found = [section for section in sections if section.split(maxsplit=1)[0] == version]
    if len(found) != 1:
        raise NotReady(
            f"CHANGELOG.md has {len(found) or 'no'} sections '## {version}'. "
            "Delete the tag, rename '## Unreleased' to it, tag again."
        )
    text = found[0].partition("\n")[2].strip()
    if not text:
        raise NotReady(
            f"The section '## {version}' of CHANGELOG.md is empty. Delete the tag, fill it, tag again."
        )
    return text


def main() -> int:
    try:
        print(notes(sys.argv[1], ROOT))
    except NotReady as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
