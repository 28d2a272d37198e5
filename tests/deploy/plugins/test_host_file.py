"""plugins/action/host_file.py, in real runs of ansible-playbook on this machine."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

UID, GID = str(os.getuid()), str(os.getgid())
SECRET = "hunter2-hunter2-hunter2"


def host_file(**arguments: Any) -> dict[str, Any]:
    return {"host_file": {key: str(value) if key == "path" else value for key, value in arguments.items()}}


def test_life(ansible: Any, tmp_path: Path) -> None:
    home = tmp_path / "app data"
    binary = tmp_path / "binary"
    binary.write_bytes(bytes(range(256)))
    tasks = [
        host_file(path=home / "x" / "secrets", state="directory", mode="0700", owner=UID, group=GID),
        host_file(path=home / "x" / "secrets" / "password", content=SECRET, mode="0400", sensitive=True),
        host_file(path=home / "x" / "relay.toml", content="a = 1\n", mode="0644", owner=UID, group=GID),
        host_file(path=home / "x" / "icon", src=str(binary)),
        host_file(path=home / "x" / "number", content=5),
    ]
    # On a virgin host each would change something, and none does; that a directory is missing is no error.
    run = ansible.run(tasks, "--check", "--diff").succeeded()
    assert run.changed == [True] * 5
    assert not home.exists()
    assert '"state": "directory"' in run.output
    assert "+a = 1" in run.output
    assert "appears to be binary" in run.output
    assert SECRET not in run.output

    run = ansible.run(tasks, "--diff").succeeded()
    assert run.changed == [True] * 5
    assert SECRET not in run.output
    assert (home / "x" / "secrets").stat().st_mode & 0o7777 == 0o700
    assert (home / "x" / "secrets" / "password").read_text() == SECRET
    assert (home / "x" / "secrets" / "password").stat().st_mode & 0o7777 == 0o400
    assert (home / "x" / "icon").read_bytes() == bytes(range(256))
    assert (home / "x" / "icon").stat().st_mode & 0o7777 == 0o600
    assert (home / "x" / "number").read_text() == "5"
    assert run.results[2]["checksum"] == hashlib.sha256(b"a = 1\n").hexdigest()
    assert run.results[2]["path"] == f"{home}/x/relay.toml"
    assert "checksum" not in run.results[1]

    run = ansible.run(tasks, "--diff").succeeded()
    assert run.changed == [False] * 5
    run = ansible.run([host_file(path=home / "x", state="absent")] * 2, "--diff").succeeded()
    assert run.changed == [True, False]
    assert list(home.iterdir()) == []


def test_diff_of_what_changes(ansible: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one\ntwo\n")
    path.chmod(0o600)
    large = tmp_path / "large"
    large.write_bytes(b"x" * 200_000)
    tasks = [
        host_file(path=path, content="one\n2\n", mode="0640"),
        host_file(path=path, content="one\n2\n", mode="0400"),
        host_file(path=large, content="small"),
        host_file(path=path, content="one\n3\n", mode="0400", sensitive=True),
        {**host_file(path=path, content="one\n4\n", mode="0400"), "no_log": True},
    ]
    run = ansible.run(tasks, "--diff").succeeded()
    assert run.changed == [True] * 5
    assert "-two\n+2\n" in run.output
    assert '-    "mode": "0600",\n+    "mode": "0640",' in run.output
    # Where the mode alone differs, nothing is said of the content.
    assert run.results[1]["diff"] == [
        {"before": {"path": str(path), "mode": "0640"}, "after": {"path": str(path), "mode": "0400"}}
    ]
    assert "destination file size is greater" in run.output
    assert f"{path}: other content, not shown, because it is sensitive" in run.output
    assert "+3" not in run.output
    assert "+4" not in run.output
    assert path.read_text() == "one\n4\n"


def test_what_is_asked_wrongly(ansible: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    wrong = {
        "It must be absolute": host_file(path="relative", content=""),
        "Write it without . and .. parts": host_file(path="/tmp/../etc/passwd", content=""),
        "control characters": host_file(path="/tmp/a\nb", content=""),
        'mode: "0400"': host_file(path=path, content="", mode=256),
        "octal digits as a string": host_file(path=path, content="", mode="u=r"),
        'owner: "99"': host_file(path=path, content="", owner="nobody; rm -rf /"),
        'group: "99"': host_file(path=path, content="", group=True),
        "needs content, or src": host_file(path=path),
        "content|src": host_file(path=path, content="", src="x"),
        "content means nothing with state: directory": host_file(path=path, state="directory", content=""),
        "mode means nothing with state: absent": host_file(path=path, state="absent", mode="0400"),
        "It needs a %s": host_file(path=path, content="", validate="true"),
        "content is structured, not text": host_file(path=path, content={"a": 1}),
        "content is a truth value, not text": host_file(path=path, content=True),
        "Could not find or access": host_file(path=path, src="not-there"),
        "value of state must be one of": host_file(path=path, state="link"),
        "Unsupported parameters": host_file(path=path, content="", dest="x"),
    }
    run = ansible.run(list(wrong.values()))
    for expected, message in zip(wrong, run.messages, strict=True):
        assert expected in message
    assert not path.exists()


def test_what_is_in_the_way(ansible: Any, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("mine")
    (tmp_path / "link").symlink_to(target)
    (tmp_path / "directory" / "below").mkdir(parents=True)
    os.mkfifo(tmp_path / "pipe")
    in_the_way = {
        f"is a symbolic link to {target}": host_file(path=tmp_path / "link", content="x"),
        "Give the path that it leads to": host_file(path=tmp_path / "link", state="absent"),
        "remove the link": host_file(path=tmp_path / "link", state="directory"),
        "is a directory, not a file": host_file(path=tmp_path / "directory", content="x"),
        "is a file, not a directory": host_file(path=target, state="directory"),
        "is something else, not a file": host_file(path=tmp_path / "pipe", content="x"),
        f"{target} is not a directory": host_file(path=target / "x", content="x", create_parents=True),
    }
    for options in (["--check"], []):
        run = ansible.run(list(in_the_way.values()), *options)
        for expected, message in zip(in_the_way, run.messages, strict=True):
            assert expected in message
    missing = [
        host_file(path=tmp_path / "no" / "file", content="x"),
        host_file(path=tmp_path / "no" / "directory", state="directory", create_parents=False),
    ]
    run = ansible.run(missing)
    assert all(f"{tmp_path}/no is not there" in message for message in run.messages), run.messages
    assert len(run.messages) == 2
    assert sorted(os.listdir(tmp_path)) == ["ansible", "directory", "link", "pipe", "target"]
    assert target.read_text() == "mine"


def test_no_more_than_ours_is_removed(ansible: Any, plugin: Any, tmp_path: Path) -> None:
    dangerous = ["/", "/mnt", "/mnt/user", "/mnt/user/appdata", "/boot", "/boot/config/plugins", "/root"]
    dangerous += ["/boot/config", "/usr/local", "/etc", "/home/somebody", "/var/lib/docker", "//etc///"]
    there = [path for path in dangerous if Path(path).is_dir()]
    tasks = [host_file(path=path, state="absent") for path in there]
    mounted = next(
        line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if "/sys/" in line
    )
    tasks.append(host_file(path=mounted, state="absent"))
    run = ansible.run(tasks, "--check")
    assert len(run.messages) == len(tasks)
    assert all("too much may be in it" in message for message in run.messages[:-1])
    assert f"something is mounted at {mounted}" in run.messages[-1]
    # Those that are not on this machine.
    action = object.__new__(plugin("action/host_file").ActionModule)
    from remote_paths import Found

    for path in dangerous:
        action._place = type("Place", (), {"path": path})()
        with pytest.raises(Exception, match="too much may be in it"):
            action._refuse_too_much(Found("directory", "directory"))
    for path in ("/mnt/user/appdata/smtp-relay", "/srv/smtp/relay", "/boot/config/plugins/x"):
        action._place = type("Place", (), {"path": path})()
        action._refuse_too_much(Found("directory", "directory"))


def test_sources(ansible: Any, tmp_path: Path) -> None:
    """A relative source lies in the role's files; a vaulted one is decrypted."""
    role = ansible.directory / "roles" / "icon"
    (role / "files").mkdir(parents=True)
    (role / "tasks").mkdir()
    (role / "files" / "icon.png").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    (role / "tasks" / "main.yml").write_text(f"- host_file: {{path: {tmp_path}/icon, src: icon.png}}\n")
    password = ansible.directory / "password"
    password.write_text("vault password")
    ansible.environment["ANSIBLE_VAULT_PASSWORD_FILE"] = str(password)
    vaulted = ansible.directory / "vaulted"
    vaulted.write_text("a secret")
    ansible.command("ansible-vault", "encrypt", str(vaulted))
    tasks = [
        {"include_role": {"name": "icon"}},
        host_file(path=tmp_path / "plain", src=str(vaulted), sensitive=True),
    ]
    ansible.run(tasks).succeeded()
    assert (tmp_path / "icon").read_bytes() == b"\x89PNG\r\n\x1a\n\0"
    assert (tmp_path / "plain").read_text() == "a secret"


