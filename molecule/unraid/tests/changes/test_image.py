"""Another image: a good one is run, a broken one is not, and what ran before runs again."""

from __future__ import annotations

import json
import tempfile
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def publish(relay: Any, world: Any, engine: Any, places: Any) -> Iterator[Callable[..., str]]:
    """Put the image that runs into the registry once more, with a line added to its Dockerfile."""
    login = b64encode(f"sandbox:{world['image_registry_password']}".encode()).decode()
    auths = {f"127.0.0.1:{places['sandbox_registry_port']}": {"auth": login}}
    present = relay.image
    with tempfile.TemporaryDirectory() as configuration:
        (Path(configuration) / "config.json").write_text(json.dumps({"auths": auths}))

        def make(tag: str, line: str) -> str:
            image = f"{present.rpartition(':')[0]}:{tag}"
            engine("build", "--tag", image, "-", stdin=f"FROM {present}\n{line}\n")
            engine("--config", configuration, "push", image)
            engine("rmi", image)
            return image

        yield make


def test_an_upgrade_and_one_that_fails(relay, publish, deploy, goes_out, at_tower) -> None:
    good = publish("9.0.0", "LABEL test=good")
    assert deploy(relay_image=good).refusal() == ""
    assert relay.inspected["Config"]["Image"] == relay.image == good
    template = f"/boot/config/plugins/dockerMan/templates-user/my-{relay.name}.xml"
    assert f"<Repository>{good}</Repository>" in at_tower("cat", template)
    goes_out()

    broken = publish("9.0.1", 'ENTRYPOINT ["sh", "-c", "echo It is broken.; exit 1"]')
    said = deploy(relay_image=broken).refusal()
    assert said.startswith(
        f"The relay does not run with {broken}. The image before, {good}, is running again"
    )
    assert "It is broken. It is broken." in said.partition("The new one said: ")[2]
    assert "connection to 127.0.0.1 closed" not in said
    assert relay.inspected["Config"]["Image"] == relay.image == good
    assert f"<Repository>{good}</Repository>" in at_tower("cat", template)
    goes_out()
