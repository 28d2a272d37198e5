"""What was published."""

from __future__ import annotations

import pytest
import requests

INDEX = "application/vnd.oci.image.index.v1+json"
LIST = "application/vnd.docker.distribution.manifest.list.v2+json"


def manifest(image: str, tag: str, password: str) -> requests.Response:
    registry, _, name = image.partition("/")
    with requests.Session() as session:
        session.trust_env = False
        return session.get(
            f"http://{registry}/v2/{name.rpartition(':')[0]}/manifests/{tag}",
            headers={"Accept": f"{INDEX}, {LIST}"},
            auth=("sandbox", password),
            timeout=30,
        )


@pytest.mark.parametrize("extra", [False, True])
def test_it_is_an_index(relay, places, extra: bool) -> None:
    tag = places["image_extra_tags"][0] if extra else relay.image.rpartition(":")[2]
    found = manifest(relay.image, tag, relay.kept("sandbox")["registry_password"])
    assert found.status_code == 200
    assert found.headers["Content-Type"] in (INDEX, LIST)
    assert found.json()["mediaType"] == found.headers["Content-Type"]
    (platform,) = [each["platform"] for each in found.json()["manifests"]]
    assert platform["os"] == "linux"


def test_it_is_for_those_with_the_password(relay) -> None:
    assert manifest(relay.image, relay.image.rpartition(":")[2], "wrong").status_code == 401


def test_latest_is_left_to_releases(relay) -> None:
    assert manifest(relay.image, "latest", relay.kept("sandbox")["registry_password"]).status_code == 404
