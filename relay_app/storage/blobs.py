"""Named pieces of data, each replaced as a whole: what the vault has encrypted, the alerts' incidents."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from secrets import token_hex

from sqlalchemy import delete, select, update

from relay_app.storage.schema import blob
from relay_app.storage.store import Store

Stamp = str
"""What tells one version of a blob from every other. Has no order."""


class StoredBlobs:
    """`identity.vault.Blobs` in the database.

    Every change is one transaction: after a crash there is the old data or the new. Several processes may use
    the same database. Every method raises StoreError if the database cannot be used. Nothing was changed
    then, unless PostgreSQL was lost in the very moment of the commit: `stamp` tells.
    """

    def __init__(self, store: Store, room: str = "vault") -> None:
        """`room` keeps apart what several parts of the relay store; names are those within it."""
        self._store = store
        self._room = f"{room}/"

    def load(self, name: str) -> bytes | None:
        """What was stored under `name`, or None if nothing was."""
        with self._store.reading() as connection:
            return connection.execute(select(blob.c.data).where(blob.c.name == self._room + name)).scalar()

    def store(self, name: str, data: bytes) -> Stamp:
        """Put `data` under `name`, in place of what was there. Durable on return."""
        values = _version(data)
        statement = self._store.insert(blob).values(name=self._room + name, **values)
        with self._store.writing() as connection:
            connection.execute(statement.on_conflict_do_update(index_elements=[blob.c.name], set_=values))
        return str(values["version"])

    def store_if_unchanged(self, name: str, data: bytes, seen: Stamp | None) -> Stamp | None:
        """Like `store`, but only if the version there is still `seen` (None: there was nothing).

        Returns None, with nothing written, if somebody else has stored or removed it meanwhile.
        """
        values = _version(data)
        if seen is None:
            statement = (
                self._store.insert(blob).values(name=self._room + name, **values).on_conflict_do_nothing()
            )
        else:
            here = blob.c.name == self._room + name
            statement = update(blob).where(here, blob.c.version == seen).values(values)
        with self._store.writing() as connection:
            written = connection.execute(statement.returning(blob.c.version)).scalar()
        return None if written is None else str(written)

    def rewrite(self, change: Callable[[Mapping[str, bytes]], Mapping[str, bytes]]) -> None:
        """Give `change` all blobs of the room, by name, and put those that it returns in place of the old.

        One transaction: nothing is changed if it fails, or if `change` raises.
        """
        # Locked in one order: two that do this at once wait for each other. SQLite needs no lock: it has one
        # writer at a time.
        everything = select(blob.c.name, blob.c.data).order_by(blob.c.name).with_for_update()
        with self._store.writing() as connection:
            found = {
                name.removeprefix(self._room): data
                for name, data in connection.execute(everything)
                if name.startswith(self._room)
            }
            for name, data in change(found).items():
                connection.execute(
                    update(blob).where(blob.c.name == self._room + name).values(_version(data))
                )

    def remove(self, name: str) -> None:
        """Forget `name`; no error if there is nothing to forget."""
        with self._store.writing() as connection:
            connection.execute(delete(blob).where(blob.c.name == self._room + name))

    def names(self) -> list[str]:
        """The names of all blobs in the room, sorted."""
        with self._store.reading() as connection:
            names = connection.execute(select(blob.c.name)).scalars()
            # Sorted here: PostgreSQL would sort by the rules of some language.
            return sorted(each.removeprefix(self._room) for each in names if each.startswith(self._room))

    def stamp(self, name: str) -> Stamp | None:
        """Which version is there; None if there is none."""
        with self._store.reading() as connection:
            return connection.execute(select(blob.c.version).where(blob.c.name == self._room + name)).scalar()


def _version(data: bytes) -> dict[str, object]:
    return {"data": data, "version": token_hex(16), "updated": datetime.now(UTC)}
