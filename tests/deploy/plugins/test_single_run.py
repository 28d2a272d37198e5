"""plugins/action/single_run.py: real runs of ansible-playbook beside each other, and processes that end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from harness.programs import wait_until


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "state" / "run.lock"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """Another process."""
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def single_run(lock: Path) -> dict[str, Any]:
    return {"single_run": {"path": str(lock)}}


@dataclass
class Waiting:
    """A task that waits until it may go on."""

    directory: Path

    def __post_init__(self) -> None:
        os.mkfifo(self.directory / "gate")

    @property
    def task(self) -> dict[str, Any]:
        return {"raw": f"touch {self.directory}/reached; read line < {self.directory}/gate"}

    def wait(self) -> None:
        wait_until((self.directory / "reached").exists, "the first run has come to its second task")

    def go_on(self) -> None:
        (self.directory / "gate").write_text("\n")


@pytest.fixture
def waiting(tmp_path: Path) -> Waiting:
    directory = tmp_path / "waiting"
    directory.mkdir()
    return Waiting(directory)


def test_two_runs(ansible: Any, lock: Path, waiting: Waiting) -> None:
    with ansible.started([single_run(lock), waiting.task]) as first:
        waiting.wait()
        for options in ([], ["--check"]):
            [message] = ansible.run([single_run(lock)], *options).messages
            assert re.search(
                rf"Another run is going on \(pid {first.pid}, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\)\. "
                rf"Wait for it, or end it: kill -INT {first.pid}$",
                message,
            ), message
        waiting.go_on()
        output = first.communicate(timeout=300)[0]
        assert first.returncode == 0, output
    # It has ended, and holds nothing. One run may take it again, and for each of its hosts.
    ansible.inventory |= {"second": ansible.inventory["localhost"]}
    run = ansible.run([single_run(lock), single_run(lock)]).succeeded()
    assert run.changed == [False] * 4
    assert len({result["pid"] for result in run.results}) == 1


def test_a_run_that_was_killed(ansible: Any, lock: Path, waiting: Waiting) -> None:
    with ansible.started([single_run(lock), waiting.task]) as first:
        waiting.wait()
        first.kill()
        first.wait(20)
        waiting.go_on()  # for the task that it has left behind
        first.stdout.read()
    ansible.run([single_run(lock)], "--check").succeeded()


def test_a_run_that_was_ended_as_the_message_says(ansible: Any, lock: Path, waiting: Waiting) -> None:
    """Only its main process gets the signal, and it removes what it made for itself."""
    remember = {"copy": {"content": "{{ lookup('run_directory') }}", "dest": f"{lock}.directory"}}
    with ansible.started([single_run(lock), remember, waiting.task]) as first:
        waiting.wait()
        directory = Path(Path(f"{lock}.directory").read_text())
        assert directory.is_dir()
        interrupt(first)
        output = first.stdout.read()
    assert first.returncode > 0, output
    assert not directory.exists()
    ansible.run([single_run(lock)], "--check").succeeded()


def interrupt(run: subprocess.Popen[str]) -> None:
    """End it with kill -INT. At times Ansible waits for a child that has ended: then it takes one more."""
    for _ in range(3):
        run.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.wait(10)
            return
    run.kill()


def test_a_number_that_went_to_another_process(plugin: Any, lock: Path, sleeper: Any) -> None:
    action = plugin("action/single_run")
    lock.parent.mkdir()
    ours = action.main_process()
    other = action.Holder(sleeper.pid, action.start_of(sleeper.pid), "now")
    assert action.take(lock, other) == other
    with pytest.raises(AnsibleActionFail, match=f"kill -INT {sleeper.pid}"):
        action.take(lock, ours)
    lock.write_text(json.dumps(vars(replace(other, start="before that"))))
    assert action.take(lock, ours) == ours
    assert action.take(lock, action.main_process()).since == ours.since


def test_a_zombie_holds_nothing(plugin: Any, lock: Path) -> None:
    action = plugin("action/single_run")
    lock.parent.mkdir()
    process = subprocess.Popen(["sleep", "60"])
    action.take(lock, action.Holder(process.pid, action.start_of(process.pid), "now"))
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert action.take(lock, action.main_process()).pid == os.getpid()
    process.wait()


def test_only_one_of_many_gets_it(plugin: Any, lock: Path) -> None:
    action = plugin("action/single_run")
    lock.parent.mkdir()
    sleepers = [subprocess.Popen(["sleep", "60"]) for _ in range(8)]
    outcomes: list[str] = []
    begin = threading.Barrier(len(sleepers))

    def take(pid: int) -> None:
        holder = action.Holder(pid, action.start_of(pid), "now")
        begin.wait(20)
        try:
            action.take(lock, holder)
            outcomes.append("taken")
        except AnsibleActionFail:
            outcomes.append("refused")

    threads = [threading.Thread(target=take, args=(sleeper.pid,)) for sleeper in sleepers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    for sleeper in sleepers:
        sleeper.kill()
        sleeper.wait()
    assert sorted(outcomes) == ["refused"] * 7 + ["taken"]


@pytest.mark.parametrize("text", ["", "\0" * 100])
def test_a_file_that_was_cut_short(plugin: Any, lock: Path, text: str) -> None:
    action = plugin("action/single_run")
    lock.parent.mkdir()
    lock.write_text(text)
    assert action.take(lock, action.main_process()).pid == os.getpid()


@pytest.mark.parametrize("text", ["something of the user's\n", "[]", '{"pid": 1}', "12"])
def test_a_file_that_is_not_ours(plugin: Any, lock: Path, text: str) -> None:
    action = plugin("action/single_run")
    lock.parent.mkdir()
    lock.write_text(text)
    with pytest.raises(AnsibleActionFail, match=f"remove it: rm {lock}"):
        action.take(lock, action.main_process())
    assert lock.read_text() == text


def test_the_path(ansible: Any, lock: Path) -> None:
    [message] = ansible.run([single_run(Path("run.lock"))]).messages
    assert "path is 'run.lock'. It must be absolute" in message
    ansible.run([single_run(lock)]).succeeded()
    assert lock.stat().st_mode & 0o777 == 0o600


def test_the_start_of_a_process(plugin: Any, sleeper: Any) -> None:
    """By /proc, and by ps as on macOS."""
    action = plugin("action/single_run")
    for start in (action._start_from_proc, action._start_from_ps):
        assert start(sleeper.pid) == start(sleeper.pid) is not None
        assert start(os.getpid()) is not None
        assert start(2**22 + 1) is None
    assert action._start_from_proc(os.getpid()) != action._start_from_proc(sleeper.pid)
    assert re.fullmatch(r"\w{3} \w{3} \d+ \d\d:\d\d:\d\d \d{4}", action._start_from_ps(os.getpid()))
