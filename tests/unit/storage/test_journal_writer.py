"""The journal's writer: never in the way of the mail, and nothing lost that need not be."""

import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from relay_app.errors import StoreError
from relay_app.settings import DeviceSettings
from relay_app.storage.devices import StoredDevices
from relay_app.storage.journal import Entry, Journal
from relay_app.storage.journal_writer import JournalWriter
from relay_app.storage.store import Store

from .conftest import NOW, entry

PATIENCE = 30.0  # seconds; what a wait for a condition may take before the test fails


class FakeJournal:
    """Records into lists; fails, or waits, when told to. Is both tables."""

    def __init__(self) -> None:
        self.recorded: list[str] = []
        self.touched: list[Mapping[str, datetime]] = []
        self.error: Exception | None = None
        self.unusable: set[str] = set()
        self.calls = 0
        self.called = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def record(self, *entries: Entry) -> None:
        self._call()
        if bad := self.unusable & {each.id for each in entries}:
            raise OverflowError(bad)
        self.recorded += [each.id for each in entries]

    def touch(self, last_seen: Mapping[str, datetime]) -> None:
        self._call()
        if self.unusable & last_seen.keys():
            raise OverflowError
        self.touched.append(dict(last_seen))

    def _call(self) -> None:
        self.calls += 1
        self.called.set()
        assert self.gate.wait(PATIENCE)
        if self.error:
            raise self.error


class Pauses:
    """The writer's waits after a failure: it asks how long, and none is real."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    def __call__(self, seconds: float) -> float:
        self.asked.append(seconds)
        return 0.001


@pytest.fixture
def fake() -> FakeJournal:
    return FakeJournal()


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def writer(fake: Any, pauses: Pauses) -> Iterator[JournalWriter]:
    writer = JournalWriter(fake, fake, waiting=10, pause=pauses)
    yield writer
    fake.gate.set()
    writer.close(PATIENCE)


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread does, without a time of our own choice."""
    ticks = threading.Event()
    for _ in range(int(PATIENCE * 1000)):
        if condition():
            return
        ticks.wait(0.001)
    raise AssertionError("it did not happen")


def test_writes_what_was_put(store: Store) -> None:
    journal, devices = Journal(store), StoredDevices(store)
    devices.add(DeviceSettings(name="Gmail", password_hash="x", mailbox="me@outlook.com"), NOW)
    writer = JournalWriter(journal, devices)
    for number in range(500):
        writer.put(entry(f"id{number}"))
    writer.seen("gmail", NOW)
    assert writer.flush(PATIENCE)
    assert len(journal.recent(1000)) == 500
    assert devices.list()[0].last_seen == NOW
    writer.close(PATIENCE)
    assert (writer.lost, writer.waiting) == (0, 0)


