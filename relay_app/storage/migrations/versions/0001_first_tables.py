"""The first tables: the vault's blobs, devices made in the console, the journal."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables. What they mean is in `storage.schema`; this file stays as it is when that changes."""
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "blob",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.Column("version", sa.Text, nullable=False, comment="random, new with each change"),
        sa.Column("updated", moment, nullable=False),
    )
    op.create_table(
        "device",
        sa.Column("login", sa.Text, primary_key=True, comment="the name in lower case"),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("password_hash", sa.Text, nullable=False),
        sa.Column("mailbox", sa.Text, nullable=False),
        sa.Column("senders", sa.Text, nullable=False, comment="a JSON list"),
        sa.Column("foreign_from", sa.Text, nullable=False),
        sa.Column("hourly_messages", sa.Integer, nullable=False, comment="0: no limit"),
        sa.Column("created", moment, nullable=False),
        sa.Column("last_seen", moment),
    )
    op.create_table(
        "message",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("received", moment, nullable=False),
        sa.Column("device", sa.Text, nullable=False),
        sa.Column("mailbox", sa.Text, nullable=False),
        sa.Column("client", sa.Text, nullable=False),
        sa.Column("sender", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False, comment="octets"),
        sa.Column("message_id", sa.Text, nullable=False),
    )
    op.create_index("ix_message_received", "message", ["received"])
    op.create_index("ix_message_message_id", "message", ["message_id"])
    op.create_table(
        "recipient",
        _message(),
        sa.Column("position", sa.Integer, primary_key=True, comment="in the envelope, from 0"),
        sa.Column("address", sa.Text, nullable=False),
    )
    op.create_index("ix_recipient_address", "recipient", ["address", "message"])
    op.create_table(
        "attempt",
        _message(),
        sa.Column("number", sa.Integer, primary_key=True, comment="from 1"),
        sa.Column("at", moment, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("reply", sa.Text, nullable=False),
        sa.Column("sentence", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("cause", sa.Text, nullable=False),
    )


def _message() -> sa.Column[str]:
    return sa.Column("message", sa.Text, sa.ForeignKey("message.id", ondelete="CASCADE"), primary_key=True)
