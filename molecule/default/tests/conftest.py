"""The relay that the scenario deploys: its mail, its console and its container, and the sandbox behind it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import smtplib
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret
from harness import clients
from harness.programs import wait_until

from sandbox.client import Control
from sandbox.journal import Message

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
GROUND = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
PLACES: dict[str, Any] = {
    **yaml.safe_load((PROJECT / "molecule/vars/apart.yml").read_text()),
    **yaml.safe_load((PROJECT / "molecule/default/vars/places.yml").read_text()),
}
WORK = "office@example.org"
RECIPIENT = "somebody@example.net"


def docker(*arguments: str, check: bool = True, timeout: float = 120) -> str:
    """Run a docker command; return what it wrote on both streams."""
    done = subprocess.run(
        ["docker", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0 or not check, f"docker {' '.join(arguments)}\n{done.stdout}"
    return done.stdout


@dataclass(frozen=True)
class Relay:
    """The relay, from outside."""

    name: str
    port: int
    console: str
    directory: Path
    inspect: Any

    @property
    def started(self) -> tuple[str, str]:
        """Which container it is and since when it runs: the same, if it was only told to reload."""
        container = self.inspect(self.name)
        return container["Id"], container["State"]["StartedAt"]

    @property
    def image(self) -> str:
        return str(self.inspect(self.name)["Config"]["Image"])

    def kept(self, file: str = "relay") -> dict[str, str]:
        """What Ansible keeps encrypted on this machine. It is read anew each time: some tests replace it."""
        password = subprocess.run(
            [PROJECT / "molecule/vault-password"], capture_output=True, check=True
        ).stdout
        vault = VaultLib([("default", VaultSecret(password.strip()))])
        return dict(yaml.safe_load(vault.decrypt((GROUND / f"secrets/{file}.yml").read_bytes())))

    def password(self, login: str = WORK) -> str:
        """What was made for a device."""
        stem = "".join(letter if letter.isalnum() else "-" for letter in login)
        return self.kept()[f"relay_password_{stem}"]

    def certificate(self, port: int = 0) -> str:
        """What it shows, as PEM: after STARTTLS, or on another port at once."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if port:
            client: smtplib.SMTP = smtplib.SMTP_SSL("127.0.0.1", port, timeout=30, context=context)
        else:
            client = smtplib.SMTP("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(client):
            if not port:
                client.starttls(context=context)
            shown = client.sock.getpeercert(binary_form=True)
        assert shown
        return ssl.DER_cert_to_PEM_cert(shown)

    def submit(
        self,
        login: str = WORK,
        password: str = "",
        *,
        subject: str = "a test",
        sender: str = WORK,
        port: int = 0,
    ) -> clients.Sent:
        """Hand in a message with swaks, which trusts the certificate's issuer or, if it has none, itself."""
        trusted = GROUND / "shown.pem"
        issuer = GROUND / "certificate/ca.pem"
        trusted.write_text(self.certificate(port) + (issuer.read_text() if issuer.exists() else ""))
        account = clients.Account(
            "127.0.0.1", port or self.port, trusted, login, password or self.password(login), bool(port)
        )
        content = f"From: {sender}\r\nTo: {RECIPIENT}\r\nSubject: {subject}\r\n\r\nA test.\r\n"
        return clients.swaks(account, clients.Mail(sender, (RECIPIENT,), content.encode()))

    def api(self, path: str) -> Any:
        """Ask the console's API."""
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(
                f"{self.console}/api/v1/{path}",
                headers={"Authorization": f"Bearer {self.kept()['console_token']}"},
                timeout=30,
            )
        answer.raise_for_status()
        return answer.json()

    def journal(self) -> set[str]:
        """The identifiers of the messages that it remembers, at most a hundred."""
        return {message["id"] for message in self.api("messages?limit=100")["messages"]}

    def answers(self) -> bool:
        """Whether it says EHLO, as its health check asks it to."""
        command = ["docker", "exec", self.name, "smtp-relay", "health"]
        done = subprocess.run(command, capture_output=True, check=False)
        return done.returncode == 0

    def logs(self) -> str:
        return docker("logs", self.name)


@pytest.fixture(scope="session")
def relay(inspect: Any) -> Relay:
    """The relay."""
    return Relay(
        PLACES["relay_name"],
        int(PLACES["relay_port"].split(":")[1]),
        f"http://{PLACES['relay_console_port']}",
        GROUND / "relay",
        inspect,
    )


@pytest.fixture
def outlook() -> Iterator[Control]:
    """The sandbox's Outlook."""
    control = Control(f"http://127.0.0.1:{PLACES['sandbox_control_port']}")
    yield control
    control.close()


@pytest.fixture
def goes_out(relay: Relay, outlook: Control) -> Any:
    """Hand in a message and see that Outlook has it, once: goes_out() or goes_out("nas", "its-password")."""

    def check(login: str = WORK, password: str = "", **options: Any) -> Message:
        subject = f"a test {secrets.token_hex(8)}"
        sent = relay.submit(login, password, subject=subject, **options)
        assert sent.status == 0, sent.transcript

        def arrived() -> list[Message]:
            return [message for message in outlook.messages() if subject.encode() in (message.content or b"")]

        wait_until(lambda: bool(arrived()), f"Outlook has {subject!r}")
        (message,) = arrived()
        return message

    return check


@pytest.fixture(scope="session")
def engine() -> Any:
    """The docker command."""
    return docker


@pytest.fixture(scope="session")
def places() -> dict[str, Any]:
    """Names, ports and variables of this scenario."""
    return PLACES


@pytest.fixture(scope="session")
def noted() -> dict[str, Any]:
    """What the engine knew of the relay before the side effect (tasks/note.yml)."""
    return dict(json.loads((GROUND / "noted.json").read_text()))
