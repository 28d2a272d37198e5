"""The GitHub workflows, read and run: a step's script as the runner runs it, on this machine."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from harness.programs import Done

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"


def load(path: Path) -> dict[str, Any]:
    document = yaml.safe_load(path.read_text("utf-8"))
    assert isinstance(document, dict)
    # YAML 1.1 reads the key `on` as true.
    return {"on" if key is True else key: value for key, value in document.items()}


def read_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, GITHUB / "scripts" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def step(workflow: str, job: str, name: str) -> dict[str, Any]:
    """The one step of this name."""
    steps = load(GITHUB / "workflows" / f"{workflow}.yml")["jobs"][job]["steps"]
    [found] = [each for each in steps if each.get("name") == name]
    assert isinstance(found, dict)
    return found


def run(step: dict[str, Any], directory: Path, given: Mapping[str, str], machine: Mapping[str, str]) -> Done:
    """Run a step's script in `directory`.

    `given` are its `env`, all of them and no others; `machine` is what a runner's environment has besides.
    """
    assert step.get("env", {}).keys() == given.keys()
    # What GitHub makes of `shell: bash`.
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        cwd=directory,
        env={"PATH": os.environ["PATH"], "HOME": str(directory), **machine, **given},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
    )
    return Done(done.returncode, done.stdout)


# Notes what it is asked, and answers as the file of the command's name in `answers` does.
_GH = """#!/bin/sh
echo "$*" >>"$HOME/asked"
if [ -e "$HOME/answers/$1 $2" ]; then . "$HOME/answers/$1 $2"; fi
"""


class Gh:
    """In place of GitHub's own program, which nothing here could answer."""

    def __init__(self, home: Path) -> None:
        self._home = home
        (home / "bin").mkdir(parents=True)
        (home / "answers").mkdir()
        (home / "bin/gh").write_text(_GH)
        (home / "bin/gh").chmod(0o755)
        self.machine = {"PATH": f"{home / 'bin'}:{os.environ['PATH']}", "HOME": str(home)}

    def answer(self, command: str, script: str) -> None:
        (self._home / "answers" / command).write_text(f"{script}\n")

    def asked(self) -> list[str]:
        """What it was asked since the last time."""
        noted = self._home / "asked"
        lines = noted.read_text().splitlines() if noted.exists() else []
        noted.write_text("")
        return lines
