"""docker-compose.yml, started for real: with the plain variables of .env, and with secrets as files."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient
from harness import programs
from harness.clients import Account, swaks
from harness.letters import letter
from harness.planted import Planted
from harness.ports import free_port

from .conftest import Images, Microsoft
from .containers import ROOT, SECONDS_TO_BUILD, Container, hand_over, unique

pytestmark = [pytest.mark.timeout(SECONDS_TO_BUILD), pytest.mark.xdist_group("engine")]

_SECRETS = {
    "CLIENT_SECRET": "client_secret",
    "RELAY_PASSWORD": "relay_password",
    "RELAY_WEB_PASSWORD": "console_password",
}


_NO_CERTIFICATE = {"RELAY_TLS_CERT": None, "RELAY_TLS_KEY": None}


def _compose() -> list[str]:
    """Compose's second version where it is installed; the first is the one that Debian 12 has."""
    second = [programs.find("docker"), "compose"]
    if subprocess.run([*second, "version"], capture_output=True, check=False).returncode == 0:
        return second
    return [programs.find("docker-compose")]


class Project:
    """A folder with docker-compose.yml in it, as a user has it, and what the test changes beside it.

    The file itself is not changed. The override gives the container a name that is free, and the sandbox for
    Microsoft; and its health is looked at more often, so that the test need not wait.
    """

    def __init__(
        self,
        folder: Path,
        engine: DockerClient,
        images: Images,
        microsoft: Microsoft,
        settings: Mapping[str, str],
    ) -> None:
        self.folder = folder
        self.name = unique("compose")
        self.container = Container(engine, self.name)
        self._images = images
        self._settings = settings
        self._trust = microsoft.trust
        self._environment = {
            "GHCR_USER": self.name,
            "SMTP_PORT": str(free_port()),
            "CONSOLE_PORT": str(free_port()),
        }
        shutil.copy(ROOT / "docker-compose.yml", folder)
        (folder / "certs").symlink_to(microsoft.certs)
        override: dict[str, Any] = {
            "services": {
                "smtp-relay": {
                    "container_name": self.name,
                    "healthcheck": {"interval": "1s"},
                    "environment": {
                        name: settings[name]
                        for name in ("RELAY_UPSTREAM", "RELAY_UPSTREAM_CA", "RELAY_AUTHORITY")
                    },
                    "networks": ["default", "microsoft"],
                }
            },
            "networks": {"microsoft": {"external": True, "name": microsoft.network}},
        }
        (folder / "docker-compose.override.yml").write_text(json.dumps(override))  # JSON is YAML

    def write_env(self, **changes: str | None) -> None:
        """Write .env; None leaves a variable out."""
        names = (
            "CLIENT_ID",
            "TENANT_ID",
            "USER_EMAIL",
            "RELAY_FLOW",
            "RELAY_HOSTNAME",
            "RELAY_TLS_CERT",
            "RELAY_TLS_KEY",
        )
        lines = {**self._environment, **{name: self._settings[name] for name in names}, **changes}
        text = "".join(f"{name}={value}\n" for name, value in lines.items() if value is not None)
        (self.folder / ".env").write_text(text)

    def write_secrets(self) -> None:
        """One file a secret, for the relay's user."""
        (self.folder / "secrets").mkdir()
        for variable, file in _SECRETS.items():
            (self.folder / "secrets" / file).write_text(f"{self._settings[variable]}\n")
        hand_over(self.container.engine, self.folder / "secrets", self._images.relay)

    def compose(self, *command: str) -> programs.Done:
        """Run a command of Compose in the folder."""
        done = subprocess.run(
            [*_compose(), "--project-name", self.name, *command],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=programs.SECONDS_TO_RUN,
            check=False,
        )
        return programs.Done(done.returncode, done.stdout)

    def up(self) -> None:
        """Start it, and wait until it is healthy."""
        done = self.compose("up", "--detach")
        assert done.status == 0, done.output
        self.container.wait_healthy()

    @property
    def account(self) -> Account:
        port = int(self._environment["SMTP_PORT"])
        user, password = self._settings["USER_EMAIL"], self._settings["RELAY_PASSWORD"]
        return Account("127.0.0.1", port, self._trust, user, password)

    @property
    def console_port(self) -> str:
        return self._environment["CONSOLE_PORT"]


@pytest.fixture
def project(
    engine: DockerClient, images: Images, microsoft: Microsoft, settings: dict[str, str], tmp_path: Path
) -> Iterator[Project]:
    """docker-compose.yml in a folder of its own, with nothing set yet."""
    with ExitStack() as remove:
        project = Project(tmp_path, engine, images, microsoft, settings)
        image = f"ghcr.io/{project.name}/smtp-relay:latest"
        engine.images.get(images.relay).tag(image)
        remove.callback(engine.images.remove, image)
        remove.callback(project.compose, "down", "--volumes")
        yield project


@pytest.fixture
def arrives(microsoft: Microsoft, settings: dict[str, str], planted: Planted) -> Callable[[Project], None]:
    """Submit a mail with swaks, over STARTTLS, and see it at the sandbox."""

    def submit(project: Project) -> None:
        microsoft.control.reset()
        sent = swaks(project.account, letter(planted, settings["USER_EMAIL"]))
        assert sent.status == 0, f"{sent.transcript}\n{project.container.log}"
        (message,) = microsoft.control.messages()
        assert message.recipients == ["somebody@example.net"]

    return submit


def test_with_plain_variables(
    project: Project, settings: dict[str, str], arrives: Callable[[Project], None]
) -> None:
    project.write_env(**{variable: settings[variable] for variable in _SECRETS})
    project.up()
    arrives(project)


