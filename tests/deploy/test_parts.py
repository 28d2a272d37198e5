"""How `make test` tells what became of it: tests/parts.sh of each part, tests/conftest.py of each test."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from harness.programs import SECONDS_TO_RUN, as_in_a_terminal

PARTS = Path(__file__).resolve().parents[1] / "parts.sh"
INTERRUPTED = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129}


def run(*parts: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PARTS, *parts],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS_TO_RUN,
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


@pytest.mark.parametrize("options", [[], ["--numprocesses=2", "--dist=loadgroup"]], ids=["alone", "in two"])
def test_a_test_that_fails_is_told_at_once(tmp_path: Path, options: list[str]) -> None:
    shutil.copy(PARTS.with_name("conftest.py"), tmp_path)
    (tmp_path / "test_it.py").write_text("def test_one(): assert 1 == 2\n\ndef test_two(): pass\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", "/dev/null", "--rootdir", tmp_path, *options, tmp_path],
        stdout=subprocess.PIPE,
        text=True,
        timeout=SECONDS_TO_RUN,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert "test_it.py::test_one has failed in its call\n" in done.stdout.partition("= FAILURES =")[0]
    assert done.stdout.count("has failed") == 1
    assert "1 failed, 1 passed in" in done.stdout


def test_what_shares_the_engine_stays_in_one_process(tmp_path: Path) -> None:
    """Pytest and xdist must be versions that know of each other, or a group is split without a word."""
    (tmp_path / "test_it.py").write_text(
        "import os, pytest\n\n"
        "@pytest.mark.xdist_group('engine')\n@pytest.mark.parametrize('number', range(8))\n"
        "def test_it(number, tmp_path_factory):\n"
        "    open(os.environ['SEEN'], 'a').write(f'{os.getpid()}\\n')\n"
    )
    subprocess.run(
        [sys.executable, "-m", "pytest", "-c", "/dev/null", "--numprocesses=2", "--dist=loadgroup", tmp_path],
        env=os.environ | {"SEEN": str(tmp_path / "seen")},
        check=True,
        timeout=SECONDS_TO_RUN,
    )
    seen = (tmp_path / "seen").read_text().split()
    assert (len(seen), len(set(seen))) == (8, 1)
