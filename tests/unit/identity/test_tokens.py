"""One mailbox's tokens: from memory, one request at a time, and patient with failure."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
import structlog

from relay_app.errors import SignInNeeded, TokenError, VaultError
from relay_app.identity import tokens as module
from relay_app.identity.tokens import AccessToken, MailboxTokens, Snapshot, State

ADDRESS = "me@outlook.com"
Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


@pytest.fixture
def tokens(flow: Any, clock: Any) -> MailboxTokens:
    return MailboxTokens(
        ADDRESS, flow, clock=clock.wall, monotonic=clock.monotonic, jitter=lambda: 0.0, patience=30
    )


def temporary(**kwargs: Any) -> TokenError:
    return TokenError("No connection.", temporary=True, **kwargs)


def sign_in_needed() -> SignInNeeded:
    return SignInNeeded("Expired.", action="Sign in.", code="AADSTS700082")


async def test_first_token_is_asked_for_and_the_next_comes_from_memory(tokens: Any, flow: Any) -> None:
    assert (tokens.state, tokens.expires_at, tokens.user) == (State.STARTING, None, "")
    first = await tokens.token()
    assert await tokens.token() is first
    assert flow.asked == [False]  # the vault may have a good one
    assert (tokens.state, tokens.expires_at, tokens.user) == (State.OK, first.expires_at, ADDRESS)


async def test_a_token_from_memory_needs_no_event_loop(tokens: Any) -> None:
    first = await tokens.token()
    coroutine = tokens.token()
    with pytest.raises(StopIteration) as result:
        coroutine.send(None)
    assert result.value.value is first


async def test_an_expired_token_is_replaced(tokens: Any, flow: Any, clock: Any) -> None:
    first = await tokens.token()
    clock.advance(3600)
    second = await tokens.token()
    assert second.value != first.value
    assert flow.asked == [False, True]


async def test_fifty_waiters_share_one_request(tokens: Any, flow: Any) -> None:
    flow.close()
    waiters = [asyncio.create_task(tokens.token()) for _ in range(50)]
    await asyncio.sleep(0)
    flow.open()
    assert len({token.value for token in await asyncio.gather(*waiters)}) == 1
    assert len(flow.asked) == 1


async def test_a_waiter_that_leaves_does_not_cancel_the_request(
    tokens: Any, flow: Any, eventually: Eventually
) -> None:
    flow.close()
    leaver = asyncio.create_task(tokens.token())
    stayer = asyncio.create_task(tokens.token())
    await eventually(lambda: bool(flow.asked))
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    flow.open()
    assert (await stayer).value == "token-1"
    assert len(flow.asked) == 1


async def test_all_waiters_get_the_error_and_then_all_get_it_without_asking(tokens: Any, flow: Any) -> None:
    flow.error = temporary()
    outcomes = await asyncio.gather(*(tokens.token() for _ in range(5)), return_exceptions=True)
    assert outcomes == [flow.error] * 5
    with pytest.raises(TokenError) as caught:
        await tokens.token()
    assert caught.value is flow.error
    assert len(flow.asked) == 1
    assert tokens.state is State.FAILING
    assert tokens.last_error is flow.error


async def test_pauses_after_temporary_failures_grow_from_one_second_to_sixty(
    tokens: Any, flow: Any, clock: Any
) -> None:
    flow.error = temporary()
    for number, pause in enumerate([1, 2, 4, 8, 16, 32, 60, 60, 60], start=1):
        with pytest.raises(TokenError):
            await tokens.token()
        assert len(flow.asked) == number
        assert tokens.due_in() == pause
        clock.advance(pause - 0.01)
        with pytest.raises(TokenError):
            await tokens.token()
        assert len(flow.asked) == number
        clock.advance(0.02)
    flow.error = None
    await tokens.token()
    assert tokens.state is State.OK
    assert tokens.last_error is None
    flow.error = temporary()
    clock.advance(3600)
    with pytest.raises(TokenError):
        await tokens.token()
    assert tokens.due_in() == 1  # a success starts the pauses anew


async def test_jitter_shortens_a_pause_by_half_at_most(flow: Any, clock: Any) -> None:
    tokens = MailboxTokens(ADDRESS, flow, clock=clock.wall, monotonic=clock.monotonic, jitter=lambda: 1.0)
    flow.error = temporary()
    with pytest.raises(TokenError):
        await tokens.token()
    assert tokens.due_in() == 0.5


async def test_retry_after_is_obeyed(tokens: Any, flow: Any, clock: Any) -> None:
    flow.error = temporary(retry_after=120)
    with pytest.raises(TokenError):
        await tokens.token()
    clock.advance(119)
    with pytest.raises(TokenError):
        await tokens.token()
    assert len(flow.asked) == 1
    assert tokens.due_in() == 1


async def test_a_needed_sign_in_is_asked_for_again_after_a_minute(tokens: Any, flow: Any, clock: Any) -> None:
    flow.error = sign_in_needed()
    with pytest.raises(SignInNeeded):
        await tokens.token()
    assert tokens.state is State.SIGN_IN_NEEDED
    clock.advance(59)
    with pytest.raises(SignInNeeded):
        await tokens.token()
    assert len(flow.asked) == 1
    clock.advance(1)
    with pytest.raises(SignInNeeded):
        await tokens.token()
    assert len(flow.asked) == 2


async def test_a_sign_in_made_meanwhile_ends_the_pause(tokens: Any, flow: Any) -> None:
    flow.error = sign_in_needed()
    with pytest.raises(SignInNeeded):
        await tokens.token()
    flow.error = None
    flow.vault_changed = True
    await tokens.look()
    assert tokens.due_in() == 0
    assert (await tokens.token()).value == "token-2"
    assert tokens.state is State.OK


async def test_a_mail_that_would_be_refused_looks_for_a_sign_in_first(
    tokens: Any, flow: Any, clock: Any
) -> None:
    flow.error = sign_in_needed()
    with pytest.raises(SignInNeeded):
        await tokens.token()
    flow.looked_in.clear()
    for _ in range(10):
        with pytest.raises(SignInNeeded):
            await tokens.token()
    assert len(flow.looked_in) == 1  # not for each mail
    flow.error = None
    flow.vault_changed = True
    with pytest.raises(SignInNeeded):
        await tokens.token()
    clock.advance(1)
    assert (await tokens.token()).value == "token-2"


async def test_a_look_that_fails_leaves_a_mail_with_the_reason(tokens: Any, flow: Any) -> None:
    flow.error = sign_in_needed()
    with pytest.raises(SignInNeeded):
        await tokens.token()
    flow.look_error = ZeroDivisionError()
    with pytest.raises(SignInNeeded):
        await tokens.token()
    with pytest.raises(ZeroDivisionError):
        await tokens.look()


async def test_the_vault_is_never_asked_on_the_event_loop(tokens: Any, flow: Any, clock: Any) -> None:
    await tokens.token()
    await tokens.look()
    flow.error = sign_in_needed()
    clock.advance(3600)
    for _ in range(2):
        with pytest.raises(SignInNeeded):
            await tokens.token()
    assert len(flow.looked_in) > 2
    assert threading.current_thread() not in flow.looked_in
    assert all(thread.daemon for thread in flow.looked_in)


async def test_a_vault_that_hangs_holds_up_nobody(
    tokens: Any, flow: Any, clock: Any, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOOK_PATIENCE", 0.01)
    gate = threading.Event()
    flow.error = sign_in_needed()
    with pytest.raises(SignInNeeded):
        await tokens.token()
    looks = []

    def hang() -> bool:
        looks.append(gate.wait(30))
        return True

    monkeypatch.setattr(flow, "changed", hang)
    for _ in range(3):
        with pytest.raises(SignInNeeded):
            await tokens.token()
        await tokens.look()
    assert sum(thread.name.startswith("look ") for thread in threading.enumerate()) == 1
    gate.set()
    await eventually(lambda: tokens.due_in() == 0)
    assert looks == [True]


async def test_nobody_looks_while_a_request_does(tokens: Any, flow: Any, eventually: Eventually) -> None:
    flow.close()
    waiting = asyncio.create_task(tokens.token())
    await eventually(lambda: bool(flow.asked))
    await tokens.look()
    assert flow.looked_in == []
    flow.open()
    await waiting


async def test_a_look_that_a_request_overtakes_is_out_of_date(
    tokens: Any, flow: Any, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    monkeypatch.setattr(flow, "changed", lambda: gate.wait(30))
    look = asyncio.create_task(tokens.look())
    await asyncio.sleep(0)
    flow.close()
    waiting = asyncio.create_task(tokens.token())
    await eventually(lambda: bool(flow.asked))
    gate.set()
    await look
    flow.open()
    await waiting
    assert tokens.due_in() == 3000


async def test_a_sign_in_made_meanwhile_is_used_as_it_was_stored(tokens: Any, flow: Any) -> None:
    await tokens.token()
    flow.vault_changed = True
    await tokens.look()
    assert tokens.due_in() == 0
    await tokens.refresh()
    assert flow.asked == [False, False]
    flow.vault_changed = False
    assert tokens.due_in() == 3000


async def test_a_wrong_app_is_tried_again_soon_for_a_mail_and_rarely_in_the_background(
    tokens: Any, flow: Any, clock: Any
) -> None:
    flow.error = TokenError("Wrong secret.", temporary=False)
    with pytest.raises(TokenError):
        await tokens.token()
    assert tokens.state is State.FAILING
    assert tokens.due_in() == 60
    clock.advance(10)
    for expected in (120, 240, 480, 600, 600):
        with pytest.raises(TokenError):
            await tokens.token()
        assert tokens.due_in() == expected
        clock.advance(10)


async def test_retry_does_not_wait_for_the_pause(tokens: Any, flow: Any) -> None:
    flow.error = sign_in_needed()
    with pytest.raises(SignInNeeded):
        await tokens.token()
    flow.error = None
    assert (await tokens.retry()).value == "token-2"


async def test_retry_does_not_take_an_older_request_for_the_answer(
    tokens: Any, flow: Any, eventually: Eventually
) -> None:
    flow.close()
    flow.error = sign_in_needed()
    older = asyncio.create_task(tokens.token())
    await eventually(lambda: bool(flow.asked))
    again = asyncio.create_task(tokens.retry())
    await asyncio.sleep(0)
    assert tokens._request is not None
    # When the older one has failed, what is asked next succeeds.
    tokens.on_change = lambda _: setattr(flow, "error", None)
    flow.open()
    with pytest.raises(SignInNeeded):
        await older
    assert (await again).value == "token-2"


async def test_a_valid_token_survives_a_failed_refresh(tokens: Any, flow: Any, clock: Any) -> None:
    first = await tokens.token()
    clock.advance(3000)
    flow.error = temporary()
    with pytest.raises(TokenError):
        await tokens.refresh()
    assert await tokens.token() is first
    assert tokens.state is State.FAILING
    assert tokens.expires_at == first.expires_at


async def test_renew_gives_the_current_token_if_it_is_another(tokens: Any, flow: Any) -> None:
    old = AccessToken("old", ADDRESS, 0)
    current = await tokens.token()
    assert await tokens.renew(old) is current
    assert len(flow.asked) == 1


async def test_renew_forces_one_request_for_all(tokens: Any, flow: Any) -> None:
    rejected = await tokens.token()
    renewed = await asyncio.gather(*(tokens.renew(rejected) for _ in range(3)))
    assert {token.value for token in renewed} == {"token-2"}
    assert flow.asked == [False, True]


async def test_a_rejected_token_is_not_kept_when_there_is_no_other(tokens: Any, flow: Any) -> None:
    """It still has time to live, by its own account; but Outlook has refused it."""
    rejected = await tokens.token()
    flow.error = sign_in_needed()
    with pytest.raises(SignInNeeded):
        await tokens.renew(rejected)
    assert tokens.expires_at is None
    with pytest.raises(SignInNeeded):
        await tokens.token()


async def test_another_than_the_rejected_token_is_kept(tokens: Any, flow: Any, clock: Any) -> None:
    await tokens.token()
    rejected = AccessToken("another", ADDRESS, clock.wall() + 3600)
    current = await tokens.renew(rejected)
    flow.error = temporary()
    with pytest.raises(TokenError):
        await tokens.refresh()
    assert await tokens.token() is current


async def test_renew_never_gives_the_rejected_token_again(tokens: Any, flow: Any) -> None:
    flow.same = True
    rejected = await tokens.token()
    with pytest.raises(TokenError, match="the very token") as caught:
        await tokens.renew(rejected)
    assert caught.value.temporary


async def test_a_mail_does_not_wait_for_ever(flow: Any, clock: Any, eventually: Eventually) -> None:
    tokens = MailboxTokens(ADDRESS, flow, clock=clock.wall, monotonic=clock.monotonic, patience=0.01)
    flow.close()
    with pytest.raises(TokenError, match="has not answered") as caught:
        await tokens.token()
    assert caught.value.temporary
    flow.open()
    await eventually(lambda: tokens.state is State.OK)  # the request went on
    assert (await tokens.token()).value == "token-1"
    assert len(flow.asked) == 1


async def test_a_vault_that_cannot_be_read_is_a_token_error(tokens: Any, flow: Any) -> None:
    flow.error = VaultError("Cannot open the vault file x.")
    with pytest.raises(TokenError, match="Cannot open the vault file x") as caught:
        await tokens.token()
    assert not caught.value.temporary


async def test_an_unexpected_exception_is_a_token_error_without_its_text(tokens: Any, flow: Any) -> None:
    flow.error = ZeroDivisionError("planted secret")
    with (
        structlog.testing.capture_logs() as log,
        pytest.raises(TokenError, match=r"ZeroDivisionError in .*:\d+") as e,
    ):
        await tokens.token()
    assert e.value.temporary
    assert "planted" not in str(e.value) + str(log)


async def test_requests_run_in_daemon_threads(tokens: Any, flow: Any, eventually: Eventually) -> None:
    flow.close()
    waiting = asyncio.create_task(tokens.token())
    await eventually(lambda: bool(flow.asked))
    thread = next(thread for thread in threading.enumerate() if ADDRESS in thread.name)
    assert thread.daemon  # the program can end while Microsoft does not answer
    flow.open()
    await waiting


def test_the_loop_may_end_while_a_request_hangs(tokens: Any, flow: Any, eventually: Eventually) -> None:
    """An answer after the end, or after the request was cancelled, has nowhere to go and breaks nothing."""

    complaints: list[dict[str, Any]] = []

    async def serve(cancel: bool) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        request = asyncio.create_task(tokens.refresh())
        await eventually(lambda: bool(flow.asked))
        if cancel:
            (ask,) = (task for task in asyncio.all_tasks() if task not in (request, asyncio.current_task()))
            ask.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
            flow.open()
            (thread,) = (thread for thread in threading.enumerate() if ADDRESS in thread.name)
            await asyncio.to_thread(thread.join)
            await asyncio.sleep(0)  # what the thread left for the loop

    flow.close()
    asyncio.run(serve(cancel=True))
    flow.asked.clear()
    flow.close()
    asyncio.run(serve(cancel=False))
    (thread,) = (thread for thread in threading.enumerate() if ADDRESS in thread.name)
    flow.open()
    thread.join()
    assert complaints == []


@pytest.mark.parametrize(
    ("life", "due"),
    [
        (3600, 3000),  # ten minutes before its end
        (1000, 750),  # a quarter of its life before its end
        (4, 3),
        (1, 1),  # never more often than once a second
        (0, 1),
        (28 * 3600, 24 * 3600),  # refresh tokens are used daily
    ],
)
async def test_a_token_is_due_before_it_expires(tokens: Any, flow: Any, life: float, due: float) -> None:
    assert tokens.due_in() == 0
    flow.life = life
    await tokens.token()
    assert tokens.due_in() == due


async def test_jitter_makes_a_token_due_earlier(flow: Any, clock: Any) -> None:
    tokens = MailboxTokens(ADDRESS, flow, clock=clock.wall, monotonic=clock.monotonic, jitter=lambda: 1.0)
    await tokens.token()
    assert tokens.due_in() == 3600 - 900


async def test_each_change_of_state_is_logged_once(tokens: Any, flow: Any, clock: Any) -> None:
    async def refresh(times: int) -> None:
        for _ in range(times):
            await asyncio.gather(tokens.refresh(), return_exceptions=True)
            clock.advance(3600)

    with structlog.testing.capture_logs() as log:
        await refresh(2)
        flow.error = temporary()
        await refresh(3)
        flow.error = sign_in_needed()
        await refresh(2)
        flow.error = None
        await refresh(2)
    assert [(line["event"], line["log_level"]) for line in log] == [
        ("tokens_ok", "info"),
        ("tokens_failing", "warning"),
        ("sign_in_needed", "warning"),
        ("tokens_ok", "info"),
    ]
    assert all(line["mailbox"] == ADDRESS for line in log)
    assert log[2]["error"] == "Expired. Sign in. (AADSTS700082)"
    assert "token-" not in str(log)


async def test_a_clock_that_is_set_back_does_not_stretch_a_token(tokens: Any, flow: Any, clock: Any) -> None:
    await tokens.token()
    clock.advance(3000)
    clock.now -= 7200
    assert tokens.due_in() == 0
    clock.running += 600
    await tokens.token()
    assert flow.asked == [False, True]


async def test_a_machine_that_slept_notices(tokens: Any, flow: Any, clock: Any) -> None:
    await tokens.token()
    clock.now += 7200  # the monotonic clock stood still
    assert tokens.due_in() == 0
    await tokens.token()
    assert flow.asked == [False, True]


async def test_a_snapshot_tells_all_but_the_token(tokens: Any, flow: Any, clock: Any) -> None:
    assert tokens.snapshot() == Snapshot(ADDRESS)
    assert (tokens.snapshot().sentence, tokens.snapshot().action, tokens.snapshot().code) == ("", "", "")
    await tokens.token()
    start = clock.now
    good = tokens.snapshot()
    assert good == Snapshot(ADDRESS, State.OK, ADDRESS, start + 3600, start + 3000)
    assert "token-" not in repr(good)
    clock.advance(3000)
    flow.error = sign_in_needed()
    with pytest.raises(SignInNeeded):
        await tokens.refresh()
    bad = tokens.snapshot()
    assert bad.state is State.SIGN_IN_NEEDED
    assert (bad.sentence, bad.action, bad.code) == ("Expired.", "Sign in.", "AADSTS700082")
    assert (bad.user, bad.expires_at, bad.next_refresh_at) == (ADDRESS, start + 3600, start + 3060)
    with pytest.raises(FrozenInstanceError):
        bad.user = "x"


async def test_each_change_is_told_once_on_the_event_loop(tokens: Any, flow: Any, clock: Any) -> None:
    told: list[tuple[State, str]] = []
    loops = set()

    def hear(now: Snapshot) -> None:
        told.append((now.state, now.code))
        loops.add(asyncio.get_running_loop())

    tokens.on_change = hear

    async def refresh(times: int) -> None:
        for _ in range(times):
            await asyncio.gather(tokens.refresh(), return_exceptions=True)
            clock.advance(3600)

    await refresh(2)
    flow.error = temporary()
    await refresh(2)
    flow.error = sign_in_needed()
    await refresh(2)
    flow.error = SignInNeeded("Revoked.", action="Sign in.", code="AADSTS50173")
    await refresh(1)
    flow.error = None
    await refresh(1)
    await asyncio.sleep(0)
    assert told == [
        (State.OK, ""),
        (State.FAILING, ""),
        (State.SIGN_IN_NEEDED, "AADSTS700082"),
        (State.SIGN_IN_NEEDED, "AADSTS50173"),
        (State.OK, ""),
    ]
    assert loops == {asyncio.get_running_loop()}


async def test_who_listens_cannot_break_the_tokens(tokens: Any) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    def broken(_: Snapshot) -> None:
        raise ZeroDivisionError

    tokens.on_change = broken
    assert (await tokens.token()).value == "token-1"
    await asyncio.sleep(0)
    assert [type(each["exception"]) for each in complaints] == [ZeroDivisionError]


async def test_another_user_than_the_mailbox_is_pointed_out(tokens: Any, flow: Any) -> None:
    flow.user = "Someone.Else@outlook.com"
    with structlog.testing.capture_logs() as log:
        assert (await tokens.token()).user == "Someone.Else@outlook.com"
    assert log[-1]["event"] == "signed_in_as_another_user"
    assert "send as me@outlook.com" in log[-1]["hint"]


def test_a_token_does_not_show_itself() -> None:
    assert "planted" not in repr(AccessToken("planted", ADDRESS, 0))


async def test_renew_without_a_token_in_memory(tokens: Any, flow: Any) -> None:
    flow.error = temporary()
    with pytest.raises(TokenError):
        await tokens.renew(AccessToken("old", ADDRESS, 0))
