"""Incidents: what is wrong at the moment, and what is to be said about it when. No I/O, no clock of its own.

An incident is told of when it begins, again while it lasts (after 1 hour, 6 hours, 1 day, 3 days, then every
week), and when it is over. One that begins again and again within a day has to last longer each time before
it is told of: a thing that flaps makes a handful of messages a day.
"""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Protocol

_HOUR, _DAY = 3600.0, 86_400.0
REMINDERS = (_HOUR, 6 * _HOUR, _DAY, 3 * _DAY)
"""Seconds after the first message; then every `WEEK`."""
WEEK = 7 * _DAY
PATIENCE = (0.0, 0.0, 600.0, _HOUR, 6 * _HOUR)
"""Seconds that an incident must last before it is told of, by how often it has come back within a day."""
_NEVER = float("inf")
_MEMORY = 30 * _DAY
"""Seconds after which an incident that nobody reports any more is forgotten."""


class IncidentStore(Protocol):
    """Where incidents are kept over a restart: one piece of data. Called from the alerts' thread only, except
    for the first `load`; may block."""

    def load(self) -> bytes | None:
        """What was saved last; None if nothing was."""
        ...

    def save(self, data: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Message:
    """What is to be told. A later message with the same key makes this one obsolete."""

    key: str
    title: str
    body: str


@dataclass(slots=True)
class _Incident:
    """Times are in seconds since the epoch."""

    key: str
    title: str
    body: str
    stage: str
    remind: bool
    began: float
    due: float
    """When to tell of it (again)."""
    seen: float
    """When it was reported last."""
    repeats: int = 0
    told: float = 0.0
    """When its present stage was told of first; 0: not yet."""
    ended: float = 0.0
    """When it was over; 0: it lasts. Then kept for a day, to know it if it comes back."""
    unheard: str = ""
    """The title of its last message, until that has reached somebody."""


class Incidents:
    """All incidents. Every method takes the time `now`, in seconds since the epoch."""

    def __init__(self, saved: bytes | None = None) -> None:
        """Take up what `dump` gave.

        Raises:
            ValueError: it is not that.
        """
        self._incidents: dict[str, _Incident] = {}
        self._held: set[str] = set()
        """Reported since the program started. The others may long be over: nothing is said about them."""
        if saved:
            try:
                self._incidents = {item["key"]: _Incident(**item) for item in json.loads(saved)["incidents"]}
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError("What was stored about incidents cannot be read.") from error
        for incident in self._incidents.values():
            if incident.unheard:
                incident.due = 0.0

    def begin(
        self,
        key: str,
        title: str,
        body: str,
        *,
        now: float,
        settle: float = 0.0,
        stage: str = "",
        remind: bool = True,
    ) -> None:
        """It is so. Said again and again while it lasts; only the first time counts.

        Args:
            settle: seconds that it must last before it is told of.
            stage: when this changes, it is told of again at once.
            remind: False: the stages are reminders enough.
        """
        known = self._incidents.get(key)
        if known is None or known.ended:
            repeats = known.repeats + 1 if known is not None and now - known.ended < _DAY else 0
            wait = max(settle, PATIENCE[min(repeats, len(PATIENCE) - 1)])
            known = _Incident(key, title, body, stage, remind, now, now + wait, now, repeats)
            self._incidents[key] = known
        self._held.add(key)
        if known.stage != stage and known.told:
            known.told, known.due = 0.0, now
        known.title, known.body, known.stage, known.remind, known.seen = title, body, stage, remind, now

    def end(self, key: str, title: str, body: str, *, now: float) -> None:
        """It is over, or never was: then nothing is said."""
        incident = self._incidents.get(key)
        if incident is None or incident.ended:
            return
        if not incident.told:
            if incident.repeats:  # it came back too briefly to be told of: that is flapping, too
                incident.ended, incident.due = now, _NEVER
            else:
                del self._incidents[key]
            return
        incident.ended, incident.due, incident.seen = now, now, now
        incident.title, incident.body = title, body

    def due(self, now: float) -> list[Message]:
        """What is to be said now."""
        self._forget(now)
        return [
            self._tell(incident, now)
            for incident in self._incidents.values()
            if incident.due <= now and (incident.ended or incident.key in self._held)
        ]

    def next_due(self) -> float:
        """When `due` has something to say next, if nothing happens; infinity: never."""
        times = (item.due for item in self._incidents.values() if item.ended or item.key in self._held)
        return min(times, default=_NEVER)

    def heard(self, message: Message) -> None:
        """This has reached somebody."""
        incident = self._incidents.get(message.key)
        if incident and incident.unheard == message.title:
            incident.unheard = ""

    def open(self) -> list[str]:
        """The keys of the incidents that have been told of and last, in the order in which they began."""
        return [key for key, incident in self._incidents.items() if incident.told and not incident.ended]

    def dump(self) -> bytes:
        """Everything, for `__init__` after a restart."""
        return json.dumps({"incidents": [asdict(item) for item in self._incidents.values()]}).encode()

    def _tell(self, incident: _Incident, now: float) -> Message:
        message = self._message(incident, now)
        incident.unheard = message.title
        return message

    def _message(self, incident: _Incident, now: float) -> Message:
        if incident.ended:
            incident.due = _NEVER
            lasted = f"It lasted {_duration(incident.ended - incident.began)}."
            return Message(incident.key, incident.title, f"{incident.body}\n\n{lasted}")
        reminding = bool(incident.told)
        if not reminding:
            incident.told = now
        incident.due = _next_reminder(incident.told, now) if incident.remind else _NEVER
        if not reminding:
            return Message(incident.key, incident.title, incident.body)
        began = datetime.fromtimestamp(incident.began, UTC)
        since = f"It has been so since {began:%Y-%m-%d %H:%M} UTC, for {_duration(now - incident.began)}."
        return Message(incident.key, f"Still: {incident.title}", f"{incident.body}\n\n{since}")

    def _forget(self, now: float) -> None:
        for key, incident in list(self._incidents.items()):
            over = incident.ended and not incident.unheard and now - incident.ended >= _DAY
            if over or now - incident.seen >= _MEMORY:
                del self._incidents[key]


def _next_reminder(told: float, now: float) -> float:
    elapsed = now - told
    later = next((offset for offset in REMINDERS if offset > elapsed), None)
    if later is None:
        weeks = int((elapsed - REMINDERS[-1]) // WEEK) + 1
        later = REMINDERS[-1] + weeks * WEEK
    return told + later


def _duration(seconds: float) -> str:
    """In the largest fitting unit, rounded down."""
    for unit, length in (("day", _DAY), ("hour", _HOUR), ("minute", 60.0)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' * (count != 1)}"
    return "less than a minute"
