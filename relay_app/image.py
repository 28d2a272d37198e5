"""The container image that this program came in."""

from importlib.metadata import distribution

FILE = "IMAGE_TAG"
"""Beside the program's metadata; the Dockerfile writes its argument VERSION into it."""
_NOT_GIVEN = "unreleased"  # the argument's default


def tag() -> str:
    """The tag that names the image: a version, `main`, or what Ansible calls its build.

    "" if it has none: built by hand without VERSION, or the program runs from its sources.
    """
    found = (distribution("smtp-relay").read_text(FILE) or "").strip()
    return "" if found == _NOT_GIVEN else found
