"""Faults in plain words. test_store has most of them for real."""

import sqlite3

import psycopg
import pytest
from psycopg import errors
from sqlalchemy.exc import DBAPIError, OperationalError, TimeoutError

from relay_app.storage.faults import explain


def sqlite_error(name: str) -> DBAPIError:
    original = sqlite3.OperationalError("its\n words")
    if name:
        original.sqlite_errorname = name
    return OperationalError("SELECT secret", {"x": "secret"}, original)


def postgresql_error(original: psycopg.Error, *, invalidated: bool = False) -> DBAPIError:
    return OperationalError("SELECT secret", {"x": "secret"}, original, connection_invalidated=invalidated)


@pytest.mark.parametrize(
    ("error", "why", "action"),
    [
        (sqlite_error("SQLITE_READONLY_DIRECTORY"), "it cannot be written", "to user "),
        (sqlite_error("SQLITE_CANTOPEN"), "it cannot be opened", "to user "),
        (sqlite_error("SQLITE_FULL"), "its disk is full", "Make room"),
        (sqlite_error("SQLITE_IOERR_FSYNC"), "reading or writing it failed", "disk is sound"),
        (sqlite_error("SQLITE_NOTADB"), "it is not an SQLite database", "backup"),
        (sqlite_error("SQLITE_CORRUPT_INDEX"), "the file is damaged", "backup"),
        (sqlite_error("SQLITE_BUSY_SNAPSHOT"), "another program has kept it locked", "End what else"),
        (sqlite_error("SQLITE_ERROR"), "SQLite refuses", "report it"),
        (sqlite_error(""), "SQLite refuses", "report it"),  # some come from Python's module itself
        (postgresql_error(errors.DiskFull("its words")), "the server's disk is full", "Make room"),
        (postgresql_error(errors.TooManyConnections("its words")), "no room for us", "more connections"),
        (postgresql_error(errors.InvalidPassword("its words")), "does not let us in", "%40"),
        (postgresql_error(errors.InvalidCatalogName("its words")), "no such database", "Create it"),
        (postgresql_error(errors.ReadOnlySqlTransaction("its words")), "read-only", "primary"),
        (postgresql_error(errors.InsufficientPrivilege("its words")), "may not do that", "owner"),
        (postgresql_error(errors.QueryCanceled("its words")), "took too long", "busy"),
        (postgresql_error(errors.LockNotAvailable("its words")), "kept it locked", "busy"),
        (postgresql_error(errors.CannotConnectNow("its words")), "cannot be reached", "server runs"),
        (postgresql_error(errors.AdminShutdown("its words")), "cannot be reached", "server runs"),
        (postgresql_error(errors.UndefinedTable("its words")), "PostgreSQL refuses", "report it"),
        (postgresql_error(errors.InternalError_("its words"), invalidated=True), "cannot be reached", "runs"),
        (postgresql_error(psycopg.OperationalError("its words")), "cannot be reached", "server runs"),
        (TimeoutError("its words"), "all connections to it are busy", "keeps it busy"),
    ],
)
def test_what_why_and_the_next_step(error: DBAPIError | TimeoutError, why: str, action: str) -> None:
    told = str(explain(error, "/data/relay.db"))
    assert told.startswith("Cannot use the database /data/relay.db: ")
    assert why in told
    assert "(its words). " in told
    assert action in told.split("(its words). ")[1]
    assert "secret" not in told
    assert "{" not in told


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ('FATAL:  password authentication failed for user "relay"', "does not let us in"),
        ("fe_sendauth: no password supplied", "does not let us in"),
        ('FATAL:  no pg_hba.conf entry for host "192.0.2.1"', "does not let us in"),
        ('FATAL:  role "relay" does not exist', "does not let us in"),
        ('FATAL:  database "relay" does not exist', "there is no such database"),
        ("FATAL:  sorry, too many clients already", "no room for us"),
        ("FATAL:  remaining connection slots are reserved", "no room for us"),
        ("Connection refused", "it cannot be reached"),
    ],
)
def test_words_of_a_connection_that_was_not_made(words: str, why: str) -> None:
    assert why in str(explain(postgresql_error(psycopg.OperationalError(words)), "db"))
