"""(i): `ansible-playbook site.yml` on the sandbox's inventory: with nothing there, and with nothing to do."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from bench.containers import bases
from bench.plan import Plan
from bench.result import Aim, Result, Row, median
from bench.server import ServerError, free_port
from bench.upstream import Upstream

_ROOT = Path(__file__).parents[2]
_PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
_INVENTORY = "--inventory=inventories/sandbox"
_IDLE_AIM = 20.0
"""Seconds."""
_ROUNDS = 3
_SECONDS = 900.0
_RECAP = re.compile(r"^\S+ +: ok=(\d+) +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", re.MULTILINE)
_ONE_TASK = """
- hosts: relay
  gather_facts: false
  tasks:
    - community.docker.docker_container_info:
        name: nobody
"""


@dataclass(frozen=True, slots=True)
class _Run:
    seconds: float
    tasks: int
    changed: int


def run(_upstream: Upstream, plan: Plan) -> Result:
    """Deploy, deploy again with nothing to do, remove it all; beside a playbook that asks the engine once."""
    result = Result("i", "the deployment")
    with tempfile.TemporaryDirectory(prefix="bench-deploy-") as place, _deployment(Path(place)) as play:
        virgin = play("site.yml")
        rounds = [play("site.yml") for _ in range(1 if plan.quick else _ROUNDS)]
        one_task = Path(place) / "one_task.yml"
        one_task.write_text(_ONE_TASK, "utf-8")
        single = [play(str(one_task)) for _ in rounds]
    if changed := max(each.changed for each in rounds):
        raise ServerError(f"A second run of site.yml changed {changed} things: there was nothing to do.")
    seconds, bare = ([each.seconds for each in runs] for runs in (rounds, single))
    result.samples |= {"nothing to do s": seconds, "one task s": bare, "first s": [virgin.seconds]}
    result.rows += [
        Row("first `site.yml`", "s", virgin.seconds, "one task", median(bare)),
        Row(
            "`site.yml`, nothing to do",
            "s",
            median(seconds),
            "one task",
            median(bare),
            aim=_IDLE_AIM,
            aim_is=Aim.OURS,
        ),
        Row("its tasks", "", rounds[0].tasks, "one task", single[0].tasks),
    ]
    return result


class _Play:
    """`ansible-playbook` with names, ports and places of its own."""

    def __init__(self, place: Path) -> None:
        self._variables = {
            "sandbox_name": "bench-sandbox",
            "sandbox_network": "bench-sandbox",
            "sandbox_control_port": free_port(),
            "sandbox_registry_port": free_port(),
            "sandbox_directory": str(place / "sandbox"),
            "sandbox_secrets_file": str(place / "secrets" / "sandbox.yml"),
            "relay_name": "bench-relay",
            "relay_network": "bench-sandbox",
            "relay_port": f"127.0.0.1:{free_port()}",
            "relay_console_port": f"127.0.0.1:{free_port()}",
            "relay_directory": str(place / "relay"),
            "relay_secrets_file": str(place / "secrets" / "relay.yml"),
            "relay_purge": True,
            "preflight_lock_file": str(place / "running"),
        }
        self._environment = os.environ | bases()

    def __call__(self, playbook: str) -> _Run:
        command = [str(_PLAYBOOK), _INVENTORY, playbook, "--extra-vars", json.dumps(self._variables)]
        start = perf_counter()
        done = subprocess.run(
            command,
            cwd=_ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        seconds = perf_counter() - start
        if done.returncode:
            raise ServerError(
                f"ansible-playbook {playbook} failed: {done.stdout[-2000:]}{done.stderr[-500:]}"
            )
        counts = [tuple(map(int, match.groups())) for match in _RECAP.finditer(done.stdout)]
        return _Run(seconds, sum(each[0] for each in counts), sum(each[1] for each in counts))


@contextmanager
def _deployment(place: Path) -> Iterator[_Play]:
    """What plays; all that it has made is removed at the end of the block."""
    play = _Play(place)
    try:
        yield play
    finally:
        play("playbooks/uninstall.yml")
