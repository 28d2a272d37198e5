"""Brings a database to this program's schema, or says why it must not be touched."""

from pathlib import Path

from sqlalchemy import Connection, column, inspect, select, table

from relay_app.errors import StoreError
from relay_app.storage import schema

MIGRATIONS = Path(__file__).parent / "migrations"
_versions = table("alembic_version", column("version_num"))


def current(connection: Connection, place: str) -> bool:
    """Whether the schema is the one this program knows; False if it is older, or there is none yet.

    Raises:
        StoreError: the schema is newer, or another program's. `place` names the database in the message.
    """
    if not inspect(connection).has_table(_versions.name):
        _refuse_others_tables(connection, place)
        return False
    found = connection.execute(select(_versions)).scalars().all()
    if found == [schema.VERSION]:
        return True
    if not found or all(each.isdecimal() and each < schema.VERSION for each in found):
        return False
    shown = ", ".join(found)
    if all(each.isdecimal() for each in found):
        raise StoreError(
            f"The database {place} was made by a newer version of this program: its schema is {shown}, this "
            f"program knows {schema.VERSION}. Nothing was changed. Run the newer version again, or restore a "
            "backup of the database from before the upgrade."
        )
    raise StoreError(
        f"The database {place} belongs to another program: it has a schema version {shown}. Nothing was "
        "changed. Give the relay a database of its own in RELAY_STORE_URL."
    )


def upgrade(connection: Connection) -> None:
    """Run the migrations that are missing, within the connection's transaction."""
    # Imported here because it costs memory for good, and is needed once in a version's life.
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    command.upgrade(config, "head")


def _refuse_others_tables(connection: Connection, place: str) -> None:
    taken = schema.metadata.tables.keys() & set(inspect(connection).get_table_names())
    if taken:
        raise StoreError(
            f"The database {place} has tables of another program ({', '.join(sorted(taken))}). Nothing was "
            "changed. Give the relay a database of its own in RELAY_STORE_URL."
        )
