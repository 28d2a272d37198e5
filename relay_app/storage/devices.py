"""Devices that were made in the console. Those in the settings are not here."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import RowMapping, delete, or_, select, update

from relay_app.settings import DeviceSettings, ForeignFrom
from relay_app.storage.schema import device
from relay_app.storage.store import Store


@dataclass(frozen=True, slots=True)
class StoredDevice:
    """A device made in the console, and what is known of it. Times in UTC."""

    settings: DeviceSettings
    created: datetime
    last_seen: datetime | None = None


class StoredDevices:
    """The table of devices. Names are compared without regard to case.

    Every method raises StoreError if the database cannot be used.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def list(self) -> list[StoredDevice]:
        """All of them, by name."""
        with self._store.reading() as connection:
            rows = connection.execute(select(device)).mappings().all()
        return [_stored(row) for row in sorted(rows, key=lambda row: str(row["login"]))]

    def add(self, settings: DeviceSettings, created: datetime) -> bool:
        """Add a device. Returns False, with nothing changed, if there is one of that name."""
        statement = self._store.insert(device).values(
            login=_login(settings.name),
            name=settings.name,
            password_hash=settings.password_hash,
            mailbox=settings.mailbox,
            senders=json.dumps(settings.senders),
            foreign_from=settings.foreign_from.value,
            hourly_messages=settings.hourly_messages,
            created=created,
        )
        with self._store.writing() as connection:
            added = connection.execute(statement.on_conflict_do_nothing().returning(device.c.login))
            return added.first() is not None

    def remove(self, name: str) -> bool:
        """Remove a device. Returns False if there is none of that name."""
        with self._store.writing() as connection:
            removed = connection.execute(delete(device).where(device.c.login == _login(name)))
            return removed.rowcount > 0

    def touch(self, last_seen: Mapping[str, datetime]) -> None:
        """Note when devices were last seen: name -> time. Never goes back; unknown names are skipped."""
        with self._store.writing() as connection:
            for name, at in last_seen.items():
                earlier = or_(device.c.last_seen.is_(None), device.c.last_seen < at)
                connection.execute(
                    update(device).where(device.c.login == _login(name), earlier).values(last_seen=at)
                )


def _login(name: str) -> str:
    # As in inbound.devices. Done here, not in SQL: SQLite's lower() knows ASCII only.
    return name.lower()


def _stored(row: RowMapping) -> StoredDevice:
    settings = DeviceSettings(
        name=row["name"],
        password_hash=row["password_hash"],
        mailbox=row["mailbox"],
        senders=tuple(json.loads(row["senders"])),
        foreign_from=ForeignFrom(row["foreign_from"]),
        hourly_messages=row["hourly_messages"],
    )
    return StoredDevice(settings, row["created"], row["last_seen"])
