"""The vault: encrypted, atomic, and clear about what is wrong."""

import base64
import fcntl
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from relay_app.errors import StoreError, VaultError
from relay_app.identity.vault import (
    Rekeyed,
    Vault,
    create_key_file,
    key_from,
    read_key_file,
    replace_key_file,
)
from relay_app.storage.blobs import StoredBlobs
from relay_app.storage.store import Store

NAME = "me@outlook.com"


class FakeBlobs:
    """Blobs in memory. With `error` set, the storage cannot be used."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}
        self.stamps: dict[str, str] = {}
        self.error: StoreError | None = None
        self._changes = 0

    def load(self, name: str) -> bytes | None:
        self._answer()
        return self.data.get(name)

    def store(self, name: str, data: bytes) -> str:
        self._answer()
        self._changes += 1
        self.data[name] = data
        self.stamps[name] = f"version {self._changes}"
        return self.stamps[name]

    def store_if_unchanged(self, name: str, data: bytes, seen: str | None) -> str | None:
        return self.store(name, data) if self.stamp(name) == seen else None

    def rewrite(self, change: Callable[[Mapping[str, bytes]], Mapping[str, bytes]]) -> None:
        self._answer()
        for name, data in change(dict(self.data)).items():
            self.store(name, data)

    def remove(self, name: str) -> None:
        self._answer()
        self.data.pop(name, None)
        self.stamps.pop(name, None)

    def names(self) -> list[str]:
        self._answer()
        return sorted(self.data)

    def stamp(self, name: str) -> str | None:
        self._answer()
        return self.stamps.get(name)

    def _answer(self) -> None:
        if self.error:
            raise self.error


@pytest.fixture
def key() -> bytes:
    return Fernet.generate_key()


@pytest.fixture
def blobs() -> FakeBlobs:
    return FakeBlobs()


@pytest.fixture
def vault(blobs: FakeBlobs, key: bytes) -> Vault:
    return Vault(blobs, key)


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


def test_is_encrypted_with_fernet(vault: Vault, blobs: FakeBlobs, key: bytes) -> None:
    secret = os.urandom(20).hex().encode()
    vault.store(NAME, secret)
    vault.store_if_unchanged("other", secret, None)
    for stored in blobs.data.values():
        assert secret not in stored
        assert Fernet(key).decrypt(stored) == secret


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
    vault.remove(NAME)
    assert vault.stamp(NAME) is None


def test_store_if_unchanged_does_not_overwrite_a_newer_entry(vault: Vault) -> None:
    seen = vault.store_if_unchanged(NAME, b"mine", None)
    assert seen is not None
    newer = vault.store(NAME, b"theirs")
    assert vault.store_if_unchanged(NAME, b"mine again", seen) is None
    assert vault.load(NAME) == b"theirs"
    assert vault.store_if_unchanged(NAME, b"mine after theirs", newer) is not None
    assert vault.load(NAME) == b"mine after theirs"


def test_wrong_key_is_told_and_the_entry_left_alone(vault: Vault, blobs: FakeBlobs) -> None:
    vault.store(NAME, b"data")
    before = dict(blobs.data)
    with pytest.raises(VaultError, match="written with another key") as caught:
        Vault(blobs, Fernet.generate_key()).load(NAME)
    assert f"vault's entry {NAME}" in str(caught.value)
    assert f"smtp-relay login {NAME}" in str(caught.value)
    assert blobs.data == before


@pytest.mark.parametrize("size", [0, 1, 40, 99])
def test_a_truncated_entry_is_told_and_left_alone(vault: Vault, blobs: FakeBlobs, size: int) -> None:
    vault.store(NAME, b"data")
    cut = blobs.data[NAME] = blobs.data[NAME][:size]
    with pytest.raises(VaultError, match="damaged") as caught:
        vault.load(NAME)
    assert NAME in str(caught.value)
    assert blobs.data[NAME] == cut


def test_an_entry_cut_at_a_base64_boundary_is_told(vault: Vault, blobs: FakeBlobs) -> None:
    vault.store(NAME, b"data" * 100)
    blobs.data[NAME] = blobs.data[NAME][:200]
    with pytest.raises(VaultError, match="cut short"):
        vault.load(NAME)


def test_an_altered_entry_is_told(vault: Vault, blobs: FakeBlobs) -> None:
    vault.store(NAME, b"data")
    token = bytearray(base64.urlsafe_b64decode(blobs.data[NAME]))
    token[30] ^= 1
    blobs.data[NAME] = base64.urlsafe_b64encode(token)
    with pytest.raises(VaultError, match="has been altered"):
        vault.load(NAME)


def test_check_opens_every_entry_and_tells_all(vault: Vault, blobs: FakeBlobs) -> None:
    vault.check()
    vault.store("good@example.com", b"data")
    vault.check()
    for name in ("bad1@example.com", "bad2@example.com"):
        blobs.data[name] = b"rubbish"
    with pytest.raises(VaultError) as caught:
        vault.check()
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert "bad1@example.com" in lines[0]
    assert "bad2@example.com" in lines[1]


def test_a_damaged_entry_can_be_replaced(vault: Vault, blobs: FakeBlobs) -> None:
    vault.store(NAME, b"old")
    blobs.data[NAME] = b"rubbish"
    vault.store(NAME, b"new")
    assert vault.load(NAME) == b"new"


# Another key.


def test_rekey(vault: Vault, blobs: FakeBlobs) -> None:
    key = Fernet.generate_key()
    seen = {name: vault.store(name, name.encode()) for name in ("a@example.com", "b@example.com")}
    assert vault.rekey(key) == Rekeyed(changed=2, kept=0)
    opened = {name: Fernet(key).decrypt(token).decode() for name, token in blobs.data.items()}
    assert opened == {name: name for name in seen}
    assert not any(vault.stamp(name) == seen[name] for name in seen)
    vault.store("c@example.com", b"new")  # with the new key, too
    Vault(blobs, key).check()


def test_rekey_goes_on_where_it_was_interrupted(vault: Vault, blobs: FakeBlobs) -> None:
    """Whichever of the two keys is the configured one by then."""
    key = Fernet.generate_key()
    stamp = Vault(blobs, key).store("a@example.com", b"has the new key")
    vault.store("b@example.com", b"has the old one")
    assert vault.rekey(key) == Rekeyed(changed=1, kept=1)
    assert vault.stamp("a@example.com") == stamp
    stamps = dict(blobs.stamps)
    for configured in (key, Fernet.generate_key()):
        assert Vault(blobs, configured).rekey(key) == Rekeyed(changed=0, kept=2)
    assert blobs.stamps == stamps
    Vault(blobs, key).check()


def test_rekey_of_an_empty_vault(vault: Vault) -> None:
    assert vault.rekey(Fernet.generate_key()) == Rekeyed(changed=0, kept=0)


def test_rekey_changes_nothing_if_neither_key_opens_an_entry(vault: Vault, blobs: FakeBlobs) -> None:
    vault.store("a@example.com", b"data")
    Vault(blobs, Fernet.generate_key()).store("b@example.com", b"of a third key")
    blobs.data["c@example.com"] = b"rubbish"
    before = dict(blobs.data)
    with pytest.raises(VaultError) as caught:
        vault.rekey(Fernet.generate_key())
    third, damaged = str(caught.value).splitlines()
    assert "entry b@example.com: it was written with another key" in third
    assert "Nothing was changed" in third
    assert "smtp-relay login b@example.com" in third
    assert "entry c@example.com: it is damaged" in damaged
    assert blobs.data == before
    assert vault.load("a@example.com") == b"data"  # the key is still the old one


def test_rekey_of_a_storage_that_cannot_be_used(vault: Vault, blobs: FakeBlobs) -> None:
    blobs.error = StoreError("Cannot use the database x: its disk is full.")
    with pytest.raises(VaultError, match=r"Cannot change the vault's key\. .*full\. Then run this again"):
        vault.rekey(Fernet.generate_key())


def test_storage_that_cannot_be_used_is_told(vault: Vault, blobs: FakeBlobs) -> None:
    vault.store(NAME, b"data")
    blobs.error = StoreError("Cannot use the database x: its disk is full.")
    with pytest.raises(VaultError, match=rf"Cannot read the vault's entry {NAME}\. .*disk is full"):
        vault.load(NAME)
    with pytest.raises(VaultError, match=rf"Cannot read the vault's entry {NAME}\. .*disk is full"):
        vault.stamp(NAME)
    with pytest.raises(VaultError, match=r"Cannot read the vault\. .*disk is full"):
        vault.check()
    changes = (
        lambda: vault.store(NAME, b"new"),
        lambda: vault.store_if_unchanged(NAME, b"new", None),
        lambda: vault.remove(NAME),
    )
    for change in changes:
        with pytest.raises(
            VaultError, match=rf"Cannot write the vault's entry {NAME}\. .*untouched\. .*full"
        ):
            change()
    blobs.error = None
    assert vault.load(NAME) == b"data"


# With the real storage below.


def test_a_full_disk_keeps_the_old_value(tmp_path: Path, key: bytes) -> None:
    store = Store.open("", tmp_path)
    vault = Vault(StoredBlobs(store), key)
    stamp = vault.store(NAME, b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The file system's way of saying "no more" that needs no privilege: EFBIG instead of ENOSPC.
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(VaultError, match=r"Cannot write .*untouched.*has room"):
            vault.store(NAME, os.urandom(200_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert vault.load(NAME) == b"old"
    assert vault.stamp(NAME) == stamp
    store.close()


SIGN_IN = """
import sys
from pathlib import Path
from relay_app.identity.vault import Vault
from relay_app.storage.blobs import StoredBlobs
from relay_app.storage.store import Store

