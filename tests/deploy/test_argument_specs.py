"""Each role's arguments: declared once, with the defaults that they have, and used."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import jinja2.nodes
import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
ROLES = {path.name: path for path in sorted((REPOSITORY / "roles").iterdir()) if path.is_dir()}

# What a role reads although another one, or nobody, declares it. Each has its reason.
BORROWED = {
    ("relay", "image_build"): "an image that was not built here may be for any architecture",
    ("relay", "image_platforms"): "a host of another architecture cannot run what is built",
}
CONDITIONS = {"when", "that", "until", "changed_when", "failed_when"}


@cache
def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def specs(role: str) -> dict[str, Any]:
    return dict(loaded(ROLES[role] / "meta/argument_specs.yml")["argument_specs"])


def options(role: str) -> dict[str, dict[str, Any]]:
    return dict(specs(role)["main"]["options"])


def defaults(role: str) -> dict[str, Any]:
    return dict(loaded(ROLES[role] / "defaults/main.yml") or {})


def without_default(role: str) -> set[str]:
    """The names that defaults/main.yml has as comments: `# relay_image:`."""
    text = (ROLES[role] / "defaults/main.yml").read_text("utf-8")
    return set(re.findall(rf"^# ({role}_\w+):$", text, re.MULTILINE))


def sources(role: str) -> str:
    """All that a role does, without its defaults, arguments and README."""
    files = [
        path
        for folder in ("tasks", "templates", "vars", "files", "handlers")
        for path in sorted((ROLES[role] / folder).rglob("*"))
        if path.is_file()
    ]
    return "\n".join(path.read_text("utf-8") for path in files)


def playbooks() -> str:
    return "\n".join(path.read_text("utf-8") for path in sorted((REPOSITORY / "playbooks").rglob("*.yml")))


def made(role: str) -> set[str]:
    """The names that a role's tasks give values to: facts, results."""
    names: set[str] = set()

    def visit(node: Any) -> None:
        if isinstance(node, list):
            for each in node:
                visit(each)
        elif isinstance(node, dict):
            names.update(node.get("ansible.builtin.set_fact") or {})
            names.add(node.get("register") or "")
            for each in node.values():
                visit(each)

    for path in sorted((ROLES[role] / "tasks").glob("*.yml")):
        visit(loaded(path))
    return names - {""}


def read_by(role: str) -> set[str]:
    """The variables that a role's expressions read, of tasks, variables, defaults and templates."""
    environment = jinja2.Environment(autoescape=False)
    names: set[str] = set()

    def visit(node: Any, condition: bool = False) -> None:
        if isinstance(node, str):
            template = "{{ " + node + " }}" if condition else node
            found = environment.parse(template).find_all(jinja2.nodes.Name)
            names.update(name.name for name in found if name.ctx == "load")
        elif isinstance(node, list):
            for each in node:
                visit(each, condition)
        elif isinstance(node, dict):
            for key, each in node.items():
                visit(each, key in CONDITIONS)

    for folder in ("tasks", "vars", "defaults", "handlers"):
        for path in sorted((ROLES[role] / folder).glob("*.yml")):
            visit(loaded(path))
    for path in sorted((ROLES[role] / "templates").glob("*")):
        visit(path.read_text("utf-8"))
    return names


def internal(role: str) -> set[str]:
    path = ROLES[role] / "vars/main.yml"
    return set(loaded(path)) if path.exists() else set()


def task_variables(role: str) -> set[str]:
    """The names that tasks have in their own `vars` and in their loops."""
    names: set[str] = set()

    def visit(node: Any) -> None:
        if isinstance(node, list):
            for each in node:
                visit(each)
        elif isinstance(node, dict):
            names.update(node.get("vars") or {})
            loop = node.get("loop_control") or {}
            names.update(loop[key] for key in ("loop_var", "index_var") if key in loop)
            for each in node.values():
                visit(each)

    for path in sorted((ROLES[role] / "tasks").glob("*.yml")):
        visit(loaded(path))
    return names


def nested(given: dict[str, dict[str, Any]], where: str = "") -> list[tuple[str, dict[str, Any]]]:
    """All options and their options, with their paths."""
    found = []
    for name, option in given.items():
        found.append((f"{where}{name}", option))
        found.extend(nested(option.get("options", {}), f"{where}{name}."))
    return found


def is_expression(value: Any) -> bool:
    return isinstance(value, str) and "{{" in value


every_role = pytest.mark.parametrize("role", list(ROLES))


def test_there_are_roles() -> None:
    assert {"image", "preflight", "relay", "sandbox", "verify"} <= set(ROLES)


@every_role
def test_what_is_declared_is_what_has_a_default_or_is_required(role: str) -> None:
    assert set(options(role)) == defaults(role).keys() | without_default(role)
    assert not defaults(role).keys() & without_default(role)
    assert {name for name, option in options(role).items() if option.get("required")} == without_default(role)


@every_role
def test_declared_defaults_are_the_real_ones(role: str) -> None:
    for name, real in defaults(role).items():
        declared = options(role)[name]["default"]
        if is_expression(declared) or not is_expression(real):
            assert (type(declared), declared) == (type(real), real), name
        else:
            # Words instead of an expression that would tell a reader nothing.
            assert isinstance(declared, str), name
            assert " " in declared, f"{name}: {declared!r} is neither the default nor a description of it"


