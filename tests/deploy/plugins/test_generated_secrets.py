"""plugins/action/generated_secrets.py and plugin_utils/vaulted_file.py, in real runs of ansible-playbook."""

from __future__ import annotations

import base64
import os
import re
import resource
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleActionFail
from ansible.parsing.vault import VaultLib, VaultSecret
from vaulted_file import VaultedFile

KINDS = {"relay_password": "password", "api_token": "token", "vault_key": "fernet_key"}
PASSWORD = b"the vault password"


@pytest.fixture
def vaulted(ansible: Any, tmp_path: Path) -> Path:
    """Where the secrets go. Ansible has the vault password."""
    password = ansible.directory / "password"
    password.write_bytes(PASSWORD)
    ansible.environment["ANSIBLE_VAULT_PASSWORD_FILE"] = str(password)
    return tmp_path / "secrets" / "tower.yml"


def generated(path: Path | str, **arguments: Any) -> dict[str, Any]:
    return {"generated_secrets": {"path": str(path), **arguments}, "register": "__made"}


def vault(password: bytes = PASSWORD) -> VaultLib:
    return VaultLib([("default", VaultSecret(password))])


def content(path: Path) -> dict[str, str]:
    return dict(yaml.safe_load(vault().decrypt(path.read_bytes())))


def leaks(output: str, values: dict[str, str]) -> list[str]:
    return [name for name, value in values.items() if value in output]


def test_made_once_and_kept(ansible: Any, vaulted: Path) -> None:
    registered = {"assert": {"that": ["__made.secrets.relay_password | length == 20"], "quiet": True}}
    run = ansible.run([generated(vaulted, secrets=KINDS), registered], "-vvvvv", "--diff").succeeded()
    assert run.changed[0]
    values = content(vaulted)
    assert re.fullmatch(r"[abcdefghijkmnpqrstuvwxyz23456789]{20}", values["relay_password"])
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", values["api_token"])
    assert len(base64.urlsafe_b64decode(values["vault_key"])) == 32
    assert vaulted.stat().st_mode & 0o7777 == 0o600
    assert vaulted.parent.stat().st_mode & 0o7777 == 0o700
    assert leaks(run.output, values) == []
    before = vaulted.read_bytes()
    same = {"assert": {"that": [f"__made.secrets == {values}"], "quiet": True}, "no_log": True}
    run = ansible.run([generated(vaulted, secrets=KINDS), same], "-vvvvv").succeeded()
    assert not run.changed[0]
    assert vaulted.read_bytes() == before
    assert os.listdir(vaulted.parent) == [vaulted.name]
    # What Ansible's own tools and variables make of it.
    assert yaml.safe_load(ansible.command("ansible-vault", "view", str(vaulted))) == values
    included = [
        {"include_vars": str(vaulted)},
        {"assert": {"that": [f"api_token == '{values['api_token']}'"]}},
    ]
    ansible.run(included).succeeded()


def test_renewed_set_and_forgotten(ansible: Any, vaulted: Path) -> None:
    ansible.run([generated(vaulted, secrets=KINDS, values={"client_secret": "äöü: {{ 'x' }}\n"})]).succeeded()
    first = content(vaulted)
    assert first["client_secret"] == "äöü: x\n"  # the task's own template, which Ansible has filled in
    tasks = [
        generated(vaulted, secrets=KINDS, renew=["relay_password"], values={"client_secret": "new"}),
        {"assert": {"that": "__made.renewed == ['client_secret', 'relay_password'] and __made.made == []"}},
        generated(vaulted, secrets=KINDS, forget=["client_secret", "never_there"]),
        {"assert": {"that": "__made.forgotten == ['client_secret']"}},
        generated(vaulted, secrets=KINDS, values={"api_token": first["api_token"]}),
    ]
    run = ansible.run(tasks, "-vvv").succeeded()
    assert run.changed == [True, False, True, False, False]
    second = content(vaulted)
    assert second["relay_password"] != first["relay_password"]
    assert second.keys() == KINDS.keys()
    assert (second["api_token"], second["vault_key"]) == (first["api_token"], first["vault_key"])
    assert leaks(run.output, {**first, **second}) == []


def test_check_mode_makes_them_up(ansible: Any, vaulted: Path) -> None:
    asserted = {"assert": {"that": "__made.secrets.vault_key | length == 44"}}
    run = ansible.run([generated(vaulted, secrets=KINDS), asserted], "--check").succeeded()
    assert run.changed == [True, False]
    assert not vaulted.parent.exists()


