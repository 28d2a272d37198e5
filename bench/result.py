"""What a scenario found out."""

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from bench.mail_program import Session


class Aim(Enum):
    """What an aim is about: always "at most"."""

    RATIO = "ratio"
    OURS = "ours"


@dataclass(frozen=True, slots=True)
class Row:
    """One measure of the relay, beside a peer's where there is one. None: it could not be measured."""

    measure: str
    unit: str
    ours: float | None
    peer: str = ""
    theirs: float | None = None
    aim: float | None = None
    aim_is: Aim = Aim.RATIO

    @property
    def ratio(self) -> float | None:
        """Ours divided by the peer's."""
        return self.ours / self.theirs if self.ours is not None and self.theirs else None

    @property
    def met(self) -> bool | None:
        """Whether the aim is met; None if there is none. What could not be measured has not met it."""
        if self.aim is None:
            return None
        value = self.ours if self.aim_is is Aim.OURS else self.ratio
        return value is not None and value <= self.aim


@dataclass(slots=True)
class Result:
    """The rows of one scenario, what lies behind them, and what a reader must know."""

    scenario: str
    title: str
    rows: list[Row] = field(default_factory=list)
    samples: dict[str, list[float]] = field(default_factory=dict)
    """Name -> the single values, in the order they were measured."""
    notes: list[str] = field(default_factory=list)

    def note_errors(self, name: str, sessions: Iterable[Session]) -> None:
        """Say which errors there were, if any."""
        errors = Counter(session.error for session in sessions if session.error)
        if errors:
            kinds = ", ".join(f"{kind} ({times})" for kind, times in errors.most_common())
            self.notes.append(f"{name}: {errors.total()} errors: {kinds}")


def milliseconds(sessions: Iterable[Session]) -> list[float]:
    """The times of the sessions that went well."""
    return [session.seconds * 1000 for session in sessions if not session.error]


def accepted(sessions: Iterable[Session]) -> int:
    """How many messages were accepted."""
    return sum(not session.error for session in sessions)


def median(values: Sequence[float]) -> float | None:
    """The median; None if there are no values."""
    return statistics.median(values) if values else None


def p95(values: Sequence[float]) -> float | None:
    """The 95th percentile (nearest rank); None if there are no values."""
    return sorted(values)[max(0, -(-len(values) * 95 // 100) - 1)] if values else None