store = Store.open("", Path(sys.argv[1]))
vault = Vault(StoredBlobs(store), sys.argv[2].encode())
print(vault.load("me@outlook.com").decode())
vault.store("me@outlook.com", b"theirs")
store.close()
"""


def test_a_sign_in_by_another_process_is_not_overwritten(tmp_path: Path, key: bytes) -> None:
    store = Store.open("", tmp_path)
    vault = Vault(StoredBlobs(store), key)
    seen = vault.store(NAME, b"ours")
    command = [sys.executable, "-c", SIGN_IN, str(tmp_path), key.decode()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout == "ours\n"
    assert vault.stamp(NAME) != seen
    assert vault.store_if_unchanged(NAME, b"ours, renewed", seen) is None
    assert vault.load(NAME) == b"theirs"
    store.close()


# A child gives the vault another key, and is killed after so many steps of SQLite's machine; each time one
# step later, until one has time to finish. After each, all entries are under one of the two keys.
KILLED = """
import os, signal, sys
from pathlib import Path
from sqlalchemy import event
from relay_app.errors import VaultError
from relay_app.identity.vault import Rekeyed, Vault
from relay_app.storage.blobs import StoredBlobs
from relay_app.storage.store import Store

directory, old, new = Path(sys.argv[1]), sys.argv[2].encode(), sys.argv[3].encode()
names = [f"{number}@example.com" for number in range(3)]

