"""The digest of the base image: the workflow `base` writes it, and nobody else.

    base_image.py name               what the Dockerfile builds on, without a digest
    base_image.py pin RUN <INDEX     pin it to INDEX, which is what its tag means today, wherever it is named

A digest that somebody copied from somewhere may be of anything. So the workflow leaves a record beside it: of
which image it is, since when, and the address of the RUN that asked the registry. `problems` says where
digest and record do not agree; the tests ask it.
"""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[2]
RECORD = Path(".github/base_image.json")
PLATFORMS = {"linux/amd64", "linux/arm64"}
DIGEST = r"sha256:[0-9a-f]{64}"
FORM = {
    "image": r"\S+:[^\s@]+",
    "digest": DIGEST,
    "date": r"\d{4}-\d\d-\d\d",
    "run": r"https://github\.com/[\w.-]+/[\w.-]+/actions/runs/\d+",
}
ANEW = (
    f"To begin anew, as for another tag: remove the digests and {RECORD}; "
    "the workflow `base` writes both when it runs."
)


def name(root: Path) -> str:
    """The base as the Dockerfile names it, without a digest."""
    [base] = re.findall(
        r"^ARG PYTHON_IMAGE=([^\s@]+)", (root / "Dockerfile").read_text("utf-8"), re.MULTILINE
    )
    return str(base)


def files(root: Path, image: str) -> Iterator[tuple[Path, str, "re.Pattern[str]"]]:
    """The files that name the image: each with its text, and what finds the name with or without a digest."""
    named = re.compile(rf"{re.escape(image)}(?:@{DIGEST})?(?![\w.@:-])")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True).stdout
    for path in map(Path, sorted(filter(None, listed.decode().split("\0")))):
        if path == RECORD or not (root / path).is_file():
            continue
        text = (root / path).read_text("utf-8", errors="surrogateescape")
        if named.search(text):
            yield path, text, named


def problems(root: Path) -> list[str]:
    """Where a digest is that the workflow has not written, or is not where it should be."""
    image = name(root)
    wrong, expected = [], image
    if (root / RECORD).exists():
        record = json.loads((root / RECORD).read_text("utf-8"))
        wrong += [
            f"{RECORD}: {key} is {record.get(key)!r}, which no run writes. {ANEW}"
            for key, form in FORM.items()
            if not re.fullmatch(form, str(record.get(key)))
        ]
        if record.get("image") != image:
            wrong.append(f"{RECORD} is of {record.get('image')}, the Dockerfile builds on {image}. {ANEW}")
        expected = f"{image}@{record.get('digest')}"
    for path, text, named in files(root, image):
        for found in sorted(set(named.findall(text)) - {expected}):
            wrong.append(f"{path} has {found}, and by {RECORD} it should be {expected}. {ANEW}")
    return wrong


def pin(root: Path, index: bytes, run: str) -> str:
    """Write the digest of `index` wherever the base is named, and the record. Returns what was done."""
    image = name(root)
    if not index:
        raise SystemExit(f"Nothing came of {image}. What skopeo said is above.")
    digest = f"sha256:{hashlib.sha256(index).hexdigest()}"
    platforms = {
        f"{entry['platform']['os']}/{entry['platform']['architecture']}"
        for entry in json.loads(index).get("manifests", [])
    }
    if not platforms >= PLATFORMS:
        missing = ", ".join(sorted(PLATFORMS - platforms))
        raise SystemExit(
            f"{image} is no index with {missing}: the image could not be built on it. Is the tag right?"
        )
    if (root / RECORD).exists():
        record = json.loads((root / RECORD).read_text("utf-8"))
        if (record.get("image"), record.get("digest")) == (image, digest):
            return f"{image} is pinned to {digest} already."
    for path, text, named in files(root, image):
        new = named.sub(f"{image}@{digest}", text)
        (root / path).write_text(new, "utf-8", errors="surrogateescape")
    record = {"image": image, "digest": digest, "date": f"{datetime.now(UTC):%Y-%m-%d}", "run": run}
    (root / RECORD).write_text(json.dumps(record, indent=2) + "\n", "utf-8")
    return f"{image} is pinned to {digest} now."


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["name"]:
            print(name(ROOT))
        case ["pin", run]:
            print(pin(ROOT, sys.stdin.buffer.read(), run))
        case _:
            raise SystemExit(__doc__)
