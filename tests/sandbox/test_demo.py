"""`make demo`: from a first start to a message that arrived, by itself and by hand."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from harness.programs import as_in_a_terminal

from sandbox.visitor import Visitor

_COMMAND = (sys.executable, "-m", "sandbox.demo")
_SECONDS = 300


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_COMMAND, *arguments], capture_output=True, text=True, timeout=_SECONDS, check=False
    )


@contextmanager
def _demo(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*_COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        preexec_fn=as_in_a_terminal,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)


def _read_until(process: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    """Read what it prints until a line has this; pytest's time limit ends the wait."""
    seen = []
    assert process.stdout is not None
    for line in process.stdout:
        seen.append(line)
        if match := re.search(pattern, line):
            return match
    raise AssertionError("".join(seen))


def test_once() -> None:
    done = subprocess.run(
        [*_COMMAND, "--once"], capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    steps = [line for line in done.stdout.splitlines() if re.match(r"\d\. ", line)]
    assert [step[0] for step in steps] == ["1", "2", "3", "4", "5"]
    assert "The message arrived." in done.stdout
    for event in ("sign_in_needed", "signed_in", "tokens_ok", "verdict=accepted", "event=stopped"):
        assert event in done.stdout
    assert "code=" not in done.stdout


def test_it_waits_for_a_person_then_goes_on_until_it_is_stopped() -> None:
    with _demo() as demo:
        entra = _read_until(demo, r"Entra +(https://localhost:\d+)")[1]
        console = _read_until(demo, r"Open +(http://localhost:\d+)")[1]
        assert entra in _read_until(demo, "Warning .*")[0]
        ca = _read_until(demo, r"(/\S+\.pem)")[1]
        _read_until(demo, "Waiting for you")
        with Visitor(console, ca) as visitor:
            visitor.sign_in("me@outlook.com")
        _read_until(demo, "The message arrived")
        assert console in _read_until(demo, "The console: .*")[0]
        _read_until(demo, "Ctrl-C stops it all")

        demo.send_signal(signal.SIGINT)

        _read_until(demo, "event=stopped")
        _read_until(demo, "^Stopped")
        assert demo.wait(_SECONDS) == 0


def test_a_port_in_use_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = _run("--port", str(port))
    assert done.returncode == 1
    assert f"Port {port} cannot be used: Address already in use" in done.stderr
