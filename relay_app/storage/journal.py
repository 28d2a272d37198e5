"""The journal: what became of each message. Never its content or its subject."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, extract, func, insert, or_, select

from relay_app.storage.schema import attempt, message, recipient
from relay_app.storage.store import Store

KEEP = timedelta(days=30)
"""How long an entry is kept: what `Journal.purge` is called with."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to deliver a message; or what the relay itself decided about it."""

    at: datetime
    """When it ended. No two attempts for one message have the same time."""
    seconds: float
    outcome: str
    """A `delivery.verdict.Outcome`, in lower case."""
    reply: str
    """What the client of the relay, or the relay, was told."""
    sentence: str = ""
    action: str = ""
    cause: str = ""
    """The verdict's key."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One message and its attempts, oldest first. Times in UTC, size in octets."""

    id: str
    received: datetime
    device: str
    mailbox: str
    client: str
    sender: str
    recipients: tuple[str, ...]
    size: int
    message_id: str
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class Hour:
    """How many messages that came within this hour have which outcome so far."""

    hour: datetime
    counts: Mapping[str, int]


class Journal:
    """The tables of messages, their recipients, and attempts.

    Every method raises StoreError if the database cannot be used.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def record(self, *entries: Entry) -> None:
        """Write entries, all or none. The attempts of a message that is known already are added to it.

        An attempt that is known (by its time) is skipped: when it is not clear whether entries were written,
        they can be recorded again.

        Raises:
            IntegrityError, DataError: the database is well, but does not take these entries.
        """
        with self._store.writing() as connection:
            known = _known(connection, [entry.id for entry in entries])
            messages, recipients, attempts = [], [], []
            for entry in entries:
                if entry.id not in known:
                    known[entry.id] = set()
                    messages.append(_message_row(entry))
                    recipients += [
                        {"message": entry.id, "position": position, "address": address}
                        for position, address in enumerate(entry.recipients)
                    ]
                times = known[entry.id]
                for each in entry.attempts:
                    if each.at not in times:
                        times.add(each.at)
                        attempts.append(_attempt_row(entry.id, len(times), each))
            for table, rows in ((message, messages), (recipient, recipients), (attempt, attempts)):
                if rows:
                    connection.execute(insert(table), rows)

    def recent(self, limit: int) -> list[Entry]:
        """The latest messages, newest first."""
        with self._store.reading() as connection:
            return _entries(connection, None, limit)

    def find(self, text: str, limit: int) -> list[Entry]:
        """Messages by our id, by Message-ID (with or without <>), or by a sender's or recipient's address or
        a part of one. Newest first. Case counts in ids, and in addresses for letters other than A to Z."""
        bare = text.strip().removeprefix("<").removesuffix(">")
        if not bare:
            return []
        addressed = select(recipient.c.message).where(recipient.c.address.icontains(bare, autoescape=True))
        condition = or_(
            message.c.id == bare,
            message.c.message_id.in_([bare, f"<{bare}>"]),
            message.c.sender.icontains(bare, autoescape=True),
            message.c.id.in_(addressed),
        )
        with self._store.reading() as connection:
            return _entries(connection, condition, limit)

    def message(self, id: str) -> Entry | None:
        """One message, by our id."""
        with self._store.reading() as connection:
            return next(iter(_entries(connection, message.c.id == id, 1)), None)

    def hours(self, now: datetime) -> list[Hour]:
        """The 24 hours up to and with that of `now`, oldest first; hours without mail have no counts."""
        last = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        first = last - timedelta(hours=23)
        tried = attempt.alias()
        latest = select(func.max(tried.c.number)).where(tried.c.message == message.c.id).scalar_subquery()
        # Within 24 hours, the hour of the day says which one is meant. Connections are in UTC.
        hour = extract("hour", message.c.received)
        counting = (
            select(hour, attempt.c.outcome, func.count())
            .join_from(message, attempt)
            .where(message.c.received >= first, message.c.received < last + timedelta(hours=1))
            .where(attempt.c.number == latest)
            .group_by(hour, attempt.c.outcome)
        )
        counts: dict[int, dict[str, int]] = defaultdict(dict)
        with self._store.reading() as connection:
            for of_day, outcome, number in connection.execute(counting):
                counts[int(of_day)][outcome] = number
        hours = (first + timedelta(hours=number) for number in range(24))
        return [Hour(each, dict(sorted(counts[each.hour].items()))) for each in hours]

    def purge(self, before: datetime) -> int:
        """Forget the messages received before that moment. Returns how many there were."""
        with self._store.writing() as connection:
            return connection.execute(delete(message).where(message.c.received < before)).rowcount


def _known(connection: Connection, ids: Sequence[str]) -> dict[str, set[datetime]]:
    """Which of these messages are in the journal, and the times of their attempts."""
    query = (
        select(message.c.id, attempt.c.at)
        .join_from(message, attempt, isouter=True)
        .where(message.c.id.in_(ids))
    )
    known: dict[str, set[datetime]] = defaultdict(set)
    for id, at in connection.execute(query):
        known[id] |= {at} - {None}
    return dict(known)


def _entries(connection: Connection, condition: ColumnElement[bool] | None, limit: int) -> list[Entry]:
    query = select(message).order_by(message.c.received.desc(), message.c.id).limit(limit)
    if condition is not None:
        query = query.where(condition)
    rows = connection.execute(query).mappings().all()
    ids = [row["id"] for row in rows]
    recipients: dict[str, list[str]] = defaultdict(list)
    by_position = select(recipient).where(recipient.c.message.in_(ids)).order_by(recipient.c.position)
    for row in connection.execute(by_position).mappings():
        recipients[row["message"]].append(row["address"])
    attempts: dict[str, list[Attempt]] = defaultdict(list)
    by_number = select(attempt).where(attempt.c.message.in_(ids)).order_by(attempt.c.number)
    for row in connection.execute(by_number).mappings():
        fields = {name: value for name, value in row.items() if name not in ("message", "number")}
        attempts[row["message"]].append(Attempt(**fields))
    return [
        Entry(**row, recipients=tuple(recipients[row["id"]]), attempts=tuple(attempts[row["id"]]))
        for row in rows
    ]


def _message_row(entry: Entry) -> dict[str, Any]:
    return {column.name: getattr(entry, column.name) for column in message.columns}


def _attempt_row(id: str, number: int, each: Attempt) -> dict[str, Any]:
    row = {name: getattr(each, name) for name in Attempt.__slots__}
    return {"message": id, "number": number, **row}