def child(step):
    store = Store.open("", directory)
    left = step
    def die():
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    event.listen(store._engine, "checkout", lambda raw, *_: raw.set_progress_handler(die, 1))
    Vault(StoredBlobs(store), old).rekey(new)
    os._exit(0)

def changed():
    'Give all entries the old key again, and tell how many had the new one.'
    store = Store.open("", directory)
    try:
        vault = Vault(StoredBlobs(store), new)
        assert vault.names() == names
        done = vault.rekey(old)
        vault.check()
        return done.changed
    finally:
        store.close()

store = Store.open("", directory)
for name in names:
    Vault(StoredBlobs(store), old).store(name, b"data" * 2000)
store.close()
step = 0
while True:
    pid = os.fork()
    if pid == 0:
        child(step)
    killed = os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    found = changed()
    assert found in (0, len(names)), (step, found)
    if not killed:
        assert found == len(names)
        break
    step += 1
print(step)
"""


def test_kill_9_in_the_middle_of_a_rekey_leaves_all_entries_under_one_key(tmp_path: Path, key: bytes) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path), key.decode(), Fernet.generate_key().decode()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20  # it was killed at that many points


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
        (bytes(range(32)).hex(), "64 characters"),
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


def test_create_key_file_without_permission(unwritable: Path) -> None:
    with pytest.raises(VaultError, match=r"Cannot write .*Permission denied.*relay's user may write"):
        create_key_file(unwritable / "vault.key")


def test_create_key_file_on_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(VaultError, match=r"Cannot write .*untouched.*disk has room"):
            create_key_file(tmp_path / "vault.key")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files(tmp_path) == []


def test_of_two_that_make_a_key_file_one_does(tmp_path: Path) -> None:
    """The second waits for the first (flock), and a dead one holds up nobody."""
    path = tmp_path / "vault.key"
    script = (
        "import sys; from pathlib import Path; from relay_app.identity.vault import _turn\n"
        "with _turn(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    made: list[bytes] = []
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        other = threading.Thread(target=lambda: made.append(create_key_file(path)))
        other.start()
        with pytest.raises(BlockingIOError), (tmp_path / ".vault-lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert not path.exists()
        holder.kill()
    other.join()
    assert made == [key_from(path.read_text())]


def test_read_key_file(tmp_path: Path, key: bytes) -> None:
    path = tmp_path / "new.key"
    with pytest.raises(VaultError, match=rf"Cannot read {path}: No such file or directory\. Check the path"):
        read_key_file(path)
    path.write_bytes(b"\xff" * 44)
    with pytest.raises(VaultError, match=rf"{path}: .*not a Fernet key"):
        read_key_file(path)
    path.write_bytes(key + b"\n")
    assert read_key_file(path) == key


def test_replace_key_file(tmp_path: Path, key: bytes) -> None:
    path = tmp_path / "vault.key"
    create_key_file(path)
    replace_key_file(path, key)
    assert read_key_file(path) == key
    assert path.stat().st_mode & 0o777 == 0o600
    assert files(tmp_path) == ["vault.key"]


def test_replace_key_file_on_a_full_disk_leaves_the_old_one(tmp_path: Path, key: bytes) -> None:
    path = tmp_path / "vault.key"
    old = create_key_file(path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(VaultError, match=r"Cannot write .*untouched.*disk has room"):
            replace_key_file(path, key)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert read_key_file(path) == old
    assert files(tmp_path) == ["vault.key"]


def test_create_key_file_never_overwrites_what_is_not_a_key(tmp_path: Path) -> None:
    path = tmp_path / "vault.key"
    path.write_text("something else\n")
    with pytest.raises(VaultError, match=r"vault\.key: .*not a Fernet key"):
        create_key_file(path)
    assert path.read_text() == "something else\n"
