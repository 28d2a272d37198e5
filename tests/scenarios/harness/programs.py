"""Programs that run beside the tests: where they are, how they are started, watched and stopped."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# Long enough for a machine that has much else to do: only what hangs takes so long.
SECONDS_TO_RUN = 300.0
SECONDS_TO_START = 120.0
SECONDS_TO_STOP = 120.0


def find(name: str) -> str:
    """Return the path of an installed program; a missing one fails the test, it never skips it."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        raise AssertionError(f"{name} is not installed. Run: sudo tests/system_packages.sh")
    return path


def as_in_a_terminal() -> None:
    """Let a hang-up and Ctrl-C end the child that calls this before it runs (`preexec_fn`).

    Under nohup, and in a job in the background, both are ignored: by the tests, and by whatever they start.
    """
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass(frozen=True)
class Done:
    """How a program ended, and what it wrote on either stream."""

    status: int
    output: str


def run(name: str, *arguments: str, stdin: bytes = b"") -> Done:
    """Run an installed program to its end."""
    done = subprocess.run(
        [find(name), *arguments],
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=SECONDS_TO_RUN,
        check=False,
    )
    return Done(done.returncode, done.stdout.decode(errors="replace"))


class Server:
    """A program in the background. What it writes, on either stream, is kept as lines of text."""

    def __init__(self, command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> None:
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self.process = subprocess.Popen(
            [str(part) for part in command],
            env=None if environment is None else dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self._lines.append(line.decode(errors="replace").rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def lines(self) -> list[str]:
        """What it has written until now."""
        with self._changed:
            return list(self._lines)

    @property
    def output(self) -> str:
        """What it has written until now, as one text."""
        return "\n".join(self.lines)

    def wait_for_lines(
        self, wanted: Callable[[str], bool], count: int = 1, timeout: float = SECONDS_TO_START
    ) -> list[str]:
        """Return the first `count` lines for which `wanted` is true; fail if it ends or takes too long."""

        def found() -> list[str]:
            return [line for line in self._lines if wanted(line)][:count]

        with self._changed:
            self._changed.wait_for(lambda: len(found()) == count or self._ended, timeout)
            lines, output = found(), "\n".join(self._lines)
        if len(lines) < count:
            raise AssertionError(f"{self.process.args} did not write the line awaited. It wrote:\n{output}")
        return lines

    def wait_for_pattern(self, pattern: str, timeout: float = SECONDS_TO_START) -> str:
        """Return the first line that matches a regular expression."""
        return self.wait_for_lines(lambda line: re.search(pattern, line) is not None, timeout=timeout)[0]

    @contextlib.contextmanager
    def stopped_on_failure(self) -> Iterator[None]:
        """Leave no program behind when what is waited for at its start does not come."""
        try:
            yield
        except BaseException:
            self.stop()
            raise

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it, and only to it."""
        self.process.send_signal(number)

    def wait(self, timeout: float = SECONDS_TO_STOP) -> int:
        """Wait until it has ended and everything it wrote is read; return its exit status."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{self.process.args} did not end. It wrote:\n{self.output}") from None
        finally:
            self._reader.join(timeout)
            assert self.process.stdout is not None
            self.process.stdout.close()
        return status

    def stop(self, timeout: float = SECONDS_TO_STOP) -> int:
        """Ask it to end (SIGTERM) and return its exit status. Harmless when it has ended."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait(timeout)


def wait_until(condition: Callable[[], bool], what: str, timeout: float = SECONDS_TO_START) -> None:
    """Wait for a condition that nothing announces, such as a port that begins to accept."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"Waited {timeout:g} s in vain until {what}.")
        pause.wait(0.02)
