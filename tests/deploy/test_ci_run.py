""".ci/run: red when a test fails, and when one was skipped, in whichever of the runs of pytest."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from harness.programs import SECONDS_TO_RUN

RUN = Path(__file__).resolve().parents[2] / ".ci/run"
TESTS = {
    "passes": "def test_it(): pass",
    "skips": "import pytest\n\ndef test_it(): pass\n\n@pytest.mark.skip\ndef test_other(): pass",
    "skips_all": "import pytest\n\n@pytest.mark.skip\ndef test_it(): pass",
    "fails": "def test_it(): assert False",
}

IN_TWO_PROCESSES = "-p xdist.plugin --numprocesses=2 --dist=loadgroup"


def run(project: Path, *tests: str, options: str = "") -> subprocess.CompletedProcess[str]:
    """Run it in a project whose `make test` runs pytest once for each of these tests."""
    (project / ".ci").mkdir()
    shutil.copy(RUN, project / ".ci")
    for name in tests:
        (project / f"test_{name}.py").write_text(TESTS[name])
    commands = [f"\t{sys.executable} -m pytest -c /dev/null {options} test_{name}.py\n" for name in tests]
    (project / "Makefile").write_text("test:\n" + "".join(commands) + "\t@echo tower : ok=1 skipped=3\n")
    return subprocess.run(
        [project / ".ci/run"],
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # they take pytest longer than the tests
        capture_output=True,
        text=True,
        timeout=SECONDS_TO_RUN,
        check=False,
    )


def test_it_is_green_when_all_were_run(tmp_path: Path) -> None:
    done = run(tmp_path, "passes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert "skipped=3" in done.stdout


@pytest.mark.parametrize("options", ["", "-q", "--color=yes", "-ra -v", IN_TWO_PROCESSES])
@pytest.mark.parametrize("tests", [["skips", "passes"], ["passes", "skips"], ["skips_all", "passes"]])
def test_a_skipped_test_turns_it_red(tmp_path: Path, tests: list[str], options: str) -> None:
    done = run(tmp_path, *tests, options=options)
    assert done.returncode == 1
    assert "A test that cannot run here is a failure" in done.stderr


def test_a_failing_one_does(tmp_path: Path) -> None:
    done = run(tmp_path, "fails", "passes")
    assert done.returncode == 2
    assert "1 failed" in done.stdout
    assert "Some tests were skipped" not in done.stderr
