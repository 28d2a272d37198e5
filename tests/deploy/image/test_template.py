"""unraid/smtp-relay.xml, filled in as a person does it, and what Unraid makes of it run for real."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests
from docker import DockerClient
from harness import programs
from harness.clients import Account, swaks
from harness.letters import letter
from harness.planted import Planted
from harness.ports import free_port

from ..dockerman import Server, arguments, filled, read_template
from .conftest import Images, Microsoft
from .containers import LABEL, ROOT, SECONDS_TO_BUILD, Container, hand_over, unique

pytestmark = [pytest.mark.timeout(SECONDS_TO_BUILD), pytest.mark.xdist_group("engine")]

TEMPLATE = (ROOT / "unraid/smtp-relay.xml").read_text("utf-8")
# Secret -> the file that may hold it instead.
SECRETS = {
    "CLIENT_SECRET": "client_secret",
    "RELAY_PASSWORD": "relay_password",
    "RELAY_WEB_PASSWORD": "console_password",
}


class Installation:
    """A relay that somebody has installed with the template: what was typed, and its container."""

    def __init__(
        self,
        engine: DockerClient,
        typed: dict[str, str | None],
        microsoft: Microsoft,
        settings: dict[str, str],
    ) -> None:
        self.container = Container(engine, unique("template"))
        self._typed = typed
        self._network = microsoft.network
        self._settings = settings
        self._ports = {"587": str(free_port()), "8025": str(free_port())}

    def create(self) -> None:
        """Type, press Apply, and make the container with the command that Unraid makes of it.

        The sandbox for Microsoft, and a health that is looked at more often, are extra parameters.
        """
        server = Server(networks={self._network: "bridge"})
        options = [read_template(TEMPLATE, server)["ExtraParams"], f"--label={LABEL}", "--health-interval=1s"]
        for name in ("RELAY_UPSTREAM", "RELAY_UPSTREAM_CA", "RELAY_AUTHORITY"):
            options.append(f"--env={name}={self._settings[name]}")
        elements = {
            "Name": self.container.name,
            "Network": self._network,
            "ExtraParams": " ".join(options),
        }
        xml = filled(TEMPLATE, server, **elements, **self._ports, **self._typed)
        created = programs.run(*arguments(read_template(xml, server), server))
        assert created.status == 0, created.output

    def logs_in_to_the_console(self, password: str) -> bool:
        """Whether the console lets somebody in with this password."""
        address = f"http://127.0.0.1:{self._ports['8025']}/login"
        with requests.Session() as browser:
            page = browser.get(address, timeout=30).text
            tokens = re.findall('name="csrf_token" value="([^"]+)"', page)
            typed = {"csrf_token": tokens[0], "password": password}
            return browser.post(address, typed, timeout=30, allow_redirects=False).status_code == 303

    def account(self, trust: Path) -> Account:
        """The device of the mailbox."""
        user, password = self._settings["USER_EMAIL"], self._settings["RELAY_PASSWORD"]
        return Account("127.0.0.1", int(self._ports["587"]), trust, user, password)


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """The folder Secrets, as Unraid makes it: empty."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    return folder


@pytest.fixture
def install(
    engine: DockerClient,
    images: Images,
    microsoft: Microsoft,
    settings: dict[str, str],
    data: str,
    secrets: Path,
) -> Iterator[Callable[..., Installation]]:
    """Fill in what must be filled in, and what the test types, and press Apply."""
    must = ("USER_EMAIL", "CLIENT_ID", "TENANT_ID", "RELAY_HOSTNAME", "RELAY_PASSWORD", "RELAY_WEB_PASSWORD")
    places = {"/data": data, "/secrets": str(secrets), "/certs": str(microsoft.certs)}
    fields = {"Repository": images.relay, **places, **{name: settings[name] for name in must}}
    with ExitStack() as remove:

        def install(**typed: str | None) -> Installation:
            installation = Installation(engine, {**fields, **typed}, microsoft, settings)
            installation.create()
            remove.callback(installation.container.found.remove, force=True)
            installation.container.found.start()
            return installation

        yield install


@pytest.fixture
def arrives(
    microsoft: Microsoft, settings: dict[str, str], planted: Planted
) -> Callable[[Installation, Path], None]:
    """Submit a mail with swaks, over STARTTLS, and see it at the sandbox."""

    def submit(installation: Installation, trust: Path) -> None:
        microsoft.control.reset()
        sent = swaks(installation.account(trust), letter(planted, settings["USER_EMAIL"]))
        assert sent.status == 0, f"{sent.transcript}\n{installation.container.log}"
        (message,) = microsoft.control.messages()
        assert message.recipients == ["somebody@example.net"]

    return submit


def test_it_starts_from_its_fields_alone(
    install: Callable[..., Installation], settings: dict[str, str], planted: Planted
) -> None:
    relay = install()
    relay.container.wait_healthy()
    assert relay.logs_in_to_the_console(settings["RELAY_WEB_PASSWORD"])
    assert not relay.logs_in_to_the_console(settings["RELAY_PASSWORD"])
    assert {"vault.key", "tls", "relay.db"} <= set(relay.container.run("ls", "/data").split())
    assert planted.found_in(relay.container.log) == []


def test_mail_goes_out_with_the_secret_in_its_field(
    install: Callable[..., Installation],
    settings: dict[str, str],
    arrives: Callable[[Installation, Path], None],
    tmp_path: Path,
) -> None:
    relay = install(RELAY_FLOW="client_credentials", CLIENT_SECRET=settings["CLIENT_SECRET"])
    relay.container.wait_healthy()
    trust = tmp_path / "self-signed.pem"
    trust.write_text(relay.container.run("cat", "/data/tls/self-signed.crt"))
    arrives(relay, trust)


def test_mail_goes_out_with_secrets_and_certificate_as_files(
    install: Callable[..., Installation],
    settings: dict[str, str],
    arrives: Callable[[Installation, Path], None],
    engine: DockerClient,
    images: Images,
    microsoft: Microsoft,
    planted: Planted,
    secrets: Path,
) -> None:
    for variable, file in SECRETS.items():
        (secrets / file).write_text(f"{settings[variable]}\n")
    hand_over(engine, secrets, images.relay)
    relay = install(
        **{f"{variable}_FILE": f"/secrets/{file}" for variable, file in SECRETS.items()},
        RELAY_PASSWORD=None,  # the button Remove
        RELAY_WEB_PASSWORD=None,
        RELAY_FLOW="client_credentials",
        RELAY_TLS_CERT=settings["RELAY_TLS_CERT"],
        RELAY_TLS_KEY=settings["RELAY_TLS_KEY"],
    )
    relay.container.wait_healthy()
    arrives(relay, microsoft.trust)
    assert relay.logs_in_to_the_console(settings["RELAY_WEB_PASSWORD"])
    shown = json.dumps(relay.container.found.attrs) + relay.container.log
    assert planted.found_in(shown) == []


def test_a_field_and_its_file_at_once_are_told_in_the_log(
    install: Callable[..., Installation], settings: dict[str, str], planted: Planted
) -> None:
    relay = install(RELAY_PASSWORD_FILE="/secrets/relay_password")
    relay.container.wait_for_log("RELAY_PASSWORD and RELAY_PASSWORD_FILE are both set. Keep one")
    relay.container.wait_for_log("smtp-relay cannot start:")
    assert planted.found_in(relay.container.log) == []
