"""The inventory that users copy: whole, understood by Ansible, and refused as long as it is not filled in."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from relay_app.errors import SettingsError

from .rendering import REPOSITORY, ROLES, Role, read, relay_settings

EXAMPLE = REPOSITORY / "inventories/example"
FILLED_IN = {
    "YOUR-SERVER": "tower.lan",
    "YOUR-GITHUB-NAME": "someone",
    "YOUR-MAIL-HOST": "smtprelay.example.org",
    "YOUR-OUTLOOK-ADDRESS": "someone@outlook.com",
    "YOUR-APPLICATION-CLIENT-ID": "11111111-2222-3333-4444-555555555555",
    "YOUR-SCANNER-ADDRESS": "scanner@example.org",
    "YOUR-CLIENT-SECRET": "not-a-real-secret",
    "YOUR-GHCR-TOKEN": "not-a-real-token",
    "YOUR-TAG": "1.2.0",
    "YOUR-TOPIC": "not-a-real-topic",
}
FILES = ["hosts.yml", "group_vars/all/main.yml", "group_vars/all/vault.yml"]


def uncommented(text: str) -> str:
    """With the variables that are there for a wish: `# name: value` without its `# `."""
    return re.sub(r"^( *)# (( *- )?\w+:( .*)?|  +.*)$", r"\1\2", text, flags=re.MULTILINE)


@pytest.fixture(params=["as it is", "with every wish"])
def inventory(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A copy, as the README has it made, and filled in."""
    copy = tmp_path / "home"
    shutil.copytree(EXAMPLE, copy)
    (copy / "group_vars/all/vault.yml.example").rename(copy / "group_vars/all/vault.yml")
    for file in FILES:
        text = (copy / file).read_text("utf-8")
        if request.param == "with every wish" and file != "group_vars/all/vault.yml":
            text = uncommented(text)
        for placeholder, value in FILLED_IN.items():
            text = text.replace(placeholder, value)
        (copy / file).write_text(text, "utf-8")
    return copy


