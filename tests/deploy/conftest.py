"""A machine to run the playbooks on."""

from __future__ import annotations

from pathlib import Path

import pytest

from .playing import Controller


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    """A machine that runs Ansible, whose docker command writes down what it is asked."""
    directory = tmp_path / "controller"
    directory.mkdir()
    return Controller(directory)
