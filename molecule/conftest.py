"""What the tests of all scenarios work with: Ansible as the scenario runs it, and the relay that it makes."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import secrets
import shlex
import signal
import smtplib
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest
import requests
import testinfra
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret
from docker import DockerClient
from docker.errors import NotFound
from harness import clients
from harness.programs import wait_until
from harness.submitter import Submitter
from testinfra.host import Host

from sandbox.client import Control
from sandbox.journal import Message

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
SCENARIO = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
EPHEMERAL = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
HOST = os.environ.get("RELAY_HOST", "")
"""The tower, as testinfra calls it; "" where the relay is on this machine."""
PLACES: dict[str, Any] = {
    **yaml.safe_load((PROJECT / "molecule/vars/apart.yml").read_text()),
    **yaml.safe_load((SCENARIO / "vars/places.yml").read_text()),
}
WORK = "office@example.org"
RECIPIENT = "somebody@example.net"
SECONDS_TO_PLAY = 600.0
SECONDS_TO_STOP = 8.0  # then one more press

Inspect = Callable[[str], dict[str, Any]]


@dataclass(frozen=True)
class Played:
    """How a playbook ended, and all that was printed."""

    code: int
    output: str

    @property
    def text(self) -> str:
        """The output with every run of white space as one blank, so that a sentence can be looked for."""
        return " ".join(self.output.split())

    @property
    def tail(self) -> str:
        """The end of the output, where a failure is."""
        return _tail(self.output)

    @property
    def changed(self) -> int:
        """How many tasks have changed something, on all hosts, as the recap says."""
        recap = self.output.rpartition("PLAY RECAP")[2]
        counts = [word.partition("=")[2] for word in recap.split() if word.startswith("changed=")]
        assert counts, self.tail
        return sum(map(int, counts))


def _tail(output: str) -> str:
    return "\n".join(output.splitlines()[-60:])


class Playing:
    """A playbook that runs beside the test, in a process group of its own as in a terminal."""

    def __init__(self, command: list[str]) -> None:
        self._output = ""
        self._ended = False
        self._news = threading.Condition()
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            # A shell has its background jobs ignore it, and what they start after them.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            env=os.environ | {"ANSIBLE_FORCE_COLOR": "0", "PYTHONUNBUFFERED": "1"},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, text: str, timeout: float = SECONDS_TO_PLAY) -> None:
        """Return when this has been printed; fail when the playbook ends without it, or takes too long."""
        with self._news:
            self._news.wait_for(lambda: text in self._output or self._ended, timeout)
            found = text in self._output
            assert found, f"{text!r} was awaited. Printed was:\n{_tail(self._output)}"

    def interrupt(self) -> Played:
        """Press Ctrl-C, which a terminal sends to all processes of the group, and wait for the end.

        At times ansible-playbook goes on with the next task: the signal came while it forked, and Python lost
        it. At times it waits for a process of its own that has ended. Either takes one more press, as anybody
        would give it.
        """
        for _ in range(3):
            with self._news, contextlib.suppress(ProcessLookupError):
                tasks = self._tasks
                os.killpg(self._process.pid, signal.SIGINT)
                self._news.wait_for(functools.partial(self._went_on, tasks), SECONDS_TO_STOP)
            if self._ended:
                break
        return self.end()

    def _went_on(self, tasks: int) -> bool:
        """Whether it has ended, or has begun another task."""
        return self._ended or self._tasks > tasks

    @property
    def _tasks(self) -> int:
        """How many tasks have begun."""
        return self._output.count("\nTASK [")

    def end(self, timeout: float = SECONDS_TO_PLAY) -> Played:
        """Wait for its end."""
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            raise AssertionError(
                f"It did not end within {timeout:g} s. Printed was:\n{_tail(self._output)}"
            ) from None
        self._reader.join(timeout)
        return Played(code, self._output)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout:
            for line in self._process.stdout:
                with self._news:
                    self._output += line.decode(errors="replace")
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()


class Play:
    """Run a playbook as the scenario does: play("playbooks/preflight.yml", relay_port="25").

    Keyword arguments are extra variables, other arguments go to ansible-playbook. The outcome is for the test
    to judge.
    """

    def __init__(self, given: Path) -> None:
        configuration = yaml.safe_load(Path(os.environ["MOLECULE_FILE"]).read_text())
        usual = configuration["ansible"]["executor"]["args"]["ansible_playbook"]
        self._usual = [f"--inventory={EPHEMERAL}/inventory", *usual, f"--extra-vars=@{given}"]

    def __call__(
        self, playbook: str, *arguments: str, timeout: float = SECONDS_TO_PLAY, **variables: object
    ) -> Played:
        with self.begun(playbook, *arguments, **variables) as playing:
            return playing.end(timeout)

    def interrupted(self, moment: str, playbook: str, *arguments: str, **variables: object) -> None:
        """Begin it, and press Ctrl-C when this is printed. It must not have come to its end."""
        with self.begun(playbook, *arguments, **variables) as playing:
            playing.wait_for(moment)
            ended = playing.interrupt()
        assert ended.code != 0, f"it was too late at {moment}:\n{ended.tail}"

    @contextlib.contextmanager
    def begun(self, playbook: str, *arguments: str, **variables: object) -> Iterator[Playing]:
        """The same beside the test. When the block ends, it has ended."""
        playing = Playing(
            [
                *("ansible-playbook", *self._usual),
                *(f"--extra-vars={json.dumps(variables)}", *arguments, str(PROJECT / playbook)),
            ]
        )
        try:
            yield playing
        except BaseException:
            playing.interrupt()
            raise
        finally:
            playing.end()


@pytest.fixture(scope="session")
def engine() -> Iterator[DockerClient]:
    """The Docker engine itself, past Ansible and ssh: DOCKER_HOST's, or this machine's."""
    client = docker.from_env(timeout=120)
    yield client
    client.close()


@pytest.fixture(scope="session")
def inspect(engine: DockerClient) -> Inspect:
    """What the engine says of a container or of an image."""

    def look(name: str) -> dict[str, Any]:
        try:
            return dict(engine.containers.get(name).attrs)
        except NotFound:
            return dict(engine.images.get(name).attrs)

    return look


@dataclass(frozen=True)
class Relay:
    """The relay, from outside."""

    name: str
    port: int
    console: str
    host: Host
    """where it is deployed"""
    directory: Path
    """there"""
    user: str
    engine: DockerClient
    inspect: Inspect
    inside: Host
    """its container"""

    @property
    def started(self) -> tuple[str, str]:
        """Which container it is and since when it runs: the same, if it was only told to reload."""
        container = self.inspect(self.name)
        return container["Id"], container["State"]["StartedAt"]

    @property
    def image(self) -> str:
        return str(self.inspect(self.name)["Config"]["Image"])

    def read(self, file: str) -> str:
        """A file below its directory."""
        return str(self.host.file(f"{self.directory}/{file}").content_string)

    def files(self, *expression: str) -> list[str]:
        """The paths below its directory, as find(1) has them for such an expression."""
        command = shlex.join(["find", str(self.directory), "-mindepth", "1", *expression, "-printf", r"%P\n"])
        return sorted(self.host.check_output(command).splitlines())

    def kept(self, file: str = "relay") -> dict[str, str]:
        """What Ansible keeps encrypted on this machine. It is read anew each time: some tests replace it."""
        password = subprocess.run(
            [PROJECT / "molecule/vault-password"], capture_output=True, check=True
        ).stdout
        vault = VaultLib([("default", VaultSecret(password.strip()))])
        return dict(yaml.safe_load(vault.decrypt((EPHEMERAL / f"secrets/{file}.yml").read_bytes())))

    def password(self, login: str = WORK) -> str:
        """What was made for a device."""
        stem = "".join(letter if letter.isalnum() else "-" for letter in login)
        return self.kept()[f"relay_password_{stem}"]

    @contextlib.contextmanager
    def session(self, port: int = 0) -> Iterator[smtplib.SMTP]:
        """A connection after STARTTLS, or to another port with TLS at once, whatever certificate it shows."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if port:
            client: smtplib.SMTP = smtplib.SMTP_SSL("127.0.0.1", port, timeout=30, context=context)
        else:
            client = smtplib.SMTP("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(client):
            if not port:
                client.starttls(context=context)
            yield client

    def certificate(self, port: int = 0) -> str:
        """What it shows, as PEM."""
        with self.session(port) as client:
            assert isinstance(client.sock, ssl.SSLSocket)
            return ssl.DER_cert_to_PEM_cert(client.sock.getpeercert(binary_form=True) or b"")

    def submit(
        self,
        login: str = WORK,
        password: str = "",
        *,
        subject: str = "a test",
        sender: str = WORK,
        port: int = 0,
        issuer: Path | None = None,
    ) -> clients.Sent:
        """Hand in a message with swaks, which trusts the certificate's issuer or, if it has none, itself."""
        trusted = EPHEMERAL / "shown.pem"
        trusted.write_text(issuer.read_text() if issuer else self.certificate(port))
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

    def remove(self) -> None:
        """Remove its container by hand. The engine gives back its ports a moment later."""
        self.engine.containers.get(self.name).remove(force=True)
        for port in (self.port, int(self.console.rpartition(":")[2])):
            wait_until(functools.partial(_is_free, port), f"port {port} is free", timeout=120)

    def answers(self) -> bool:
        """Whether it says EHLO, as its health check asks it to."""
        return bool(self.inside.run("smtp-relay health").rc == 0)

    def logs(self) -> str:
        return self.engine.containers.get(self.name).logs().decode()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.fixture(scope="session")
def relay(engine: DockerClient, inspect: Inspect) -> Relay:
    """The relay."""
    name = PLACES["relay_name"]
    return Relay(
        name,
        int(PLACES["relay_port"].rpartition(":")[2]),
        f"http://127.0.0.1:{PLACES['relay_console_port'].rpartition(':')[2]}",
        testinfra.get_host(HOST or "local://", controlpersist=0),
        Path("/mnt/user/appdata", name) if HOST else EPHEMERAL / "relay",
        "99:100" if HOST or os.geteuid() == 0 else f"{os.geteuid()}:{os.getegid()}",
        engine,
        inspect,
        testinfra.get_host(f"docker://{name}"),
    )


@pytest.fixture(scope="session")
def outlook() -> Iterator[Control]:
    """The sandbox's Outlook."""
    control = Control(f"http://127.0.0.1:{PLACES['sandbox_control_port']}")
    yield control
    control.close()


@pytest.fixture
def submitter(relay: Relay, outlook: Control) -> Iterator[Submitter]:
    """A device that hands in one message after another beside the test."""
    outlook.limits(messages_per_minute=0, recipients_per_day=0)
    device, enough = Submitter(relay.port, WORK, relay.password()), threading.Event()
    thread = threading.Thread(target=device.run, args=[enough])
    thread.start()
    try:
        wait_until(lambda: bool(device.moments), "mail comes in")
        yield device
    finally:
        enough.set()
        thread.join()
        outlook.reset()


@pytest.fixture(scope="session")
def world(outlook: Control, relay: Relay) -> dict[str, Any]:
    """What a whole run learns from the sandbox. With it the others need not look at that again."""
    there = outlook.world()
    return {
        "preflight_sandbox": False,
        "relay_authority": there.authority,
        "relay_upstream": there.smtp,
        "relay_upstream_ca": there.ca_pem,
        "relay_mailboxes": [
            {
                "address": there.work,
                "flow": "client_credentials",
                "tenant": there.tenant,
                "client_id": there.client_id,
                "client_secret": there.client_secret,
                "devices": [{"name": there.work}, *PLACES["relay_mailboxes"][0]["devices"][1:]],
            }
        ],
        "image_registry_password": relay.kept("sandbox")["registry_password"],
    }


@pytest.fixture(scope="session")
def play(world: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Play:
    """Ansible as the scenario runs it, in a sandbox that is there."""
    given = tmp_path_factory.mktemp("given") / "world.json"
    given.write_text(json.dumps(world))
    return Play(given)


@pytest.fixture(scope="session")
def goes_out(relay: Relay, outlook: Control) -> Callable[..., Message]:
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
def places() -> dict[str, Any]:
    """Names, ports and variables of this scenario."""
    return PLACES


@pytest.fixture(params=["containers", "networks", "volumes", "images"])
def on_the_engine(request: pytest.FixtureRequest, engine: DockerClient) -> list[str]:
    """The names of all that the scenario has on the engine, of one kind after the other."""
    names = {
        "containers": lambda: [each["Names"][0][1:] for each in engine.api.containers(all=True)],
        "networks": lambda: [each["Name"] for each in engine.api.networks()],
        "volumes": lambda: [each["Name"] for each in engine.api.volumes()["Volumes"] or []],
        "images": lambda: [
            name
            for each in engine.api.images()
            for name in [*(each["RepoTags"] or []), *(each["RepoDigests"] or [])]
        ],
    }
    registry = f"127.0.0.1:{PLACES['sandbox_registry_port']}/"
    ours = (PLACES["relay_name"], PLACES["relay_network"], PLACES["sandbox_name"], registry)
    return [name for name in names[request.param]() if name.startswith(ours)]


@pytest.fixture(scope="session")
def noted() -> dict[str, Any]:
    """What the engine knew of the relay before the side effect (tasks/note.yml)."""
    return dict(json.loads((EPHEMERAL / "noted.json").read_text()))


@pytest.fixture(scope="module")
def publish(relay: Relay, engine: DockerClient) -> Callable[..., str]:
    """Publish an image that is the present one but for what it starts: publish("9.0.0", ["false"])."""
    login = {"username": "sandbox", "password": relay.kept("sandbox")["registry_password"]}

    def make(tag: str, entrypoint: list[str] | None = None) -> str:
        image = f"{relay.image.rpartition(':')[0]}:{tag}"
        lines = [f"FROM {relay.image}", f"LABEL test={secrets.token_hex(8)}"]
        lines += [f"ENTRYPOINT {json.dumps(entrypoint)}"] if entrypoint else []
        engine.images.build(fileobj=io.BytesIO("\n".join(lines).encode()), tag=image, rm=True)
        for news in engine.images.push(image, auth_config=login, stream=True, decode=True):
            assert "error" not in news, f"{image}: {news['error']}"
        engine.images.remove(image)
        return image

    return make
