"""Blobs: replaced as a whole or not at all, whoever else is at work, whatever dies."""

import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from relay_app.errors import StoreError
from relay_app.storage.blobs import StoredBlobs
from relay_app.storage.schema import blob
from relay_app.storage.store import Store

NAME = "me@outlook.com"


@pytest.fixture
def blobs(store: Store) -> StoredBlobs:
    return StoredBlobs(store)


def test_gives_back_what_was_stored(blobs: StoredBlobs) -> None:
    assert blobs.load(NAME) is None
    blobs.store(NAME, b"one")
    blobs.store(NAME, b"\0two\xff")
    assert blobs.load(NAME) == b"\0two\xff"


def test_knows_when_it_was_changed(blobs: StoredBlobs, store: Store) -> None:
    blobs.store(NAME, b"one")
    with store.reading() as connection:
        first = connection.execute(select(blob.c.updated)).scalar_one()
    blobs.store(NAME, b"two")
    with store.reading() as connection:
        assert connection.execute(select(blob.c.updated)).scalar_one() >= first


@pytest.mark.parametrize("name", ["", "../x", "\u00fc'; DROP TABLE blob; --", "a%_", "x" * 1000])
def test_any_name(blobs: StoredBlobs, name: str) -> None:
    blobs.store(name, b"data")
    blobs.store("other", b"other")
    assert blobs.load(name) == b"data"
    assert blobs.names() == sorted([name, "other"])
    blobs.remove(name)
    assert blobs.names() == ["other"]


def test_names_and_remove(blobs: StoredBlobs) -> None:
    assert blobs.names() == []
    for name in ("b@example.com", "B@example.com", "a@example.com"):
        blobs.store(name, b"data")
    assert blobs.names() == ["B@example.com", "a@example.com", "b@example.com"]
    blobs.remove("a@example.com")
    blobs.remove("never@example.com")
    assert blobs.names() == ["B@example.com", "b@example.com"]


def test_stamp_tells_versions_apart(blobs: StoredBlobs) -> None:
    assert blobs.stamp(NAME) is None
    stamps = [blobs.store(NAME, b"same"), blobs.store(NAME, b"same")]
    assert blobs.stamp(NAME) == stamps[1]
    blobs.remove(NAME)
    assert blobs.stamp(NAME) is None
    stamps.append(blobs.store(NAME, b"same"))  # not a version that was there before
    assert len(set(stamps)) == 3


def test_store_if_unchanged_does_not_overwrite_a_newer_one(blobs: StoredBlobs) -> None:
    seen = blobs.store_if_unchanged(NAME, b"mine", None)
    assert seen is not None
    assert blobs.stamp(NAME) == seen
    assert blobs.store_if_unchanged(NAME, b"mine too", None) is None
    newer = blobs.store(NAME, b"theirs")
    assert blobs.store_if_unchanged(NAME, b"mine again", seen) is None
    assert blobs.load(NAME) == b"theirs"
    newest = blobs.store_if_unchanged(NAME, b"mine after theirs", newer)
    assert newest == blobs.stamp(NAME)
    assert blobs.load(NAME) == b"mine after theirs"


def test_store_if_unchanged_does_not_bring_back_what_was_removed(blobs: StoredBlobs) -> None:
    seen = blobs.store(NAME, b"mine")
    blobs.remove(NAME)
    assert blobs.store_if_unchanged(NAME, b"mine", seen) is None
    assert blobs.names() == []


