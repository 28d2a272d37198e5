"""What the tests of all scenarios work with: the engine from outside, and Ansible as the scenario runs it."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
SCENARIO = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
EPHEMERAL = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
SECONDS_TO_PLAY = 300.0
SECONDS_TO_STOP = 8.0

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
        return self.end(SECONDS_TO_STOP)

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

    def __init__(self) -> None:
        configuration = yaml.safe_load(Path(os.environ["MOLECULE_FILE"]).read_text())
        self._usual = configuration["ansible"]["executor"]["args"]["ansible_playbook"]

    def __call__(
        self, playbook: str, *arguments: str, timeout: float = SECONDS_TO_PLAY, **variables: object
    ) -> Played:
        with self.begun(playbook, *arguments, **variables) as playing:
            return playing.end(timeout)

    @contextlib.contextmanager
    def begun(self, playbook: str, *arguments: str, **variables: object) -> Iterator[Playing]:
        """The same beside the test. When the block ends, it has ended."""
        playing = Playing(
            [
                *("ansible-playbook", f"--inventory={EPHEMERAL}/inventory", *self._usual),
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
def inspect() -> Inspect:
    """`docker inspect` of a container, image, network or volume."""

    def look(name: str) -> dict[str, Any]:
        shown = subprocess.run(["docker", "inspect", name], check=True, capture_output=True, text=True)
        found: dict[str, Any] = json.loads(shown.stdout)[0]
        return found

    return look


@pytest.fixture(scope="session")
def play() -> Play:
    """Ansible as the scenario runs it."""
    return Play()
