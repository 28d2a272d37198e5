"""The store: opens what is ours, brings it up to date, and says what is wrong with anything else."""

import errno
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import IntegrityError

from relay_app.errors import StoreError
from relay_app.storage.blobs import StoredBlobs
from relay_app.storage.schema import VERSION, blob, program
from relay_app.storage.store import Store


def test_what_was_stored_is_there_after_a_restart(url: str, tmp_path: Path) -> None:
    first = Store.open(url, tmp_path)
    StoredBlobs(first).store("me", b"data")
    first.close()
    second = Store.open(url, tmp_path)
    assert StoredBlobs(second).load("me") == b"data"
    second.close()


def test_an_existing_database_is_opened_without_alembic(url: str, tmp_path: Path) -> None:
    Store.open(url, tmp_path).close()
    script = (
        "import sys; from pathlib import Path; from relay_app.storage.store import Store\n"
        "Store.open(sys.argv[1], Path(sys.argv[2])).close()\n"
        "print({'alembic', 'sqlalchemy.orm', 'mako'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, url, tmp_path], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout == "set()\n"


def test_several_open_an_empty_database_at_once(url: str, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from relay_app.storage.store import Store\n"
        "from relay_app.storage.blobs import StoredBlobs\n"
        "print('ready', flush=True); sys.stdin.read(1)\n"
        "store = Store.open(sys.argv[1], Path(sys.argv[2]))\n"
        "StoredBlobs(store).store(sys.argv[3], b'data'); store.close()"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, url, tmp_path, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for number in range(3)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write(b"x")
        process.stdin.flush()
    for process in started:
        assert process.communicate(timeout=300)[1] == b""
        assert process.returncode == 0
    store = Store.open(url, tmp_path)
    assert StoredBlobs(store).names() == ["0", "1", "2"]
    with store.reading() as connection:
        assert connection.execute(select(program.c.schema)).scalars().all() == [VERSION]
    store.close()


# What can be wrong with SQLite's file.


def test_not_a_database(tmp_path: Path) -> None:
    (tmp_path / "relay.db").write_bytes(b"something else\n" * 100)
    with pytest.raises(StoreError, match=r"relay\.db: it is not an SQLite database .*move it away"):
        Store.open("", tmp_path)
    assert (tmp_path / "relay.db").read_bytes() == b"something else\n" * 100


def test_a_corrupt_file(tmp_path: Path) -> None:
    store = Store.open("", tmp_path)
    StoredBlobs(store).store("me", b"data")
    store.close()
    path = tmp_path / "relay.db"
    whole = path.read_bytes()
    path.write_bytes(whole[:200] + os.urandom(3000) + whole[3200:])
    with pytest.raises(StoreError, match=r"the file is damaged .*backup"):
        Store.open("", tmp_path)


def test_a_file_cut_short(tmp_path: Path) -> None:
    store = Store.open("", tmp_path)
    StoredBlobs(store).store("me", b"data" * 10_000)
    store.close()
    path = tmp_path / "relay.db"
    os.truncate(path, 8192)
    with pytest.raises(StoreError, match="the file is damaged"):
        Store.open("", tmp_path)


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"relay\.db: No such file or directory\. See that its directory"):
        Store.open("", tmp_path / "missing")


def test_a_directory_that_cannot_be_written(open_dir: Path, unprivileged: Callable[[], None]) -> None:
    open_dir.chmod(0o555)
    unprivileged()
    with pytest.raises(StoreError, match=r"relay\.db: Permission denied\. .*relay's user"):
        Store.open("", open_dir)


def test_a_file_of_another_user(open_dir: Path, unprivileged: Callable[[], None]) -> None:
    Store.open("", open_dir).close()
    (open_dir / "relay.db").chmod(0o400)
    unprivileged()
    with pytest.raises(StoreError, match=r"relay\.db: it cannot be opened .*to user \d+\."):
        Store.open("", open_dir)


@pytest.mark.parametrize("taken", ["the file", "the directory"])
def test_read_only(open_dir: Path, unprivileged: Callable[[], None], taken: str) -> None:
    """As on a disk that is mounted read-only: SQLite cannot write, or not make its log."""
    Store.open("", open_dir).close()
    if os.geteuid() == 0:
        for path in (open_dir, open_dir / "relay.db"):
            os.chown(path, 65534, 65534)
    path = open_dir if taken == "the directory" else open_dir / "relay.db"
    path.chmod(path.stat().st_mode & ~0o222)
    unprivileged()
    with pytest.raises(StoreError, match=r"relay\.db: it cannot be (opened|written) .*to user \d+"):
        Store.open("", open_dir)


def test_no_room_for_a_new_database(tmp_path: Path, file_limit: Callable[[int], None]) -> None:
    file_limit(8192)
    with pytest.raises(StoreError, match=r"Cannot use the database .*room"):
        Store.open("", tmp_path)
    file_limit(-1)
    store = Store.open("", tmp_path)  # what is left over does no harm
    StoredBlobs(store).store("me", b"data")
    store.close()


def test_no_room_for_more_data(tmp_path: Path, file_limit: Callable[[int], None]) -> None:
    store = Store.open("", tmp_path)
    blobs = StoredBlobs(store)
    stamp = blobs.store("me", b"old")
    file_limit(200_000)
    with pytest.raises(StoreError, match=r"room.*still there"):
        blobs.store("me", b"new" * 200_000)
    assert blobs.load("me") == b"old"
    assert blobs.stamp("me") == stamp
    file_limit(-1)
    blobs.store("me", b"new" * 200_000)
    assert blobs.load("me") == b"new" * 200_000
    store.close()


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """The real ENOSPC. Needs a file system of its own, and so the right to mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", disk],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount: {mounted.stderr.strip()} (test_no_room_... does without)")
    try:
        store = Store.open("", disk)
        blobs = StoredBlobs(store)
        blobs.store("me", b"old")
        with pytest.raises(StoreError, match=r"its disk is full .*still there"):
            blobs.store("me", b"new" * 300_000)
        assert blobs.load("me") == b"old"
        blobs.store("me", b"new")
        assert blobs.load("me") == b"new"
        store.close()
    finally:
        subprocess.run(["umount", disk], check=True)


# Transactions.


def test_what_raises_is_undone(store: Store) -> None:
    def fail() -> None:
        with store.writing() as connection:
            connection.execute(text("DELETE FROM alembic_version"))
            raise OSError(errno.EDQUOT, "Disk quota")

    with pytest.raises(OSError, match="Disk quota"):
        fail()
    with store.reading() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == VERSION


def test_values_that_do_not_fit_are_the_callers_affair(store: Store) -> None:
    with pytest.raises(IntegrityError), store.writing() as connection:
        connection.execute(insert(blob).values(name="me"))


def test_writers_wait_for_each_other(store: Store) -> None:
    """Each reads what it then changes: a lost update would show in the sum."""
    blobs = StoredBlobs(store)
    blobs.store("count", b"0")

    def count() -> None:
        for _ in range(20):
            while True:
                seen = blobs.stamp("count")
                value = int(blobs.load("count") or b"")
                if blobs.store_if_unchanged("count", b"%d" % (value + 1), seen):
                    break

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert blobs.load("count") == b"80"


def test_a_writer_does_not_stop_readers(store: Store) -> None:
    blobs = StoredBlobs(store)
    blobs.store("me", b"old")
    with store.writing() as connection:
        connection.execute(text("DELETE FROM blob"))
        assert blobs.load("me") == b"old"
    assert blobs.load("me") is None


def test_a_database_that_stays_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay_app.storage.engine._BUSY", 0.01)
    store = Store.open("", tmp_path)
    other = sqlite3.connect(tmp_path / "relay.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match=r"another program has kept it locked .*backup"):
        StoredBlobs(store).store("me", b"data")
    other.close()
    StoredBlobs(store).store("me", b"data")
    store.close()


# What can be wrong with PostgreSQL.


def test_a_wrong_password(postgres: Any, tmp_path: Path) -> None:
    url = postgres.url("postgres", password="hunter2hunter2")
    with pytest.raises(StoreError, match="the server does not let us in") as caught:
        Store.open(url, tmp_path)
    assert "hunter2" not in str(caught.value)
    assert f"postgresql+psycopg://relay@127.0.0.1:{postgres.port}/postgres" in str(caught.value)


def test_a_database_that_does_not_exist(postgres: Any, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no such database .*Create it") as caught:
        Store.open(postgres.url("missing"), tmp_path)
    assert postgres.password not in str(caught.value)


def test_a_user_without_rights(postgres: Any, tmp_path: Path) -> None:
    database = postgres.new_database().rsplit("/", 1)[1]
    postgres.execute("DROP ROLE IF EXISTS guest")
    postgres.execute(f"CREATE ROLE guest LOGIN PASSWORD '{postgres.password}'")
    with pytest.raises(StoreError, match=r"the user may not do that .*owner of the database"):
        Store.open(postgres.url(database, user="guest"), tmp_path)


def test_a_read_only_server(postgres: Any, tmp_path: Path) -> None:
    url = f"{postgres.new_database()}?options=-c%20default_transaction_read_only%3Don"
    with pytest.raises(StoreError, match=r"it is read-only .*primary") as caught:
        Store.open(url, tmp_path)
    assert "options" not in str(caught.value)


def test_an_existing_database_on_a_read_only_server(postgres: Any, tmp_path: Path) -> None:
    url = postgres.new_database()
    Store.open(url, tmp_path).close()
    with pytest.raises(StoreError, match="it is read-only"):
        Store.open(f"{url}?options=-c%20default_transaction_read_only%3Don", tmp_path)


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        StoreError, match=r"127\.0\.0\.1:1/relay: it cannot be reached .*server runs"
    ) as caught:
        Store.open("postgresql+psycopg://relay:hunter2hunter2@127.0.0.1:1/relay", tmp_path)
    assert "hunter2" not in str(caught.value)


def test_a_server_that_stops_and_starts(postgres: Any, tmp_path: Path) -> None:
    store = Store.open(postgres.new_database(), tmp_path)
    blobs = StoredBlobs(store)
    blobs.store("me", b"data")
    postgres.stop()
    try:
        with pytest.raises(StoreError, match="it cannot be reached"):
            blobs.load("me")
    finally:
        postgres.start()
    assert blobs.load("me") == b"data"
    store.close()


def test_a_connection_that_breaks_in_a_transaction(postgres: Any, tmp_path: Path) -> None:
    store = Store.open(postgres.new_database(), tmp_path)

    def end() -> None:
        with store.writing() as connection:
            connection.execute(text("DELETE FROM alembic_version"))
            connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    with pytest.raises(StoreError, match="it cannot be reached"):
        end()
    with store.reading() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == VERSION
    store.close()


def test_all_connections_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.01}
    monkeypatch.setattr("relay_app.storage.engine._POOL", small)
    store = Store.open("", tmp_path)
    with store.reading(), pytest.raises(StoreError, match="all connections to it are busy"), store.reading():
        pass
    store.close()
