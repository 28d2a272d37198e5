"""One mailbox's way to Outlook: tokens, connections, and what is tried twice."""

import asyncio
import base64

import pytest
from structlog.testing import capture_logs

from relay_app.delivery.pool import MAX_CONNECTIONS
from relay_app.delivery.verdict import Outcome
from relay_app.errors import SignInNeeded, TokenError

REFUSED_TOKEN = b"535 5.7.3 Authentication unsuccessful [host]\r\n"


def turns_away(reply: bytes):
    async def script(wire):
        await wire.greet()
        auth = await wire.hear()
        await wire.say(reply)
        await wire.until_closed()
        return base64.b64decode(auth.split()[2])

    return script


async def takes_all(wire):
    """Take messages until the client is done, and say how many."""
    await wire.let_in()
    messages = 0
    while True:
        if await wire.hear() == b"QUIT\r\n":
            await wire.say(b"221 bye\r\n")
            return messages
        await wire.say(b"250 ok\r\n250 ok\r\n354 go\r\n")
        await wire.hear(b"\r\n.\r\n")
        await wire.say(b"250 2.0.0 ok\r\n")
        messages += 1


async def test_two_round_trips_when_warm(serve, upstream, submission):
    async def script(wire):
        await wire.let_in()
        await wire.message()
        await wire.message()
        return await wire.until_closed()

    async with serve(script) as server:
        sender = upstream(server)
        first = await sender.send(submission())
        (wire,) = server.wires
        cold = len(wire.flights)
        second = await sender.send(submission())
        await sender.close()
        assert await server.finished.get() == b"QUIT\r\n"

    assert first.outcome is second.outcome is Outcome.ACCEPTED
    # The script answers each flight only when it is complete: these are all the round trips there were.
    assert wire.flights[cold:] == [
        b"MAIL FROM:<user@example.org> SIZE=22\r\nRCPT TO:<a@example.net>\r\nDATA\r\n",
        b"Subject: hi\r\n\r\nHello\r\n.\r\n",
    ]
    assert first.timings.connect > 0
    assert second.timings.connect == 0
    assert second.timings.upstream > 0


# --- tokens ----------------------------------------------------------------------------------------------


async def test_a_refused_token_is_renewed_once_on_a_new_connection(serve, upstream, submission, tokens):
    async with serve(turns_away(REFUSED_TOKEN), takes_all) as server:
        sender = upstream(server)
        with capture_logs() as logs:
            verdict = await sender.send(submission())
        await sender.close()
        first = await server.finished.get()
    assert verdict.outcome is Outcome.ACCEPTED
    assert first == b"user=user@example.org\x01auth=Bearer token-1\x01\x01"
    assert [token.value for token in tokens.rejected] == ["token-1"]
    assert [entry["event"] for entry in logs] == ["token_refused"]
    assert "token-1" not in str(logs)


async def test_a_token_refused_twice_is_a_clear_failure(serve, upstream, submission, tokens):
    async with serve(turns_away(REFUSED_TOKEN)) as server:
        verdict = await upstream(server).send(submission())
        assert b"token-1" in await server.finished.get()
        assert b"token-2" in await server.finished.get()
        assert len(server.wires) == 2
    assert verdict.outcome is Outcome.DEFERRED
    assert verdict.key == "token-refused"
    assert verdict.reply.code == 535
    assert len(tokens.rejected) == 1


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (b"535 5.7.139 SmtpClientAuthentication is disabled for the Mailbox.\r\n", Outcome.REFUSED),
        (b"454 4.7.0 Temporary authentication failure\r\n", Outcome.DEFERRED),
    ],
)
async def test_what_another_token_does_not_mend(serve, upstream, submission, tokens, reply, outcome):
    async with serve(turns_away(reply)) as server:
        verdict = await upstream(server).send(submission())
        await server.finished.get()
        assert len(server.wires) == 1
    assert verdict.outcome is outcome
    assert tokens.rejected == []


