"""Real runs of ansible-playbook with our plugins, and hosts that are a shell on this machine."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import IO, Any

import pytest
from harness import programs

REPOSITORY = Path(__file__).resolve().parents[3]
PLUGINS = REPOSITORY / "plugins"
SECONDS = programs.SECONDS_TO_RUN

# The plugins append it themselves.
sys.path.append(str(PLUGINS / "plugin_utils"))


@dataclass(frozen=True)
class Run:
    """How a run of ansible-playbook ended."""

    status: int
    output: str
    results: list[dict[str, Any]]
    """one for each task and host, in order; what `no_log` hides is hidden here, too"""

    @property
    def changed(self) -> list[bool]:
        return [result["changed"] for result in self.results]

    @property
    def messages(self) -> list[str]:
        """What the failed tasks said."""
        return [result.get("msg", "hidden") for result in self.results if result.get("failed")]

    def succeeded(self) -> Run:
        assert self.status == 0, self.output
        assert self.messages == [], self.output
        return self


@dataclass
class Ansible:
    """ansible-playbook, with nothing of this machine's configuration but its PATH."""

    directory: Path
    environment: dict[str, str] = field(default_factory=dict)
    inventory: dict[str, Any] = field(
        default_factory=lambda: {
            "localhost": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        }
    )

    def run(self, tasks: Sequence[Mapping[str, Any]], *options: str, hosts: str = "all", **play: Any) -> Run:
        """Play these tasks, each of which may fail. `play` goes beside them: vars, become."""
        with self.started(tasks, *options, hosts=hosts, **play) as process:
            output = process.communicate(timeout=SECONDS)[0]
        record = self.directory / "record"
        results = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
        return Run(process.returncode, output, results)

    def started(
        self, tasks: Sequence[Mapping[str, Any]], *options: str, hosts: str = "all", **play: Any
    ) -> subprocess.Popen[str]:
        """Begin to play them, and do not wait."""
        book = self._written("play.yml", [self._play(tasks, hosts, play)])
        inventory = self._written("inventory.yml", {"all": {"hosts": self.inventory}})
        (self.directory / "record").unlink(missing_ok=True)
        command = [_program("ansible-playbook"), "-i", inventory, *options, book]
        return subprocess.Popen(
            command,
            cwd=self.directory,  # away from the repository's ansible.cfg
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def command(self, name: str, *arguments: str, stdin: str = "") -> str:
        """Run another of Ansible's programs, which must succeed, and return what it said."""
        done = subprocess.run(
            [_program(name), *arguments],
            cwd=self.directory,
            env=self._environment(),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @staticmethod
    def _play(tasks: Sequence[Mapping[str, Any]], hosts: str, play: dict[str, Any]) -> dict[str, Any]:
        return {"hosts": hosts, "gather_facts": False, "ignore_errors": True, "tasks": list(tasks), **play}

    def _written(self, name: str, content: Any) -> Path:
        path = self.directory / name
        path.write_text(json.dumps(content))  # which is YAML, too
        return path

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "LC_ALL": "C.UTF-8",
            "RECORD": str(self.directory / "record"),
            "ANSIBLE_ACTION_PLUGINS": str(PLUGINS / "action"),
            "ANSIBLE_LIBRARY": str(PLUGINS / "modules"),
            "ANSIBLE_FILTER_PLUGINS": str(PLUGINS / "filter"),
            "ANSIBLE_LOOKUP_PLUGINS": str(PLUGINS / "lookup"),
            "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).with_name("callback")),
            "ANSIBLE_CALLBACKS_ENABLED": "record",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_MODULE_UTILS": str(PLUGINS / "module_utils"),
            **self.environment,
        }


def _program(name: str) -> Path:
    return Path(sys.executable).with_name(name)


@pytest.fixture
def ansible(tmp_path: Path) -> Ansible:
    """ansible-playbook, on this machine (connection local) unless its inventory is changed."""
    directory = tmp_path / "ansible"
    directory.mkdir()
    return Ansible(directory)


@pytest.fixture(scope="session")
def plugin() -> Callable[[str], ModuleType]:
    """Load a plugin as Ansible does, by its path below plugins/."""

    def load(path: str) -> ModuleType:
        name = f"tested.{path.replace('/', '.')}"
        spec = importlib.util.spec_from_file_location(name, PLUGINS / f"{path}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look for it there
        spec.loader.exec_module(module)
        return module

    return load


@dataclass
class Host:
    """The part of an action plugin that runs commands on a host, with a shell of this machine's.

    `before` is called with each command before it runs, and returns what the command gets to read.
    """

    shell: Sequence[str] = ("/bin/sh",)
    path: str = os.environ["PATH"]
    before: Callable[[str, bytes], bytes] = lambda command, octets: octets
    limits: Callable[[], None] = lambda: None
    commands: list[str] = field(default_factory=list)
    left_us_standing: bool = False
    """whether a command ended before it had read all"""
    _connection: Any = field(default_factory=lambda: SimpleNamespace(become=None))

    def _low_level_execute_command(
        self, command: str, in_data: bytes, encoding_errors: str
    ) -> dict[str, Any]:
        self.commands.append(command)
        process = subprocess.Popen(
            [*self.shell, "-c", f"{command} && sleep 0"],  # as Ansible ends each command
            env={"PATH": self.path},
            preexec_fn=self._begin,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        stdin, process.stdin = process.stdin, None
        feeder = threading.Thread(target=self._feed, args=(stdin, self.before(command, in_data)))
        feeder.start()
        stdout, stderr = process.communicate(timeout=SECONDS)
        feeder.join(SECONDS)
        return {
            "rc": process.returncode,
            "stdout": stdout.decode("utf-8", encoding_errors),
            "stderr": stderr.decode("utf-8", encoding_errors),
        }

    def _begin(self) -> None:
        programs.as_in_a_terminal()
        self.limits()

    def _feed(self, stdin: IO[bytes], octets: bytes) -> None:
        try:
            with stdin:
                stdin.write(octets)
        except BrokenPipeError:
            self.left_us_standing = True


@pytest.fixture(scope="session")
def busybox_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH with busybox's programs, and no others."""
    directory = tmp_path_factory.mktemp("busybox")
    busybox = programs.find("busybox")
    subprocess.run([busybox, "--install", "-s", directory], check=True, timeout=SECONDS)
    return str(directory)


@pytest.fixture(params=["dash", "bash", "busybox"])
def host(request: pytest.FixtureRequest) -> Host:
    """A host in each of the forms that there are: Debian's sh, Slackware's, and busybox."""
    if request.param == "busybox":
        path = request.getfixturevalue("busybox_path")
        return Host([f"{path}/sh"], path)
    return Host([programs.find(request.param), *(["--posix"] if request.param == "bash" else [])])
