"""The vault: encrypted, atomic, private, and clear about what is wrong."""

import base64
import fcntl
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from relay_app.errors import VaultError
from relay_app.identity.vault import Vault, create_key_file, key_from

NAME = "me@outlook.com"


@pytest.fixture
def key() -> bytes:
    return Fernet.generate_key()


@pytest.fixture
def vault(tmp_path: Path, key: bytes) -> Vault:
    return Vault(tmp_path / "vault", key)


@pytest.fixture
def unwritable() -> Iterator[Path]:
    """A directory that this process may not write to, root or not."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o500)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield directory
    finally:
        if root:
            os.seteuid(0)
        directory.chmod(0o700)
        shutil.rmtree(directory)


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.name != ".vault-lock")


def test_gives_back_what_was_stored(vault: Vault) -> None:
    assert vault.load(NAME) is None
    vault.store(NAME, b"one")
    vault.store(NAME, b"two")
    assert vault.load(NAME) == b"two"


def test_is_encrypted_with_fernet(vault: Vault, tmp_path: Path, key: bytes) -> None:
    secret = os.urandom(20).hex().encode()
    vault.store(NAME, secret)
    on_disk = (tmp_path / "vault" / f"{NAME}.vault").read_bytes()
    assert secret not in on_disk
    assert Fernet(key).decrypt(on_disk) == secret


def test_is_private_whatever_the_umask(tmp_path: Path, key: bytes) -> None:
    before = os.umask(0)
    try:
        Vault(tmp_path / "vault", key).store(NAME, b"one")
    finally:
        os.umask(before)
    assert (tmp_path / "vault").stat().st_mode & 0o777 == 0o700
    for path in (tmp_path / "vault").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600


def test_an_open_directory_is_closed(tmp_path: Path, key: bytes) -> None:
    (tmp_path / "vault").mkdir()
    (tmp_path / "vault").chmod(0o755)
    Vault(tmp_path / "vault", key).check()
    assert (tmp_path / "vault").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "name", ["me@outlook.com", "../../etc/passwd", ".hidden", "..", "ü+x/y%z@example.com", "*"]
)
def test_any_name_is_one_file_in_the_directory(vault: Vault, tmp_path: Path, name: str) -> None:
    vault.store(name, b"data")
    assert vault.load(name) == b"data"
    assert vault.names() == [name]
    assert len(files(tmp_path / "vault")) == 1
    assert os.listdir(tmp_path) == ["vault"]


def test_names_and_remove(vault: Vault) -> None:
    assert vault.names() == []
    vault.store("b@example.com", b"1")
    vault.store("a@example.com", b"2")
    assert vault.names() == ["a@example.com", "b@example.com"]
    vault.remove("a@example.com")
    vault.remove("never@example.com")
    assert vault.names() == ["b@example.com"]


def test_stamp_tells_versions_apart(vault: Vault) -> None:
    assert vault.stamp(NAME) is None
    first = vault.store(NAME, b"same")
    assert vault.stamp(NAME) == first
    second = vault.store(NAME, b"same")
    assert vault.stamp(NAME) == second
    assert first != second


def test_store_if_unchanged_does_not_overwrite_a_newer_entry(vault: Vault) -> None:
    seen = vault.store_if_unchanged(NAME, b"mine", None)
    assert seen is not None
    newer = vault.store(NAME, b"theirs")
    assert vault.store_if_unchanged(NAME, b"mine again", seen) is None
    assert vault.load(NAME) == b"theirs"
    assert vault.store_if_unchanged(NAME, b"mine after theirs", newer) is not None
    assert vault.load(NAME) == b"mine after theirs"


def test_wrong_key_is_told_and_the_file_left_alone(vault: Vault, tmp_path: Path) -> None:
    vault.store(NAME, b"data")
    path = tmp_path / "vault" / f"{NAME}.vault"
    before = path.read_bytes()
    with pytest.raises(VaultError, match="written with another key") as caught:
        Vault(tmp_path / "vault", Fernet.generate_key()).load(NAME)
    assert str(path) in str(caught.value)
    assert "delete the file and sign in again" in str(caught.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize("size", [0, 1, 40, 99])
def test_a_truncated_file_is_told_and_left_alone(vault: Vault, tmp_path: Path, size: int) -> None:
    vault.store(NAME, b"data")
    path = tmp_path / "vault" / f"{NAME}.vault"
    cut = path.read_bytes()[:size]
    path.write_bytes(cut)
    with pytest.raises(VaultError, match="damaged") as caught:
        vault.load(NAME)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == cut


def test_a_file_cut_at_a_base64_boundary_is_told(vault: Vault, tmp_path: Path) -> None:
    vault.store(NAME, b"data" * 100)
    path = tmp_path / "vault" / f"{NAME}.vault"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(VaultError, match="cut short"):
        vault.load(NAME)


def test_a_file_that_cannot_be_read_is_told(vault: Vault, tmp_path: Path) -> None:
    vault.check()
    (tmp_path / "vault" / f"{NAME}.vault").mkdir()
    with pytest.raises(VaultError, match=r"Cannot read the vault file .*directory"):
        vault.load(NAME)


def test_check_opens_every_entry_and_tells_all(vault: Vault, tmp_path: Path) -> None:
    vault.check()
    vault.store("good@example.com", b"data")
    vault.check()
    for name in ("bad1@example.com", "bad2@example.com"):
        (tmp_path / "vault" / f"{name}.vault").write_bytes(b"rubbish")
    with pytest.raises(VaultError) as caught:
        vault.check()
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert "bad1@example.com" in lines[0]
    assert "bad2@example.com" in lines[1]


def test_check_removes_what_a_killed_writer_left(vault: Vault, tmp_path: Path) -> None:
    vault.store(NAME, b"data")
    (tmp_path / "vault" / ".tmp-abc").write_bytes(b"half")
    vault.check()
    assert files(tmp_path / "vault") == [f"{NAME}.vault"]


def test_no_write_permission_is_told(unwritable: Path, key: bytes) -> None:
    with pytest.raises(VaultError, match=r"Cannot write .*Permission denied.*relay's user may write"):
        Vault(unwritable / "vault", key).check()
    with pytest.raises(VaultError, match="Permission denied"):
        Vault(unwritable / "vault", key).store(NAME, b"data")
    with pytest.raises(VaultError, match="Permission denied"):
        create_key_file(unwritable / "vault.key")


def test_a_full_disk_keeps_the_old_value_and_leaves_nothing_behind(vault: Vault, tmp_path: Path) -> None:
    vault.store(NAME, b"old")
    before = files(tmp_path / "vault")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The file system's way of saying "no more" that needs no privilege: EFBIG instead of ENOSPC.
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, limits[1]))
    try:
        with pytest.raises(VaultError, match=r"Cannot write .*untouched.*disk has room"):
            vault.store(NAME, os.urandom(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert vault.load(NAME) == b"old"
    assert files(tmp_path / "vault") == before


KILLED_WRITER = """
import os, random, signal, sys
from pathlib import Path
from relay_app.identity import vault as module