def test_many_threads_put(store: Store) -> None:
    journal = Journal(store)
    writer = JournalWriter(journal, StoredDevices(store))

    def put(thread: int) -> None:
        for number in range(50):
            writer.put(entry(f"{thread}-{number}"))

    threads = [threading.Thread(target=put, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close(PATIENCE)
    assert len(journal.recent(1000)) == 200


def test_what_comes_while_it_writes_is_one_batch(writer: JournalWriter, fake: FakeJournal) -> None:
    fake.gate.clear()
    writer.put(entry("first"))
    assert fake.called.wait(PATIENCE)
    for number in range(5):
        writer.put(entry(f"id{number}"))
    fake.gate.set()
    assert writer.flush(PATIENCE)
    assert fake.recorded == ["first", *(f"id{number}" for number in range(5))]
    assert fake.calls == 2


def test_put_neither_blocks_nor_raises_when_the_database_hangs(
    writer: JournalWriter, fake: FakeJournal
) -> None:
    fake.gate.clear()
    for number in range(12):
        writer.put(entry(f"id{number}"))
    assert fake.called.wait(PATIENCE)
    assert (writer.waiting, writer.lost) == (10, 2)
    assert not writer.flush(0.001)
    fake.gate.set()
    with capture_logs() as logs:
        assert writer.flush(PATIENCE)
        writer.close(PATIENCE)
    assert fake.recorded == [f"id{number}" for number in range(10)]
    assert [(log["event"], log["lost"]) for log in logs] == [("journal_incomplete", 2)]


def test_a_database_that_is_lost_is_told_once_and_writing_resumes(
    writer: JournalWriter, fake: FakeJournal, pauses: Pauses
) -> None:
    fake.error = StoreError("Cannot use the database x: its disk is full.")
    with capture_logs() as logs:
        for number in range(12):
            writer.put(entry(f"id{number}"))
            writer.seen("gmail", NOW)
        until(lambda: len(pauses.asked) >= 9)
        assert writer.waiting == 10
        assert (fake.recorded, fake.touched) == ([], [])
        fake.error = None
        assert writer.flush(PATIENCE)
        writer.put(entry("later"))
        assert writer.flush(PATIENCE)
        writer.close(PATIENCE)
    assert fake.recorded == [*(f"id{number}" for number in range(10)), "later"]
    assert fake.touched == [{"gmail": NOW}]
    assert pauses.asked[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert [log["event"] for log in logs] == ["journal_failing", "journal_restored", "journal_incomplete"]
    assert "disk is full" in logs[0]["error"]
    assert logs[2]["lost"] == writer.lost == 2


def test_an_entry_that_cannot_be_written_does_not_hold_up_the_others(
    writer: JournalWriter, fake: FakeJournal
) -> None:
    fake.unusable = {"odd"}
    fake.gate.clear()
    with capture_logs() as logs:
        for id in ("a", "b", "odd", "c"):
            writer.put(entry(id))
        fake.gate.set()
        writer.close(PATIENCE)
    assert sorted(fake.recorded) == ["a", "b", "c"]
    assert writer.lost == 1
    assert {
        "event": "journal_entry_unusable",
        "id": "odd",
        "error": "OverflowError",
        "log_level": "error",
    } in logs


def test_a_database_that_is_lost_while_looking_for_that_entry(
    writer: JournalWriter, fake: FakeJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.unusable = {"odd"}
    record, failed = fake.record, []

    def once(*entries: Entry) -> None:
        if len(entries) == 1 and entries[0].id == "b" and not failed:
            failed.append(True)
            raise StoreError("gone")
        record(*entries)

    monkeypatch.setattr(fake, "record", once)
    fake.gate.clear()
    for id in ("first", "a", "b", "odd"):
        writer.put(entry(id))
    fake.gate.set()
    assert writer.flush(PATIENCE)
    assert sorted(fake.recorded) == ["a", "b", "first"]
    assert writer.lost == 1


def test_a_last_seen_that_cannot_be_written_is_told_and_dropped(
    writer: JournalWriter, fake: FakeJournal
) -> None:
    fake.unusable = {"odd"}
    with capture_logs() as logs:
        writer.seen("odd", NOW)
        assert writer.flush(PATIENCE)
    assert [log["event"] for log in logs] == ["last_seen_unusable"]
    writer.put(entry())
    assert writer.flush(PATIENCE)
    assert fake.recorded == ["id1"]


def test_a_last_seen_is_kept_while_the_database_is_lost(
    writer: JournalWriter, fake: FakeJournal, pauses: Pauses
) -> None:
    fake.error = StoreError("gone")
    writer.seen("gmail", NOW)
    until(lambda: len(pauses.asked) > 2)
    assert fake.touched == []
    fake.error = None
    assert writer.flush(PATIENCE)
    assert fake.touched == [{"gmail": NOW}]


def test_last_seen_is_written_once_a_minute(writer: JournalWriter, fake: FakeJournal) -> None:
    for seconds in (0, 1, 59, 60, 61, 119, 120):
        writer.seen("gmail", NOW + timedelta(seconds=seconds))
        assert writer.flush(PATIENCE)
    writer.seen("other", NOW)
    assert writer.flush(PATIENCE)
    assert fake.touched == [
        {"gmail": NOW},
        {"gmail": NOW + timedelta(seconds=60)},
        {"gmail": NOW + timedelta(seconds=120)},
        {"other": NOW},
    ]


def test_a_device_seen_again_while_it_is_written(writer: JournalWriter, fake: FakeJournal) -> None:
    fake.gate.clear()
    writer.seen("gmail", NOW)
    assert fake.called.wait(PATIENCE)
    writer.seen("gmail", NOW + timedelta(minutes=1))
    fake.gate.set()
    assert writer.flush(PATIENCE)
    assert fake.touched == [{"gmail": NOW}, {"gmail": NOW + timedelta(minutes=1)}]


def test_close_writes_what_waits(writer: JournalWriter, fake: FakeJournal) -> None:
    fake.gate.clear()
    for number in range(5):
        writer.put(entry(f"id{number}"))
    fake.gate.set()
    writer.close(PATIENCE)
    assert len(fake.recorded) == 5
    writer.put(entry("late"))
    assert writer.lost == 1
    writer.close(PATIENCE)


def test_close_tries_once_more_and_then_gives_up(fake: Any) -> None:
    fake.error = StoreError("gone")
    writer = JournalWriter(fake, fake, pause=lambda _: PATIENCE)
    with capture_logs() as logs:
        writer.put(entry())
        until(lambda: fake.calls == 1)
        writer.close(PATIENCE)
    assert fake.calls == 2
    assert [log["event"] for log in logs] == ["journal_failing", "journal_incomplete"]
    assert (writer.lost, writer.waiting) == (1, 0)


def test_close_does_not_wait_for_a_database_that_hangs(writer: JournalWriter, fake: FakeJournal) -> None:
    fake.gate.clear()
    writer.put(entry("a"))
    assert fake.called.wait(PATIENCE)
    writer.put(entry("b"))
    with capture_logs() as logs:
        writer.close(0.001)
    assert logs[0]["lost"] == writer.lost == 2


def test_a_full_disk(tmp_path: Path, file_limit: Callable[[int], None], pauses: Pauses) -> None:
    store = Store.open("", tmp_path)
    journal = Journal(store)
    writer = JournalWriter(journal, StoredDevices(store), pause=pauses)
    file_limit(4096)
    with capture_logs() as logs:
        writer.put(entry())
        until(lambda: len(pauses.asked) > 2)
        file_limit(-1)
        assert writer.flush(PATIENCE)
        writer.close(PATIENCE)
    assert [log["event"] for log in logs] == ["journal_failing", "journal_restored"]
    assert len(journal.recent(10)) == 1
    store.close()


def test_a_server_that_stops_and_starts(postgres: Any, tmp_path: Path, pauses: Pauses) -> None:
    store = Store.open(postgres.new_database(), tmp_path)
    journal = Journal(store)
    writer = JournalWriter(journal, StoredDevices(store), pause=pauses)
    writer.put(entry("before"))
    assert writer.flush(PATIENCE)
    postgres.stop()
    try:
        writer.put(entry("meanwhile"))
        until(lambda: len(pauses.asked) > 2)
    finally:
        postgres.start()
    assert writer.flush(PATIENCE)
    assert {each.id for each in journal.recent(10)} == {"before", "meanwhile"}
    writer.close(PATIENCE)
    store.close()
