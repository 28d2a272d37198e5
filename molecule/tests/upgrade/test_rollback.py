"""An image that does not work is taken back: what worked runs again, with its data.

One that changes the database first is in unraid/tests/upgraded.
"""

from __future__ import annotations

from typing import Any

import pytest

DIES = "echo this image is broken >&2; exit 3"
# It stays up and never answers. Docker's stop ends it at once.
IS_DEAF = "trap exit TERM; echo this image is deaf >&2; while :; do sleep 0.2; done"
# It likes its settings; when it shall serve, it fails.
AT_WORK = '[ "$1" != check ] || exit 0; '
SECONDS = 20  # for an image to answer: all that the deaf one gets, and enough for the one before it


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("9.0.0", AT_WORK + DIES, "this image is broken"), id="dies"),
        pytest.param(("9.0.1", AT_WORK + IS_DEAF, "this image is deaf"), id="is deaf"),
    ],
)
def rolled_back(request: pytest.FixtureRequest, relay, play, publish) -> dict[str, Any]:
    tag, script, said = request.param
    before = {"image": relay.image, "journal": sorted(relay.journal())[-10:]}
    image = publish(tag, ["sh", "-c", script, "smtp-relay"])
    played = play("playbooks/relay.yml", image_build=False, image_tag=tag, relay_start_timeout=SECONDS)
    return before | {"new": image, "said": said, "played": played}


def test_the_run_fails_and_says_why(rolled_back) -> None:
    played = rolled_back["played"]
    assert played.code == 2, played.tail
    assert f"The relay does not run with {rolled_back['new']}." in played.text
    assert f"What ran before, {rolled_back['image']}, is running again, with its settings" in played.text
    assert rolled_back["said"] in played.text


def test_what_worked_runs_again_and_mail_goes_out(relay, rolled_back, goes_out) -> None:
    assert relay.image == rolled_back["image"]
    goes_out()


def test_its_data_is_there(relay, rolled_back) -> None:
    assert rolled_back["journal"]
    assert relay.journal() >= set(rolled_back["journal"])


def test_its_database_was_left_as_it_was(relay, rolled_back) -> None:
    assert "with the database of before the upgrade" not in rolled_back["played"].text
    assert relay.files("-path", "*/.failed-upgrade/relay.db") == []


@pytest.mark.parametrize(
    ("tag", "script", "said"),
    [
        ("9.0.2", DIES, "this image is broken"),
        ("9.0.3", IS_DEAF, f"It has not said within {SECONDS} s whether it accepts its settings."),
    ],
    ids=["dies", "is deaf"],
)
def test_one_that_fails_when_it_looks_at_its_settings_stops_nobody(
    relay, play, publish, tag: str, script: str, said: str
) -> None:
    before = relay.started
    image = publish(tag, ["sh", "-c", script])
    played = play("playbooks/relay.yml", image_build=False, image_tag=tag, relay_start_timeout=SECONDS)
    assert played.code == 2, played.tail
    assert f"The relay cannot run with {image}. It runs as before" in played.text
    assert said in played.text
    assert relay.started == before
