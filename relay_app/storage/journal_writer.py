"""Writes the journal behind the back of the mail."""

import threading
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from time import monotonic

import structlog

from relay_app.errors import StoreError
from relay_app.storage.devices import StoredDevices
from relay_app.storage.journal import Entry, Journal

_log = structlog.get_logger()

_BATCH = 200  # entries in one transaction
_WAITING = 5000  # entries; some 5 MB
_GATHER = 0.25  # seconds in which entries come together: a transaction costs more CPU than a message
_TOUCH = timedelta(minutes=1)
_PAUSE_FIRST = 1.0  # seconds before a failed batch is tried again; doubled each time
_PAUSE_LONGEST = 60.0


class JournalWriter:
    """A queue, and one thread that writes what is in it, in batches. The mail never waits for the database.

    When the database cannot be used this is logged once. What waits is tried again until it is written; what
    no longer fits into the queue is lost, and counted.
    """

    def __init__(
        self,
        journal: Journal,
        devices: StoredDevices,
        *,
        waiting: int = _WAITING,
        pause: Callable[[float], float] = lambda seconds: seconds,
    ) -> None:
        """`waiting` is how many entries the queue holds. `pause` turns the seconds to wait after a failure
        into those that are waited; for tests."""
        self._journal = journal
        self._devices = devices
        self._limit = waiting
        self._pause = pause
        self._entries: deque[Entry] = deque()
        self._seen: dict[str, datetime] = {}
        """Last seen of devices, not written yet."""
        self._noted: dict[str, datetime] = {}
        """The last one of each device that went into `_seen`."""
        self._changed = threading.Condition()
        self._closing = False
        self._flushing = 0
        self._lost = 0
        self._lost_told = 0
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """Entries that will never be in the journal, since the start."""
        return self._lost

    @property
    def waiting(self) -> int:
        """Entries not written yet."""
        return len(self._entries)

    def put(self, entry: Entry) -> None:
        """Have an entry written soon. Does not block and does not raise."""
        with self._changed:
            if self._closing or len(self._entries) >= self._limit:
                self._lost += 1
                return
            self._entries.append(entry)
            if len(self._entries) in {1, _BATCH}:  # else the thread knows already
                self._changed.notify_all()

    def seen(self, device: str, at: datetime) -> None:
        """Have it noted that a device was here; once a minute at most. Does not block and does not raise."""
        with self._changed:
            noted = self._noted.get(device)
            if noted is None or at - noted >= _TOUCH:
                self._noted[device] = self._seen[device] = at
                self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until nothing waits to be written; False if that takes longer than `timeout` seconds."""
        with self._changed:
            self._flushing += 1
            self._changed.notify_all()
            try:
                return self._changed.wait_for(lambda: not self._work(), timeout)
            finally:
                self._flushing -= 1

    def close(self, timeout: float) -> None:
        """Write what waits, for at most `timeout` seconds, and end. What is put from now on is lost."""
        deadline = monotonic() + timeout
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(max(0.0, deadline - monotonic()))
        with self._changed:
            self._lost += len(self._entries)
            self._entries.clear()
            self._seen.clear()
        self._tell_lost()

    def _work(self) -> bool:
        return bool(self._entries or self._seen)

    def _run(self) -> None:
        pause = 0.0
        while self._wait(pause):
            try:
                self._write_entries()
                self._write_seen()
            except StoreError as error:
                self._tell_failing(error)
                if self._closing:
                    return
                pause = min(max(_PAUSE_FIRST, pause * 2), _PAUSE_LONGEST)
            else:
                pause = 0.0
                self._tell_working()

    def _wait(self, pause: float) -> bool:
        """Wait for work; after a failure for `pause` seconds first. False: there will be none any more."""
        with self._changed:
            if pause:
                self._changed.wait_for(lambda: self._closing, self._pause(pause))
            self._changed.wait_for(lambda: self._closing or self._work())
            self._changed.wait_for(self._in_a_hurry, _GATHER)
            return self._work()

    def _in_a_hurry(self) -> bool:
        return bool(self._closing or self._flushing or len(self._entries) >= _BATCH)

    def _write_entries(self) -> None:
        with self._changed:
            batch = [self._entries[index] for index in range(min(_BATCH, len(self._entries)))]
        if not batch:
            return
        try:
            self._journal.record(*batch)
        except StoreError:
            raise
        except Exception:  # one of them cannot be written: find it, and write the others
            for entry in batch:
                self._write_alone(entry)
                self._done(1)
        else:
            self._done(len(batch))

    def _write_alone(self, entry: Entry) -> None:
        try:
            self._journal.record(entry)
        except StoreError:
            raise
        except Exception as error:
            with self._changed:
                self._lost += 1
            _log.error("journal_entry_unusable", id=entry.id, error=type(error).__name__)

    def _done(self, count: int) -> None:
        """The first `count` entries need not be written any more."""
        with self._changed:
            for _ in range(min(count, len(self._entries))):  # close() may have emptied the queue
                self._entries.popleft()
            self._changed.notify_all()

    def _write_seen(self) -> None:
        with self._changed:
            batch = dict(self._seen)
        if not batch:
            return
        try:
            self._devices.touch(batch)
        except StoreError:
            raise
        except Exception as error:
            _log.error("last_seen_unusable", devices=sorted(batch), error=type(error).__name__)
        with self._changed:
            for name, at in batch.items():
                if self._seen.get(name) == at:
                    del self._seen[name]
            self._changed.notify_all()

    def _tell_failing(self, error: StoreError) -> None:
        if not self._failing:
            self._failing = True
            _log.error(
                "journal_failing", error=str(error), consequence="mail is not affected; it is tried again"
            )

    def _tell_working(self) -> None:
        if self._failing:
            self._failing = False
            _log.info("journal_restored")
        self._tell_lost()

    def _tell_lost(self) -> None:
        with self._changed:
            lost, self._lost_told = self._lost - self._lost_told, self._lost
        if lost:
            _log.warning("journal_incomplete", lost=lost, consequence="these messages are not in the journal")
