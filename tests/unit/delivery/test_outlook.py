"""One connection, against a scripted server: real sockets, real TLS."""

import asyncio
import socket
import ssl
import tracemalloc

import pytest

from relay_app.delivery.outlook import (
    Connection,
    ConnectionLost,
    Deadlines,
    SignInRefused,
    Undelivered,
    _unreachable,
    tls_context,
)
from relay_app.delivery.verdict import Outcome
from relay_app.settings import Endpoint

LARGE = b"\r\n" + (b"." + b"x" * 77 + b"\r\n") * 200_000  # 16 MB: more than any socket buffer holds


async def open_to(server, **deadlines):
    context = tls_context(server.cafile)
    return await Connection.open(server.endpoint, context, "relay.example.org", Deadlines(**deadlines))


@pytest.fixture
async def connect(tokens):
    """Return a signed-in connection to a server; it is closed at the end."""
    made = []

    async def make(server, **deadlines):
        connection = await open_to(server, **deadlines)
        made.append(connection)
        await connection.sign_in(await tokens.token())
        return connection

    yield make
    for connection in made:
        connection.abort()


async def forever(wire):
    """Say nothing more, but keep the connection open until the client closes it."""
    await wire.reader.read()


def lets_in_then(*steps):
    async def script(wire):
        await wire.let_in()
        for step in steps:
            await step(wire)

    return script


async def failure(awaitable, kind=Undelivered):
    with pytest.raises(kind) as caught:
        await awaitable
    verdict = caught.value.verdict
    assert verdict.outcome is Outcome.DEFERRED
    assert str(verdict.reply) == str(caught.value)
    return verdict


# --- connecting ------------------------------------------------------------------------------------------


def test_the_context_verifies_and_is_not_old():
    context = tls_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


async def test_nobody_listens(cafile):
    with socket.socket() as taken:  # bound, but not listening
        taken.bind(("127.0.0.1", 0))
        endpoint = Endpoint("127.0.0.1", taken.getsockname()[1])
        verdict = await failure(Connection.open(endpoint, tls_context(cafile), "relay", Deadlines()))
    assert verdict.key == "upstream-unreachable"
    assert verdict.reply.text == f"{endpoint} cannot be reached: Connection refused"
    assert not verdict.upstream


async def test_no_answer_in_time(cafile):
    opening = Connection.open(Endpoint("127.0.0.1", 9), tls_context(cafile), "relay", Deadlines(connect=0))
    verdict = await failure(opening)
    assert verdict.reply.text == "127.0.0.1:9 cannot be reached: no answer within 0 seconds"


def test_every_address_of_a_name_failed():
    verdict = _unreachable(Endpoint("mail.example", 587), OSError("Multiple exceptions: ..."), Deadlines())
    assert verdict.reply.text == "mail.example:587 cannot be reached: every address failed"


async def test_a_name_that_does_not_resolve(cafile):
    endpoint = Endpoint("::1%no-such-interface", 587)  # asks no name server
    verdict = await failure(Connection.open(endpoint, tls_context(cafile), "relay", Deadlines()))
    assert (verdict.key, verdict.reply.enhanced) == ("upstream-unknown", "4.4.3")


async def test_a_certificate_for_another_name(serve):
    async def script(wire):
        await wire.greet()

    async with serve(script, certificate_for="elsewhere.example") as server:
        verdict = await failure(open_to(server))
        assert isinstance(await server.finished.get(), (ssl.SSLError, ConnectionError))
    assert verdict.key == "upstream-certificate"
    assert "Hostname mismatch" in verdict.reply.text


async def test_a_certificate_of_an_unknown_authority(serve):
    async def script(wire):
        await wire.greet()

    async with serve(script) as server:
        await failure(Connection.open(server.endpoint, tls_context(), "relay", Deadlines()))
        assert isinstance(await server.finished.get(), (ssl.SSLError, ConnectionError))


