"""plugins/filter/unknown_variables.py and plugins/lookup/role_variables.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

ROLES = {"relay": ["relay_password", "relay_port"], "image": ["image_tag", "image_name"], "tunnel": []}
KNOWN = [name for names in ROLES.values() for name in names]


@pytest.mark.parametrize(
    ("names", "sentences"),
    [
        (KNOWN, []),
        (["ansible_host", "relais_password", "tag", "__relay_x", "relay", "imagery_x"], []),
        (["relay_pasword"], ["relay_pasword: there is no such variable. Did you mean relay_password?"]),
        (["image_tags"], ["image_tags: there is no such variable. Did you mean image_tag?"]),
        (["relay_zzz"], ["relay_zzz: there is no such variable."]),
        (["tunnel_tokn"], ["tunnel_tokn: there is no such variable."]),
        (
            {"relay_b": 1, "relay_a": 2},
            ["relay_a: there is no such variable.", "relay_b: there is no such variable."],
        ),
        ([], []),
    ],
)
def test_unknown_variables(plugin: Any, names: Any, sentences: list[str]) -> None:
    unknown_variables = plugin("filter/unknown_variables").FilterModule().filters()["unknown_variables"]
    assert unknown_variables(names, ROLES) == sentences


def test_roles_that_are_a_list(plugin: Any) -> None:
    unknown_variables = plugin("filter/unknown_variables").unknown_variables
    with pytest.raises(AnsibleFilterError, match=r"roles is \['relay'\]\. It must be a mapping"):
        unknown_variables([], ["relay"])


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
    roles = "lookup('role_variables', 'roles')"
    names = "lookup('varnames', '.', wantlist=true)"
    tasks = [
        {"assert": {"that": f"{roles} == {{'image': [], 'relay': ['relay_new', 'relay_port']}}"}},
        {"debug": {"msg": f"{{{{ {names} | unknown_variables({roles}) }}}}"}},
        {"debug": {"msg": "{{ lookup('role_variables', 'nowhere') }}"}},
        {"debug": {"msg": f"{{{{ lookup('role_variables', '{tmp_path}') }}}}"}},
    ]
    run = ansible.run(tasks, vars={"relay_porte": 1, "relay_port": 2, "image_x": 3, "without_x": 4})
    assert not run.results[0]["failed"], run.output
    assert run.results[1]["msg"] == [
        "image_x: there is no such variable.",
        "relay_porte: there is no such variable. Did you mean relay_port?",
    ]
    nowhere, broken = run.messages
    assert f"No role in {ansible.directory}/nowhere has meta/argument_specs.yml" in nowhere
    assert f"{tmp_path}/x/meta/argument_specs.yml is not a file of argument specs" in broken
