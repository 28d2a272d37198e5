"""Brings a database to this program's schema, or says why it must not be touched."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, column, inspect, select, table

from relay_app import image
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
        who = _last_user(connection, max(found))
        raise StoreError(
            f"The database {place} is newer than this program: its schema is {shown}, smtp-relay "
            f"{version('smtp-relay')} knows {schema.VERSION}. Nothing was changed. Run {who}; or restore a "
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


def noted(connection: Connection) -> bool:
    """Whether the database knows that this very program used it last."""
    return _noted(connection, schema.VERSION) == _this_program()


def note(insert: Any) -> Any:
    """The statement that has the database know it, of an empty INSERT into `schema.program`.

    Each version of the schema has a row of its own: an older program that starts at the same moment cannot
    put itself in a newer one's place.
    """
    this = _this_program()
    return insert.values(schema=schema.VERSION, **this).on_conflict_do_update(
        index_elements=[schema.program.c.schema], set_=this
    )


def _this_program() -> dict[str, str]:
    return {"version": version("smtp-relay"), "tag": image.tag()}


def _noted(connection: Connection, revision: str) -> dict[str, str] | None:
    """The program that used the database last with this version of the schema; None if nobody noted it."""
    columns = select(schema.program.c.version, schema.program.c.tag)
    found = connection.execute(columns.where(schema.program.c.schema == revision)).mappings().first()
    return {**found} if found else None


def _last_user(connection: Connection, revision: str) -> str:
    """What to run on a database of a newer version of the schema."""
    known = _noted(connection, revision) if inspect(connection).has_table(schema.program.name) else None
    if known is None:
        return "the image that used it last, or the one with the tag main"
    if not known["tag"]:
        return f"smtp-relay {known['version']}, which used it last, or the image with the tag main"
    return f"the image with the tag {known['tag']}, which used it last, or a newer one"


def _refuse_others_tables(connection: Connection, place: str) -> None:
    taken = schema.metadata.tables.keys() & set(inspect(connection).get_table_names())
    if taken:
        raise StoreError(
            f"The database {place} has tables of another program ({', '.join(sorted(taken))}). Nothing was "
            "changed. Give the relay a database of its own in RELAY_STORE_URL."
        )
