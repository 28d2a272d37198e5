"""The connections to the database: how they are opened, and what is set on each of them."""

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from relay_app.errors import StoreError

WRITING = "relay_writing"
"""Execution option of a connection that is going to write."""

CHECKPOINT_EVERY = 100
"""So many writing transactions after each other leave some megabytes in SQLite's write-ahead log."""

_BUSY = 10.0  # seconds that a writer waits for another process
_CONNECT = 5  # seconds
_STATEMENT = 30  # seconds
# Connections that stay open, and more while many threads ask at once.
_POOL = {"pool_size": 2, "max_overflow": 14, "pool_timeout": 15.0}
_HOST = re.compile(r"[\w.:-]*")


def parse(url: str, data_dir: Path) -> URL:
    """Read RELAY_STORE_URL; "" is the SQLite file `relay.db` in the data directory.

    Raises:
        StoreError: it is not a URL of a database we know. It is not repeated, as it may hold a password.
    """
    if not url:
        return URL.create("sqlite", database=str(data_dir / "relay.db"))
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        parsed = URL.create("")
    if parsed.drivername == "sqlite" and parsed.database not in (None, "", ":memory:") and not parsed.query:
        return parsed
    # An "@" that was not escaped cuts the password in two, and the second half seems to be the host.
    if parsed.drivername == "postgresql+psycopg" and _HOST.fullmatch(parsed.host or ""):
        return parsed
    raise StoreError(
        "RELAY_STORE_URL is not the address of a database. Write sqlite:////path/to/file.db or "
        "postgresql+psycopg://user:password@host:5432/database. A character such as @ : / % in the password "
        "is written %40 %3A %2F %25."
    )


def place(url: URL) -> str:
    """The database's name in messages: without the password, and without options, which may hold one."""
    if url.drivername == "sqlite":
        return str(url.database)
    named = URL.create(url.drivername, url.username, None, url.host, url.port, url.database)
    return named.render_as_string()


def connect(url: URL) -> Engine:
    """Make the pool of connections. Nothing is opened yet, but the SQLite file made (0600) if need be.

    Raises:
        OSError: the file cannot be made, or not be made private.
    """
    if url.drivername == "sqlite":
        _private_file(Path(str(url.database)))
        engine = create_engine(url, connect_args={"timeout": _BUSY}, **_POOL)
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    keep_alive = {"keepalives_idle": 30, "keepalives_interval": 5, "keepalives_count": 3}
    arguments = {
        "connect_timeout": _CONNECT,
        "tcp_user_timeout": _STATEMENT * 1000,
        **keep_alive,
        **url.query,
    }
    engine = create_engine(url.set(query={}), connect_args=arguments, pool_pre_ping=True, **_POOL)
    event.listen(engine, "connect", _set_up_postgresql)
    return engine


def checkpoint(engine: Engine) -> None:
    """Bring what SQLite's write-ahead log holds into the database file, while nobody can write.

    SQLite does that itself after a commit, and lets others write meanwhile. Up to 3.51.2 that can damage the
    file (https://www.sqlite.org/wal.html#walresetbug), and Debian 13 has 3.46.1.
    """
    with engine.execution_options(**{WRITING: True}).begin(), closing(engine.raw_connection()) as other:
        other.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)")


def _private_file(path: Path) -> None:
    # Never opened when it is there: to close it would take away the locks that SQLite holds on it in this
    # process (https://www.sqlite.org/howtocorrupt.html 2.2).
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)


def _set_up_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    with _closed_on_error(connection):
        connection.isolation_level = None  # transactions are begun by _begin_sqlite, and cover DDL too
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            # Another process is at work in a file that is not in this mode yet. Any mode is safe; a later
            # connection changes it.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
        connection.execute("PRAGMA synchronous = FULL")  # in WAL mode, a lesser one may lose the last commits
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA cache_size = -512")  # KiB, of each connection
        connection.execute("PRAGMA journal_size_limit = 4194304")  # octets
        connection.execute("PRAGMA wal_autocheckpoint = 0")  # see checkpoint()


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes later cannot wait for another writer: it would fail at once.
    writing = connection.get_execution_options().get(WRITING)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def _set_up_postgresql(connection: Any, _record: Any) -> None:
    with _closed_on_error(connection):
        connection.execute("SET TIME ZONE 'UTC'")
        connection.execute(f"SET statement_timeout = '{_STATEMENT}s'")
        connection.commit()


@contextmanager
def _closed_on_error(connection: Any) -> Iterator[None]:
    """The pool does not know a connection yet that cannot be set up: close it here."""
    try:
        yield
    except BaseException:
        connection.close()
        raise