@pytest.mark.parametrize("there", [True, False])
def test_of_many_that_saw_the_same_one_stores(blobs: StoredBlobs, there: bool) -> None:
    seen = blobs.store(NAME, b"seen") if there else None
    stamps: list[str | None] = []
    start = threading.Barrier(6)

    def store(number: int) -> None:
        start.wait()
        stamps.append(blobs.store_if_unchanged(NAME, b"%d" % number, seen))

    threads = [threading.Thread(target=store, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [stamp for stamp in stamps if stamp]
    assert len(stamps) == 6
    assert blobs.stamp(NAME) == winner


def test_a_store_that_is_out_of_order(blobs: StoredBlobs, store: Store) -> None:
    with store.writing() as connection:
        connection.exec_driver_sql("DROP TABLE blob")
    with pytest.raises(StoreError):
        blobs.load(NAME)
    with pytest.raises(StoreError):
        blobs.store(NAME, b"data")


COUNTER = """
import sys
from pathlib import Path
from relay_app.storage.blobs import StoredBlobs
from relay_app.storage.store import Store

store = Store.open(sys.argv[1], Path(sys.argv[2]))
blobs = StoredBlobs(store)
print("ready", flush=True)
sys.stdin.read(1)
for _ in range(50):
    while True:
        seen = blobs.stamp("count")
        value = int(blobs.load("count"))
        if blobs.store_if_unchanged("count", b"%d" % (value + 1), seen):
            break
store.close()
"""


def test_two_processes_lose_nothing(blobs: StoredBlobs, url: str, tmp_path: Path) -> None:
    blobs.store("count", b"0")
    command = [sys.executable, "-c", COUNTER, url, str(tmp_path)]
    started = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    for process in started:
        process.communicate(b"x", timeout=300)
        assert process.returncode == 0
    assert blobs.load("count") == b"100"


# Writers that are killed, one after the other: each after so many instructions of SQLite's machine, until one
# has time to finish; and at any moment, some time after having stored `count` values.
KILLED = """
import os, signal, sys
from pathlib import Path
from sqlalchemy import event
from relay_app.storage.blobs import StoredBlobs
from relay_app.storage.store import Store

url, directory = sys.argv[1], Path(sys.argv[2])
values = (b"a" * 3000, b"b" * 90000)

def look():
    store = Store.open(url, directory)
    try:
        assert StoredBlobs(store).load("me") in values
        StoredBlobs(store).store("me", values[0])  # the dead one holds up nobody
    finally:
        store.close()

def child(step, pipe):
    store = Store.open(url, directory)
    left = step
    def die():
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    if step is not None:
        event.listen(store._engine, "checkout", lambda raw, *_: raw.set_progress_handler(die, 1))
    while True:
        StoredBlobs(store).store("me", values[1])
        os.write(pipe, b".")
        if step is not None:
            os._exit(0)

def run(step, count=0):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        child(step, write)
    os.close(write)
    if step is None:
        for _ in range(count):
            assert os.read(read, 1)
        os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    os.close(read)
    look()
    return os.WIFSIGNALED(status)

store = Store.open(url, directory)
StoredBlobs(store).store("me", values[0])
store.close()
step = 0
while not url and run(step):
    step += 1
for count in range(8):
    assert run(None, count)
print(step)
"""


def test_kill_9_in_the_middle_of_a_store_loses_neither_value(url: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, url, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert url or int(done.stdout) > 20  # it was killed at that many points of one store


def test_a_server_that_is_killed_keeps_what_was_stored(postgres: Any, tmp_path: Path) -> None:
    store = Store.open(postgres.new_database(), tmp_path)
    blobs = StoredBlobs(store)
    stamp = blobs.store(NAME, b"data")
    postgres.stop()
    postgres.start()
    assert blobs.load(NAME) == b"data"
    assert blobs.stamp(NAME) == stamp
    store.close()


def test_rewrite(blobs: StoredBlobs, store: Store) -> None:
    StoredBlobs(store, "alerts").store("a", b"of another room")
    before = {name: blobs.store(name, name.encode()) for name in ("a", "b", "c")}

    def change(found: Mapping[str, bytes]) -> Mapping[str, bytes]:
        assert found == {"a": b"a", "b": b"b", "c": b"c"}
        return {"a": b"new a", "c": b"new c"}

    blobs.rewrite(change)
    assert {name: blobs.load(name) for name in blobs.names()} == {"a": b"new a", "b": b"b", "c": b"new c"}
    assert [name for name in before if blobs.stamp(name) == before[name]] == ["b"]
    assert StoredBlobs(store, "alerts").load("a") == b"of another room"


def test_a_rewrite_that_fails_changes_nothing(blobs: StoredBlobs) -> None:
    before = {name: blobs.store(name, name.encode()) for name in ("a", "b")}

    def refuse(_: Mapping[str, bytes]) -> Mapping[str, bytes]:
        raise RuntimeError("no")

    def half(_: Mapping[str, bytes]) -> Mapping[str, bytes]:
        return {"a": b"new", "b": None}  # type: ignore[dict-item]

    with pytest.raises(RuntimeError):
        blobs.rewrite(refuse)
    with pytest.raises(IntegrityError):
        blobs.rewrite(half)
    assert {name: blobs.stamp(name) for name in before} == before


def test_who_stores_during_a_rewrite_does_so_after_it(blobs: StoredBlobs, url: str, tmp_path: Path) -> None:
    blobs.store(NAME, b"seen")
    other = Store.open(url, tmp_path)
    store = threading.Thread(target=lambda: StoredBlobs(other).store(NAME, b"theirs"))

    def change(_: Mapping[str, bytes]) -> Mapping[str, bytes]:
        store.start()
        store.join(0.2)  # would be time enough, if it did not have to wait
        return {NAME: b"ours"}

    blobs.rewrite(change)
    store.join()
    other.close()
    assert blobs.load(NAME) == b"theirs"


def test_rooms_do_not_meet(store: Store) -> None:
    vault, alerts = StoredBlobs(store), StoredBlobs(store, "alerts")
    stamp = vault.store("me", b"vault")
    assert (alerts.load("me"), alerts.names(), alerts.stamp("me")) == (None, [], None)
    alerts.store("me", b"alerts")
    alerts.remove("me")
    assert (vault.load("me"), vault.names(), vault.stamp("me")) == (b"vault", ["me"], stamp)
