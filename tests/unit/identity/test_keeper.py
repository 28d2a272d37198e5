"""The keeper: tokens are there before a mail needs them, whatever happens."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from relay_app.errors import TokenError
from relay_app.identity import keeper
from relay_app.identity.keeper import Keeper
from relay_app.identity.tokens import MailboxTokens, State

Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


@pytest.fixture
def tokens(flow: Any, clock: Any) -> MailboxTokens:
    return MailboxTokens(
        "me@outlook.com", flow, clock=clock.wall, monotonic=clock.monotonic, jitter=lambda: 0.0, patience=30
    )


@pytest.fixture
def few_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look is a thread: a day has 17,000 of them, and a test about something else needs fewer."""
    monkeypatch.setattr(keeper, "_LOOK", 300.0)


class Night:
    """Sleeping moves the fake clock, until `hours` have passed; then it ends the keeper's task."""

    def __init__(self, clock: Any, hours: float) -> None:
        self._clock = clock
        self._end = clock.now + hours * 3600

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self._clock.advance(seconds)
        if self._clock.now >= self._end:
            raise asyncio.CancelledError

    async def watch(self, *sources: MailboxTokens) -> None:
        await Keeper(sources, sleep=self.sleep).run()


async def test_a_day_of_tokens_without_a_gap(tokens: Any, flow: Any, clock: Any, few_looks: None) -> None:
    gaps = []
    fetch = flow.fetch

    def watched(*, force: bool) -> Any:
        if tokens.expires_at is not None and tokens.expires_at - clock.now < 590:
            gaps.append(clock.now)
        return fetch(force=force)

    flow.fetch = watched
    await Night(clock, 24).watch(tokens)
    assert gaps == []
    assert 24 <= len(flow.asked) <= 30  # hourly tokens, replaced every 50 minutes


async def test_tokens_of_seconds_are_kept_too(tokens: Any, flow: Any, clock: Any) -> None:
    flow.life = 4
    await Night(clock, 60 / 3600).watch(tokens)
    assert 15 <= len(flow.asked) <= 25


async def test_tokens_that_are_born_dead_do_not_make_it_spin(tokens: Any, flow: Any, clock: Any) -> None:
    flow.life = 0
    await Night(clock, 60 / 3600).watch(tokens)
    assert len(flow.asked) <= 61


async def test_a_failure_is_retried_with_pauses_and_recovered_from(
    tokens: Any, flow: Any, clock: Any
) -> None:
    flow.error = TokenError("No connection.", temporary=True)
    await Night(clock, 1).watch(tokens)
    assert 60 <= len(flow.asked) <= 70  # a minute apart at last
    flow.error = None
    await Night(clock, 2 / 60).watch(tokens)
    assert tokens.state is State.OK


async def test_a_lost_sign_in_is_not_asked_for_all_the_time(
    tokens: Any, flow: Any, clock: Any, few_looks: None
) -> None:
    flow.error = TokenError("Expired.", temporary=False)
    await Night(clock, 10).watch(tokens)
    assert len(flow.asked) <= 70


async def test_a_new_sign_in_is_used_within_seconds(tokens: Any, flow: Any, clock: Any) -> None:
    flow.error = TokenError("Expired.", temporary=False)
    await Night(clock, 1).watch(tokens)
    flow.error = None
    flow.vault_changed = True
    await Night(clock, 6 / 3600).watch(tokens)
    assert tokens.state is State.OK


async def test_a_vault_that_cannot_be_looked_into_stops_nothing(tokens: Any, flow: Any, clock: Any) -> None:
    look = flow.changed
    during: list[bool] = []

    def changed() -> bool:
        during.append(threading.current_thread().name.startswith("look "))
        if during[-1]:
            raise OSError("no more threads")
        return bool(look())

    flow.changed = changed
    await Night(clock, 2).watch(tokens)
    assert any(during)
    assert tokens.state is State.OK
    assert len(flow.asked) == 3


async def test_tokens_of_more_than_a_day_exercise_the_sign_in_daily(
    tokens: Any, flow: Any, clock: Any, few_looks: None
) -> None:
    flow.life = 7 * 86400
    await Night(clock, 24 * 7 - 1).watch(tokens)
    assert flow.asked == [False, *[True] * 6]


async def test_one_mailbox_does_not_hold_up_another(tokens: Any, clock: Any, eventually: Eventually) -> None:
    other_flow = type(tokens._flow)(clock)
    other = MailboxTokens("other@outlook.com", other_flow, clock=clock.wall, monotonic=clock.monotonic)
    tokens._flow.close()
    task = asyncio.create_task(Keeper([tokens, other]).run())
    await eventually(lambda: other.state is State.OK)
    assert tokens.state is State.STARTING
    tokens._flow.open()
    await eventually(lambda: tokens.state is State.OK)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_it_survives_what_nobody_thought_of(tokens: Any, flow: Any, clock: Any) -> None:
    async def broken() -> None:
        flow.asked.append(False)
        clock.advance(10)
        raise OSError("the log's disk is full")

    tokens.refresh = broken
    await Night(clock, 1).watch(tokens)
    assert len(flow.asked) > 100


async def test_without_mailboxes_there_is_nothing_to_do() -> None:
    await Keeper([]).run()
