"""Deployments that shall not even begin."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest

PORT = int(os.environ.get("TOWER_PORT", "22022"))

CONTROLLER = {
    "ansible_connection": "local",
    "ansible_python_interpreter": "{{ ansible_playbook_python }}",
}
# As the role image would settle it, which has no part in these runs.
SETTLED = {"image_reference": "127.0.0.1:1/nobody/smtp-relay:1.0.0"}
USUAL: dict[str, Any] = {
    "ansible_host": "tower",
    "ansible_port": PORT,
    "ansible_user": "root",
    "image_name": "127.0.0.1:1/nobody/smtp-relay",
    "relay_hostname": "smtprelay.example.org",
    "relay_mailboxes": [{"address": "office@example.org", "client_id": "id", "client_secret": "secret"}],
}
# A connection that is still open from before would hide what is wrong with a new one.
ENVIRONMENT = {"ANSIBLE_SSH_ARGS": "-o ControlMaster=no -o ControlPath=none"}


@pytest.fixture(scope="session")
def refusals(
    tmp_path_factory: pytest.TempPathFactory, places: dict[str, Any], playbook: Callable[..., Any]
) -> Callable[..., dict[str, str]]:
    """Deploy to hosts that are all this tower, each with variables of its own; return what stopped each.

    A variable that is None is left out. Without hosts: to one that has nothing special, called tower. This
    machine is checked first only if the run begins with it.
    """
    usual = {name: value for name, value in places.items() if name.startswith("relay_")} | USUAL

    def deploy(
        hosts: dict[str, dict[str, Any]] | None = None, *, begin_with: str = "relay"
    ) -> dict[str, str]:
        directory = tmp_path_factory.mktemp("inventory")
        own = {
            name: _without_none(usual | {"relay_secrets_file": f"{directory}/secrets/{name}.yml"} | more)
            for name, more in (hosts or {"tower": {}}).items()
        }
        controller = CONTROLLER | (SETTLED if begin_with == "relay" else {})
        inventory = {"controller": {"hosts": {"localhost": controller}}, "relay": {"hosts": own}}
        (directory / "hosts.json").write_text(json.dumps(inventory))
        arguments = (f"--inventory={directory}/hosts.json", f"--limit=relay,{begin_with}")
        run = playbook("playbooks/relay.yml", *arguments, environment=ENVIRONMENT)
        assert run.changed_until_refused == []
        assert not list(directory.glob("secrets/*")), "secrets were made for what cannot be deployed"
        return {name: run.refusal(name) for name in run.stats}

    return deploy


def _without_none(variables: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in variables.items() if value is not None}