def test_with_secrets_as_files(
    project: Project, planted: Planted, arrives: Callable[[Project], None]
) -> None:
    project.write_env(**{f"{variable}_FILE": f"/secrets/{file}" for variable, file in _SECRETS.items()})
    project.write_secrets()
    project.up()
    arrives(project)
    shown = json.dumps(project.container.found.attrs) + project.container.log
    assert planted.found_in(shown) == []


def _header() -> list[list[str]]:
    """The lines that the file's head wants written or run: its indented blocks, without the comments."""
    head = (ROOT / "docker-compose.yml").read_text("utf-8").partition("\nservices:")[0]
    lines = [
        line.removeprefix("#        ") if line.startswith("#        ") else "" for line in head.splitlines()
    ]
    blocks = "\n".join(re.sub(r"\s+#.*", "", line) for line in lines).split("\n\n")
    return [block.split("\n") for block in map(str.strip, blocks) if block]


def test_its_head_taken_literally_makes_a_relay_that_runs(
    project: Project, engine: DockerClient, images: Images, settings: dict[str, str]
) -> None:
    plain, commands, files = _header()
    mine = {name: settings[name] for name in ("CLIENT_ID", "TENANT_ID", "USER_EMAIL", "RELAY_HOSTNAME")}
    said = dict(line.split("=", 1) for line in plain)
    assert said.keys() == {"GHCR_USER", "RELAY_FLOW", "RELAY_PASSWORD", "RELAY_WEB_PASSWORD", *mine}
    passwords = {name: settings[name] for name in ("RELAY_PASSWORD", "RELAY_WEB_PASSWORD")}
    project.write_env(**{**mine, **passwords, "RELAY_FLOW": said["RELAY_FLOW"]}, **_NO_CERTIFICATE)
    project.up()
    assert {"vault.key", "tls"} <= set(project.container.run("ls", "/data").split())
    assert project.compose("down", "--volumes").status == 0

    *as_anybody, as_root = commands
    script = "\n".join(as_anybody)
    subprocess.run(["sh", "-euc", script], cwd=project.folder, check=True, timeout=programs.SECONDS_TO_RUN)
    engine.containers.run(
        images.relay,
        ["-euc", as_root],
        entrypoint="sh",
        user="0",
        network_mode="none",
        volumes=[f"{project.folder}:/here"],
        working_dir="/here",
        remove=True,
    )
    instead = dict(line.split("=", 1) for line in files)
    project.write_env(**{**mine, **instead, "RELAY_FLOW": said["RELAY_FLOW"]}, **_NO_CERTIFICATE)
    project.up()
    assert "vault.key" not in project.container.run("ls", "/data").split()
    for name, file in instead.items():
        length = len(project.container.run("cat", file).strip())
        assert length == (44 if name == "RELAY_VAULT_KEY_FILE" else 24), name


def test_it_is_hardened_and_stops_well(project: Project, settings: dict[str, str]) -> None:
    project.write_env(**{variable: settings[variable] for variable in _SECRETS})
    project.up()
    found = project.container.found.attrs
    host = found["HostConfig"]
    assert found["Config"]["User"] == "99:100"
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["Tmpfs"] == {"/tmp": "rw,noexec,nosuid,nodev,size=64m"}
    assert host["PidsLimit"] == 256
    assert found["Config"]["StopTimeout"] == 75
    assert host["Init"]
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert host["LogConfig"]["Config"] == {"max-file": "3", "max-size": "10m"}
    assert {mount["Destination"]: mount["RW"] for mount in found["Mounts"]} == {
        "/data": True,
        "/config": False,
        "/secrets": False,
        "/certs": False,
    }
    assert [each["HostIp"] for each in host["PortBindings"]["587/tcp"]] == ["0.0.0.0"]
    assert host["PortBindings"]["8025/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": project.console_port}]
    # Killed, because it took too long, it would end with 137.
    assert project.compose("stop").status == 0
    assert project.container.state["ExitCode"] == 0


def test_the_sign_ins_outlive_the_container(
    project: Project, settings: dict[str, str], arrives: Callable[[Project], None]
) -> None:
    project.write_env(**{variable: settings[variable] for variable in _SECRETS})
    project.up()
    key = project.container.run("cat", "/data/vault.key")
    assert project.compose("down").status == 0
    project.up()
    assert project.container.run("cat", "/data/vault.key") == key
    arrives(project)


@pytest.mark.parametrize("missing", ["CLIENT_ID", "USER_EMAIL"])
def test_what_is_missing_is_said(project: Project, missing: str) -> None:
    project.write_env(**{missing: None})
    done = project.compose("up", "--detach")
    assert done.status != 0
    assert f"{missing} is not set" in done.output


def test_a_secret_given_twice_is_said(project: Project, settings: dict[str, str]) -> None:
    project.write_secrets()
    project.write_env(
        RELAY_PASSWORD=settings["RELAY_PASSWORD"], RELAY_PASSWORD_FILE="/secrets/relay_password"
    )
    assert project.compose("up", "--detach").status == 0
    project.container.wait_for_log("RELAY_PASSWORD and RELAY_PASSWORD_FILE are both set. Keep one")


def test_it_is_what_the_compose_specification_allows() -> None:
    done = programs.run(
        str(Path(sys.executable).with_name("check-jsonschema")),
        "--builtin-schema",
        "vendor.compose-spec",
        str(ROOT / "docker-compose.yml"),
    )
    assert done.status == 0, done.output
