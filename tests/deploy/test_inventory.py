"""Nothing is deployed or removed unless it is said where: without hosts Ansible itself would end well."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from .rendering import REPOSITORY

# Each with an option that could lead past the check.
PLAYBOOKS = {
    "site.yml": [],
    "playbooks/preflight.yml": ["--limit=localhost"],
    "playbooks/image.yml": ["--tags=image_build"],
    "playbooks/relay.yml": ["--limit=tower", "--tags=relay_run"],
    "playbooks/rotate.yml": ["--extra-vars=rotate=relay_password"],
    "playbooks/verify.yml": ["--limit=tower"],
    "playbooks/uninstall.yml": ["--check"],
}
ADVICE = (
    "Name yours: export ANSIBLE_INVENTORY=inventories/home in each new terminal, or ansible-playbook -i"
    " inventories/home. If there is none yet: cp -r inventories/example inventories/home, and do what its"
    " README.md says. The sandbox: make up"
)


def refused(home: Path, playbook: str, *options: str, **environment: str) -> str:
    """What it says, all white space as one blank, having done nothing."""
    program = Path(sys.executable).with_name("ansible-playbook")
    inherited = {name: value for name, value in os.environ.items() if name != "ANSIBLE_INVENTORY"}
    played = subprocess.run(
        [program, *options, playbook],
        cwd=REPOSITORY,
        env={**inherited, "HOME": str(home), "ANSIBLE_NOCOLOR": "1", **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    said = " ".join((played.stdout + played.stderr).split())
    assert played.returncode != 0, said
    assert said.count("TASK [") <= 1
    return said


@pytest.mark.parametrize(("playbook", "options"), PLAYBOOKS.items())
def test_no_inventory(tmp_path: Path, playbook: str, options: list[str]) -> None:
    said = refused(tmp_path, playbook, *options)
    assert f"No inventory is named, so there is no host to work on. {ADVICE}" in said


@pytest.mark.parametrize(("playbook", "options"), PLAYBOOKS.items())
def test_an_inventory_without_our_groups(tmp_path: Path, playbook: str, options: list[str]) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(json.dumps({"servers": {"hosts": {"tower": None, "localhost": None}}}))
    said = refused(tmp_path, playbook, *options, f"--inventory={inventory}")
    assert (
        f"The inventory {inventory} has no host in the group controller, and none in relay. {ADVICE}" in said
    )


def test_an_inventory_without_a_relay(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(
        json.dumps({"controller": {"hosts": {"localhost": None}}, "relay": {}})
    )
    said = refused(tmp_path, "site.yml", ANSIBLE_INVENTORY=str(tmp_path / "hosts.yml"))
    assert f"The inventory {tmp_path}/hosts.yml has no host in the group relay. {ADVICE}" in said


def test_an_inventory_that_is_set_to_nothing(tmp_path: Path) -> None:
    """Ansible takes this whole folder for one then."""
    said = refused(tmp_path, "playbooks/uninstall.yml", ANSIBLE_INVENTORY="")
    assert f"No inventory is named, so there is no host to work on. {ADVICE}" in said


def test_no_file_of_an_inventory_is_executed() -> None:
    configuration = ConfigParser()
    configuration.read(REPOSITORY / "ansible.cfg")
    plugins = {name.strip() for name in configuration["inventory"]["enable_plugins"].split(",")}
    assert plugins == {"host_list", "yaml", "ini"}


def test_an_inventory_that_is_not_there(tmp_path: Path) -> None:
    said = refused(tmp_path, "site.yml", ANSIBLE_INVENTORY="inventories/hom")
    named = REPOSITORY / "inventories/hom"
    assert (
        f"The inventory {named} is not there: it has no host in the group controller, and none in relay."
        in said
    )


def test_all_playbooks_are_here() -> None:
    found = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "playbooks").glob("*.yml")}
    assert set(PLAYBOOKS) == {"site.yml", *found}


def test_the_configuration_names_none() -> None:
    configuration = ConfigParser()
    configuration.read(REPOSITORY / "ansible.cfg")
    assert not configuration.has_option("defaults", "inventory")


def test_make_names_its_own() -> None:
    """Whatever ANSIBLE_INVENTORY says: `make down` removes data without asking."""
    played = re.findall(r"ansible-playbook.*", (REPOSITORY / "Makefile").read_text())
    commands = [line for line in played if "$(PLAY)" in line]
    assert len(commands) == 2
    assert all("--inventory inventories/sandbox " in line for line in commands)


@pytest.mark.parametrize("page", ["README.md", "inventories/example/README.md", "docs/unraid.md"])
def test_it_is_told_that_a_new_terminal_knows_none(page: str) -> None:
    text = " ".join((REPOSITORY / page).read_text("utf-8").split())
    assert "export ANSIBLE_INVENTORY=inventories/home" in text
    assert re.search(r"[Nn]ew terminal and in a cron job", text)
