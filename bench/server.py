"""A server under measurement: a process, its CPU time and its memory."""

import re
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import psutil  # type: ignore[import-untyped]

_START_SECONDS = 30.0
_STOP_SECONDS = 20.0
_POLL_SECONDS = 0.002
_GREETING_SECONDS = 10.0


class ServerError(Exception):
    """A server did not start."""


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A running server process. As a context manager, it is stopped at the end."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], port: int, log: Path) -> None:
        """Start it, and wait until it greets a client on `port`. What it prints goes to `log`.

        Raises:
            ServerError: it ended, or takes too long.
        """
        self._log = log
        started = time.perf_counter()
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                command, env=dict(env), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        try:
            self._wait_for_greeting(port, started + _START_SECONDS)
        except BaseException:
            self.stop()
            raise
        self.seconds_to_start = time.perf_counter() - started
        """From the start of the process to its first greeting."""
        self._process = psutil.Process(self._popen.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def cpu_seconds(self) -> float:
        """User and system time of the process and its children since it began, in steps of 10 ms."""
        own = self._process.cpu_times()
        total = own.user + own.system + own.children_user + own.children_system
        for child in self._process.children(recursive=True):
            times = child.cpu_times()
            total += times.user + times.system
        return float(total)

    def resident(self) -> int:
        """Octets of memory in use now (RSS)."""
        return self._status("VmRSS")

    def peak(self) -> int:
        """The most octets of memory in use at one time (RSS) since `reset_peak`."""
        return self._status("VmHWM")

    def reset_peak(self) -> None:
        """Forget the peak until now (proc(5): 5 in clear_refs)."""
        Path(f"/proc/{self._popen.pid}/clear_refs").write_text("5")

    def log_tail(self) -> str:
        """The end of what it has printed."""
        return self._log.read_text("utf-8", "replace")[-2000:]

    def stop(self) -> None:
        """End it: SIGTERM, and SIGKILL if that takes too long."""
        self._popen.terminate()
        try:
            self._popen.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()

    def _status(self, name: str) -> int:
        text = Path(f"/proc/{self._popen.pid}/status").read_text("utf-8")
        match = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
        assert match is not None, f"no {name} in /proc"
        return int(match[1]) * 1024

    def _wait_for_greeting(self, port: int, deadline: float) -> None:
        while time.perf_counter() < deadline:
            if self._popen.poll() is not None:
                break
            try:
                with socket.create_connection(("127.0.0.1", port), _GREETING_SECONDS) as client:
                    if client.recv(3) == b"220":
                        return
            except (ConnectionError, TimeoutError):
                pass  # not yet
            time.sleep(_POLL_SECONDS)
        raise ServerError(f"{self._popen.args!r} does not answer on port {port}:\n{self.log_tail()}")
