"""What databases say when something is wrong, in plain words."""

import os
import re
import sqlite3

from sqlalchemy.exc import DBAPIError, TimeoutError

from relay_app.errors import StoreError

_ROOM = "Make room on its disk. What was stored before is still there."
_REPORT = "Please report it as a bug."

# SQLite's result codes (https://www.sqlite.org/rescode.html), without what follows the first word of an
# extended one -> why, what to do.
_SQLITE = {
    "READONLY": (
        "it cannot be written",
        "Give the file and its directory to user {uid}; if their disk is mounted read-only, mount it for "
        "writing.",
    ),
    "CANTOPEN": (
        "it cannot be opened",
        "See that its directory exists, and give the file and the directory to user {uid}.",
    ),
    "FULL": ("its disk is full", _ROOM),
    "IOERR": (
        "reading or writing it failed",
        "See that its disk is sound and has room. What was stored before is still there.",
    ),
    "NOTADB": (
        "it is not an SQLite database",
        "Correct RELAY_STORE_URL, restore the file from a backup, or move it away: the relay makes a new "
        "one, and the mailboxes have to be signed in again.",
    ),
    "CORRUPT": (
        "the file is damaged",
        "Stop the relay and restore the file from a backup, or move it away: the relay makes a new one, and "
        "the mailboxes have to be signed in again.",
    ),
    "BUSY": (
        "another program has kept it locked",
        "End what else has the file open, such as a backup or a database browser.",
    ),
}

_CHECK_URL = (
    "Correct RELAY_STORE_URL. In it, a character such as @ : / % in the password is written %40 %3A %2F %25."
)
_CHECK_SERVER = (
    "See that the server runs, and that RELAY_STORE_URL has the right host, port, user and database."
)
_CHECK_BUSY = "See what keeps it busy: a backup, a long query, a slow disk."
# SQLSTATE (PostgreSQL's appendix A), from its beginning -> why, what to do. The first that fits counts.
_SQLSTATE = (
    ("53100", "the server's disk is full", _ROOM),
    ("53", "the server has no room for us", "Give it more connections or memory."),
    ("28", "the server does not let us in", _CHECK_URL),
    ("3D000", "there is no such database", "Create it, or correct RELAY_STORE_URL."),
    ("25006", "it is read-only", "Connect to the primary server, not to a replica."),
    ("42501", "the user may not do that", "Make the user the owner of the database."),
    ("57014", "the server took too long", _CHECK_BUSY),
    ("55P03", "something else has kept it locked", _CHECK_BUSY),
)
# While a connection is being made there is no SQLSTATE, only words: these are PostgreSQL's in English.
_WORDS = (
    (r"authentication failed|no password supplied|no pg_hba\.conf entry|role .* does not exist", "28"),
    (r"database .* does not exist", "3D000"),
    (r"too many (clients|connections)|remaining connection slots", "53"),
)


def explain(error: DBAPIError | TimeoutError, place: str) -> StoreError:
    """Say what happened to the database `place`, why, and what to do."""
    # Never the text of a DBAPIError itself, which has the statement and its parameters.
    original = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(original, sqlite3.Error):
        name = getattr(original, "sqlite_errorname", "SQLITE_ERROR")
        why, action = _SQLITE.get(name.split("_")[1], ("SQLite refuses", _REPORT))
    elif isinstance(error, DBAPIError):
        why, action = _postgresql(error)
    else:
        why, action = "all connections to it are busy", _CHECK_BUSY
    words = " ".join(str(original).split())
    return StoreError(f"Cannot use the database {place}: {why} ({words}). {action.format(uid=os.geteuid())}")


def _postgresql(error: DBAPIError) -> tuple[str, str]:
    state = getattr(error.orig, "sqlstate", None)
    if state is None:
        words = str(error.orig)
        state = next((state for pattern, state in _WORDS if re.search(pattern, words)), "08")
    for beginning, why, action in _SQLSTATE:
        if state.startswith(beginning):
            return why, action
    # 08: connection exceptions; 57P: the server is starting or stopping.
    if state.startswith(("08", "57P")) or error.connection_invalidated:
        return "it cannot be reached", _CHECK_SERVER
    return "PostgreSQL refuses", _REPORT
