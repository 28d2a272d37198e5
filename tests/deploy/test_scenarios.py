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


def verified(scenario: Path) -> list[Path]:
    """The directories whose tests a scenario runs, in order."""
    sequence = yaml.safe_load((scenario / "molecule.yml").read_text())["scenario"]["test_sequence"]
    verifies = [step.split()[1:] for step in sequence if step.startswith("verify ")]
    return [(scenario / place).resolve() for places in verifies for place in places]


def directories(tests: Path) -> set[Path]:
    """Those that have tests."""
    return {file.parent for file in tests.rglob("test_*.py")}


@pytest.mark.parametrize("scenario", [file.parent for file in SCENARIOS], ids=lambda path: path.name)
def test_no_tests_are_left_out(scenario: Path) -> None:
    assert directories(scenario) <= set(verified(scenario))


def test_what_is_the_same_on_each_host_is_tested_once() -> None:
    """In the scenario that proves more. What differs on the other has a test there."""
    run = [place for file in SCENARIOS for place in verified(file.parent)]
    assert sorted(directories(PROJECT / "molecule/tests")) == sorted(
        place for place in run if place.parent == PROJECT / "molecule/tests"
    )


@pytest.mark.parametrize("scenario", [file.parent for file in SCENARIOS], ids=lambda path: path.name)
def test_it_ends_with_nothing_left(scenario: Path) -> None:
    sequence = yaml.safe_load((scenario / "molecule.yml").read_text())["scenario"]["test_sequence"]
    assert sequence[0] == sequence[-1] == "destroy"


def test_names_and_ports_are_no_others() -> None:
    """The scenarios run side by side, on one engine."""
    shared = yaml.safe_load((PROJECT / "molecule/vars/apart.yml").read_text())
    own = [shared | yaml.safe_load((file.parent / "vars/places.yml").read_text()) for file in SCENARIOS]
    for name in ("sandbox_name", "sandbox_network", "relay_name", "relay_network"):
        assert len({places[name] for places in own}) == len(own), name
    ports = [
        str(value).rpartition(":")[2] for places in own for name, value in places.items() if "port" in name
    ]
    assert len(set(ports)) == len(ports) == 4 * len(own)
