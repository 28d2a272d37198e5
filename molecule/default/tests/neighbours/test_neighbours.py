"""What others on the same engine use is left as it is: a network, an image."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest

NEIGHBOUR = "molecule-neighbour"


@pytest.fixture(scope="module")
def neighbour(relay, inspect, engine) -> Iterator[dict[str, Any]]:
    """A container of an image with the relay's name, in a network that somebody has made."""
    image = f"{relay.image.rpartition(':')[0]}:8.0.0"
    recipe = f"FROM {relay.image}\nLABEL test=neighbour\n"
    engine.images.build(fileobj=io.BytesIO(recipe.encode()), tag=image, rm=True)
    network = engine.networks.create(NEIGHBOUR)
    container = engine.containers.run(
        image, ["900"], entrypoint="sleep", name=NEIGHBOUR, network=NEIGHBOUR, detach=True
    )
    yield inspect(NEIGHBOUR)
    container.remove(force=True)
    network.remove()
    engine.images.remove(image)


@pytest.fixture(scope="module", autouse=True)
def deployed(neighbour, play, publish) -> list[Any]:
    """The relay in that network, with a newer image, and as it was."""
    publish("8.0.1")
    moved = play("playbooks/relay.yml", relay_network=NEIGHBOUR, image_build=False, image_tag="8.0.1")
    return [moved, play("playbooks/relay.yml")]


def test_both_runs_are_done(deployed) -> None:
    for played in deployed:
        assert played.code == 0, played.tail


def test_the_neighbour_is_still_connected(deployed, neighbour, inspect) -> None:
    before, now = (each["NetworkSettings"]["Networks"][NEIGHBOUR] for each in (neighbour, inspect(NEIGHBOUR)))
    assert now["NetworkID"] == before["NetworkID"]
    assert now["EndpointID"] == before["EndpointID"] != ""


def test_its_image_is_still_there(deployed, neighbour, inspect) -> None:
    assert neighbour["Config"]["Image"] in inspect(neighbour["Image"])["RepoTags"]


def test_mail_goes_out_again(deployed, goes_out) -> None:
    goes_out()
