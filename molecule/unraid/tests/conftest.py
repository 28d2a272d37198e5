"""The tower over ssh, as Ansible reaches it, what can go wrong with it, and deployments to it."""

from __future__ import annotations

import json
import os
import secrets
import smtplib
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import testinfra
import yaml
from harness.programs import wait_until
from testinfra.host import Host

from sandbox.client import Control
from sandbox.journal import Message

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
SCENARIO = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
GROUND = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
TOWER = "smtp-relay-test-tower"
PORT = os.environ.get("TOWER_PORT", "22022")
SECONDS_TO_PLAY = 100
OFFICE = "office@example.org"

# In opt/ of the tower: what breaks, and what puts it right again.
REMEDIES = {
    "array stop": "array start",
    "docker stop": "docker start",
    "docker disable": "docker start",
    "docker crash": "docker start",
    "docker unmount": "docker start",
    "share detach": "share attach",
    "share small": "share attach",
    "hostkey change": "hostkey restore",
    "machine riscv64": "machine real",
    "system other": "system unraid",
}

# A refused deployment says so in JSON; and with what Docker's modules were called.
ENVIRONMENT = {
    "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
    "ANSIBLE_VERBOSITY": "3",
    "ANSIBLE_FORKS": "20",
}


def docker(*arguments: str, stdin: str = "") -> str:
    """Run docker on the engine itself; return what it wrote."""
    done = subprocess.run(
        ["docker", *arguments],
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, f"docker {' '.join(arguments)}\n{done.stdout}"
    return done.stdout


def on_the_tower(*command: str) -> str:
    """Run a command there, past ssh: it works whatever is broken."""
    return docker("exec", TOWER, *command)


@dataclass(frozen=True)
class Run:
    """What a playbook did: host and name of each task, and its result."""

    tasks: list[tuple[str, str, dict[str, Any]]]
    stats: dict[str, dict[str, int]]

    @property
    def changed(self) -> list[str]:
        """The tasks that have changed something, in a run that went to its end."""
        for host, counts in self.stats.items():
            assert counts["failures"] == counts["unreachable"] == 0, f"{host}: {self.refusal(host) or counts}"
        return self.changed_until_refused

    @property
    def changed_until_refused(self) -> list[str]:
        """The same, in a run that was refused."""
        return [name for _, name, result in self.tasks if result.get("changed")]

    def refusal(self, host: str = "tower") -> str:
        """What the last task that failed says, as one line; "" if none has."""
        if not self.stats[host]["failures"]:
            return ""
        failed = [result for where, _, result in self.tasks if where == host and result.get("failed")]
        items = [item for item in failed[-1].get("results", []) if item.get("failed")]
        return " ".join((items or failed[-1:])[0]["msg"].split())

    def engines(self) -> set[str]:
        """Which Docker engines have been spoken to on behalf of the tower."""
        calls = [
            call.get("invocation", {}).get("module_args", {})
            for host, _, result in self.tasks
            if host == "tower"
            for call in (result, *result.get("results", []))
        ]
        return {call["docker_host"] for call in calls if "docker_host" in call}


def run_playbook(file: str, *arguments: str, environment: dict[str, str] | None = None) -> Run:
    """Run a playbook and read what it reports."""
    try:
        done = subprocess.run(
            ["ansible-playbook", *arguments, str(PROJECT / file)],
            env=os.environ | ENVIRONMENT | (environment or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS_TO_PLAY,
            check=False,
        )
    except subprocess.TimeoutExpired as expired:
        said = [
            (stream or b"")[-3000:].decode(errors="replace") for stream in (expired.stdout, expired.stderr)
        ]
        raise AssertionError(
            f"{file} did not end within {SECONDS_TO_PLAY} s. Last it said: {' '.join(said)}"
        ) from None
    begin = done.stdout.find('{\n    "custom_stats"')  # after what Ansible says besides
    assert begin >= 0, f"{file} has not even begun: {done.stdout}\n{done.stderr}"
    report, _ = json.JSONDecoder().raw_decode(done.stdout, begin)
    tasks = [
        (host, task["task"]["name"], result)
        for play in report["plays"]
        for task in play["tasks"]
        for host, result in task["hosts"].items()
    ]
    return Run(tasks, report["stats"])


@pytest.fixture(scope="session")
def playbook() -> Callable[..., Run]:
    """Run a playbook and read what it reports."""
    return run_playbook


@pytest.fixture(scope="session")
def at_tower() -> Callable[..., str]:
    """Run a command on the tower past ssh."""
    return on_the_tower


@pytest.fixture(scope="session")
def engine() -> Callable[..., str]:
    """The docker command, on the engine itself."""
    return docker


@pytest.fixture(scope="session")
def tower() -> Host:
    """The tower as a client of its sshd sees it."""
    return testinfra.get_host(f"ssh://root@tower:{PORT}", controlpersist=0)


@pytest.fixture
def trouble() -> Callable[[str], AbstractContextManager[None]]:
    """Have something wrong for a while: `with trouble("array stop"):`"""

    @contextmanager
    def while_(words: str) -> Iterator[None]:
        script, *arguments = words.split()
        on_the_tower(f"/opt/tower/{script}", *arguments)
        try:
            yield
        finally:
            script, *arguments = REMEDIES[words].split()
            on_the_tower(f"/opt/tower/{script}", *arguments)

    return while_


@pytest.fixture(scope="session")
def places() -> dict[str, Any]:
    """Names and ports of this scenario, as its variable files have them."""
    files = (PROJECT / "molecule/vars/apart.yml", SCENARIO / "vars/places.yml")
    found: dict[str, Any] = {}
    for file in files:
        found |= yaml.safe_load(file.read_text())
    return found


@pytest.fixture(scope="session")
def contents(places: dict[str, Any]) -> Callable[[], str]:
    """All that a run could change: its files without the relay's data, and what of ours Docker has."""
    relay, network = places["relay_name"], places["relay_network"]
    find = ["find", "/boot", "/mnt", "/etc", "/root", "/tmp", "/var", "/usr/local", "/opt"]
    find += ["-path", f"/mnt/user/appdata/{relay}/data", "-prune"]
    find += ["-o", "-printf", r"%p %M %U:%G %s %T@ %l\n"]

    def list_() -> str:
        containers = docker("ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.Image}}")
        ours = [line for line in containers.splitlines() if f" {relay} " in line]
        networks = docker("network", "ls", "--format", "{{.Name}}").splitlines()
        return "\n".join(
            [*sorted(on_the_tower(*find).splitlines()), *ours, f"network: {network in networks}"]
        )

    return list_


@dataclass(frozen=True)
class Relay:
    """The relay on the tower, from outside."""

    name: str
    port: int
    directory: str

    @property
    def inspected(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(docker("inspect", "--type", "container", self.name))[0]
        return found

    @property
    def started(self) -> tuple[str, str]:
        """Which container it is and since when it runs: the same, if it was only told to reload."""
        found = self.inspected
        return found["Id"], found["State"]["StartedAt"]

    @property
    def image(self) -> str:
        """The image that is noted as one that works."""
        return on_the_tower("cat", f"{self.directory}/config/.image").strip()

    def password(self, device: str = OFFICE) -> str:
        stem = "".join(letter if letter.isalnum() else "-" for letter in device)
        return on_the_tower("cat", f"{self.directory}/secrets/password_{stem}")

    @contextmanager
    def session(self) -> Iterator[smtplib.SMTP]:
        """A connection to the published port, after STARTTLS, whatever certificate it shows."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with smtplib.SMTP("127.0.0.1", self.port, timeout=30) as client:
            client.starttls(context=context)
            yield client

    def certificate(self) -> str:
        """The certificate that it shows, as PEM."""
        with self.session() as client:
            assert isinstance(client.sock, ssl.SSLSocket)
            return ssl.DER_cert_to_PEM_cert(client.sock.getpeercert(binary_form=True) or b"")


@pytest.fixture(scope="session")
def relay(places: dict[str, Any]) -> Relay:
    """The relay on the tower."""
    name = places["relay_name"]
    return Relay(name, int(places["relay_port"].split(":")[1]), f"/mnt/user/appdata/{name}")


@pytest.fixture(scope="session")
def outlook(places: dict[str, Any]) -> Iterator[Control]:
    """The sandbox's Outlook."""
    control = Control(f"http://127.0.0.1:{places['sandbox_control_port']}")
    yield control
    control.close()


@pytest.fixture(scope="session")
def goes_out(relay: Relay, outlook: Control) -> Callable[..., Message]:
    """Submit a message over STARTTLS to the published port, and see it arrive at Outlook, once."""

    def send(device: str = OFFICE, password: str = "") -> Message:
        mark = secrets.token_hex(8)
        with relay.session() as client:
            client.login(device, password or relay.password(device))
            client.sendmail(
                OFFICE, ["somebody@example.net"], f"From: {OFFICE}\r\nSubject: {mark}\r\n\r\nHello.\r\n"
            )

        def arrived() -> list[Message]:
            return [message for message in outlook.messages() if mark.encode() in (message.content or b"")]

        wait_until(lambda: bool(arrived()), f"Outlook has the message {mark}")
        (message,) = arrived()
        return message

    return send


@pytest.fixture(scope="session")
def world(outlook: Control, places: dict[str, Any]) -> dict[str, Any]:
    """What a whole run learns from the sandbox: with it the relay alone can be deployed."""
    there = outlook.world()
    secrets_file = GROUND / "secrets/sandbox.yml"
    shown = subprocess.run(
        ["ansible-vault", "view", secrets_file], check=True, capture_output=True, text=True
    )
    return {
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
            }
        ],
        "image_registry_password": yaml.safe_load(shown.stdout)["registry_password"],
    }


@pytest.fixture(scope="session")
def deploy(
    relay: Relay, world: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Run]:
    """Deploy the relay, or run another playbook for it: deploy(relay_autostart=False).

    Variables are added to the scenario's. All that was done in Docker must have been done in the tower's.
    """
    molecule = yaml.safe_load(Path(os.environ["MOLECULE_FILE"]).read_text())
    usual = molecule["ansible"]["executor"]["args"]["ansible_playbook"]

    def run(file: str = "playbooks/relay.yml", *arguments: str, **variables: Any) -> Run:
        given = tmp_path_factory.mktemp("given") / "variables.json"
        image = variables.get("relay_image") or relay.image
        given.write_text(json.dumps(world | variables | {"relay_image": image}))
        limit = arguments or ("--limit=relay",)
        done = run_playbook(file, *usual, f"--extra-vars=@{given}", *limit)
        tower = {f"ssh://root@tower:{PORT}"}
        assert done.engines() == tower or (done.refusal() and done.engines() <= tower)
        return done

    return run