async def test_a_handshake_that_fails(serve):
    async def script(wire):
        await wire.say(b"220 hi\r\n")
        await wire.hear()
        await wire.say(b"250-x\r\n250 STARTTLS\r\n")
        await wire.hear()
        await wire.say(b"220 go\r\n")
        await wire.reader.read(1)
        await wire.say(b"this is not TLS\r\n")

    async with serve(script) as server:
        verdict = await failure(open_to(server))
    assert (verdict.key, verdict.reply.enhanced) == ("tls-failed", "4.7.5")


async def test_no_starttls_means_no_token(serve):
    async def script(wire):
        await wire.say(b"220 hi\r\n")
        await wire.hear()
        await wire.say(b"250-x\r\n250 AUTH XOAUTH2\r\n")
        return await wire.reader.read()

    async with serve(script) as server:
        verdict = await failure(open_to(server))
        assert await server.finished.get() == b""
    assert verdict.key == "no-starttls"


async def test_plain_text_slipped_in_before_tls(serve):
    async def script(wire):
        await wire.say(b"220 hi\r\n")
        await wire.hear()
        await wire.say(b"250-x\r\n250 STARTTLS\r\n")
        await wire.hear()
        await wire.say(b"220 go\r\n250-x\r\n250 AUTH XOAUTH2\r\n")
        return await wire.reader.read()

    async with serve(script) as server:
        verdict = await failure(open_to(server))
        assert await server.finished.get() == b""  # no handshake was begun
    assert verdict.key == "protocol-error"
    assert "plain text after it had agreed to STARTTLS" in verdict.reply.text


async def test_refused_at_the_door(serve):
    async def script(wire):
        await wire.say(b"554 5.3.2 no\r\n")
        await forever(wire)

    async with serve(script) as server:
        verdict = await failure(open_to(server))
    assert verdict.key == "upstream-unavailable"


async def test_a_refused_token(serve, connect):
    async def script(wire):
        await wire.greet()
        await wire.hear()
        await wire.say(b"535 5.7.3 Authentication unsuccessful\r\n")
        await forever(wire)

    async with serve(script) as server:
        verdict = await failure(connect(server), SignInRefused)
    assert verdict.reply.code == 535


# --- sending ---------------------------------------------------------------------------------------------


async def test_a_message_and_goodbye(serve, connect, submission):
    async def script(wire):
        await wire.let_in()
        content = await wire.message(b"250 2.6.0 <1@x> Queued\r\n", recipients=2)
        return content, await wire.until_closed()

    async with serve(script) as server:
        connection = await connect(server)
        message = submission(b"\r\n.dot\r\n..\r\nno end", recipients=("a@x", "b@x"))
        verdict = await connection.send(message)
        assert connection.usable
        await connection.quit()
        assert not connection.usable
        content, rest = await server.finished.get()
    assert verdict.outcome is Outcome.ACCEPTED
    assert verdict.reply.text == "<1@x> Queued"
    assert content == b"Subject: hi\r\n\r\n..dot\r\n...\r\nno end\r\n.\r\n"
    assert rest == b"QUIT\r\n"
    assert connection.transactions == 1


async def test_a_message_that_the_upstream_cannot_take(serve, connect, submission):
    async with serve(lets_in_then(forever)) as server:
        connection = await connect(server)
        verdict = await connection.send(submission(sender="a\r\nb@x"))
        assert connection.usable
    assert verdict.outcome is Outcome.REFUSED


async def test_a_large_message_arrives_whole_and_is_never_copied_whole(serve, connect, submission):
    async def script(wire):
        await wire.let_in()
        await wire.envelope()
        octets, tail = 0, b""
        while not tail.endswith(b"\r\n.\r\n"):
            piece = await wire.reader.read(1 << 16)
            octets += len(piece)
            tail = (tail + piece)[-5:]
        await wire.say(b"250 2.0.0 ok\r\n")
        return octets

    async with serve(script) as server:
        connection = await connect(server)
        message = submission(LARGE)
        tracemalloc.start()
        try:
            verdict = await connection.send(message)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert await server.finished.get() == message.size + 200_000 + len(b".\r\n")
    assert verdict.outcome is Outcome.ACCEPTED
    assert peak < 4 * 1024 * 1024  # both ends' buffers included