def run(password: Path, program: str, *arguments: str | Path) -> str:
    done = subprocess.run(
        [Path(sys.executable).with_name(program), *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "ANSIBLE_VAULT_PASSWORD_FILE": str(password), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    return done.stdout


@pytest.fixture
def password(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text("of this test alone")
    return file


def declared() -> set[str]:
    specs = [yaml.safe_load(path.read_text()) for path in sorted(ROLES.glob("*/meta/argument_specs.yml"))]
    return {name for spec in specs for name in spec["argument_specs"]["main"]["options"]}


def variables(inventory: Path) -> dict[str, Any]:
    main = read(inventory / "group_vars/all/main.yml")
    return {**main, **read(inventory / "group_vars/all/vault.yml")}


def test_every_placeholder_is_filled_in_here() -> None:
    text = "".join(path.read_text("utf-8") for path in EXAMPLE.rglob("*") if path.is_file())
    assert set(re.findall(r"YOUR-[A-Z-]+\b", text)) == set(FILLED_IN)


def test_ansible_understands_it(inventory: Path, password: Path) -> None:
    run(password, "ansible-vault", "encrypt", inventory / "group_vars/all/vault.yml")
    assert (inventory / "group_vars/all/vault.yml").read_text().startswith("$ANSIBLE_VAULT;")
    known = json.loads(run(password, "ansible-inventory", "-i", inventory, "--list"))
    assert known["relay"]["hosts"] == ["tower"]
    assert known["controller"]["hosts"] == ["localhost"]
    tower = known["_meta"]["hostvars"]["tower"]
    assert tower["ansible_host"] == "tower.lan"
    assert tower["vault_client_secret"] == "not-a-real-secret"


def playbooks() -> Iterator[Path]:
    yield REPOSITORY / "site.yml"
    yield from sorted((REPOSITORY / "playbooks").glob("*.yml"))


def test_every_playbook_can_be_played_with_it(inventory: Path, password: Path) -> None:
    run(password, "ansible-playbook", "-i", inventory, "--syntax-check", *playbooks())


def test_every_variable_is_one_that_a_role_has(inventory: Path) -> None:
    names = set(read(inventory / "group_vars/all/main.yml"))
    assert names <= declared()
    used = re.findall(r"\{\{ (vault_\w+) \}\}", (inventory / "group_vars/all/main.yml").read_text())
    assert set(used) <= set(read(inventory / "group_vars/all/vault.yml"))


def test_every_secret_of_the_vault_is_used() -> None:
    main = (EXAMPLE / "group_vars/all/main.yml").read_text()
    for name in read(EXAMPLE / "group_vars/all/vault.yml.example"):
        assert f"{{{{ {name} }}}}" in main


def test_what_is_required_is_there(inventory: Path) -> None:
    set_by_playbooks = {"relay_image", "verify_hostname", "verify_clients", "verify_api_token"}
    required = {
        name
        for path in ROLES.glob("*/meta/argument_specs.yml")
        for name, option in yaml.safe_load(path.read_text())["argument_specs"]["main"]["options"].items()
        if option.get("required")
    }
    assert required - set_by_playbooks <= set(variables(inventory))


def test_the_relay_would_take_it(inventory: Path, tmp_path: Path) -> None:
    role = Role("relay", {**variables(inventory), "relay_image": "ghcr.io/someone/smtp-relay:1.0.0"})
    settings = relay_settings(role, tmp_path)
    assert settings.hostname == "smtprelay.example.org"
    [mailbox] = settings.mailboxes
    assert (mailbox.address, mailbox.client_secret) == ("someone@outlook.com", "not-a-real-secret")
    assert mailbox.client_id == FILLED_IN["YOUR-APPLICATION-CLIENT-ID"]


def test_every_value_can_be_evaluated(inventory: Path) -> None:
    given = variables(inventory)
    for name in given:
        assert "{{" not in str(Role("relay", given).value(name)), name


def test_every_wish_is_uncommented() -> None:
    wishes = set(read_text(uncommented((EXAMPLE / "group_vars/all/main.yml").read_text())))
    assert {
        "image_build",
        "image_tag",
        "relay_tls_certificate",
        "relay_alert_urls",
        "relay_host_kind",
    } <= wishes


def read_text(text: str) -> Any:
    return yaml.safe_load(text)


def test_what_is_not_filled_in_is_refused(tmp_path: Path) -> None:
    given = {**read(EXAMPLE / "group_vars/all/main.yml"), "vault_client_secret": "x"}
    with pytest.raises(SettingsError) as refused:
        relay_settings(Role("relay", {**given, "relay_image": "x:1"}), tmp_path)
    for placeholder in ("your-outlook-address", "YOUR-APPLICATION-CLIENT-ID"):
        assert placeholder in str(refused.value)
    name = Role("image", given).value("image_name")
    checks = yaml.safe_load((ROLES / "image/tasks/validate.yml").read_text())[0]["ansible.builtin.assert"][
        "that"
    ]
    assert not all(Role("image", {"image_name": name}).value(check) for check in checks)


def test_no_secret_and_no_other_file_is_in_it() -> None:
    files = {path.relative_to(EXAMPLE).as_posix() for path in EXAMPLE.rglob("*") if path.is_file()}
    assert files == {*FILES[:2], "group_vars/all/vault.yml.example", "README.md"}


def test_the_readme_has_what_to_copy_to_fill_in_and_to_run() -> None:
    text = (EXAMPLE / "README.md").read_text()
    assert len([line for line in text.splitlines() if line]) <= 10
    for path in re.findall(r"playbooks/\w+\.yml|site\.yml|inventories/example", text):
        assert (REPOSITORY / path).exists()
    for name in re.findall(r"-e (\w+)=", text):
        assert name in declared()
