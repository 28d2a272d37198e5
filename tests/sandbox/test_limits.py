"""Changing limits."""

import pytest

from sandbox.limits import Limits


def test_update_and_reset() -> None:
    limits = Limits()
    limits.update({"idle_seconds": 1, "keep": "digest", "sender_check": False})
    assert (limits.idle_seconds, limits.keep, limits.sender_check) == (1.0, "digest", False)
    limits.reset()
    assert limits == Limits()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"height": 1}, "There is no limit called 'height'"),
        ({"messages_per_minute": "3"}, "must be int"),
        ({"messages_per_minute": True}, "must be int"),
        ({"messages_per_minute": -1}, "must not be negative"),
        ({"keep": "all"}, "must be one of content, digest, size"),
    ],
)
def test_mistakes_change_nothing(changes: dict[str, object], words: str) -> None:
    limits = Limits()
    with pytest.raises(ValueError, match=words):
        limits.update({"expires_in": 5} | changes)
    assert limits == Limits()
