"""Ansible's output hides every task that is given a secret, unless somebody asks to see it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import jinja2.nodes
import pytest
import yaml

from .rendering import ROLES

SECRET = re.compile(r"(password|secret|token|private_key|vault_key)s?$|alert_urls$")
INNER = ("block", "rescue", "always")
CONDITIONS = ("when", "that", "until", "changed_when", "failed_when")

# Tasks that name a secret and show none. Each has its reason.
SHOWN = {
    ("relay", "Ensure the certificate has its key"): "the path of a file",
    ("relay", "Ensure the certificate can be read"): "the path of a file",
    ("relay", "Finish the change of the vault's key that was interrupted"): "only whether there is one",
    ("preflight", "Ensure the example's blanks are filled in"): "only words of the example inventory",
    ("relay", "Ensure Docker is reached as everything else is"): "only if there is one",
    ("verify", "Report what to enter in Gmail"): "the password only with verify_show_password",
}


def names(node: Any, condition: bool = False) -> Iterator[str]:
    """All names in the expressions of a task, and the texts that are a variable's name, to be looked up."""
    if isinstance(node, str):
        if re.fullmatch(r"[a-z]+(_[a-z]+)+", node):
            yield node
        parsed = jinja2.Environment(autoescape=False).parse("{{ " + node + " }}" if condition else node)
        yield from (name.name for name in parsed.find_all(jinja2.nodes.Name))
        yield from (name.attr for name in parsed.find_all(jinja2.nodes.Getattr))
    elif isinstance(node, list):
        for each in node:
            yield from names(each, condition)
    elif isinstance(node, dict):
        for key, each in node.items():
            yield from names(each, key in CONDITIONS)


def shown(tasks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The tasks without no_log, of blocks too."""
    for task in tasks:
        if "no_log" not in task:
            for part in INNER:
                yield from shown(task.get(part, []))
            yield {key: value for key, value in task.items() if key not in {*INNER, "name", "register"}} | {
                "name": task.get("name", "")
            }


def secrets_shown(text: str) -> list[tuple[str, set[str]]]:
    """The tasks that show a secret, each with its secrets' names."""
    found = [
        (task.pop("name"), {name for name in names(task) if SECRET.search(name)})
        for task in shown(yaml.safe_load(text) or [])
    ]
    return [(task, secrets) for task, secrets in found if secrets]


FILES = sorted(path for role in ROLES.iterdir() for path in (role / "tasks").glob("*.yml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parts[-3]}/{path.name}")
def test_a_task_with_a_secret_is_hidden(path: Path) -> None:
    role = path.parts[-3]
    found = secrets_shown(path.read_text("utf-8"))
    assert [(task, secrets) for task, secrets in found if (role, task) not in SHOWN] == []


def test_what_is_shown_names_a_secret() -> None:
    tasks = {(path.parts[-3], task) for path in FILES for task, _ in secrets_shown(path.read_text("utf-8"))}
    assert set(SHOWN) <= tasks


@pytest.mark.parametrize(
    "task",
    [
        "debug: {msg: '{{ relay_password }}'}",
        "debug: {msg: '{{ made.secrets.console_token }}'}",
        "assert: {that: vault_key | length > 0}",
        "debug: {msg: '{{ item }}'}\n  loop: [relay_alert_urls]",
        "block: [{debug: {msg: '{{ x.client_secret }}'}}]",
        "block: []\n  rescue: [{debug: {msg: '{{ a_token }}'}}]",
    ],
)
def test_one_that_is_not_would_be_found(task: str) -> None:
    assert secrets_shown(f"- {task}")
    assert not secrets_shown(f"- {task}\n  no_log: true")


@pytest.mark.parametrize("task", ["debug: {msg: '{{ secrets_file }} {{ show_secrets_of }} /secrets'}"])
def test_one_without_is_not(task: str) -> None:
    assert not secrets_shown(f"- {task}")


@pytest.mark.parametrize("role", ["image", "preflight", "relay", "sandbox", "verify"])
def test_secret_arguments_are_declared_so(role: str) -> None:
    specs = yaml.safe_load((ROLES / role / "meta/argument_specs.yml").read_text())["argument_specs"]
    for name, option in specs["main"]["options"].items():
        if re.search(r"_(password|secret|token)$", name) and option["type"] == "str":
            assert option.get("no_log") is True, name
