"""A container that was removed by hand is made again, just as it was, and its data is there."""

from __future__ import annotations

from typing import Any


def said(settings: dict[str, Any]) -> dict[str, Any]:
    """What is set at all: after its restart the engine has null for what was an empty list."""
    return {name: value for name, value in settings.items() if value}


def test_it_is_another_container_and_the_same(relay, noted) -> None:
    now = relay.inspect(relay.name)
    assert now["Id"] != noted["Id"]
    assert said(now["HostConfig"]) == said(noted["HostConfig"])
    for part in ("Env", "Image", "Labels", "User"):
        assert now["Config"][part] == noted["Config"][part], part


def test_mail_goes_out_and_the_journal_is_there(relay, goes_out) -> None:
    before = len(relay.api("messages?limit=50")["messages"])
    assert before > 0
    goes_out()
