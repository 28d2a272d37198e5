"""The values to be typed into Gmail and other programs."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from secrets import token_urlsafe

import pytest

from relay_app.console import gmail
from relay_app.console.backend import DeviceView, Notice, RelayView
from relay_app.console.gmail import Account, Obstacle, Security

RELAY = RelayView(
    version="1",
    hostname="relay.example.org",
    submission_port=587,
    tls_port=465,
    certificate_expires=None,
    alerts=True,
    notices=(),
)
DEVICE = DeviceView("scanner", "me@outlook.com", ("other@example.org",), "refuse", 0, configured=False)


@pytest.mark.parametrize(
    ("submission", "tls", "port", "security"),
    [
        (587, 465, 587, Security.STARTTLS),
        (2587, 0, 2587, Security.STARTTLS),
        (0, 465, 465, Security.TLS),
        (0, 0, 587, Security.STARTTLS),  # reached through a proxy only
    ],
)
def test_account(submission: int, tls: int, port: int, security: Security) -> None:
    relay = replace(RELAY, submission_port=submission, tls_port=tls)
    assert gmail.account(relay, DEVICE) == Account(
        "relay.example.org", port, security, "scanner", "me@outlook.com"
    )


def test_nothing_in_the_way() -> None:
    assert gmail.obstacles(RELAY) == ()


@pytest.mark.parametrize(
    "hostname",
    ["tower", "tower.local", "nas.lan", "relay.home.arpa", "TOWER.LOCAL.", "192.0.2.1", "2001:db8::1"],
)
def test_names_that_google_cannot_look_up(hostname: str) -> None:
    assert gmail.obstacles(replace(RELAY, hostname=hostname)) == (Obstacle.HOSTNAME,)


def test_self_signed_certificate() -> None:
    relay = replace(RELAY, notices=(Notice("no-alerts", ""), Notice("certificate-self-signed", "")))
    assert gmail.obstacles(relay) == (Obstacle.CERTIFICATE,)


@pytest.mark.parametrize(
    ("submission", "tls", "found"),
    [(2587, 0, (Obstacle.PORT,)), (2587, 465, ()), (0, 0, (Obstacle.PORT,)), (25, 0, ())],
)
def test_ports_that_gmail_does_not_offer(submission: int, tls: int, found: tuple[Obstacle, ...]) -> None:
    assert gmail.obstacles(replace(RELAY, submission_port=submission, tls_port=tls)) == found


@pytest.mark.parametrize("security", Security)
def test_msmtp_understands_its_configuration(tmp_path: Path, security: Security) -> None:
    file = tmp_path / "msmtprc"
    file.write_text(gmail.msmtp(Account("relay.example.org", 587, security, "scanner", "me@outlook.com")))
    file.chmod(0o600)
    (tmp_path / ".msmtp-password").write_text(f"{token_urlsafe(12)}\n")
    command = ["msmtp", f"--file={file}", "--pretend", "--account=relay", "you@example.org"]
    environment = {**os.environ, "HOME": str(tmp_path)}
    said = subprocess.run(
        command, env=environment, input="", capture_output=True, text=True, check=True, timeout=300
    ).stdout
    shown = dict(line.split(" = ", 1) for line in said.splitlines() if " = " in line)
    assert shown["host"].strip() == "relay.example.org"
    assert shown["port"].strip() == "587"
    assert shown["user"].strip() == "scanner"
    assert shown["from"].strip() == "me@outlook.com"
    assert shown["tls"].strip() == "on"
    assert shown["tls_starttls"].strip() == ("on" if security is Security.STARTTLS else "off")
