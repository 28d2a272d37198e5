"""plugins/action/host_line.py: what it makes of a file's lines, and in real runs of ansible-playbook."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

MATCH = r"^smtp-relay(\s|$)"


def host_line(path: Path, **arguments: Any) -> dict[str, Any]:
    return {"host_line": {"path": str(path), "match": MATCH, **arguments}}


@pytest.mark.parametrize(
    ("before", "line", "after"),
    [
        (b"", b"smtp-relay 5", b"smtp-relay 5\n"),
        (b"plex\n", b"smtp-relay 5", b"plex\nsmtp-relay 5\n"),
        (b"plex", b"smtp-relay 5", b"plex\nsmtp-relay 5\n"),
        (b"plex\nsmtp-relay\nvpn\n", b"smtp-relay 5", b"plex\nsmtp-relay 5\nvpn\n"),
        (b"smtp-relay 5\nvpn", b"smtp-relay 5", b"smtp-relay 5\nvpn"),
        (b"plex\nsmtp-relay", b"smtp-relay 5", b"plex\nsmtp-relay 5"),
        (b"smtp-relay\r\nvpn\r\n", b"smtp-relay 5", b"smtp-relay 5\r\nvpn\r\n"),
        (b"smtp-relay\na\nsmtp-relay 9\n", b"smtp-relay 5", b"smtp-relay 5\na\n"),
        (b"smtp-relay-2 1\n", b"smtp-relay 5", b"smtp-relay-2 1\nsmtp-relay 5\n"),
        (b"\xff\x00\x0b\x0c\x1c\x85\n\n \n", b"smtp-relay", b"\xff\x00\x0b\x0c\x1c\x85\n\n \nsmtp-relay\n"),
        (b"a\rb\n", b"smtp-relay", b"a\rb\nsmtp-relay\n"),
        (b"plex\nsmtp-relay 5\nvpn", None, b"plex\nvpn"),
        (b"smtp-relay\nsmtp-relay 5", None, b""),
        (b"plex", None, b"plex"),
        (b"\n", None, b"\n"),
    ],
)
def test_edited(plugin: Any, before: bytes, line: bytes | None, after: bytes) -> None:
    edited = plugin("action/host_line").edited
    match = re.compile(MATCH.encode())
    assert edited(before, match, line) == after
    assert edited(after, match, line) == after


def test_life(ansible: Any, tmp_path: Path) -> None:
    path = tmp_path / "unraid-autostart"
    present, absent = host_line(path, line="smtp-relay 5"), host_line(path, state="absent", remove_empty=True)
    run = ansible.run([present, absent], "--check", "--diff").succeeded()
    assert run.changed == [True, False]
    assert "+smtp-relay 5" in run.output
    assert not path.exists()
    run = ansible.run([present, present], "--diff").succeeded()
    assert run.changed == [True, False]
    assert path.read_text() == "smtp-relay 5\n"
    run = ansible.run([absent], "--check", "--diff").succeeded()
    assert f"{path} (removed, for nothing is left in it)" in run.output
    assert path.exists()
    run = ansible.run([absent, absent], "--diff").succeeded()
    assert run.changed == [True, False]
    assert not path.exists()


def test_the_file_of_others(ansible: Any, tmp_path: Path) -> None:
    path = tmp_path / "unraid-autostart"
    path.write_bytes(b"plex 10\nr\xe4tsel\n")
    path.chmod(0o644)
    run = ansible.run([host_line(path, line="smtp-relay 5")], "--diff").succeeded()
    assert path.read_bytes() == b"plex 10\nr\xe4tsel\nsmtp-relay 5\n"
    assert path.stat().st_mode & 0o7777 == 0o644
    assert "r\\xe4tsel" in run.output
    run = ansible.run([host_line(path, state="absent", remove_empty=True)]).succeeded()
    assert path.read_bytes() == b"plex 10\nr\xe4tsel\n"
    path.write_bytes(b"smtp-relay\n")
    ansible.run([host_line(path, state="absent")]).succeeded()
    assert path.read_bytes() == b""


def test_what_cannot_be(ansible: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "large").write_bytes(b"x\n" * 500_001)
    line = "smtp-relay"
    wrong = {
        "It must be absolute": host_line(Path("x"), line=line),
        "missing": host_line(path),
        "which is no regular expression": host_line(path, line=line, match="("),
        "does not find the line itself": host_line(path, line="other"),
        "It must be one line": host_line(path, line="smtp-relay\nplex"),
        "with create: false it is not made": host_line(path, line=line, create=False),
        "is a symbolic link": host_line(tmp_path / "link", line=line),
        "is not a file": host_line(tmp_path, line=line),
        "is larger than 1 MB": host_line(tmp_path / "large", line=line),
        "started and mounted?": host_line(tmp_path / "no" / "file", line=line),
    }
    run = ansible.run(list(wrong.values()))
    for expected, message in zip(wrong, run.messages, strict=True):
        assert expected in message
    assert sorted(os.listdir(tmp_path)) == ["ansible", "large", "link"]


@pytest.fixture
def action(plugin: Any, host: Any, tmp_path: Path) -> Any:
    """The action that adds our line to a file, on a host with its shell."""
    action = object.__new__(plugin("action/host_line").ActionModule)
    arguments = {"path": str(tmp_path / "file"), "match": MATCH, "line": "smtp-relay 5"}
    action._task = SimpleNamespace(args=arguments, check_mode=False, async_val=0, diff=False)
    action._connection = SimpleNamespace(become=None, _shell=SimpleNamespace(tmpdir=None))
    action._low_level_execute_command = host._low_level_execute_command
    action._load_name = "host_line"
    return action


def another_writes(host: Any, path: Path, may: Callable[[], bool]) -> None:
    """Let somebody else add a line just before we write."""

    def before(command: str, octets: bytes) -> bytes:
        if "mktemp" in command and may():
            with path.open("a") as file:
                file.write("theirs\n")
        return octets

    host.before = before


def test_somebody_else_writes_at_the_same_time(action: Any, host: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("plex\n")
    once = [True]
    another_writes(host, path, lambda: bool(once) and once.pop())
    assert action.run(None, {})["changed"]
    assert path.read_text() == "plex\ntheirs\nsmtp-relay 5\n"


def test_somebody_else_never_stops_writing(action: Any, host: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    another_writes(host, path, lambda: True)
    with pytest.raises(Exception, match="was changed by somebody else in this very moment"):
        action.run(None, {})
    assert set(path.read_text().splitlines()) == {"theirs"}
    assert os.listdir(tmp_path) == ["file"]
