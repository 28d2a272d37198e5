"""tests/molecule.sh: scenarios side by side, each judged, nothing left. Molecule is a stand-in here."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.programs import Server, wait_until

PROJECT = Path(__file__).parents[2]
# As molecule tells its steps. What a scenario does is in its file `does`; who is there is written to `calls`.
MOLECULE = """#!{python}
import os, runpy, sys
from pathlib import Path
_, _, _, action, _, scenario, *_ = sys.argv
def write(words):
    with Path("calls").open("a") as calls:
        calls.write(words + "\\n")
write(f"{{action}} {{scenario}} {{Path(os.environ['MOLECULE_EPHEMERAL_DIRECTORY']).name}}")
if action == "test":
    print(f"INFO     [{{scenario}} > create] Executing", flush=True)
    print(f"INFO     [{{scenario}} > verify] Executing", flush=True)
    try:
        runpy.run_path(f"molecule/{{scenario}}/does")
    except KeyboardInterrupt:
        write(f"interrupted {{scenario}}")
        sys.exit(1)
"""
PASSES = "print('3 passed in 0.1s')"
FAILS = "print('FAILED tests/test_it.py\\n1 failed in 0.1s'); raise SystemExit(2)"
WAITS = "import time\ntime.sleep(600)"
SECONDS = 60


class Project:
    """A project with scenarios and without an engine."""

    def __init__(self, directory: Path, **scenarios: str) -> None:
        self.directory = directory
        self.scratch = directory / "tmp"
        self.scratch.mkdir()
        self._write(".venv/bin/molecule", MOLECULE.format(python=sys.executable))
        self._write("tests/engine.sh", "#!/bin/sh\n")
        self._write("tests/base_images.sh", "#!/bin/sh\necho export DEBIAN_IMAGE=debian\n")
        shutil.copy(PROJECT / "tests/molecule.sh", directory / "tests")
        for name, does in scenarios.items():
            self._write(f"molecule/{name}/does", does)
            sequence = "scenario:\n  test_sequence:\n    - create\n    - verify tests/all of them\n"
            self._write(f"molecule/{name}/molecule.yml", sequence)

    def _write(self, name: str, content: str) -> None:
        file = self.directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        file.chmod(0o755)

    def run(self, *names: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.directory / "tests/molecule.sh", *names],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"TMPDIR": str(self.scratch)}

    @property
    def calls(self) -> list[str]:
        file = self.directory / "calls"
        return file.read_text().splitlines() if file.exists() else []


def test_all_pass_and_each_has_a_line_at_the_end(tmp_path: Path) -> None:
    project = Project(tmp_path, one=PASSES, other=PASSES)
    done = project.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(project.calls) == ["test one one", "test other other"]
    assert done.stdout.count("3 passed in 0.1s") == 2
    assert "Molecule: one: verify tests/all of them\n" in done.stdout
    summary = done.stdout.splitlines()[-2:]
    assert {line.partition(" after ")[0] for line in summary} == {
        "Molecule: one passed",
        "Molecule: other passed",
    }
    assert list(project.scratch.iterdir()) == []


def test_one_that_fails_leaves_the_others_to_be_judged(tmp_path: Path) -> None:
    done = Project(tmp_path, one=FAILS, other=PASSES).run()
    assert done.returncode == 1
    for words in ("1 failed in 0.1s", "3 passed in 0.1s", "Molecule: one FAILED", "Molecule: other passed"):
        assert words in done.stdout


@pytest.mark.parametrize(("other", "failing"), [(PASSES, 1), (FAILS, 2)], ids=["one", "both"])
def test_what_failed_is_told_at_once_and_once_more_at_the_end(
    tmp_path: Path, other: str, failing: int
) -> None:
    """Of a long output the end is what people see."""
    lines = Project(tmp_path, one=FAILS, other=other).run().stdout.splitlines()
    failure = "FAILED tests/test_it.py"
    assert lines[-failing:] == [failure] * failing
    assert lines.count(failure) == 3 * failing  # in its log, behind that, and at the end


def test_one_alone(tmp_path: Path) -> None:
    project = Project(tmp_path, one=FAILS, other=PASSES)
    assert project.run("other").returncode == 0
    assert project.calls == ["test other other"]


def test_each_log_is_in_one_piece(tmp_path: Path) -> None:
    """Whatever two write at the same time."""
    os.mkfifo(tmp_path / "meet")
    says = "for number in range(200): print({!r}, number, flush=True)"
    one, other = "open('meet', 'w').close()\n", "open('meet').close()\n"
    done = Project(tmp_path, one=one + says.format("one"), other=other + says.format("other")).run()
    said = [line.split()[0] for line in done.stdout.splitlines() if line.split()[1].isdigit()]
    assert said in (["one"] * 200 + ["other"] * 200, ["other"] * 200 + ["one"] * 200)


def test_a_step_without_its_file_is_a_failure(tmp_path: Path) -> None:
    done = Project(tmp_path, one="print('WARNING  Skipping, no tests found.')").run()
    assert done.returncode == 1
    (said, again) = (line for line in done.stdout.splitlines() if line.startswith("ERROR "))
    assert said == again
    assert "molecule/one/molecule.yml has a step without its file. Molecule says: WARNING  Skipping" in said


def test_what_failed_is_removed_or_kept(tmp_path: Path) -> None:
    project = Project(tmp_path, one=FAILS)
    project.run()
    assert project.calls == ["test one one", "destroy one one"]
    assert list(project.scratch.iterdir()) == []
    done = project.run(KEEP="1")
    assert project.calls[2:] == ["test one one"]
    (kept,) = project.scratch.iterdir()
    assert f"Molecule: kept {kept}" in done.stderr


def test_what_passed_is_removed_though_it_may_be_kept(tmp_path: Path) -> None:
    project = Project(tmp_path, one=PASSES)
    assert project.run(KEEP="1").returncode == 0
    assert project.calls == ["test one one", "destroy one one"]
    assert list(project.scratch.iterdir()) == []


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[tuple[Project, Server]]:
    """Two scenarios that go on, in a shell that has its children ignore Ctrl-C."""
    project = Project(tmp_path, one=WAITS, other=WAITS)
    command = ["sh", "-c", "trap '' INT; exec tests/molecule.sh"]
    server = Server(["env", "--chdir", tmp_path, *command], project.environment)
    with server.stopped_on_failure():
        wait_until(lambda: len(project.calls) == 2, "both go on", SECONDS)
    yield project, server
    server.stop(SECONDS)


def test_interrupted_it_interrupts_and_removes_them(waiting: tuple[Project, Server]) -> None:
    project, server = waiting
    server.signal(signal.SIGTERM)
    assert server.wait(SECONDS) == 143
    assert sorted(project.calls[2:]) == [
        *("destroy one one", "destroy other other", "interrupted one", "interrupted other")
    ]
    assert "Molecule: one is interrupted, and removed." in server.output
    assert list(project.scratch.iterdir()) == []


def test_one_can_wait_for_the_others(tmp_path: Path) -> None:
    """As molecule/default/engine_restart.yml does: each that runs holds NAME.lock, beside its directory."""
    waits = (
        "import os, subprocess\n"
        "scratch = os.path.dirname(os.environ['MOLECULE_EPHEMERAL_DIRECTORY'])\n"
        "print('own lock:', subprocess.call(['flock', '--nonblock', scratch + '/one.lock', 'true']))\n"
        "subprocess.check_call(['flock', scratch + '/other.lock', 'true'])\n"
        "print('the other has ended:', os.path.exists('ended'))"
    )
    done = Project(tmp_path, one=waits, other="open('ended', 'w').close()").run()
    assert "own lock: 1\n" in done.stdout
    assert "the other has ended: True\n" in done.stdout
