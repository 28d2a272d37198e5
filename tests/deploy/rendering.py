"""Variables and templates of our roles through Ansible's own Templar: no host, no run, no Docker."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import filter_loader, init_plugin_loader, lookup_loader
from ansible.template import Templar, trust_as_template

from relay_app.settings import Settings, load

REPOSITORY = Path(__file__).resolve().parents[2]
ROLES = REPOSITORY / "roles"


@cache
def _loader() -> DataLoader:
    """A loader for the repository, once Ansible knows our plugins."""
    init_plugin_loader([])
    filter_loader.add_directory(str(REPOSITORY / "plugins/filter"))
    lookup_loader.add_directory(str(REPOSITORY / "plugins/lookup"))
    loader = DataLoader()
    loader.set_basedir(str(REPOSITORY))
    return loader


def read(path: Path) -> Any:
    """Read a YAML file as Ansible does: what is written there may be a template."""
    return _loader().load_from_file(str(path), trusted_as_template=True) or {}


class Role:
    """A role's variables as a host has them, with `given` instead of its defaults.

    A `given` text is never a template, whatever it holds, as if it came from a module or a prompt. One that
    shall be is marked with `trust_as_template`.
    """

    def __init__(self, name: str, given: Mapping[str, Any]) -> None:
        self._directory = directory = ROLES / name
        self._variables = {
            **{
                name: value
                for file in ("defaults/main.yml", "vars/main.yml")
                if (directory / file).exists()
                for name, value in read(directory / file).items()
            },
            "role_path": str(directory),
            "ansible_search_path": [str(directory), str(REPOSITORY)],
            "inventory_dir": "/inventory",
            "inventory_hostname": "tower",
            "ansible_managed": "Ansible managed",
            **given,
        }

    def extended(self, given: Mapping[str, Any]) -> Role:
        """The same, with more or other variables."""
        role = copy.copy(self)
        role._variables = {**self._variables, **given}
        return role

    def value(self, expression: str) -> Any:
        """Evaluate what would stand between double braces."""
        return self.evaluated("{{ " + expression + " }}")

    def evaluated(self, value: Any) -> Any:
        """Evaluate a value of a task, which may be a template."""
        templar = Templar(loader=_loader(), variables=self._variables)
        return templar.template(trust_as_template(value) if isinstance(value, str) else value)

    def holds(self, conditions: Any) -> bool:
        """Evaluate what a task has under `when` or `that`: one condition, or several that must all hold."""
        templar = Templar(loader=_loader(), variables=self._variables)
        each = conditions if isinstance(conditions, list) else [conditions]
        return all(templar.evaluate_conditional(condition) for condition in each)

    def tasks(self, file: str) -> list[dict[str, Any]]:
        """The tasks of a file."""
        return cast("list[dict[str, Any]]", read(self._directory / f"tasks/{file}.yml"))

    def refusal(self, file: str) -> str:
        """What the first `assert` in a file of tasks says that does not hold, "" where all of them do.

        No other task is run: the results and facts that the conditions need are `given`.
        """
        for task in self.tasks(file):
            for item in self.evaluated(task.get("loop", [None])) if "ansible.builtin.assert" in task else []:
                role = self.extended({**task.get("vars", {}), "item": item})
                check = task["ansible.builtin.assert"]
                if role.holds(task.get("when", [])) and not role.holds(check["that"]):
                    return str(role.evaluated(check["fail_msg"]))
        return ""

    def template(self, name: str) -> str:
        """Render a template as the role's tasks do."""
        return cast("str", self.value(f"lookup('ansible.builtin.template', '{name}')"))


def relay_settings(role: Role, directory: Path) -> Settings:
    """The settings as the relay reads them, from the role's relay.toml and the secrets beside it."""
    plan = role.value("__relay_plan")
    for file in {**plan["given"], **plan["passwords"]}:
        (directory / file).write_text(plan["given"].get(file, "a-password-that-was-made"), "utf-8")
    toml = role.template("relay.toml.j2").replace('"/secrets/', f'"{directory}/')
    (directory / "relay.toml").write_text(toml, "utf-8")
    environment = {"RELAY_CONFIG": directory / "relay.toml", "RELAY_HOSTNAME": role.value("relay_hostname")}
    return load({name: str(value) for name, value in environment.items()})