async def test_early_refusal_while_the_content_is_written(serve, connect, submission):
    async def script(wire):
        await wire.let_in()
        await wire.envelope()
        await wire.say(b"552 5.3.4 too big\r\n")  # and reads no more
        await wire.writer.wait_closed()

    async with serve(script) as server:
        connection = await connect(server)
        verdict = await connection.send(submission(LARGE))
        assert not connection.usable
        connection.abort()
    assert verdict.outcome is Outcome.REFUSED
    assert verdict.key == "message-too-big"


async def test_refusal_right_behind_the_354(serve, connect, submission):
    async def script(wire):
        await wire.let_in()
        await wire.hear(b"DATA\r\n")
        await wire.say(b"250 ok\r\n250 ok\r\n354 go\r\n452 4.3.1 after all, no\r\n")
        return await wire.reader.read()

    async with serve(script) as server:
        connection = await connect(server)
        verdict = await connection.send(submission())
        connection.abort()
        assert await server.finished.get() == b""  # nothing of the content was sent
    assert verdict.reply.code == 452


# --- losing the connection -------------------------------------------------------------------------------


async def test_lost_before_content(serve, connect, submission):
    async def script(wire):
        await wire.let_in()
        await wire.hear(b"DATA\r\n")
        wire.drop()

    async with serve(script) as server:
        connection = await connect(server)
        verdict = await failure(connection.send(submission()), ConnectionLost)
        assert not connection.usable
    assert verdict.key == "connection-lost"


async def test_421_before_content(serve, connect, submission):
    async def script(wire):
        await wire.let_in()
        await wire.hear(b"DATA\r\n")
        await wire.say(b"421 4.3.2 shutting down\r\n")
        await forever(wire)

    async with serve(script) as server:
        connection = await connect(server)
        verdict = await failure(connection.send(submission()), ConnectionLost)
    assert verdict.reply.code == 421


async def test_lost_in_the_middle_of_the_content(serve, connect, submission):
    async def script(wire):
        await wire.let_in()
        await wire.envelope()
        await wire.reader.readexactly(100_000)
        wire.drop()

    async with serve(script) as server:
        connection = await connect(server)
        await failure(connection.send(submission(LARGE)), ConnectionLost)
        assert not connection.content_sent


async def test_lost_after_the_dot(serve, connect, submission):
    async def script(wire):
        await wire.let_in()
        await wire.envelope()
        await wire.hear(b"\r\n.\r\n")
        wire.drop()

    async with serve(script) as server:
        connection = await connect(server)
        verdict = await connection.send(submission())
        assert connection.content_sent
    assert verdict.outcome is Outcome.UNCERTAIN
    assert "may have taken it" in verdict.sentence
    assert "deliver it twice" in verdict.action


async def test_nonsense_after_the_dot(serve, connect, submission):
    async with serve(lets_in_then(lambda wire: wire.message(b"\x00\xff\r\n"), forever)) as server:
        connection = await connect(server)
        verdict = await connection.send(submission())
    assert verdict.outcome is Outcome.UNCERTAIN
    assert "does not speak SMTP" in verdict.reply.text


# --- stalls ----------------------------------------------------------------------------------------------


async def test_no_greeting(serve):
    async with serve(forever) as server:
        verdict = await failure(open_to(server, command=0.05))
    assert verdict.key == "upstream-timeout"
    assert "kept us waiting for the greeting for more than 0.05 seconds" in verdict.reply.text


