"""tests/parts.sh: what `make test` runs, one part after the other, and its summary."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import pytest
from harness.programs import as_in_a_terminal

PARTS = Path(__file__).resolve().parents[1] / "parts.sh"
INTERRUPTED = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129}


def run(*parts: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PARTS, *parts],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
        preexec_fn=as_in_a_terminal,
    )


def outcomes(output: str) -> list[tuple[str, str]]:
    """The part and its outcome in each line of the summary."""
    return re.findall(r"^(\w+) +([A-Za-z]+) +\d+ min \d+ s$", output.rpartition("\n\n")[2], re.MULTILINE)


def test_all_that_pass() -> None:
    done = run("one", "echo this is one", "two", "[[ a == a ]] && echo this is two")
    assert done.returncode == 0, done.stdout
    assert "this is one\n" in done.stdout
    assert "this is two\n" in done.stdout
    assert outcomes(done.stdout) == [("one", "passed"), ("two", "passed")]


def test_one_that_fails_is_told_at_once_and_the_others_run() -> None:
    done = run("one", "exit 3", "two", "echo this is two")
    assert done.returncode == 1
    told, _, rest = done.stdout.partition("this is two\n")
    assert "one FAILED" in told
    assert outcomes(rest) == [("one", "FAILED"), ("two", "passed")]


@pytest.mark.parametrize("number", INTERRUPTED)
def test_one_that_is_interrupted(number: signal.Signals) -> None:
    done = run("one", "true", "two", f"kill -{number.name[3:]} $PPID", "three", "echo this is three")
    assert done.returncode == INTERRUPTED[number], done.stdout
    assert outcomes(done.stdout) == [("one", "passed"), ("two", "INTERRUPTED")]
    assert "this is three" not in done.stdout
