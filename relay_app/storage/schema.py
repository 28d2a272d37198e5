"""The tables, as this version of the program knows them. `migrations/` makes them in a database.

Portable between SQLite and PostgreSQL. Times are in UTC.
"""

from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
)

VERSION = "0002"
"""The last of the migrations. Versions are numbers with leading zeros: they sort as text."""


class UtcDateTime(TypeDecorator[datetime]):
    """A moment. It must know its time zone when it goes in, and is in UTC when it comes out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """SQLite has no time zones: what it gets is in UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """PostgreSQL answers in the session's time zone, SQLite without one."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class StrangersText(TypeDecorator[str]):
    """Text that a stranger chose (an address, a reply), at most `limit` characters of it.

    PostgreSQL takes no NUL and neither database half a surrogate pair, and PostgreSQL indexes 2700 octets at
    most. One odd message must not keep the journal from being written, so these are mended.
    """

    impl = Text
    cache_ok = True

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def process_bind_param(self, value: str | None, _dialect: Dialect) -> str | None:
        """What can be stored of it."""
        if value is None:
            return None
        return value[: self.limit].encode("utf-8", "replace").decode("utf-8").replace("\0", "?")


_ADDRESS = StrangersText(512)
_LINE = StrangersText(600)
_REPLY = StrangersText(8000)

metadata = MetaData()

blob = Table(
    "blob",
    metadata,
    Column("name", Text, primary_key=True),
    Column("data", LargeBinary, nullable=False),
    Column("version", Text, nullable=False, comment="random, new with each change"),
    Column("updated", UtcDateTime, nullable=False),
)

device = Table(
    "device",
    metadata,
    Column("login", Text, primary_key=True, comment="the name in lower case"),
    Column("name", Text, nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("mailbox", Text, nullable=False),
    Column("senders", Text, nullable=False, comment="a JSON list"),
    Column("foreign_from", Text, nullable=False),
    Column("hourly_messages", Integer, nullable=False, comment="0: no limit"),
    Column("created", UtcDateTime, nullable=False),
    Column("last_seen", UtcDateTime),
)

message = Table(
    "message",
    metadata,
    Column("id", _LINE, primary_key=True),
    Column("received", UtcDateTime, nullable=False),
    Column("device", _ADDRESS, nullable=False),
    Column("mailbox", _ADDRESS, nullable=False),
    Column("client", _ADDRESS, nullable=False),
    Column("sender", _ADDRESS, nullable=False),
    Column("size", BigInteger, nullable=False, comment="octets"),
    Column("message_id", _LINE, nullable=False),
    Index("ix_message_received", "received"),
    Index("ix_message_message_id", "message_id"),
)

recipient = Table(
    "recipient",
    metadata,
    Column("message", _LINE, ForeignKey("message.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True, comment="in the envelope, from 0"),
    Column("address", _ADDRESS, nullable=False),
    # Has all that a search for an address needs: it reads the index alone.
    Index("ix_recipient_address", "address", "message"),
)

attempt = Table(
    "attempt",
    metadata,
    Column("message", _LINE, ForeignKey("message.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, comment="from 1"),
    Column("at", UtcDateTime, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("outcome", _LINE, nullable=False),
    Column("reply", _REPLY, nullable=False),
    Column("sentence", _REPLY, nullable=False),
    Column("action", _REPLY, nullable=False),
    Column("cause", _LINE, nullable=False),
)

program = Table(
    "program",
    metadata,
    Column("schema", Text, primary_key=True, comment="a version of the schema"),
    Column("version", Text, nullable=False, comment="of the program that used it last with that"),
    Column("tag", Text, nullable=False, comment="its image's; empty: none"),
)
"""Must stay as it is: programs read it that are older than what made it."""