@every_role
def test_defaults_are_of_the_declared_type_and_among_the_choices(role: str) -> None:
    types = {"str": str, "bool": bool, "int": int, "list": list, "dict": dict}
    for name, value in defaults(role).items():
        option = options(role)[name]
        if not is_expression(value):
            assert type(value) is types[option["type"]], name
            assert value in option.get("choices", [value]), name


@every_role
def test_every_entry_point_and_every_option_is_described(role: str) -> None:
    for entry, spec in specs(role).items():
        assert spec["short_description"], entry
        for name, option in nested(spec["options"]):
            assert option["description"].endswith("."), f"{entry}: {name}"
            assert option["type"] in {"str", "bool", "int", "list", "dict"}, f"{entry}: {name}"
            assert option["type"] != "list" or option["elements"], f"{entry}: {name}"
            assert not (option.get("required") and "default" in option), f"{entry}: {name}"


@every_role
def test_names_are_the_roles_own(role: str) -> None:
    assert all(name.startswith(f"{role}_") for name in options(role))
    assert all(name.startswith(f"__{role}_") for name in internal(role))
    assert all(re.match(rf"(__)?{role}_", name) for name in made(role))


@every_role
def test_every_variable_is_used(role: str) -> None:
    text = sources(role)
    used_by_defaults = " ".join(str(value) for value in defaults(role).values())
    unused = {name for name in options(role) if not re.search(rf"\b{name}\b", text + used_by_defaults)}
    assert unused == set()


@every_role
def test_every_internal_variable_is_used(role: str) -> None:
    for name in internal(role):
        assert len(re.findall(rf"\b{name}\b", sources(role))) > 1, name


@every_role
def test_every_variable_that_is_read_is_declared(role: str) -> None:
    ours = {name for name in read_by(role) if re.match(rf"(__)?({'|'.join(ROLES)})_", name)}
    known = set(options(role)) | made(role) | internal(role) | task_variables(role)
    facts = {name for each in ROLES for name in made(each) if not name.startswith("__")}
    borrowed = {name for owner, name in BORROWED if owner == role}
    assert ours - known - facts - borrowed == set()
    assert borrowed <= ours, "borrowed, but not read"


def test_what_is_borrowed_is_there() -> None:
    for _, name in BORROWED:
        assert name in options(name.split("_")[0]), name


@every_role
def test_every_variable_that_a_message_names_is_there(role: str) -> None:
    words = set(re.findall(rf"(?<![\w./-])(?:{'|'.join(ROLES)})_\w+\b(?!\.(?:yml|j2|sh))", sources(role)))
    tags = {word for word in words if re.search(rf"tags: \[[^\]]*\b{word}\b", sources(role))}
    plugins = {path.stem for path in (REPOSITORY / "plugins").rglob("*.py")} | {"relay_clients", "relay_plan"}
    known = {name for each in ROLES for name in {*options(each), *made(each)}}
    secrets = {"relay_password"}  # what can be rotated
    assert words - tags - plugins - known - secrets - task_variables(role) == set()


def test_facts_for_other_roles_are_no_arguments() -> None:
    for role in ROLES:
        assert not made(role) & options(role).keys(), role


def entry_points() -> list[tuple[str, str]]:
    """Role and tasks_from wherever a playbook or a role uses another's entry point."""
    text = playbooks() + "\n".join(sources(role) for role in ROLES)
    return sorted(set(re.findall(r"name: (\w+)\n\s+tasks_from: (\w+)", text)))


@pytest.mark.parametrize(("role", "entry"), entry_points())
def test_entry_points_are_there(role: str, entry: str) -> None:
    assert (ROLES[role] / f"tasks/{entry}.yml").exists()


@every_role
def test_declared_entry_points_are_there(role: str) -> None:
    for entry in specs(role):
        assert (ROLES[role] / f"tasks/{entry}.yml").exists(), entry


def test_what_is_validated_first_is_declared() -> None:
    # Preflight is where a wrong value is found: before anything is changed anywhere.
    used = entry_points()
    for role in ("relay", "image"):
        assert (role, "validate") in used
        assert specs(role)["validate"]["options"] == options(role)


@every_role
def test_the_readme_has_the_variables_as_they_are(role: str, tmp_path: Path) -> None:
    copy = tmp_path / role
    shutil.copytree(ROLES[role] / "meta", copy / "meta")
    shutil.copy(ROLES[role] / "README.md", copy)
    subprocess.run(
        [Path(sys.executable).with_name("aar-doc"), "--config-file", ".config/aar-doc.yml", copy, "markdown"],
        cwd=REPOSITORY,
        check=True,
        timeout=300,
    )
    written = (ROLES[role] / "README.md").read_text("utf-8")
    assert (copy / "README.md").read_text("utf-8") == written, "Write the READMEs anew: make docs"
    assert all(f"| `{name}` |" in written for name in options(role))
    assert "## What it leaves behind" in written
