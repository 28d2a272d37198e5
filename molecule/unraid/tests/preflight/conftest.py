"""Deployments that shall not even begin."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
PORT = int(os.environ.get("TOWER_PORT", "22022"))

CONTROLLER = {
    "ansible_connection": "local",
    "ansible_python_interpreter": "{{ ansible_playbook_python }}",
    "image_reference": "127.0.0.1:1/nobody/smtp-relay:1.0.0",  # as the role image would settle it
}

ENVIRONMENT = {
    "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
    "ANSIBLE_FORKS": "20",
    # A connection that is still open from before would hide what is wrong with a new one.
    "ANSIBLE_SSH_ARGS": "-o ControlMaster=no -o ControlPath=none",
}

Refusals = Callable[..., dict[str, str]]


@pytest.fixture(scope="session")
def refusals(tmp_path_factory: pytest.TempPathFactory, places: dict[str, Any]) -> Refusals:
    """Deploy to hosts that are all this tower, each with variables of its own; return what stopped each of them.

    A variable that is None is left out. Without hosts: to one that has nothing special, called tower.
    """
    usual = {
        "ansible_host": "tower",
        "ansible_port": PORT,
        "ansible_user": "root",
        "image_name": "127.0.0.1:1/nobody/smtp-relay",
        "relay_hostname": "smtprelay.example.org",
        "relay_mailboxes": [{"address": "office@example.org", "client_id": "id", "client_secret": "secret"}],
    }
    usual |= {name: value for name, value in places.items() if name.startswith("relay_")}

    def deploy(hosts: dict[str, dict[str, Any]] | None = None) -> dict[str, str]:
        directory = tmp_path_factory.mktemp("inventory")
        own = {
            name: _without_none(usual | {"relay_secrets_file": f"{directory}/secrets/{name}.yml"} | more)
            for name, more in (hosts or {"tower": {}}).items()
        }
        groups = {"controller": {"hosts": {"localhost": CONTROLLER}}, "relay": {"hosts": own}}
        (directory / "hosts.json").write_text(json.dumps(groups))
        done = subprocess.run(
            [
                "ansible-playbook",
                f"--inventory={directory}/hosts.json",
                "--limit=relay",
                PROJECT / "playbooks/relay.yml",
            ],
            env=os.environ | ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        report = json.loads(done.stdout[done.stdout.index("{\n") :])
        assert not list(directory.glob("secrets/*")), "secrets were made for a deployment that cannot be"
        return {name: _refusal(report, name) for name in own}

    return deploy


def _without_none(variables: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in variables.items() if value is not None}


def _refusal(report: dict[str, Any], host: str) -> str:
    """What the last failed task says, as one line."""
    said = ""
    for play in report["plays"]:
        for task in play["tasks"]:
            result = task["hosts"].get(host, {})
            if result.get("failed"):
                failed = [each for each in result.get("results", []) if each.get("failed")] or [result]
                said = failed[0]["msg"]
    counts = report["stats"][host]
    went = [
        (t["task"]["name"], t["hosts"][host].get("msg", ""))
        for p in report["plays"]
        for t in p["tasks"]
        if host in t["hosts"]
    ]
    assert counts["failures"] == 1, f"{host} was not refused: {counts} {went[-8:]}"
    assert counts["changed"] == 0, f"{host} was changed; then: {said}"
    return " ".join(said.split())
