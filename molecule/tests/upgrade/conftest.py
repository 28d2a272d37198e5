"""Images that are as bad as can be, in the sandbox's registry."""

from __future__ import annotations

import json
import secrets
import subprocess
import tempfile
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def publish(relay: Any, places: dict[str, Any]) -> Iterator[Callable[[str, list[str]], str]]:
    """Publish an image that is the present one but for what it starts: publish("9.0.0", ["false"])."""
    login = f"sandbox:{relay.kept('sandbox')['registry_password']}"
    auths = {f"127.0.0.1:{places['sandbox_registry_port']}": {"auth": b64encode(login.encode()).decode()}}

    with tempfile.TemporaryDirectory() as configuration:
        (Path(configuration) / "config.json").write_text(json.dumps({"auths": auths}))

        def docker(*arguments: str, stdin: str = "") -> None:
            subprocess.run(
                ["docker", f"--config={configuration}", *arguments],
                input=stdin.encode(),
                check=True,
                capture_output=True,
                timeout=120,
            )

        def make(tag: str, entrypoint: list[str]) -> str:
            image = f"{relay.image.rpartition(':')[0]}:{tag}"
            lines = [
                f"FROM {relay.image}",
                f"LABEL test={secrets.token_hex(8)}",
                f"ENTRYPOINT {json.dumps(entrypoint)}",
            ]
            docker("build", "--tag", image, "-", stdin="\n".join(lines))
            docker("push", image)
            docker("rmi", image)
            return image

        yield make
