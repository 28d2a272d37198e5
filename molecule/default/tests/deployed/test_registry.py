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


@pytest.mark.parametrize("latest", [False, True])
def test_it_is_an_index(relay, latest: bool) -> None:
    tag = "latest" if latest else relay.image.rpartition(":")[2]
    found = manifest(relay.image, tag, relay.kept("sandbox")["registry_password"])
    assert found.status_code == 200
    assert found.headers["Content-Type"] in (INDEX, LIST)
    assert found.json()["mediaType"] == found.headers["Content-Type"]
    (platform,) = [each["platform"] for each in found.json()["manifests"]]
    assert platform["os"] == "linux"


def test_it_is_for_those_with_the_password(relay) -> None:
    assert manifest(relay.image, "latest", "wrong").status_code == 401
