"""plugins/filter/unknown_variables.py and plugins/lookup/role_variables.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

KNOWN = ["relay_password", "relay_port", "image_tag", "image_name"]
PREFIXES = ["relay_", "image_"]


@pytest.mark.parametrize(
    ("names", "sentences"),
    [
        (KNOWN, []),
        (["ansible_host", "relais_password", "tag", "__relay_x"], []),
        (["relay_pasword"], ["relay_pasword: there is no such variable. Did you mean relay_password?"]),
        (["image_tags"], ["image_tags: there is no such variable. Did you mean image_tag?"]),
        (["relay_zzz"], ["relay_zzz: there is no such variable."]),
        (
            {"relay_b": 1, "relay_a": 2},
            ["relay_a: there is no such variable.", "relay_b: there is no such variable."],
        ),
        ([], []),
    ],
)
def test_unknown_variables(plugin: Any, names: Any, sentences: list[str]) -> None:
    unknown_variables = plugin("filter/unknown_variables").FilterModule().filters()["unknown_variables"]
    assert unknown_variables(names, KNOWN, PREFIXES) == sentences


def test_lists_that_are_texts(plugin: Any) -> None:
    unknown_variables = plugin("filter/unknown_variables").unknown_variables
    with pytest.raises(AnsibleFilterError, match=r"prefixes is 'relay_'\. It must be a list"):
        unknown_variables([], KNOWN, "relay_")
    with pytest.raises(AnsibleFilterError, match=r"known is 'relay_port'\. It must be a list"):
        unknown_variables([], "relay_port", PREFIXES)


def test_in_a_playbook(ansible: Any, tmp_path: Path) -> None:
    specs = {
        "relay": "{main: {options: {relay_port: {type: int}}}, rotate: {options: {relay_new: {}}}}",
        "image": "{main: {short_description: Nothing to set}}",
    }
    for role, text in specs.items():
        (ansible.directory / "roles" / role / "meta").mkdir(parents=True)
        (ansible.directory / "roles" / role / "meta" / "argument_specs.yml").write_text(
            f"argument_specs: {text}\n"
        )
    (ansible.directory / "roles" / "without").mkdir()
    (tmp_path / "x" / "meta").mkdir(parents=True)
    (tmp_path / "x" / "meta" / "argument_specs.yml").write_text("[]")
    known = "lookup('role_variables', 'roles', wantlist=true)"
    tasks = [
        {"assert": {"that": f"{known} == ['relay_new', 'relay_port']"}},
        {
            "debug": {
                "msg": "{{ lookup('varnames', '^relay_', wantlist=true) | unknown_variables("
                + known
                + ", ['relay_']) }}"
            }
        },
        {"debug": {"msg": "{{ lookup('role_variables', 'nowhere') }}"}},
        {"debug": {"msg": f"{{{{ lookup('role_variables', '{tmp_path}') }}}}"}},
    ]
    run = ansible.run(tasks, vars={"relay_porte": 1, "relay_port": 2})
    assert not run.results[0]["failed"], run.output
    assert run.results[1]["msg"] == ["relay_porte: there is no such variable. Did you mean relay_port?"]
    nowhere, broken = run.messages
    assert f"No role in {ansible.directory}/nowhere has meta/argument_specs.yml" in nowhere
    assert f"{tmp_path}/x/meta/argument_specs.yml is not a file of argument specs" in broken
