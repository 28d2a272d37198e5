"""What lies in the layers of an image."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path


def files(saved: Path) -> Iterator[tuple[str, bytes]]:
    """Path and content of every file in every layer that `docker save` has written, compressed or not.

    A file that a later layer replaces or removes is there all the same.
    """
    with tarfile.open(saved) as image:
        manifest = image.extractfile("manifest.json")
        assert manifest is not None
        for layer in json.load(manifest)[0]["Layers"]:
            with tarfile.open(fileobj=image.extractfile(layer)) as unpacked:
                for member in unpacked:
                    if member.isfile():
                        file = unpacked.extractfile(member)
                        assert file is not None
                        yield member.name, file.read()
