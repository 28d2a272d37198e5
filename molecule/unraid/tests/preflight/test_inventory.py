"""What is wrong in the inventory, or with the way to the tower, is said before anything is changed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

PORT = os.environ.get("TOWER_PORT", "22022")
FOREIGN = "smtp-relay-test-foreign"

# A host in the inventory: its variables, and how the message begins and ends.
CASES: dict[str, tuple[dict[str, Any], str, str]] = {
    "wrong-alias": (
        {"ansible_host": "no-such-tower"},
        "wrong-alias cannot be reached: there is no host of the name no-such-tower.",
        f"a HostName in ~/.ssh/config. Then try: ssh -p {PORT} root@no-such-tower docker version",
    ),
    "closed-port": (
        {"ansible_port": 1},
        "closed-port cannot be reached: nothing answers on port 1.",
        "that belongs in ansible_port. Then try: ssh -p 1 root@tower docker version",
    ),
    "stranger": (
        {"ansible_host": "tower-stranger"},
        "stranger cannot be reached: it does not accept your key.",
        f"(~/.ssh/id_ed25519.pub). Then try: ssh -p {PORT} root@tower-stranger docker version",
    ),
    "first-time": (
        {"ansible_host": "tower-unknown"},
        "first-time cannot be reached: this machine does not know its host key yet.",
        f"answer yes. To do so try: ssh -p {PORT} root@tower-unknown docker version",
    ),
    "port-in-ssh-config": (
        {"ansible_host": "tower-with-port", "ansible_port": None},
        "Docker on port-in-ssh-config works there but not from this machine, as ssh://root@tower-with-port:22:",
        "ansible_port only. This must work: docker -H ssh://root@tower-with-port:22 version",
    ),
    "private-key-file": (
        {"ansible_ssh_private_key_file": "/root/.ssh/id_rsa"},
        "private-key-file has ansible_ssh_private_key_file,",
        "Put key and proxy into ~/.ssh/config under a Host entry, and its alias into ansible_host",
    ),
    "taken-by-container": (
        {"relay_port": "22599"},
        f"Port 22599 of taken-by-container is in use by the container {FOREIGN}.",
        "Stop it, or set relay_port to another port",
    ),
    "taken-by-program": (
        {"relay_console_port": "22"},  # its sshd
        "Port 22 of taken-by-program is in use by another program (ss -ltnp tells which).",
        "Stop it, or set relay_console_port to another port",
    ),
    "foreign-name": (
        {"relay_name": FOREIGN},
        f"foreign-name has a container {FOREIGN} (image smtp-relay-test/tower) that these playbooks",
        "made by hand: run again with -e relay_adopt=true. Else choose another relay_name",
    ),
    "no-mailbox": (
        {"relay_mailboxes": []},
        "relay_mailboxes is empty.",
        "the commented example is inventories/example/group_vars/all/main.yml",
    ),
    "no-hostname": (
        {"relay_hostname": "https://smtprelay.example.org"},
        "relay_hostname: 'https://smtprelay.example.org' is not a host name.",
        "such as smtprelay.example.org",
    ),
    "upper-case-network": (
        {"relay_network": "Mail"},
        "relay_network: 'Mail' must be in lower case (letters, digits, . _ -).",
        "a container in no network of that name would have none after an update there",
    ),
    "root": ({"relay_user": "0:0"}, "relay_user: '0:0' is not uid:gid in numbers,", "Unraid's is 99:100"),
    "half-a-certificate": (
        {"relay_tls_certificate": "/nowhere/fullchain.pem"},
        "relay_tls_certificate and relay_tls_private_key belong together:",
        "name two PEM files on this machine, or neither",
    ),
}


@pytest.fixture(scope="module")
def foreign(engine) -> Iterator[None]:
    """A container of somebody else, with a port."""
    container = engine.containers.run(
        "smtp-relay-test/tower",
        ["900"],
        entrypoint="sleep",
        name=FOREIGN,
        ports={"22/tcp": ("127.0.0.1", 22599)},
        detach=True,
    )
    yield
    container.remove(force=True)


@pytest.fixture(scope="module")
def said(foreign: None, contents, refusals) -> dict[str, str]:
    """One run to all of them. Nothing may have changed."""
    before = contents()
    said: dict[str, str] = refusals({name: variables for name, (variables, _, _) in CASES.items()})
    assert contents() == before
    return said


@pytest.mark.parametrize("host", CASES)
def test_it_is_refused_with_what_to_do(host: str, said: dict[str, str]) -> None:
    _, begin, end = CASES[host]
    sentence = said[host]
    assert sentence.startswith(begin)
    assert sentence.endswith(end)


def test_a_port_that_only_the_ssh_configuration_has_is_missed_by_docker(said: dict[str, str]) -> None:
    """The Docker module itself has tried it, and nobody answers there."""
    assert "port-in-ssh-config works there but not from this machine" in said["port-in-ssh-config"]
    assert ":22: Error connecting" in said["port-in-ssh-config"]


def test_another_containers_port_does_not_matter_under_our_own_name(said: dict[str, str]) -> None:
    assert "Port" not in said["foreign-name"]


def test_a_variable_that_nothing_reads_is_refused(refusals, contents) -> None:
    before = contents()
    sentence = refusals({"tower": {"relay_prot": "1587"}}, begin_with="controller")["localhost"]
    assert contents() == before
    assert sentence.startswith(
        "The inventory has variables that nothing reads: relay_prot: there is no such variable."
        " Did you mean relay_port?"
    )
    assert sentence.endswith('needs another beginning than a role\'s name and "_"')
