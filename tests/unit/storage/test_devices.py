"""Devices made in the console."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from relay_app.errors import StoreError
from relay_app.settings import DeviceSettings, ForeignFrom
from relay_app.storage.devices import StoredDevice, StoredDevices
from relay_app.storage.store import Store

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
SCANNER = DeviceSettings(
    name="Scanner",
    password_hash="$argon2id$...",
    mailbox="me@outlook.com",
    senders=("scan@example.org", "*@example.net"),
    foreign_from=ForeignFrom.REWRITE,
    hourly_messages=30,
)


@pytest.fixture
def devices(store: Store) -> StoredDevices:
    return StoredDevices(store)


def named(name: str) -> DeviceSettings:
    return DeviceSettings(name=name, password_hash="$argon2id$...", mailbox="me@outlook.com")


def names(devices: StoredDevices) -> list[str]:
    return [each.settings.name for each in devices.list()]


def test_gives_back_what_was_added(devices: StoredDevices) -> None:
    assert devices.list() == []
    assert devices.add(SCANNER, NOW)
    assert devices.list() == [StoredDevice(SCANNER, NOW, None)]


def test_are_listed_by_name(devices: StoredDevices) -> None:
    for name in ("b", "C", "\u00e4", "a"):
        devices.add(named(name), NOW)
    assert names(devices) == ["a", "b", "C", "\u00e4"]


@pytest.mark.parametrize(("name", "same"), [("Scanner", "sCANNER"), ("Br\u00fccke", "BR\u00dcCKE")])
def test_a_name_is_unique_without_regard_to_case(devices: StoredDevices, name: str, same: str) -> None:
    assert devices.add(named(name), NOW)
    assert not devices.add(named(same), NOW)
    assert names(devices) == [name]
    assert devices.remove(same)
    assert devices.add(named(same), NOW)


def test_a_name_is_not_sql(devices: StoredDevices) -> None:
    name = "x'; DROP TABLE device; --%_"
    assert devices.add(named(name), NOW)
    assert devices.add(named("other"), NOW)
    assert names(devices) == ["other", name]
    assert devices.remove(name)
    assert names(devices) == ["other"]


def test_only_one_of_many_adds_a_name(devices: StoredDevices) -> None:
    added = []
    threads = [
        threading.Thread(target=lambda: added.append(devices.add(named("same"), NOW))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(added) == [False] * 7 + [True]


def test_remove(devices: StoredDevices) -> None:
    devices.add(SCANNER, NOW)
    assert not devices.remove("other")
    assert devices.remove("scanner")
    assert not devices.remove("scanner")
    assert devices.list() == []


def test_last_seen_never_goes_back(devices: StoredDevices) -> None:
    devices.add(SCANNER, NOW)
    devices.add(named("quiet"), NOW)
    later = NOW + timedelta(minutes=5)
    devices.touch({"scanner": later, "unknown": NOW})
    devices.touch({"SCANNER": NOW})
    devices.touch({})
    assert {each.settings.name: each.last_seen for each in devices.list()} == {
        "Scanner": later,
        "quiet": None,
    }


def test_a_store_that_is_out_of_order(devices: StoredDevices, store: Store) -> None:
    with store.writing() as connection:
        connection.exec_driver_sql("DROP TABLE device")
    with pytest.raises(StoreError):
        devices.list()
    with pytest.raises(StoreError):
        devices.add(SCANNER, NOW)
