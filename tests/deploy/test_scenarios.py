"""Each step of a molecule scenario has the files it needs: molecule itself passes over a missing one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).parents[2]
BASE = yaml.safe_load((PROJECT / ".config/molecule/config.yml").read_text())
SCENARIOS = sorted((PROJECT / "molecule").glob("*/molecule.yml"))


def steps() -> list[Any]:
    return [
        pytest.param(file.parent, step, id=f"{file.parent.name}: {step}")
        for file in SCENARIOS
        for step in yaml.safe_load(file.read_text())["scenario"]["test_sequence"]
    ]


@pytest.mark.parametrize(("scenario", "step"), steps())
def test_a_step_has_its_files(scenario: Path, step: str) -> None:
    action, *places = step.split()
    if action == "verify":
        assert places, "name the directory: verify tests/NAME"
        for place in places:
            assert list((scenario / place).glob("test_*.py")), f"no test_*.py in {scenario / place}"
        return
    if action in {"check", "idempotence", "syntax"}:
        action = "converge"
    own = yaml.safe_load((scenario / "molecule.yml").read_text()).get("ansible", {}).get("playbooks", {})
    playbooks = BASE["ansible"]["playbooks"] | own
    for place in places or [playbooks.get(action, f"{action}.yml")]:
        assert (scenario / place).is_file(), f"no {place} in {scenario}"


@pytest.mark.parametrize("scenario", [file.parent for file in SCENARIOS], ids=lambda path: path.name)
def test_no_tests_are_left_out(scenario: Path) -> None:
    sequence = yaml.safe_load((scenario / "molecule.yml").read_text())["scenario"]["test_sequence"]
    named = {
        (scenario / place).resolve()
        for step in sequence
        if step.startswith("verify ")
        for place in step.split()[1:]
    }
    shared = scenario.parent / "tests"
    written = {file.parent for tests in (scenario, shared) for file in tests.rglob("test_*.py")}
    assert written <= named


@pytest.mark.parametrize("scenario", [file.parent for file in SCENARIOS], ids=lambda path: path.name)
def test_it_ends_with_nothing_left(scenario: Path) -> None:
    sequence = yaml.safe_load((scenario / "molecule.yml").read_text())["scenario"]["test_sequence"]
    assert sequence[0] == sequence[-1] == "destroy"
