"""host_file and host_line on hosts without Python: through ssh, and in a container through Docker.

This file needs a Docker engine. The container has busybox and nothing else.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pwd
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import programs
from harness.ports import free_port

pytestmark = pytest.mark.xdist_group("engine")

SECRET = "hunter2-hunter2-hunter2"
PLENTY = bytes(range(256)) * 16384


def tasks(home: str) -> list[dict[str, Any]]:
    return [
        {"host_file": {"path": home, "state": "directory", "mode": "0755"}},
        {"host_file": {"path": f"{home}/it's $HOME", "src": "plenty", "mode": "0400"}},
        {"host_file": {"path": f"{home}/secret", "content": SECRET, "mode": "0400"}, "no_log": True},
        {"host_file": {"path": f"{home}/text", "content": "Grüße\n", "validate": "grep Gr %s"}},
        {"host_line": {"path": f"{home}/autostart", "line": "relay 5", "match": "^relay( |$)"}},
    ]


def check_life(ansible: Any, home: str) -> str:
    """Let Ansible do all that it can on the host; return its output, at -vvv, of the writing run."""
    (ansible.directory / "plenty").write_bytes(PLENTY)
    run = ansible.run(tasks(home), "--check", "--diff").succeeded()
    assert [result["changed"] for result in run.results] == [True] * 5
    run = ansible.run(tasks(home), "--diff", "-vvv").succeeded()
    assert run.changed == [True] * 5
    again = ansible.run(tasks(home), "--diff", "-vvv").succeeded()
    assert again.changed == [False] * 5, again.output
    return str(run.output + again.output)


@pytest.fixture
def sshd(ansible: Any, tmp_path: Path) -> Iterator[programs.Server]:
    """OpenSSH for this user, on a free port; Ansible's inventory has it."""
    port, user = free_port(), pwd.getpwuid(os.getuid()).pw_name
    for name in ("host_key", "user_key"):
        subprocess.run(
            [programs.find("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True
        )
    (tmp_path / "authorized").write_text((tmp_path / "user_key.pub").read_text())
    config = tmp_path / "sshd_config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host_key\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {tmp_path}/authorized\nStrictModes no\nPermitRootLogin yes\n"
    )
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where it separates privileges
    server = programs.Server([programs.find("sshd"), "-D", "-e", "-f", config])
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{port} {(tmp_path / 'host_key.pub').read_text()}")
    ansible.inventory = {
        "tower": {
            "ansible_host": "127.0.0.1",
            "ansible_port": port,
            "ansible_user": user,
            "ansible_ssh_private_key_file": str(tmp_path / "user_key"),
            # In place of Ansible's own, which would keep a connection, and so a part of sshd, for a minute.
            "ansible_ssh_args": f"-F none -o UserKnownHostsFile={known}",
        }
    }
    with server.stopped_on_failure():
        server.wait_for_pattern("Server listening")
    yield server
    server.stop()


def test_ssh(ansible: Any, sshd: programs.Server, tmp_path: Path) -> None:
    home = tmp_path / "app data"
    output = check_life(ansible, str(home))
    assert (home / "it's $HOME").read_bytes() == PLENTY
    assert (home / "secret").read_text() == SECRET
    assert (home / "secret").stat().st_mode & 0o7777 == 0o400
    assert (home / "text").read_text() == "Grüße\n"
    assert sorted(os.listdir(home)) == ["autostart", "it's $HOME", "secret", "text"]
    assert "SSH: EXEC" in output
    # Ansible shows there what a host answers, and what its commands are.
    assert SECRET not in output
    assert hashlib.sha256(SECRET.encode()).hexdigest() not in output


def test_a_refusal_while_much_is_still_to_come(ansible: Any, sshd: programs.Server, tmp_path: Path) -> None:
    """A host that does not take the content says why; it does not look like one that cannot be reached."""
    (ansible.directory / "plenty").write_bytes(PLENTY)
    (tmp_path / "file").write_text("")
    put = {"host_file": {"path": f"{tmp_path}/no/where", "src": "plenty"}}
    owned = {"host_file": {"path": f"{tmp_path}/new", "src": "plenty", "owner": "no-such-user"}}
    run = ansible.run([put, owned])
    assert "started and mounted?" in run.messages[0]
    assert "Owner, group or mode" in run.messages[1]
    assert not (tmp_path / "new").exists()


def docker(*arguments: str, stdin: bytes = b"") -> str:
    done = programs.run("docker", *arguments, stdin=stdin)
    assert done.status == 0, done.output
    return done.output.strip()


@pytest.fixture
def tower(ansible: Any) -> Iterator[str]:
    """A container with busybox alone, and a small disk at /mnt/small; Ansible's inventory has it."""
    name = f"smtp-relay-test-{uuid.uuid4().hex[:12]}"
    image = docker("import", "-c", 'CMD ["/bin/sleep", "600"]', "-", name, stdin=_busybox())
    try:
        docker("run", "--detach", "--name", name, "--network=none", "--tmpfs=/mnt/small:size=64k", name)
        try:
            ansible.inventory = {
                "tower": {"ansible_connection": "community.docker.docker", "ansible_host": name}
            }
            yield name
        finally:
            docker("rm", "--force", "--volumes", name)
    finally:
        docker("rmi", image)


def _busybox() -> bytes:
    """A root directory with busybox and links to it, as a tar archive."""
    program = programs.find("busybox")
    applets = subprocess.run([program, "--list"], check=True, capture_output=True, text=True).stdout.split()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for directory in ("bin", "tmp", "mnt", "proc", "dev", "etc"):
            member = tarfile.TarInfo(directory)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
        tar.add(program, "bin/busybox")
        for applet in applets:
            member = tarfile.TarInfo(f"bin/{applet}")
            member.type, member.linkname = tarfile.SYMTYPE, "busybox"
            if applet != "busybox":
                tar.addfile(member)
    return archive.getvalue()


def test_a_container_without_python(ansible: Any, tower: str) -> None:
    home = "/mnt/user/appdata/re lay"
    check_life(ansible, home)
    listed = docker("exec", tower, "sh", "-c", f"cd '{home}' && stat -c '%n %a %u %g %s' *")
    assert listed.splitlines() == [
        "autostart 600 0 0 8",
        f"it's $HOME 400 0 0 {len(PLENTY)}",
        f"secret 400 0 0 {len(SECRET)}",
        "text 600 0 0 8",
    ]
    of_users = [
        {"host_file": {"path": home, "state": "directory", "mode": "0750", "owner": "99", "group": "100"}},
        {"host_file": {"path": f"{home}/text", "content": "Grüße\n", "owner": "99", "group": "100"}},
    ]
    assert ansible.run(of_users, "--diff").succeeded().changed == [True, True]
    assert ansible.run(of_users, "--diff").succeeded().changed == [False, False]
    assert docker("exec", tower, "stat", "-c", "%a %u %g", home, f"{home}/text") == "750 99 100\n600 99 100"


def test_a_disk_that_is_full(ansible: Any, tower: str) -> None:
    (ansible.directory / "plenty").write_bytes(PLENTY)
    path = "/mnt/small/file"
    written = [
        {"host_file": {"path": path, "content": "old"}},
        {"host_file": {"path": path, "src": "plenty"}},
        {"host_file": {"path": "/mnt/small", "state": "absent"}},
    ]
    run = ansible.run(written)
    assert "No space left on device. Is there room" in run.messages[0]
    assert "is not removed" in run.messages[1]
    assert docker("exec", tower, "sh", "-c", "cat /mnt/small/file; ls -A /mnt/small") == "oldfile"


def test_a_container_that_is_stopped(ansible: Any, tower: str) -> None:
    docker("kill", tower)
    [message] = ansible.run([{"host_file": {"path": "/mnt/x", "state": "directory"}}]).messages
    assert "is not running" in message
    assert json.dumps(message).count("Traceback") == 0
