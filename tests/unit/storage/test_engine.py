"""Connections: the URL, the file's mode, what is set on each."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from relay_app.errors import StoreError
from relay_app.storage import engine
from relay_app.storage.blobs import StoredBlobs
from relay_app.storage.store import Store


def pragma(store: Store, name: str) -> Any:
    with store.reading() as connection:
        return connection.execute(text(f"PRAGMA {name}")).scalar()


def test_the_sqlite_file(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = Store.open("", tmp_path)
        StoredBlobs(store).store("me", b"data")
        assert {path.name for path in tmp_path.iterdir()} >= {"relay.db", "relay.db-wal"}
        assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    finally:
        os.umask(before)
    assert store.place == str(tmp_path / "relay.db")
    assert pragma(store, "journal_mode") == "wal"
    assert pragma(store, "synchronous") == 2  # FULL
    assert pragma(store, "foreign_keys") == 1
    assert pragma(store, "busy_timeout") == 10_000
    assert pragma(store, "wal_autocheckpoint") == 0
    store.close()
    assert [path.name for path in tmp_path.iterdir()] == ["relay.db"]


def test_a_file_that_others_may_read_is_closed(tmp_path: Path) -> None:
    Store.open("", tmp_path).close()
    (tmp_path / "relay.db").chmod(0o644)
    Store.open("", tmp_path).close()
    assert (tmp_path / "relay.db").stat().st_mode & 0o777 == 0o600


def test_a_sqlite_file_elsewhere(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path}/else.db", tmp_path / "data")
    assert store.place == f"{tmp_path}/else.db"
    store.close()
    assert (tmp_path / "else.db").exists()


def test_a_file_in_the_old_mode_that_is_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be changed to the write-ahead log at this moment: that is left to a later connection."""
    Store.open("", tmp_path).close()
    other = sqlite3.connect(tmp_path / "relay.db", isolation_level=None)
    other.execute("PRAGMA journal_mode = DELETE")
    other.execute("BEGIN")
    other.execute("SELECT * FROM blob").fetchall()
    monkeypatch.setattr(engine, "_BUSY", 0.01)
    store = Store(engine.connect(engine.parse("", tmp_path)), "relay.db")
    assert pragma(store, "journal_mode") == "delete"
    assert pragma(store, "synchronous") == 2
    store.close()
    other.close()
    store = Store.open("", tmp_path)
    assert pragma(store, "journal_mode") == "wal"
    store.close()


class TestCheckpoint:
    """SQLite's own, after a commit, may damage the file: https://www.sqlite.org/wal.html#walresetbug"""

    def test_the_log_does_not_grow_for_ever(self, tmp_path: Path) -> None:
        store = Store.open("", tmp_path)
        blobs = StoredBlobs(store)
        log = tmp_path / "relay.db-wal"
        sizes = []
        for _ in range(3 * engine.CHECKPOINT_EVERY):
            blobs.store("me", os.urandom(10_000))
            sizes.append(log.stat().st_size)
        assert max(sizes) < 1.5 * sizes[engine.CHECKPOINT_EVERY - 2] < 6_000_000
        store.close()

    def test_nobody_can_write_meanwhile(self, tmp_path: Path) -> None:
        store = Store.open("", tmp_path)
        blobs = StoredBlobs(store)
        found: list[str] = []

        def look(statement: str) -> None:
            if "wal_checkpoint" not in statement:
                return
            with closing(sqlite3.connect(tmp_path / "relay.db", timeout=0, isolation_level=None)) as other:
                try:
                    other.execute("BEGIN IMMEDIATE")
                    found.append("can write")
                except sqlite3.OperationalError as error:
                    found.append(error.sqlite_errorname)

        def watch(connection: sqlite3.Connection, *_: Any) -> None:
            connection.set_trace_callback(look)

        event.listen(store._engine, "checkout", watch)
        for _ in range(engine.CHECKPOINT_EVERY):
            blobs.store("me", b"data")
        assert found == ["SQLITE_BUSY"]
        store.close()


def test_a_connection_that_cannot_be_set_up_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "relay.db").write_bytes(b"something else\n" * 100)
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.dbapi2.connect

    def noted(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        opened.append(connect(*args, **kwargs))
        return opened[-1]

    monkeypatch.setattr(sqlite3.dbapi2, "connect", noted)
    store = Store(engine.connect(engine.parse("", tmp_path)), "relay.db")
    with pytest.raises(StoreError, match="not an SQLite database"):
        pragma(store, "journal_mode")
    (connection,) = opened
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")


def test_a_file_in_the_old_mode_that_cannot_be_written(
    open_dir: Path, unprivileged: Callable[[], None]
) -> None:
    path = open_dir / "relay.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE something (name TEXT)")
    path.chmod(0o400)
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)
    unprivileged()
    store = Store(engine.connect(engine.parse("", open_dir)), "relay.db")
    with pytest.raises(StoreError, match="it cannot be written"):
        pragma(store, "journal_mode")


def test_the_settings_of_a_postgresql_connection(postgres: Any, tmp_path: Path) -> None:
    store = Store.open(postgres.new_database() + "?application_name=relay", tmp_path)
    with store.reading() as connection:
        shown = {
            name: connection.execute(text(f"SHOW {name}")).scalar()
            for name in ("TimeZone", "statement_timeout", "application_name")
        }
        parameters = connection.connection.driver_connection.info.get_parameters()
    assert shown == {
        "TimeZone": "UTC",
        "statement_timeout": "30s",
        "application_name": "relay",
    }
    assert parameters.items() >= {"connect_timeout": "5", "tcp_user_timeout": "30000"}.items()
    assert "keepalives_idle" in parameters
    store.close()


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:////tmp/x.db?mode=ro",
        "mysql://relay:hunter2@db/relay",
        "postgresql://relay:hunter2@db/relay",
        "postgresql+psycopg://relay:hunter2@db:port/relay",
        "postgresql+psycopg://relay:one@hunter2@db/relay",
    ],
)
def test_an_address_that_is_none_is_not_repeated(url: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="RELAY_STORE_URL is not the address of a database") as caught:
        engine.parse(url, tmp_path)
    assert "hunter2" not in str(caught.value)
    assert "%40" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("", "/data/relay.db"),
        ("sqlite:////srv/relay.db", "/srv/relay.db"),
        (
            "postgresql+psycopg://relay:a%40b%2Fc@db.example.org/relay",
            "postgresql+psycopg://relay@db.example.org/relay",
        ),
        (
            "postgresql+psycopg://relay@[::1]:5433/r?password=hunter2",
            "postgresql+psycopg://relay@[::1]:5433/r",
        ),
        ("postgresql+psycopg:///relay", "postgresql+psycopg:///relay"),
    ],
)
def test_the_name_in_messages(url: str, shown: str) -> None:
    parsed = engine.parse(url, Path("/data"))
    assert engine.place(parsed) == shown


def test_what_was_escaped_is_the_password() -> None:
    parsed = engine.parse("postgresql+psycopg://relay:a%40b%2Fc@db/relay", Path("/data"))
    assert (parsed.password, parsed.host) == ("a@b/c", "db")