@pytest.mark.parametrize(
    ("error", "key", "text"),
    [
        (TokenError("Microsoft is away.", action="Wait.", temporary=True), "no-token", "Microsoft is away."),
        (
            SignInNeeded("The sign-in has ended.", action="Wait.", code="AADSTS700082"),
            "sign-in-needed",
            "The sign-in has ended. (AADSTS700082)",
        ),
    ],
)
async def test_without_a_token_the_mail_waits(serve, upstream, submission, tokens, error, key, text):
    tokens.error = error
    async with serve(takes_all) as server:
        sender = upstream(server)
        verdict = await sender.send(submission())
        assert server.wires == []
    assert verdict.outcome is Outcome.DEFERRED
    assert str(verdict.reply) == f"451 4.7.0 {text}"
    assert (verdict.key, verdict.action, verdict.upstream) == (key, "Wait.", False)
    assert sender.pool.in_use == 0


# --- connections that fail -------------------------------------------------------------------------------


async def stale_by_421(wire):
    await wire.let_in()
    await wire.message()
    await wire.hear(b"DATA\r\n")
    await wire.say(b"421 4.4.2 idle for too long\r\n")
    await wire.until_closed()


async def stale_by_closing(wire):
    await wire.let_in()
    await wire.message()
    await wire.hear(b"DATA\r\n")


async def stale_in_the_content(wire):
    await wire.let_in()
    await wire.message()
    await wire.envelope()


async def stale_by_forgetting(wire):
    await wire.let_in()
    await wire.message()
    await wire.hear(b"DATA\r\n")
    await wire.say(b"530 5.7.57 Client not authenticated to send mail.\r\n")
    await wire.until_closed()


@pytest.mark.parametrize("stale", [stale_by_421, stale_by_closing, stale_in_the_content, stale_by_forgetting])
async def test_a_reused_connection_that_fails_is_replaced_once(serve, upstream, submission, stale):
    # In the content: more than the client writes before it learns that nobody reads.
    body = b"\r\n" + b"x" * 30_000_000 if stale is stale_in_the_content else b"\r\nHello\r\n"
    async with serve(stale, takes_all_large) as server:
        sender = upstream(server)
        assert (await sender.send(submission())).outcome is Outcome.ACCEPTED
        verdict = await sender.send(submission(body))
        await sender.close()
        assert len(server.wires) == 2
        assert server.most_open <= MAX_CONNECTIONS
    assert verdict.outcome is Outcome.ACCEPTED


async def takes_all_large(wire):
    await wire.let_in()
    await wire.envelope()
    tail = b""
    while not tail.endswith(b"\r\n.\r\n"):
        tail = (tail + await wire.reader.read(1 << 20))[-5:]
    await wire.say(b"250 2.0.0 ok\r\n")
    await wire.until_closed()


async def test_a_fresh_connection_that_fails_is_not_replaced(serve, upstream, submission):
    async def script(wire):
        await wire.let_in()
        await wire.hear(b"DATA\r\n")

    async with serve(script) as server:
        sender = upstream(server)
        verdict = await sender.send(submission())
        assert len(server.wires) == 1
    assert verdict.outcome is Outcome.DEFERRED
    assert verdict.key == "connection-lost"
    assert (sender.pool.in_use, sender.pool.idle) == (0, 0)


async def test_a_replacement_that_cannot_be_opened(serve, upstream, submission):
    async with serve(stale_by_closing, turns_away(b"454 4.7.0 not now\r\n")) as server:
        sender = upstream(server)
        await sender.send(submission())
        verdict = await sender.send(submission())
        assert len(server.wires) == 2
    assert verdict.reply.code == 454
    assert (sender.pool.in_use, sender.pool.idle) == (0, 0)


