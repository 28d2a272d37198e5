"""How much is measured."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bench.contestants import Entry

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Plan:
    """One run of the bench."""

    relay: Entry
    """How the relay is started: as it is, or under a profiler."""
    quick: bool = False
    """A fifth of everything, for development: the numbers are rough."""

    def rounds(self, full: int) -> range:
        """The rounds of a loop that has `full` of them in a full run."""
        return range(max(1, full // 5) if self.quick else full)

    def interleaved(self, contestants: Sequence[_T], full: int) -> Iterator[_T]:
        """Each contestant once in each round, so that the noise of the machine hits all alike.

        Another one begins each round: nobody always comes after the one that has used up the most CPU.
        """
        for turn in self.rounds(full):
            first = turn % len(contestants)
            yield from contestants[first:]
            yield from contestants[:first]