def test_what_is_there_and_not_ours(ansible: Any, vaulted: Path) -> None:
    vaulted.parent.mkdir()
    there = {
        "is there, but is not encrypted": b"relay_password: plain-text-secret\n",
        "was encrypted with another vault password": vault(b"other").encrypt("a: b"),
        "there are no names in it": vault().encrypt("- secret-in-a-list"),
        "port is no text": vault().encrypt("port: 12345"),
        "it is no YAML": vault().encrypt("a: 'secret-without-end"),
        "1 is no text": vault().encrypt("1: a"),
    }
    tasks = []
    for number, octets in enumerate(there.values()):
        (vaulted.parent / str(number)).write_bytes(octets)
        tasks.append(generated(vaulted.parent / str(number), secrets=KINDS))
    run = ansible.run(tasks, "-vvv")
    assert len(run.messages) == len(there)
    for number, (expected, octets) in enumerate(there.items()):
        # The result is hidden, but Ansible shows the error itself.
        assert re.search(rf"{vaulted.parent}/{number} [^\n]*{expected}[^\n]*It stays as it is", run.output), (
            run.output
        )
        assert (vaulted.parent / str(number)).read_bytes() == octets
    assert "plain-text-secret" not in run.output
    assert "secret-in" not in run.output
    assert "secret-without-end" not in run.output
    (vaulted.parent / "0").write_bytes(vault().encrypt(""))
    ansible.run([generated(vaulted.parent / "0", secrets=KINDS)]).succeeded()


def test_what_is_asked_wrongly(ansible: Any, vaulted: Path) -> None:
    wrong = {
        "path is 'secrets.yml'. It must be absolute": generated("secrets.yml", secrets=KINDS),
        "a is to be a 'passphrase'. There are: password, token, fernet_key.": generated(
            vaulted, secrets={"a": "passphrase"}
        ),
        "renew names b, but": generated(vaulted, secrets=KINDS, renew=["b"]),
        "The value of a is no text": generated(vaulted, values={"a": 5}),
        "a is named twice": generated(vaulted, secrets={"a": "token"}, forget=["a"]),
        "api_token is named twice": generated(
            vaulted, secrets=KINDS, renew=["api_token"], values={"api_token": "x"}
        ),
    }
    run = ansible.run(list(wrong.values()))
    for expected, message in zip(wrong, run.messages, strict=True):
        assert expected in message
    del ansible.environment["ANSIBLE_VAULT_PASSWORD_FILE"]
    run = ansible.run([{**generated(vaulted, secrets=KINDS), "no_log": True}])
    assert "export ANSIBLE_VAULT_PASSWORD_FILE=" in run.output  # no_log or not
    assert not vaulted.parent.exists()


def test_many_hosts_and_one_file(ansible: Any, vaulted: Path) -> None:
    """All get the same secrets, whoever comes first; and a host that cannot be reached is not even asked."""
    unreachable = {"ansible_connection": "ssh", "ansible_host": "no.such.host.invalid"}
    ansible.inventory = {f"host{number}": unreachable for number in range(6)}
    run = ansible.run([generated(vaulted, secrets=KINDS)], "--forks", "6").succeeded()
    assert sorted(run.changed) == [False] * 5 + [True]


def test_an_identity_is_kept(ansible: Any, vaulted: Path) -> None:
    del ansible.environment["ANSIBLE_VAULT_PASSWORD_FILE"]
    for name in ("first", "second"):
        (ansible.directory / name).write_text(name)
    options = ["--vault-id", "first@first", "--vault-id", "second@second"]
    vaulted.parent.mkdir()
    second = VaultLib([("second", VaultSecret(b"second"))])
    vaulted.write_bytes(second.encrypt("kept: value", vault_id="second"))
    ansible.run([generated(vaulted, secrets=KINDS)], *options).succeeded()
    assert vaulted.read_bytes().startswith(b"$ANSIBLE_VAULT;1.2;AES256;second\n")
    assert yaml.safe_load(second.decrypt(vaulted.read_bytes()))["kept"] == "value"
    fresh = vaulted.with_name("fresh")
    ansible.run([generated(fresh, secrets=KINDS)], *options).succeeded()
    assert fresh.read_bytes().startswith(b"$ANSIBLE_VAULT;1.2;AES256;first\n")


def test_no_room(tmp_path: Path) -> None:
    path = tmp_path / "secrets.yml"
    path.write_bytes(vault().encrypt("a: b"))
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    file = VaultedFile(path, vault())
    values = file.read()
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            file.write({**values, "more": "x" * 1000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["secrets.yml"]


def test_without_a_vault_password(tmp_path: Path) -> None:
    for none in (None, []):
        with pytest.raises(AnsibleActionFail, match="no vault password"):
            VaultedFile(tmp_path / "x", VaultLib(none))


def test_the_alphabet_is_the_relays(plugin: Any) -> None:
    from relay_app import settings

    action = plugin("action/generated_secrets")
    assert (action._ALPHABET, action._PASSWORD_LENGTH) == (settings._ALPHABET, settings._PASSWORD_LENGTH)