async def test_after_the_dot_nothing_is_tried_again(serve, upstream, submission):
    async def script(wire):
        await wire.let_in()
        await wire.message()
        await wire.envelope()
        await wire.hear(b"\r\n.\r\n")

    async with serve(script) as server:
        sender = upstream(server)
        await sender.send(submission())
        verdict = await sender.send(submission())
        assert len(server.wires) == 1
    assert verdict.outcome is Outcome.UNCERTAIN
    assert sender.pool.in_use == 0


async def test_a_refused_recipient_in_spite_of_354(serve, upstream, submission):
    async def script(wire):
        await wire.let_in()
        await wire.hear(b"DATA\r\n")
        await wire.say(b"250 ok\r\n250 ok\r\n550 5.1.1 no such user\r\n354 go\r\n")
        return await wire.until_closed()

    async with serve(script) as server:
        sender = upstream(server)
        verdict = await sender.send(submission(recipients=("good@x", "bad@x")))
        assert await server.finished.get() == b""  # dropped, without a byte of content
    assert verdict.outcome is Outcome.REFUSED
    assert "bad@x; nobody got the message" in verdict.sentence


# --- many at once, and what nobody expects ---------------------------------------------------------------


async def test_never_more_than_three_connections(serve, upstream, submission):
    async with serve(takes_all) as server:
        sender = upstream(server)
        verdicts = await asyncio.gather(*(sender.send(submission(number=number)) for number in range(10)))
        await sender.close()
        taken = [await server.finished.get() for _ in server.wires]
    assert {verdict.outcome for verdict in verdicts} == {Outcome.ACCEPTED}
    assert sum(taken) == 10
    assert server.most_open == MAX_CONNECTIONS


async def test_the_queue_has_an_end(serve, upstream, submission):
    held = asyncio.Event()

    async def script(wire):
        await wire.let_in()
        await wire.envelope()
        await held.wait()
        await wire.hear(b"\r\n.\r\n")
        await wire.say(b"250 ok\r\n")
        await wire.until_closed()

    async with serve(script) as server:
        sender = upstream(server, queue=0.2)
        sending = [asyncio.ensure_future(sender.send(submission())) for _ in range(MAX_CONNECTIONS + 1)]
        done, _ = await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)
        (late,) = done
        assert late.result().key == "queue-timeout"
        assert late.result().timings.queue > 0
        held.set()
        verdicts = await asyncio.gather(*sending)
        await sender.close()
    assert [verdict.outcome for verdict in verdicts].count(Outcome.ACCEPTED) == MAX_CONNECTIONS


class Unreadable(bytes):
    """Content that fails when it is about to be written."""

    def isascii(self) -> bool:
        raise ZeroDivisionError("secret detail")


async def test_an_unexpected_error_is_logged_and_not_told(serve, upstream, submission):
    async with serve(takes_all) as server:
        sender = upstream(server)
        with capture_logs() as logs:
            verdict = await sender.send(submission(header=Unreadable(b"Subject: hi\r\n")))
        assert sender.pool.in_use == 0
        await sender.close()
    assert verdict.outcome is Outcome.DEFERRED
    assert (verdict.key, verdict.reply.code, verdict.reply.enhanced) == ("internal-error", 451, "4.3.0")
    assert "secret detail" not in str(verdict)
    assert [(entry["event"], entry["exc_info"]) for entry in logs] == [("delivery_failed", True)]


async def test_an_unexpected_error_after_the_dot_is_uncertain(serve, upstream, submission, monkeypatch):
    monkeypatch.setattr("relay_app.delivery.outlook.uncertain", lambda text: 1 / 0)
    async with serve(drops_after_the_dot) as server:
        with capture_logs() as logs:
            verdict = await upstream(server).send(submission())
    assert verdict.outcome is Outcome.UNCERTAIN
    assert "internal error" in verdict.reply.text
    assert [entry["event"] for entry in logs] == ["delivery_failed"]


async def drops_after_the_dot(wire):
    await wire.let_in()
    await wire.envelope()
    await wire.hear(b"\r\n.\r\n")
