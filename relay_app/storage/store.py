"""The database: one SQLite file, or PostgreSQL."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Connection, Engine, Table, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, TimeoutError

from relay_app.errors import StoreError
from relay_app.storage import engine as engines
from relay_app.storage.faults import explain
from relay_app.storage.schema import program
from relay_app.storage.upgrade import current, note, noted, upgrade

_log = structlog.get_logger()

_UPGRADE_LOCK = 0x736D7470  # "smtp": a number of our own among PostgreSQL's advisory locks


class Store:
    """An open database of the schema this program knows. Its methods block; any thread may call them."""

    def __init__(self, engine: Engine, place: str) -> None:
        self._engine = engine
        self._writer = engine.execution_options(**{engines.WRITING: True})
        self._writes = count(1)
        self.place = place
        """Its path or address, for messages. Without a password."""

    @classmethod
    def open(cls, url: str, data_dir: Path) -> "Store":
        """Open the database at `url` ("": `relay.db` in `data_dir`), and bring its schema up to date.

        Raises:
            StoreError: it cannot be opened, read or written, or is not the relay's; or its schema is newer
                than this program. Nothing was changed in it.
        """
        parsed = engines.parse(url, data_dir)
        place = engines.place(parsed)
        try:
            store = cls(engines.connect(parsed), place)
        except OSError as error:
            raise StoreError(
                f"Cannot use the database {place}: {error.strerror}. See that its directory exists, that its "
                "disk has room, and that the relay's user owns the file and may write to the directory."
            ) from error
        try:
            store._check_schema()
        except BaseException:
            store.close()
            raise
        return store

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection in a transaction that only reads.

        Raises:
            StoreError: the database cannot be used.
        """
        with self._explained(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection in a transaction: all of it is durable when the block ends, or none of it is there.

        Raises:
            StoreError: the database cannot be used.
            IntegrityError, DataError: the database is well, but does not take these values.
        """
        with self._explained():
            if self._engine.dialect.name == "sqlite" and next(self._writes) % engines.CHECKPOINT_EVERY == 0:
                engines.checkpoint(self._engine)
            with self._writer.begin() as connection:
                yield connection

    def insert(self, table: Table) -> Any:
        """An INSERT with `on_conflict_do_nothing` and `_update`: both databases have them, SQL does not."""
        if self._engine.dialect.name == "sqlite":
            from sqlalchemy.dialects import sqlite

            return sqlite.insert(table)
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)

    def close(self) -> None:
        """Close the connections. One that is in use is closed when it is given back."""
        self._engine.dispose()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (IntegrityError, DataError):
            raise
        except (DBAPIError, TimeoutError) as error:  # anything else is a bug of ours
            raise explain(error, self.place) from error

    def _check_schema(self) -> None:
        with self.writing() as connection:
            if self._engine.dialect.name == "postgresql":  # SQLite has one writer at a time anyway
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
            if not current(connection, self.place):
                upgrade(connection)
                connection.execute(note(self.insert(program)))
            known = noted(connection)
            # Changes nothing, but fails where nothing can be changed: better now than when mail comes.
            connection.execute(text("UPDATE alembic_version SET version_num = version_num WHERE 1 = 0"))
        if not known:
            self._note()

    def _note(self) -> None:
        """In a transaction of its own: without it the relay can start. What is noted can be run as well."""
        try:
            with self.writing() as connection:
                connection.execute(note(self.insert(program)))
        except StoreError as error:
            _log.warning("database_not_noted", error=str(error))
