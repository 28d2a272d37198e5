"""plugins/plugin_utils/remote_paths.py, against the shells and programs of the hosts that there are."""

from __future__ import annotations

import os
import re
import resource
import signal
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from harness import programs
from remote_paths import Attributes, HostRefused, RemotePath

NOTHING = Attributes()
OWN = Attributes(owner=str(os.getuid()), group=str(os.getgid()))
NAMES = [
    "plain",
    "with space",
    'it\'s "quoted"',
    "$(touch pwned) `touch pwned` $HOME",
    "back\\slash \\n",
    "*?[a-z]!",
    "-rf",
    "ä\u2028ö",
    "ends with space ",
    "content",
    "x" * 255,
]
CONTENTS = [
    b"",
    b"\0",
    b"no line end",
    b"line\n",
    b"---host---\nkind link\n\ncontent\n",
    bytes(range(256)) * 16384,
]


def leftovers(directory: Path) -> list[str]:
    return [name for name in os.listdir(directory) if name.startswith(".host_file-")]


def refused(action: Callable[[], Any]) -> str:
    with pytest.raises(HostRefused) as caught:
        action()
    message = str(caught.value.message)
    assert re.search(r"[^.?][.?]$", message), message
    return message


@pytest.mark.parametrize("name", NAMES)
def test_any_name(host: Any, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    place = RemotePath(host, str(path))
    assert place.look().kind == "absent"
    place.put(b"1", NOTHING)
    assert path.read_bytes() == b"1"
    found = place.look(content_up_to=10)
    assert (found.kind, found.size, found.content, found.parent) == ("file", 1, b"1", "directory")
    place.remove()
    assert os.listdir(tmp_path) == []
    place.make_directory(NOTHING, create_parents=False)
    RemotePath(host, str(path / name)).put(b"2", NOTHING)
    place.remove()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", CONTENTS, ids=lambda content: str(len(content)))
def test_any_content(host: Any, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    place = RemotePath(host, str(path))
    place.put(content, NOTHING)
    assert path.read_bytes() == content
    found = place.look(content_up_to=len(content))
    assert found.content == content
    assert place.has(found, content)
    assert not place.has(found, content + b"\n")
    assert not place.has(found, content[:-1] if content else b"x")
    assert place.look(content_up_to=len(content) - 1).content is None


def test_nothing_of_the_content_is_in_a_command_or_an_answer(host: Any, tmp_path: Path) -> None:
    place = RemotePath(host, str(tmp_path / "file"))
    place.put(b"hunter2", NOTHING)
    first, second = place.look(), RemotePath(host, place.path).look()
    assert "hunter2" not in "".join(host.commands)
    # Who reads the digest in a log must not be able to try passwords on it.
    assert first.digest != second.digest
    assert first.digest not in "".join(host.commands)
    assert place._salt not in "".join(host.commands)


def test_a_new_file_is_private_and_an_old_one_keeps_its_attributes(host: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    place = RemotePath(host, str(path))
    place.put(b"1", NOTHING)
    assert path.stat().st_mode & 0o7777 == 0o600
    path.chmod(0o2754)
    place.put(b"2", place.look().kept_attributes(NOTHING))
    assert path.stat().st_mode & 0o7777 == 0o2754
    place.put(b"3", place.look().kept_attributes(Attributes(mode="400")))
    assert path.stat().st_mode & 0o7777 == 0o400
    assert place.look().has_attributes(Attributes("0400", OWN.owner, OWN.group))


@pytest.mark.parametrize("host", ["dash", "bash"], indirect=True)  # busybox takes no cat but its own
def test_never_readable_to_others(host: Any, tmp_path: Path) -> None:
    # With a default ACL (acl(5)) of rwx for everybody, the system forgets the umask.
    everybody = struct.pack("<I" + "HHI" * 3, 2, *(1, 7, 0), *(4, 7, 0), *(0x20, 7, 0))
    os.setxattr(tmp_path, "system.posix_acl_default", everybody)
    modes = tmp_path / "modes"
    (tmp_path / "open").touch()
    assert (tmp_path / "open").stat().st_mode & 0o7777 == 0o666
    spy = tmp_path / "spy"
    spy.mkdir()
    (spy / "cat").write_text(
        f"#!/bin/sh\nmode=$(stat -L -c %a /proc/$$/fd/1)\necho $mode > {modes}\nexec /bin/cat\n"
    )
    (spy / "cat").chmod(0o755)
    host.path = f"{spy}:{host.path}"
    RemotePath(host, str(tmp_path / "file")).put(b"1", Attributes(mode="0644"))
    assert modes.read_text() == "600\n"
    assert (tmp_path / "file").stat().st_mode & 0o7777 == 0o644


def test_attributes(host: Any, tmp_path: Path) -> None:
    directory = tmp_path / "directory"
    place = RemotePath(host, str(directory))
    place.make_directory(Attributes(mode="0750"), create_parents=False)
    assert directory.stat().st_mode & 0o7777 == 0o750
    place.make_directory(Attributes(mode="0700", owner=OWN.owner, group=OWN.group), create_parents=False)
    assert directory.stat().st_mode & 0o7777 == 0o700
    # Numbers and names are the same to us; a mode with and without a leading zero, too.
    found = place.look()
    assert found.has_attributes(Attributes("700", *found.owner[:1], *found.group[:1]))
    assert found.has_attributes(Attributes("0700", *found.owner[1:], *found.group[1:]))
    assert not found.has_attributes(Attributes("0701"))
    assert not found.has_attributes(Attributes(owner="65533"))


def test_a_directory_in_one_with_set_group_id(host: Any, tmp_path: Path) -> None:
    tmp_path.chmod(0o2755)
    RemotePath(host, str(tmp_path / "made")).make_directory(Attributes(mode="0755"), create_parents=False)
    assert (tmp_path / "made").stat().st_mode & 0o7777 == 0o755


def test_missing_parents(host: Any, tmp_path: Path) -> None:
    place = RemotePath(host, str(tmp_path / "a" / "b" / "c"))
    assert place.look().parent == "absent"
    assert "started and mounted?" in refused(lambda: place.put(b"1", NOTHING))
    assert "started and mounted?" in refused(lambda: place.make_directory(NOTHING, create_parents=False))
    assert os.listdir(tmp_path) == []
    place.put(b"1", NOTHING, create_parents=True)
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o755
    (tmp_path / "file").touch()
    below = RemotePath(host, str(tmp_path / "file" / "x" / "y"))
    assert f"{tmp_path}/file/x cannot be made" in refused(
        lambda: below.put(b"1", NOTHING, create_parents=True)
    )


def test_a_refusal_comes_after_all_is_read(host: Any, tmp_path: Path) -> None:
    """To Ansible, who leaves while it still sends is a host that cannot be reached."""
    plenty = b"x" * 4_000_000
    refused(lambda: RemotePath(host, str(tmp_path / "no" / "file")).put(plenty, NOTHING))
    (tmp_path / "directory").mkdir()
    refused(lambda: RemotePath(host, str(tmp_path / "directory")).put(plenty, NOTHING))
    host.limits = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    refused(lambda: RemotePath(host, str(tmp_path / "file")).put(plenty, NOTHING))
    assert not host.left_us_standing


def test_a_link_is_replaced_and_never_followed(host: Any, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("mine")
    path = tmp_path / "path"
    place = RemotePath(host, str(path))
    path.symlink_to(target)
    assert (place.look().kind, place.look().target) == ("link", str(target))
    place.put(b"1", Attributes(mode="0644"))
    assert (path.is_symlink(), path.read_text(), target.read_text()) == (False, "1", "mine")
    path.unlink()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path.symlink_to(elsewhere)
    if "busybox" in host.path:
        assert "cannot be replaced" in refused(lambda: place.put(b"2", NOTHING))
        assert (path.is_symlink(), os.listdir(elsewhere)) == (True, [])
    else:
        place.put(b"2", NOTHING)
        assert (path.is_symlink(), os.listdir(elsewhere)) == (False, [])
    path.unlink()
    path.symlink_to("/nowhere")
    place.remove()
    assert not path.is_symlink()


def test_a_directory_that_took_the_place(host: Any, tmp_path: Path) -> None:
    (tmp_path / "path").mkdir()
    place = RemotePath(host, str(tmp_path / "path"))
    assert "changed by somebody else" in refused(lambda: place.put(b"1", NOTHING))
    assert os.listdir(tmp_path / "path") == []
    assert leftovers(tmp_path) == []


def test_another_change_is_not_overwritten(host: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    place = RemotePath(host, str(path))
    absent = place.look()
    path.write_text("theirs")
    assert "changed by somebody else" in refused(lambda: place.put(b"1", NOTHING, instead_of=absent))
    theirs = place.look()
    place.put(b"1", NOTHING, instead_of=theirs)
    assert "changed by somebody else" in refused(lambda: place.put(b"2", NOTHING, instead_of=theirs))
    assert "changed by somebody else" in refused(lambda: place.remove(instead_of=theirs))
    path.unlink()
    assert "changed by somebody else" in refused(lambda: place.put(b"2", NOTHING, instead_of=theirs))
    assert leftovers(tmp_path) == []


def test_content_that_is_not_valid(host: Any, tmp_path: Path) -> None:
    path = tmp_path / "it's here"
    path.write_text("old")
    place = RemotePath(host, str(path))
    message = refused(lambda: place.put(b"new", NOTHING, validate="cat %s; echo; echo no good >&2; false"))
    assert message == f"{path} was not changed, because the new content is not valid: new no good."
    assert path.read_text() == "old"
    assert leftovers(tmp_path) == []
    place.put(b"new", NOTHING, validate='test "$(cat %s)" = new')
    assert path.read_text() == "new"


def test_a_connection_that_breaks_off(host: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    host.before = lambda command, octets: octets[:-1]
    message = refused(lambda: RemotePath(host, str(path)).put(b"new" * 100_000, NOTHING))
    assert "did not arrive in full" in message
    assert path.read_text() == "old"
    assert leftovers(tmp_path) == []


def test_killed_before_the_file_took_its_place(host: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    (tmp_path / ".host_file-of-another").touch()
    place = RemotePath(host, str(path))
    message = refused(lambda: place.put(b"new", NOTHING, validate=": %s; kill -KILL $$"))
    assert f"{path}: the shell on the host did not run our command to its end" in message
    assert len(leftovers(tmp_path)) == 2
    assert place.look().kind == "file"  # looking alone changes nothing
    assert len(leftovers(tmp_path)) == 2
    place.look(clean=True)
    assert leftovers(tmp_path) == [".host_file-of-another"]
    assert path.read_text() == "old"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_ended_before_the_file_took_its_place(host: Any, tmp_path: Path, number: signal.Signals) -> None:
    place = RemotePath(host, str(tmp_path / "file"))
    refused(lambda: place.put(b"new", NOTHING, validate=f": %s; kill -{number.name[3:]} $$; sleep 0.2"))
    assert os.listdir(tmp_path) == []


def test_no_room(host: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    place = RemotePath(host, str(path))
    host.limits = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    message = refused(lambda: place.put(b"x" * 4_000_000, NOTHING))
    assert f"{path} cannot be written: " in message
    assert "Is there room" in message
    assert path.read_text() == "old"
    assert leftovers(tmp_path) == []


def test_mounts(host: Any) -> None:
    assert RemotePath(host, "/proc").look().mounts[0] == "/proc"
    assert RemotePath(host, "/pro").look().mounts == ()


def test_a_name_that_mounts_are_written_with(host: Any) -> None:
    from remote_paths import _as_in_proc_mounts

    assert _as_in_proc_mounts("/a b\t\\") == "/a\\040b\\011\\134"


def test_what_is_neither_file_nor_directory(host: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert RemotePath(host, str(tmp_path / "pipe")).look(content_up_to=10).kind == "other"
    (tmp_path / "file").touch()
    assert RemotePath(host, str(tmp_path / "file" / "x")).look().parent == "other"


def test_an_account_without_a_shell(host: Any) -> None:
    host.shell = ["/usr/sbin/nologin"]
    assert "This account is currently not available" in refused(RemotePath(host, "/x").look)


def test_a_shell_that_is_none(host: Any) -> None:
    host.shell = ["/bin/echo", "Press 1 for the menu"]
    assert "It said: 'Press 1 for the menu -c limit=" in refused(RemotePath(host, "/x").look)


def test_a_login_that_says_something(host: Any, tmp_path: Path) -> None:
    host.shell = ["/bin/sh", "-c", 'echo Welcome; exec /bin/sh "$@"', "sh"]
    RemotePath(host, str(tmp_path / "file")).put(b"1", NOTHING)
    assert RemotePath(host, str(tmp_path / "file")).look(content_up_to=1).content == b"1"


def test_become_that_cannot_pass_content_on(host: Any) -> None:
    host._connection = SimpleNamespace(become=SimpleNamespace(pipelining=False, name="su"))
    with pytest.raises(AnsibleActionFail, match="become_method: sudo"):
        RemotePath(host, "/x")


@pytest.fixture(params=["deny", "ignore"])
def fat(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system like FAT: it has no owners and modes, and says so or does not."""
    real, mounted = tmp_path / "real", tmp_path / "fat"
    real.mkdir()
    mounted.mkdir()
    manner = [f"--chown-{request.param}", f"--chgrp-{request.param}", f"--chmod-{request.param}"]
    program, unmount = programs.find("bindfs"), programs.find("fusermount3" if os.getuid() else "umount")
    subprocess.run([program, "--no-allow-other", "-p", "0600,u+X", *manner, real, mounted], check=True)
    try:
        yield mounted
    finally:
        subprocess.run([unmount, *(["-u"] if os.getuid() else []), mounted], check=True)


def test_a_file_system_without_owners_and_modes(host: Any, fat: Path) -> None:
    path = fat / "file"
    place = RemotePath(host, str(path))
    place.put(b"1", NOTHING)
    place.put(b"2", place.look().kept_attributes(NOTHING))
    assert path.read_bytes() == b"2"
    message = refused(lambda: place.put(b"3", place.look().kept_attributes(Attributes(mode="0444"))))
    assert "A FAT file system, such as Unraid's /boot, has none" in message
    assert path.read_bytes() == b"2"
    directory = RemotePath(host, str(fat / "directory"))
    assert "A FAT file system" in refused(
        lambda: directory.make_directory(Attributes(mode="0755"), create_parents=False)
    )
    assert os.listdir(fat) == ["file"]
    directory.make_directory(NOTHING, create_parents=False)
    place.remove()
    assert os.listdir(fat) == ["directory"]


def test_macos_programs(host: Any, tmp_path: Path) -> None:
    """As far as that can be told here: with programs that take the options that macOS's manual pages name."""
    bsd = tmp_path / "bsd"
    bsd.mkdir()
    scripts = {
        "uname": "echo Darwin",
        "stat": '[ "$1 $2" = "-f %Mp%Lp %u %g %Su %Sg %z" ] && /bin/stat -c "0%a %u %g %U %G %s" "$3"',
        "shasum": '[ "$*" = "-a 256" ] && exec /usr/bin/sha256sum',
        "sync": "exec /usr/bin/sync",
        "sha256sum": "exit 127",
    }
    for name, script in scripts.items():
        (bsd / name).write_text(f"#!/bin/sh\n{script}\n")
        (bsd / name).chmod(0o755)
    host.path = f"{bsd}:{os.environ['PATH']}"
    place = RemotePath(host, str(tmp_path / "file"))
    place.put(b"1", Attributes(mode="0640"))
    found = place.look(content_up_to=1)
    assert place.has(found, b"1")
    assert found.has_attributes(Attributes("0640", OWN.owner, OWN.group))
    assert found.content == b"1"
