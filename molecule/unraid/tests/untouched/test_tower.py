"""Check mode has left nothing on the tower."""

from __future__ import annotations


def test_there_is_nothing_new_on_it(at_tower, listing, virgin) -> None:
    assert listing() == virgin


def test_its_array_is_empty(at_tower) -> None:
    assert at_tower("find", "/mnt/user/appdata", "/mnt/user/system").split() == [
        "/mnt/user/appdata",
        "/mnt/user/system",
    ]
