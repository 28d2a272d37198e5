"""The tower over ssh, as Ansible reaches it, what can go wrong with it, and deployments to it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from docker import DockerClient
from testinfra.host import Host

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
SCENARIO = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
GROUND = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
TOWER = "smtp-relay-test-tower"
PORT = os.environ.get("TOWER_PORT", "22022")
SECONDS_TO_PLAY = 300

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
def at_tower(engine: DockerClient) -> Callable[..., str]:
    """Run a command on the tower past ssh: it works whatever is broken."""
    tower = engine.containers.get(TOWER)

    def run(*command: str) -> str:
        status, output = tower.exec_run(list(command))
        assert status == 0, f"{' '.join(command)}\n{output.decode()}"
        return str(output.decode())

    return run


@pytest.fixture(scope="session")
def tower(relay: Any) -> Host:
    """The tower as a client of its sshd sees it."""
    return relay.host


@pytest.fixture
def trouble(at_tower: Callable[..., str]) -> Callable[[str], AbstractContextManager[None]]:
    """Have something wrong for a while: `with trouble("array stop"):`"""

    @contextmanager
    def while_(words: str) -> Iterator[None]:
        script, *arguments = words.split()
        at_tower(f"/opt/tower/{script}", *arguments)
        try:
            yield
        finally:
            script, *arguments = REMEDIES[words].split()
            at_tower(f"/opt/tower/{script}", *arguments)

    return while_


@pytest.fixture(scope="session")
def contents(
    places: dict[str, Any], engine: DockerClient, at_tower: Callable[..., str]
) -> Callable[[], set[str]]:
    """All that a run could change: its files without the relay's data, and what of ours Docker has."""
    relay, network = places["relay_name"], places["relay_network"]
    find = ["find", "/boot", "/mnt", "/etc", "/root", "/tmp", "/var", "/usr/local", "/opt"]
    # Who has logged in is in /var/log.
    find += ["(", "-path", f"/mnt/user/appdata/{relay}/data", "-o", "-path", "/var/log", ")", "-prune"]
    find += ["-o", "-printf", r"%p %M %U:%G %s %T@ %l\n"]

    def list_() -> set[str]:
        containers = engine.api.containers(all=True, filters={"name": f"^/{relay}$"})
        ours = [f"{container['Id']} {container['Image']}" for container in containers]
        networks = [found["Name"] for found in engine.api.networks()]
        return {*at_tower(*find).splitlines(), *ours, f"network: {network in networks}"}

    return list_


@pytest.fixture(scope="session")
def listing(at_tower: Callable[..., str]) -> Callable[[], set[str]]:
    """All files of the tower, with mode and owner, but not what is on its array."""
    find = yaml.safe_load((SCENARIO / "vars/tower.yml").read_text())["tower_list"]
    return lambda: set(at_tower(*find).splitlines())


@pytest.fixture(scope="session")
def virgin() -> set[str]:
    """The same, when it was new."""
    return set((GROUND / "virgin.txt").read_text().splitlines())


@pytest.fixture(scope="session")
def deploy(relay: Any, world: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """Deploy the relay, or run another playbook for it: deploy(relay_autostart=False).

    Variables are added to the scenario's. All that was done in Docker must have been done in the tower's.
    """
    molecule = yaml.safe_load(Path(os.environ["MOLECULE_FILE"]).read_text())
    usual = molecule["ansible"]["executor"]["args"]["ansible_playbook"]

    def run(file: str = "playbooks/relay.yml", *arguments: str, **variables: Any) -> Run:
        given = tmp_path_factory.mktemp("given") / "variables.json"
        image = variables.get("relay_image") or relay.read("config/.image").split()[0]
        given.write_text(json.dumps(world | variables | {"relay_image": image}))
        limit = arguments or ("--limit=relay",)
        done = run_playbook(file, *usual, f"--extra-vars=@{given}", *limit)
        tower = {f"ssh://root@tower:{PORT}"}
        assert done.engines() == tower or (done.refusal() and done.engines() <= tower)
        return done

    return run
