"""What `ansible-doc` says of our plugins: all of it, and what the plugins do."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

ACTIONS = ["generated_secrets", "host_file", "host_line", "single_run"]
PLUGINS = {
    "module": [*ACTIONS, "smtp_submission"],
    "filter": ["unknown_variables"],
    "lookup": ["role_variables"],
}


@pytest.mark.parametrize("kind", PLUGINS)
def test_documentation(ansible: Any, plugin: Any, kind: str) -> None:
    text = ansible.command("ansible-doc", "-t", kind, *PLUGINS[kind])
    assert text.count("EXAMPLES:") == text.count("RETURN VALUES:") == len(PLUGINS[kind])
    said = json.loads(ansible.command("ansible-doc", "--json", "-t", kind, *PLUGINS[kind]))
    for name in PLUGINS[kind]:
        _complete(said[name])
        if kind == "module":
            assert {"check_mode", "diff_mode"} <= said[name]["doc"]["attributes"].keys()
            assert all(task[name] for task in yaml.safe_load(said[name]["examples"]))
            arguments = plugin(f"{'action' if name in ACTIONS else 'modules'}/{name}").ARGUMENTS
            assert _compared(said[name]["doc"]["options"]) == _compared(arguments), name


def _complete(said: dict[str, Any]) -> None:
    assert said["doc"]["short_description"]
    assert said["doc"]["description"]
    assert all(option["description"] for option in said["doc"]["options"].values())
    assert all(value["description"] for value in said["return"].values())
    assert all(task["name"] for task in yaml.safe_load(said["examples"]))


def _compared(options: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {
            "required": bool(option.get("required")),
            **{key: option.get(key) for key in ("type", "default", "choices", "elements")},
        }
        for name, option in options.items()
    }