def test_validation_and_what_it_says_of_secrets(ansible: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    tasks = [
        host_file(path=path, content="good", validate="grep good %s"),
        host_file(path=path, content="bad", validate="cat %s; false"),
        host_file(path=path, content=SECRET, validate="cat %s; false", sensitive=True),
        {**host_file(path=path, content=SECRET, validate="cat %s; false"), "no_log": True},
    ]
    run = ansible.run(tasks, "-vvv", "--diff")
    assert path.read_text() == "good"
    assert "because the new content is not valid: bad." in run.messages[0]
    # Ansible's own error line is shown even where no_log hides the result.
    assert run.output.count("It is sensitive, so what 'cat %s; false' said of it is not shown.") >= 2
    assert SECRET not in run.output
    assert hashlib.sha256(SECRET.encode()).hexdigest() not in run.output


def test_become(ansible: Any, tmp_path: Path) -> None:
    """What is written belongs to the user that Ansible becomes; su cannot pass content on, and is refused."""
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents[: list(tmp_path.parents).index(Path(tempfile.gettempdir()))]:
        parent.chmod(0o755)
    tasks = [
        {**host_file(path=tmp_path / "made" / "file", content="x", create_parents=True), "become": True},
        {**host_file(path=tmp_path / "made", state="absent"), "become": True, "become_method": "su"},
    ]
    run = ansible.run(tasks, become_user="nobody")
    assert (tmp_path / "made" / "file").owner() == "nobody"
    assert run.messages == [
        f"become_method 'su' cannot pass content on to {tmp_path}/made. "
        "Use become_method: sudo, or log in as the user that may write there."
    ]
