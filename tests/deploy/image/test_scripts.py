"""tests/engine.sh, tests/base_images.sh and tests/shipped_python.sh: what they do and what they say."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from docker import DockerClient
from harness import programs

from .containers import ROOT, SECONDS_TO_BUILD, output

pytestmark = [pytest.mark.timeout(SECONDS_TO_BUILD), pytest.mark.xdist_group("engine")]

_AS_ROOT = [] if os.geteuid() == 0 else ["sudo", "--non-interactive", "--preserve-env"]


def _run(command: list[str], **environment: str) -> programs.Done:
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=programs.SECONDS_TO_RUN,
        check=False,
    )
    return programs.Done(done.returncode, done.stdout)


class TestEngine:
    @pytest.fixture
    def place(self) -> Iterator[Path]:
        """Where an engine keeps what it has: with a short path, for its sockets' may have 107 characters."""
        place = Path(tempfile.mkdtemp(prefix="engine-"))
        yield place
        subprocess.run([*_AS_ROOT, "rm", "-rf", place], check=True)

    @pytest.fixture
    def second(self, base: str, place: Path) -> Iterator[Callable[[str], programs.Done]]:
        """engine.sh for an engine of its own, beside the one that everything else here uses.

        It is in namespaces of its own: without a bridge, an engine removes the one that is there; and one
        that does not start leaves what it has mounted.
        """
        name = f"smtp-relay-test-{os.getpid()}"
        options = {
            "data-root": f"{place}/data",
            "exec-root": f"{place}/exec",
            "pidfile": f"{place}/pid",
            "containerd-namespace": name,
            "containerd-plugins-namespace": f"{name}-plugins",
            "bridge": "none",
            "iptables": "false",
        }
        environment = {
            "ENGINE_SOCKET": f"/var/run/{name}.sock",
            "ENGINE_OPTIONS": " ".join(f"--{option}={value}" for option, value in options.items()),
        }

        def engine(action: str) -> programs.Done:
            return _run([*_AS_ROOT, "unshare", "--net", "--mount", "tests/engine.sh", action], **environment)

        yield engine
        engine("stop")
        leavings = [f"/var/run/smtp-relay-engine-{name}.lock", f"/var/log/smtp-relay-engine-{name}.log"]
        subprocess.run([*_AS_ROOT, "rm", "-f", *leavings], check=True)

    def test_is_started_restarted_and_stopped(self, second: Callable[[str], programs.Done]) -> None:
        started = second("ensure")
        assert (started.status, "started, process" in started.output) == (0, True), started.output
        again = second("ensure")
        assert (again.status, "answers." in again.output) == (0, True), again.output
        restarted = second("restart")
        assert (restarted.status, "started, process" in restarted.output) == (0, True), restarted.output
        assert restarted.output != started.output
        assert "stopped." in second("stop").output
        assert "nothing to stop" in second("stop").output
        assert "started neither by systemd nor by this script" in second("restart").output

    def test_one_that_cannot_start_says_why(
        self, second: Callable[[str], programs.Done], place: Path
    ) -> None:
        (place / "data").write_text("not a folder")
        done = second("ensure")
        assert done.status == 1
        assert "dockerd did not start." in done.output
        assert "data" in done.output

    def test_docker_host_that_does_not_answer(self) -> None:
        done = _run(["tests/engine.sh", "ensure"], DOCKER_HOST="unix:///nowhere.sock")
        assert done.status == 1
        assert "DOCKER_HOST is unix:///nowhere.sock, and no engine answers there." in done.output

    def test_not_told_what_to_do(self) -> None:
        done = _run(["tests/engine.sh"])
        assert (done.status, "Usage:" in done.output) == (1, True)


class TestBaseImages:
    def test_what_is_set_is_kept(self, base: str) -> None:
        done = _run(["tests/base_images.sh"], PYTHON_IMAGE="one", DEBIAN_IMAGE="two three")
        assert done == programs.Done(0, "export PYTHON_IMAGE=one DEBIAN_IMAGE=two\\ three\n")

    def test_they_are_the_debian_and_the_python_that_are_shipped(
        self, engine: DockerClient, base: str
    ) -> None:
        done = _run(["tests/base_images.sh"])
        names = dict(word.split("=", 1) for word in shlex.split(done.output) if "=" in word)
        program = """
import ensurepip, platform, sys, venv
print(*sys.version_info[:2], platform.freedesktop_os_release()["VERSION_CODENAME"])
"""
        python = output(engine, names["PYTHON_IMAGE"], "python", "-c", program).split()
        debian = output(
            engine, names["DEBIAN_IMAGE"], "sh", "-c", ". /etc/os-release; echo $VERSION_CODENAME"
        )
        [shipped] = re.findall(
            r"(?m)^ARG PYTHON_IMAGE=.*/python:(\d+)\.(\d+)-slim-(\w+)(?:@.*)?$",
            (ROOT / "Dockerfile").read_text(),
        )
        assert python == [*shipped]
        assert debian.split() == [shipped[2]]
        assert output(engine, names["DEBIAN_IMAGE"], "sh", "-c", "! command -v python3") == ""

    def test_a_base_of_no_known_release_is_said(self, tmp_path: Path) -> None:
        script = tmp_path / "tests/base_images.sh"
        script.parent.mkdir()
        shutil.copy(ROOT / "tests/base_images.sh", script)
        (tmp_path / "Dockerfile").write_text("ARG PYTHON_IMAGE=docker.io/library/python:latest\n")
        done = _run([str(script)])
        assert done.status == 1
        assert "Its tag must name a Python and a Debian, as 3.13-slim-trixie does." in done.output

    def test_no_engine_is_said(self) -> None:
        done = _run(["tests/base_images.sh"], DOCKER_HOST="unix:///nowhere.sock")
        assert done.status == 1
        assert "no Docker engine answers (run: tests/engine.sh ensure)" in done.output


def test_a_shipped_python_without_its_packages_is_said(engine: DockerClient) -> None:
    done = _run(["tests/shipped_python.sh"], PYTHON_IMAGE="localhost:1/none", DEBIAN_IMAGE="none")
    assert done.status == 1
    assert "the image for the unit tests cannot be built. The end of what was said:" in done.output
    assert "localhost:1" in done.output