async def test_no_handshake(serve):
    async def script(wire):
        await wire.say(b"220 hi\r\n")
        await wire.hear()
        await wire.say(b"250-x\r\n250 STARTTLS\r\n")
        await wire.hear()
        await wire.say(b"220 go\r\n")
        await forever(wire)

    async with serve(script) as server:
        verdict = await failure(open_to(server, connect=0.2))
    assert verdict.key == "tls-failed"


async def test_no_answer_to_auth(serve, connect):
    async def script(wire):
        await wire.greet()
        await forever(wire)

    async with serve(script) as server:
        verdict = await failure(connect(server, command=0.2))
    assert "the reply to AUTH" in verdict.reply.text


@pytest.mark.parametrize(
    ("said", "awaited", "deadline"),
    [
        (b"", "the reply to MAIL", "command"),
        (b"250 ok\r\n", "the reply to RCPT", "command"),
        (b"250 ok\r\n250 ok\r\n", "the reply to DATA", "data"),
    ],
)
async def test_no_answer_to_the_envelope(serve, connect, submission, said, awaited, deadline):
    async def script(wire):
        await wire.let_in()
        await wire.hear(b"DATA\r\n")
        await wire.say(said)
        await forever(wire)

    async with serve(script) as server:
        connection = await connect(server, **{deadline: 0.2})
        verdict = await failure(connection.send(submission()))
        assert not connection.usable
    assert f"{awaited} for more than 0.2 seconds" in verdict.reply.text


async def test_the_content_is_not_read(serve, connect, submission):
    async def script(wire):
        await wire.let_in()
        await wire.envelope()
        await wire.writer.wait_closed()

    async with serve(script) as server:
        connection = await connect(server, content=0.2)
        verdict = await failure(connection.send(submission(LARGE)))
        connection.abort()
    assert "it to read the message" in verdict.reply.text


async def test_no_final_reply(serve, connect, submission):
    async with serve(lets_in_then(lambda wire: wire.message(b""), forever)) as server:
        connection = await connect(server, final=0.2)
        verdict = await connection.send(submission())
    assert verdict.outcome is Outcome.UNCERTAIN
    assert "the reply to the final dot" in verdict.reply.text


# --- idle ------------------------------------------------------------------------------------------------


async def test_check(serve, connect):
    async def script(wire):
        await wire.let_in()
        await wire.hear()
        await wire.say(b"250 here\r\n")
        await wire.hear()
        await forever(wire)

    async with serve(script) as server:
        connection = await connect(server, check=0.2)
        assert await connection.check()
        assert connection.usable
        assert not await connection.check()
        assert not connection.usable


async def test_no_quit_on_a_connection_that_is_gone(serve, connect, until):
    async with serve(lets_in_then()) as server:
        connection = await connect(server)
        await until(lambda: not connection.usable)
        await connection.quit()


async def test_a_server_that_ignores_quit(serve, connect):
    async def script(wire):
        await wire.let_in()
        return await wire.reader.read()

    async with serve(script) as server:
        connection = await connect(server, quit=0.05)
        await connection.quit()
        assert await server.finished.get() == b"QUIT\r\n"


async def test_cancelled_while_connecting(serve):
    connected = asyncio.Event()

    async def script(wire):
        await wire.say(b"220 hi\r\n")
        await wire.hear()
        connected.set()
        return await wire.reader.read()

    async with serve(script) as server:
        opening = asyncio.ensure_future(open_to(server))
        await connected.wait()
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        assert await server.finished.get() == b""  # the connection was closed


def test_deadlines_by_command():
    deadlines = Deadlines()
    for command in ("the greeting", "EHLO", "STARTTLS", "AUTH", "RSET", "MAIL", "RCPT"):
        assert deadlines.reply_to(command) == deadlines.command
    assert deadlines.reply_to("DATA") == deadlines.data
    assert deadlines.reply_to("the final dot") == deadlines.final
    assert deadlines.reply_to("NOOP") == deadlines.check
    assert deadlines.reply_to("QUIT") == deadlines.quit
