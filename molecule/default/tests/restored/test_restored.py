"""A container that was removed by hand is made again, just as it was, and its data is there."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(scope="module")
def before(relay) -> dict[str, Any]:
    return {"container": relay.inspect(relay.name), "journal": sorted(relay.journal())[-10:]}


@pytest.fixture(scope="module", autouse=True)
def played(before, relay, play) -> Any:
    relay.remove()
    return play("playbooks/relay.yml")


def test_it_is_another_container_and_the_same(relay, before, played) -> None:
    assert played.code == 0, played.tail
    now, was = relay.inspect(relay.name), before["container"]
    assert now["Id"] != was["Id"]
    assert now["HostConfig"] == was["HostConfig"]
    for part in ("Env", "Image", "Labels", "User"):
        assert now["Config"][part] == was["Config"][part], part


def test_mail_goes_out_and_the_journal_is_there(relay, before, goes_out) -> None:
    assert before["journal"]
    assert relay.journal() >= set(before["journal"])
    goes_out()