directory, key, seed = Path(sys.argv[1]), sys.argv[2].encode(), random.Random(sys.argv[3])
vault = module.Vault(directory, key)
values = [b"a" * 3000, b"b" * 9000]
vault.store("me", values[0])

def child(step, pipe):
    # Die at the given system call of the store, before or after it; or (step None) be killed from outside.
    if step is not None:
        count = 0
        def deadly(call):
            def wrapped(*args, **kwargs):
                nonlocal count
                for after in (False, True):
                    if count == step:
                        os.kill(os.getpid(), signal.SIGKILL)
                    count += 1
                    if not after:
                        result = call(*args, **kwargs)
                return result
            return wrapped
        for name in ("open", "fsync", "replace"):
            setattr(os, name, deadly(getattr(os, name)))
    while True:
        for value in values:
            vault.store("me", value)
            os.write(pipe, b".")
        if step is not None:
            os._exit(0)  # fewer system calls than that

def run(step):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        child(step, write)
    os.close(write)
    if step is None:
        for _ in range(seed.randrange(1, 6)):
            os.read(read, 1)
        os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    os.close(read)
    assert vault.load("me") in values, step
    return os.WIFSIGNALED(status)

step = 0
while run(step):
    step += 1
for _ in range(30):
    assert run(None)
vault.check()
assert [p.name for p in directory.iterdir() if p.name.startswith(".tmp")] == []
print(step)
"""


def test_kill_9_in_the_middle_of_a_store_loses_neither_value(tmp_path: Path, key: bytes) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED_WRITER, str(tmp_path / "vault"), key.decode(), "seed"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # In each of two stores, before and after: open lock, open file, fsync, rename, open directory, fsync.
    assert int(done.stdout) == 24


def test_writers_take_turns_and_a_dead_one_holds_up_nobody(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault.check()
    script = (
        "import sys; from pathlib import Path; from relay_app.identity.vault import _turn\n"
        "with _turn(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "vault")]
    waited = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        flock = fcntl.flock

        def held_by_another(descriptor: int, operation: int) -> None:
            with pytest.raises(BlockingIOError):
                flock(descriptor, operation | fcntl.LOCK_NB)
            holder.kill()
            flock(descriptor, operation)
            waited.append(operation)

        monkeypatch.setattr(fcntl, "flock", held_by_another)
        vault.store(NAME, b"data")
    assert waited == [fcntl.LOCK_EX]
    assert vault.load(NAME) == b"data"


def test_key_from_takes_a_fernet_key(key: bytes) -> None:
    assert key_from(f"  {key.decode()}\n") == key


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "0 characters"),
        ("hunter2", "7 characters"),
        (base64.b64encode(b"\xff" * 32).decode(), r"other base64 alphabet"),
        ("x" * 44, "44 characters"),
        ("\u00e9" * 43 + "=", "44 characters"),
        (os.urandom(32).hex(), "64 characters"),
    ],
)
def test_key_from_tells_how_to_make_one(text: str, reason: str) -> None:
    with pytest.raises(VaultError, match=reason) as caught:
        key_from(text)
    assert "openssl rand -base64 32 | tr '+/' '-_'" in str(caught.value)
    assert not text or text not in str(caught.value)


def test_the_command_in_the_message_makes_a_key() -> None:
    made = subprocess.run(
        ["sh", "-c", "openssl rand -base64 32 | tr '+/' '-_'"], capture_output=True, text=True, check=True
    )
    assert key_from(made.stdout)


def test_create_key_file_makes_a_private_file_once(tmp_path: Path) -> None:
    path = tmp_path / "data" / "vault.key"
    key = create_key_file(path)
    assert key_from(path.read_text()) == key
    assert path.stat().st_mode & 0o777 == 0o600
    assert create_key_file(path) == key
    assert files(path.parent) == ["vault.key"]


def test_create_key_file_never_overwrites_what_is_not_a_key(tmp_path: Path) -> None:
    path = tmp_path / "vault.key"
    path.write_text("something else\n")
    with pytest.raises(VaultError, match=r"vault\.key: .*not a Fernet key"):
        create_key_file(path)
    assert path.read_text() == "something else\n"
