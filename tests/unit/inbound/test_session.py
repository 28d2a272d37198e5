"""Sessions on a real listener, in literal octets.

The first tests are named for aiosmtpd's traps, one by one; each shows that we are not in it.
"""

import asyncio
import base64
import contextlib
import re
import secrets
import smtplib
import socket
import ssl
import struct
import warnings

import argon2
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from relay_app.delivery.verdict import Outcome, Verdict
from relay_app.errors import SmtpRefusal
from relay_app.inbound import session as module
from relay_app.inbound.session import Mode
from relay_app.mail.reply import Reply
from relay_app.settings import ForeignFrom

MAILBOX = "office@example.org"
HEADER = (
    f"From: {MAILBOX}\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n\r\n".encode()
)
CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def b64(octets):
    return base64.b64encode(octets).decode()


@pytest.fixture
async def relay(start):
    return await start()


@pytest.fixture
async def secured(relay):
    """A client after STARTTLS and EHLO."""
    client = await relay.connect()
    await client.ehlo()
    await client.start_tls()
    await client.ehlo()
    return client


@pytest.fixture
async def client(relay):
    """A client that has logged in."""
    return await relay.logged_in()


async def logged_in_alone(relay):
    """A logged-in client and its session."""
    client = await relay.logged_in()
    return client, relay.session


# aiosmtpd's traps: facts that its users found the hard way.


@pytest.mark.parametrize("command", ["AUTH PLAIN", "AUTH plain", "auth Plain", "aUtH pLaIn"])
async def test_trap_mechanism_names_are_case_sensitive(relay, secured, command):
    assert (await secured.ask(relay.plain().replace("AUTH PLAIN", command)))[0] == 235


async def test_trap_login_name_in_lower_case(relay, secured):
    assert (await secured.ask("auth login"))[0] == 334
    assert (await secured.ask(b64(MAILBOX.encode())))[0] == 334
    assert (await secured.ask(b64(relay.password.encode())))[0] == 235


async def test_trap_login_challenges_are_not_standard(relay, secured):
    assert await secured.ask("AUTH LOGIN") == (334, "VXNlcm5hbWU6")
    assert await secured.ask(b64(MAILBOX.encode())) == (334, "UGFzc3dvcmQ6")
    assert (await secured.ask(b64(relay.password.encode())))[0] == 235


async def test_login_with_an_initial_response(relay, secured):
    assert await secured.ask(f"AUTH LOGIN {b64(MAILBOX.encode())}") == (334, "UGFzc3dvcmQ6")
    assert (await secured.ask(b64(relay.password.encode())))[0] == 235


@pytest.mark.parametrize("mechanism", ["PLAIN", "PLAIN in two steps", "LOGIN"])
async def test_trap_long_auth_lines_are_cut(start, mechanism):
    """aiosmtpd ends a line at 512 octets. A name and a password of 255 octets make one of 680."""
    name = "n" * 243 + "@example.org"
    password = secrets.token_hex(128)[:255]
    relay = await start(device={"name": name, "password_hash": CHEAP.hash(password)})
    client = await relay.connect()
    await client.ehlo()
    await client.start_tls()
    await client.ehlo()
    plain = relay.plain(name, password)
    if mechanism == "PLAIN":
        assert len(plain) > 512
        reply = await client.ask(plain)
    elif mechanism == "LOGIN":
        await client.ask("AUTH LOGIN")
        await client.ask(b64(name.encode()))
        reply = await client.ask(b64(password.encode()))
    else:
        assert await client.ask("AUTH PLAIN") == (334, "")
        reply = await client.ask(plain.removeprefix("AUTH PLAIN "))
    assert reply == (235, "2.7.0 Authentication successful")


async def test_auth_line_at_its_limit(relay, secured):
    most = b"AUTH PLAIN " + b"A" * (12288 - 13)
    assert (await secured.ask(most))[0] == 501
    assert await secured.ask(most + b"A") == (500, "5.5.2 Line too long: the limit is 12288 octets")
    assert (await secured.ask("AUTH PLAIN"))[0] == 334
    assert await secured.ask(b"A" * 12288) == (500, "5.5.6 Line too long: the limit is 12288 octets")
    assert (await secured.ask(relay.plain()))[0] == 235


async def test_trap_the_timeout_covers_the_upload(relay, clock):
    """A slow upload takes longer than a command may, and is fine as long as octets keep coming."""
    client, session = await logged_in_alone(relay)
    await client.begin()
    assert (await client.ask("DATA"))[0] == 354
    began = clock()
    for octet in (HEADER + b"slowly\r\n.\r\n")[-20:-1]:
        size = len(session._intake._buffer)
        await client.send(bytes([octet]) if size else HEADER)
        await relay.until(lambda size=size: len(session._intake._buffer) > size)
        clock.advance(100)
    assert clock() - began > 5 * relay.listener.limits.command_timeout
    await client.send(b"\n")
    assert (await client.reply())[0] == 250


async def test_trap_the_timeout_covers_the_upstream(relay, client, clock):
    """A courier slower than a command may be is waited for."""
    relay.courier.hold()
    await client.begin()
    assert (await client.ask("DATA"))[0] == 354
    await client.send(HEADER + b".\r\n")
    await relay.until(lambda: relay.courier.submissions)
    for _ in range(8):
        clock.advance(100)
        await asyncio.sleep(0)
    relay.courier.go_on.set()
    assert (await client.reply())[0] == 250


async def test_a_silent_upload_ends(relay, client, clock):
    await client.begin()
    assert (await client.ask("DATA"))[0] == 354
    await relay.until(lambda: relay.session._intake._waiter)
    clock.advance(181)
    assert await client.reply() == (421, "4.4.2 Too long without a complete command or message. Closing")
    assert await client.rest() == b""
    assert relay.courier.submissions == []


async def test_an_upload_of_an_octet_now_and_then_is_bounded(relay, clock):
    client, session = await logged_in_alone(relay)
    await client.begin()
    assert (await client.ask("DATA"))[0] == 354
    for number in range(24):
        await client.send(b"x")
        await relay.until(lambda number=number: len(session._intake._buffer) > number)
        clock.advance(149)
    clock.advance(100)
    assert (await client.reply())[0] == 421
    assert relay.courier.submissions == []


async def test_silence_ends_a_session(relay, client, clock):
    await relay.until(lambda: relay.session._intake._waiter)
    clock.advance(299)
    await asyncio.sleep(0)
    assert (await client.ask("NOOP"))[0] == 250
    await relay.until(lambda: relay.session._intake._waiter)
    clock.advance(301)
    assert (await client.reply())[0] == 421
    assert await client.rest() == b""


async def test_silence_before_the_login_ends_a_session_sooner(relay, clock):
    client = await relay.connect()
    await relay.until(lambda: relay.session._intake._waiter)
    clock.advance(61)
    assert (await client.reply())[0] == 421
    await relay.until(lambda: not relay.sessions)


async def test_a_session_without_login_ends_however_busy_it_is(relay, clock):
    """Else a few hosts could hold all connections for as long as they like."""
    client = await relay.connect()
    for _ in range(5):
        assert (await client.ask("NOOP"))[0] == 250
        clock.advance(55)
    assert (await client.ask("NOOP"))[0] == 250
    await relay.until(lambda: relay.session._intake._waiter)
    clock.advance(26)
    assert (await client.reply())[0] == 421


@pytest.mark.parametrize("mechanism", ["AUTH PLAIN", "AUTH LOGIN"])
async def test_silence_in_the_login_ends_a_session(relay, secured, clock, mechanism):
    assert (await secured.ask(mechanism))[0] == 334
    await relay.until(lambda: relay.session._intake._waiter)
    clock.advance(61)
    assert (await secured.reply())[0] == 421


ERRORS = [RuntimeError, TimeoutError, ConnectionResetError, OSError, KeyError]


@pytest.mark.parametrize("kind", ERRORS)
async def test_trap_exception_text_leaks(relay, client, events, kind):
    planted = secrets.token_hex(8)
    relay.courier.verdict = kind(planted)
    code, text = await client.submit()
    assert code == 451
    assert "may or may not have gone out" in text  # nobody knows how far the courier came
    assert planted not in text
    assert kind.__name__ not in text
    [event] = events("delivery_failed")
    assert event["exc_info"] is True
    assert event["recipients"] == "friend@example.net"
    relay.courier.verdict = Verdict(Outcome.ACCEPTED, Reply(250, "2.0.0", "OK"))
    assert (await client.submit())[0] == 250


async def test_trap_exception_text_of_a_command_leaks(relay, client, events, monkeypatch):
    planted = secrets.token_hex(8)

    def fail(*_args):
        raise RuntimeError(planted)

    monkeypatch.setattr(module, "judge_sender", fail)
    code, text = await client.ask(f"MAIL FROM:<{MAILBOX}>")
    assert (code, text) == (451, "4.3.0 Internal error in the relay; nothing was sent. Try again later")
    assert len(events("session_failed")) == 1
    monkeypatch.undo()
    assert (await client.submit())[0] == 250


async def test_trap_failed_logins_are_not_limited(relay, secured, events):
    wrong = relay.plain(password="wrong")
    first = await secured.ask(wrong)
    assert first[0] == 535
    assert await secured.ask(wrong) == first
    assert await secured.ask(wrong) == first
    assert await secured.rest() == b""
    assert [event["device"] for event in events("login_refused")] == [MAILBOX] * 3


async def test_guessing_ends_in_a_ban(relay, clock):
    for _ in range(4):
        client = await relay.connect()
        await client.ehlo()
        await client.start_tls()
        await client.ehlo()
        for _ in range(3):
            await client.send(relay.plain(password="wrong").encode() + b"\r\n")
            answer = asyncio.create_task(client.reply())
            while not answer.done():
                clock.advance(0.1)  # the throttle makes us wait
                await asyncio.sleep(0.001)
            code, text = answer.result()
    assert code == 454
    assert "127.0.0.1" in text


async def test_an_unknown_name_is_not_logged(relay, secured, events, log):
    """People type passwords into the wrong field."""
    typed = secrets.token_hex(8)
    assert (await secured.ask(relay.plain(name=typed)))[0] == 535
    assert events("login_refused")[0]["device"] == "unknown"
    assert typed not in repr(log.entries)
    assert relay.password not in repr(log.entries)


async def test_trap_auth_is_missing_on_465(start):
    relay = await start(Mode.IMPLICIT_TLS)
    client = await relay.connect(ssl=relay.trust, server_hostname="relay.example.org")
    assert "AUTH PLAIN LOGIN" in await client.ehlo()
    assert (await client.ask(relay.plain()))[0] == 235
    assert (await client.submit())[0] == 250


async def test_465_offers_no_starttls(start):
    relay = await start(Mode.IMPLICIT_TLS)
    client = await relay.connect(ssl=relay.trust, server_hostname="relay.example.org")
    assert "STARTTLS" not in await client.ehlo()
    assert await client.ask("STARTTLS") == (503, "5.5.1 TLS is active already")


@pytest.mark.parametrize(
    "parameters",
    [
        "AUTH=<>",
        "AUTH=e+3Dmc2@example.com",
        "SIZE=1000",
        "BODY=7BIT",
        "BODY=8BITMIME",
        "body=8bitmime size=12",
        "SMTPUTF8",
        "SIZE=1000 BODY=8BITMIME SMTPUTF8 AUTH=<>",
    ],
)
async def test_trap_mail_parameters(client, parameters):
    assert await client.ask(f"MAIL FROM:<{MAILBOX}> {parameters}") == (250, "2.1.0 Sender OK")


@pytest.mark.parametrize(
    ("parameters", "code", "enhanced"),
    [
        ("RET=HDRS", 555, "5.5.4"),
        ("ENVID=1 SIZE=1", 555, "5.5.4"),
        ("NONSENSE", 555, "5.5.4"),
        ("BODY", 501, "5.5.4"),
        ("BODY=BINARYMIME", 501, "5.5.4"),
        ("SIZE", 501, "5.5.4"),
        ("SIZE=", 501, "5.5.4"),
        ("SIZE=many", 501, "5.5.4"),
        ("SIZE=-1", 501, "5.5.4"),
        ("SIZE=1 SIZE=2", 501, "5.5.4"),
        ("SMTPUTF8=yes", 501, "5.5.4"),
        (f"SIZE={35 * 2**20 + 1}", 552, "5.3.4"),
        ("SIZE=" + "9" * 1000, 552, "5.3.4"),
    ],
)
async def test_bad_mail_parameters(client, parameters, code, enhanced):
    reply = await client.ask(f"MAIL FROM:<{MAILBOX}> {parameters}")
    assert (reply[0], reply[1].split()[0]) == (code, enhanced)
    assert (await client.submit())[0] == 250


async def test_size_at_the_limit(client):
    assert (await client.ask(f"MAIL FROM:<{MAILBOX}> SIZE={35 * 2**20}"))[0] == 250


async def test_bad_rcpt_parameters(client):
    assert (await client.ask(f"MAIL FROM:<{MAILBOX}>"))[0] == 250
    code, text = await client.ask("RCPT TO:<a@example.net> NOTIFY=NEVER")
    assert (code, text) == (555, "5.5.4 Unknown parameter NOTIFY")


async def test_the_envelope_reaches_the_courier(relay, client):
    await client.begin("a@example.net", "BODY=8BITMIME", "SMTPUTF8")
    assert (await client.ask("RCPT TO:<élise@example.net>"))[0] == 250
    assert (await client.data(HEADER + b".\r\n"))[0] == 250
    [submission] = relay.courier.submissions
    envelope = submission.envelope
    assert (envelope.sender, envelope.recipients) == (MAILBOX, ("a@example.net", "élise@example.net"))
    assert (envelope.body_8bit, envelope.smtputf8) == (True, True)
    assert (submission.device, submission.mailbox) == (MAILBOX, MAILBOX)
    assert submission.client == "127.0.0.1"


@pytest.mark.parametrize("length", [998, 999, 1001, 5000, 1_000_000])
async def test_trap_long_lines_in_data(relay, client, length):
    body = b"x" * length + b"\r\n"
    assert (await client.submit(body))[0] == 250
    assert relay.courier.contents == [HEADER + body]


async def test_trap_pipelining(relay, client):
    """RFC 2920: commands in one packet are answered in order, and their replies leave together."""
    assert "PIPELINING" in await client.ehlo()
    group = [
        f"MAIL FROM:<{MAILBOX}>",
        "RCPT TO:<a@example.net>",
        "NONSENSE",
        "RCPT TO:<b@example.net>",
        "DATA",
    ]
    writes = []
    write = relay.session.transport.write
    relay.session.transport.write = lambda octets: (writes.append(octets), write(octets))
    await client.send("".join(f"{line}\r\n" for line in group).encode())
    assert [(await client.reply())[0] for _ in group] == [250, 250, 500, 250, 354]
    assert len(writes) == 1
    again = [f"MAIL FROM:<{MAILBOX}>", "RCPT TO:<c@example.net>", "DATA"]
    await client.send(HEADER + b".\r\n" + "".join(f"{line}\r\n" for line in again).encode())
    assert [(await client.reply())[0] for _ in range(4)] == [250, 250, 250, 354]
    await client.send(HEADER + b".\r\nQUIT\r\n")
    assert [(await client.reply())[0] for _ in range(2)] == [250, 221]
    recipients = [submission.envelope.recipients for submission in relay.courier.submissions]
    assert recipients == [("a@example.net", "b@example.net"), ("c@example.net",)]


async def test_pipelined_replies_are_not_held_back_by_half_a_command(client):
    await client.send(b"NOOP\r\nNO")
    assert (await client.reply())[0] == 250
    await client.send(b"OP\r\n")
    assert (await client.reply())[0] == 250


async def test_trap_helo_sessions_cannot_log_in(relay):
    client = await relay.connect()
    assert await client.ask("HELO old", bare=True) == (250, "relay.example.org")
    await client.start_tls()
    assert (await client.ask("HELO old", bare=True))[0] == 250
    assert (await client.ask(relay.plain()))[0] == 235
    assert (await client.submit())[0] == 250


async def test_trap_the_authenticator_blocks_the_loop(relay, secured, monkeypatch):
    """While one client's password is being checked, another is served."""
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def verify(*_args):
        asked.set()
        await go_on.wait()
        return relay.device

    monkeypatch.setattr(relay.devices, "verify", verify)
    await secured.send(relay.plain().encode() + b"\r\n")
    await asked.wait()
    other = await relay.connect()
    assert (await other.ask("NOOP"))[0] == 250
    go_on.set()
    assert (await secured.reply())[0] == 235


async def test_the_offers(relay, secured):
    offers = ["SIZE 36700160", "8BITMIME", "SMTPUTF8", "PIPELINING", "ENHANCEDSTATUSCODES"]
    assert await secured.ehlo() == ["relay.example.org", *offers, "AUTH PLAIN LOGIN"]
    plain = await relay.connect()
    assert await plain.ehlo() == ["relay.example.org", *offers, "STARTTLS"]


# Authentication.


async def test_plain_without_initial_response(relay, secured):
    assert await secured.ask("AUTH PLAIN") == (334, "")
    assert (await secured.ask(relay.plain().split()[-1]))[0] == 235


async def test_plain_with_an_authorization_identity(relay, secured):
    response = b64(f"somebody\0{MAILBOX}\0{relay.password}".encode())
    assert (await secured.ask(f"AUTH PLAIN {response}"))[0] == 235


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (["AUTH PLAIN ="], 501),
        (["AUTH PLAIN *"], 501),
        (["AUTH PLAIN", "*"], 501),
        (["AUTH PLAIN", ""], 501),
        (["AUTH PLAIN", "="], 501),
        (["AUTH PLAIN !!!"], 501),
        (["AUTH PLAIN AAA"], 501),
        (["AUTH PLAIN", b"\xff\xfe"], 501),
        (["AUTH PLAIN " + b64(b"name\0password")], 501),
        (["AUTH PLAIN " + b64(b"a\0b\0c\0d")], 501),
        (["AUTH LOGIN", "*"], 501),
        (["AUTH LOGIN", "bmFtZQ==", "*"], 501),
        (["AUTH LOGIN", "not base64!"], 501),
        (["AUTH LOGIN =", "="], 535),
        (["AUTH"], 504),
        (["AUTH CRAM-MD5"], 504),
        (["AUTH XOAUTH2 dGVzdA=="], 504),
    ],
)
async def test_a_login_that_goes_wrong(relay, secured, lines, code):
    for line in lines[:-1]:
        assert (await secured.ask(line))[0] == 334
    assert (await secured.ask(lines[-1]))[0] == code
    assert (await secured.ask(f"MAIL FROM:<{MAILBOX}>"))[0] == 530
    assert (await secured.ask(relay.plain()))[0] == 235


async def test_a_second_login(relay, client):
    assert await client.ask(relay.plain()) == (503, "5.5.1 Logged in already")


async def test_login_before_ehlo(relay):
    client = await relay.connect()
    await client.start_tls()
    assert await client.ask(relay.plain()) == (503, "5.5.1 Send EHLO first")


async def test_a_refusal_by_the_throttle_reaches_the_client(relay, secured, monkeypatch):
    async def verify(*_args):
        raise SmtpRefusal(454, "4.7.0", "Too many failed logins")

    monkeypatch.setattr(relay.devices, "verify", verify)
    assert await secured.ask(relay.plain()) == (454, "4.7.0 Too many failed logins")


async def test_a_reload_ends_the_sessions_of_a_removed_device(relay, client):
    assert (await client.submit())[0] == 250
    relay.devices.replace([])
    code, text = await client.ask(f"MAIL FROM:<{MAILBOX}>")
    assert (code, text) == (421, "4.7.0 The settings of this device have changed. Log in again")
    assert await client.rest() == b""


# Before TLS, and TLS.


@pytest.mark.parametrize(
    "command",
    [
        "MAIL FROM:<a@example.org>",
        "RCPT TO:<a@example.org>",
        "DATA",
        "AUTH PLAIN",
        "VRFY x",
        "EXPN x",
        "HELP",
    ],
)
async def test_nothing_is_done_before_tls(relay, command):
    client = await relay.connect()
    await client.ehlo()
    assert (await client.ask(command))[0] == 530
    assert (await client.ask(relay.plain()))[0] == 530


@pytest.mark.parametrize("command", ["NOOP", "RSET", "NOOP with words", "noop"])
async def test_what_is_allowed_before_tls(relay, command):
    client = await relay.connect()
    assert (await client.ask(command))[0] == 250


async def test_mail_before_login(secured):
    for command in (f"MAIL FROM:<{MAILBOX}>", "RCPT TO:<a@example.net>", "DATA", "VRFY x"):
        assert (await secured.ask(command))[0] == 530


async def test_tls_forgets_what_was_said_before(relay):
    client = await relay.connect()
    await client.ehlo()
    await client.start_tls()
    assert (await client.ask(relay.plain()))[0] == 503
    await client.log_in()
    assert (await client.submit())[0] == 250
    assert b"from client.example.net ([127.0.0.1])" in relay.courier.submissions[0].header


@pytest.mark.parametrize(
    "injected", [b"EHLO evil\r\n", b"N", b"AUTH PLAIN AAAA\r\nMAIL FROM:<a@b>\r\n", b"\r\n"]
)
async def test_starttls_injection(relay, injected):
    """CVE-2024-34083: what is pipelined after STARTTLS is never executed, and the connection ends."""
    client = await relay.connect()
    await client.ehlo()
    await client.send(b"STARTTLS\r\n" + injected)
    assert await client.reply() == (421, "4.7.0 Commands after STARTTLS, before TLS. Closing")
    assert await client.rest() == b""
    await relay.works()


async def test_starttls_injection_in_a_packet_of_its_own(relay):
    client = await relay.connect()
    await client.ehlo()
    assert (await client.ask("STARTTLS"))[0] == 220
    await client.send(b"EHLO evil\r\n")
    assert b"250" not in await client.rest()
    await relay.works()


async def test_starttls_with_an_argument(relay):
    client = await relay.connect()
    assert await client.ask("STARTTLS now") == (501, "5.5.4 Syntax: STARTTLS")


async def test_starttls_twice(secured):
    assert (await secured.ask("STARTTLS"))[0] == 503


async def test_tls_1_1_is_refused(relay, events):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that is the point
        context.minimum_version = ssl.TLSVersion.TLSv1_1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    client = await relay.connect()
    await client.ehlo()
    assert (await client.ask("STARTTLS"))[0] == 220
    with pytest.raises(OSError):  # noqa: PT011 - what it hears depends on Python's version
        await client.writer.start_tls(context)
    await relay.until(lambda: not relay.sessions)
    assert "UNSUPPORTED_PROTOCOL" in events("tls_handshake_failed")[0]["reason"]
    await relay.works()


async def test_a_failed_handshake_leaves_nothing_behind(relay, clock, events):
    """asyncio does not report the end of such a connection: the session must end by itself."""
    client = await relay.connect()
    session = relay.session
    await client.ehlo()
    assert (await client.ask("STARTTLS"))[0] == 220
    await client.send(b"no handshake\r\n" * 10)
    await client.rest()
    await relay.until(lambda: not relay.sessions)
    assert len(events("tls_handshake_failed")) == 1
    clock.advance(11)
    await relay.until(lambda: session._timeout_handle.when() < clock())


async def test_a_client_that_leaves_during_the_handshake(relay):
    client = await relay.connect()
    await client.ehlo()
    assert (await client.ask("STARTTLS"))[0] == 220
    client.writer.transport.abort()
    await relay.until(lambda: not relay.sessions)
    await relay.works()


async def test_a_handshake_without_end(relay, clock):
    client = await relay.connect()
    await client.ehlo()
    assert (await client.ask("STARTTLS"))[0] == 220
    await relay.until(lambda: relay.session._tls_begun)
    await asyncio.sleep(0)
    clock.advance(31)
    await relay.until(lambda: not relay.sessions)


async def test_a_transport_that_closes_in_the_handshake(relay, monkeypatch):
    async def no_transport(*_args, **_kwargs):
        return None

    client = await relay.connect()
    await client.ehlo()
    monkeypatch.setattr(asyncio.get_running_loop(), "start_tls", no_transport)
    assert (await client.ask("STARTTLS"))[0] == 220
    assert await client.rest() == b""


@pytest.mark.parametrize("octets", [b"", b"EHLO plain\r\n", b"GET / HTTP/1.1\r\n\r\n"])
async def test_plain_text_on_465(start, octets):
    relay = await start(Mode.IMPLICIT_TLS)
    client = await relay.raw()
    await client.send(octets)
    client.writer.write_eof()
    assert b"220" not in await client.rest()
    await relay.until(lambda: not relay.sessions)


async def test_tls_and_away(start, caplog):
    """What certificate checks do: a handshake, and the end at once."""
    relay = await start(Mode.IMPLICIT_TLS)
    client = await relay.raw()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = relay.trust.wrap_bio(incoming, outgoing, server_hostname="relay.example.org")
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            await client.send(outgoing.read())
            incoming.write(await client.reader.read(65536))
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.unwrap()
    await client.send(outgoing.read())  # the last of the handshake and the end, in one packet
    await relay.until(lambda: not relay.sessions)
    assert caplog.text == ""


async def test_the_end_of_input_is_not_the_end_of_the_replies(relay):
    client = await relay.raw()
    await client.send(b"EHLO x\r\nNOOP\r\n")
    client.writer.write_eof()
    await client.reply(bare=True)
    await client.reply(bare=True)
    assert (await client.reply())[0] == 250
    assert await client.rest() == b""


async def test_a_client_that_does_not_read_is_cut_off(relay, clock):
    """Else its socket would stay for as long as it likes, and not be counted."""
    client = await relay.raw()
    client.writer.transport.pause_reading()
    client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    await relay.until(lambda: relay.sessions)
    session = relay.session
    await client.send(b"EHLO x\r\n" * 1999)
    await relay.until(lambda: session._commands == 2000)
    session._replies += b"250 2.0.0 OK\r\n" * 1_000_000  # more than the system's buffers take
    await client.send(b"QUIT\r\n")
    await relay.until(lambda: not relay.sessions)
    assert session.transport is not None
    clock.advance(11)
    await relay.until(lambda: session.transport is None)


# Commands.


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"", 500),
        (b" ", 500),
        (b" NOOP", 500),
        (b"NONSENSE", 500),
        (b"NOOPNOOPNOOPNOOPNOOP", 500),
        (b"\0", 500),
        (b"NOOP\0", 500),
        (b"NO\0OP", 500),
        (b"\xff\xfe\xfd", 500),
        (b"NOOP \xff\xfe", 501),
        (b"GET / HTTP/1.1", 500),
        (b"handle_client", 500),
        (b"BDAT 10 LAST", 500),
        (b"VRFY somebody", 502),
        (b"EXPN list", 502),
        (b"HELP", 502),
        (b"DATA", 503),
        (b"RCPT TO:<a@example.net>", 503),
        (b"EHLO", 501),
        (b"HELO ", 501),
        (b"MAIL", 501),
        (b"MAIL <a@example.org>", 501),
        (b"MAIL FROM:", 501),
        (b"MAIL FROM:<office@example.org\0>", 501),
        (b"MAIL FROM:<>", 550),
        (b"MAIL FROM:<stranger@example.net>", 550),
        ("MAIL FROM:<öffice@example.org>".encode(), 553),
        (b"NOOP " + b"x" * 2043, 250),
        (b"NOOP " + b"x" * 2044, 500),
        (b"NOOP " + b"x" * 20_000, 500),
        (b"noop", 250),
        (b"NOOP\t ", 250),
        (b"RSET", 250),
    ],
)
async def test_a_command(client, line, code):
    assert (await client.ask(line))[0] == code
    assert (await client.submit())[0] == 250


async def test_bare_lf_ends_a_command(client):
    await client.send(b"NOOP\nRSET\n\nNOOP\r\n")
    assert [(await client.reply())[0] for _ in range(4)] == [250, 250, 500, 250]


async def test_a_malformed_sender_and_a_malformed_recipient_have_their_own_codes(client):
    assert (await client.ask("MAIL FROM:<a b@example.org>"))[1].startswith("5.1.7")
    assert (await client.ask(f"MAIL FROM:<{MAILBOX}>"))[0] == 250
    assert (await client.ask("RCPT TO:<a b@example.org>"))[1].startswith("5.1.3")
    assert await client.ask("RCPT TO:<>") == (553, "5.1.3 The recipient's address is empty")
    assert await client.ask("RCPT FROM:<a@example.net>") == (501, "5.5.4 Syntax: RCPT TO:<address>")
    assert (await client.ask("RCPT TO:<élise@example.net>"))[0] == 553


async def test_the_order_of_commands(relay, client):
    assert (await client.ask(f"MAIL FROM:<{MAILBOX}>"))[0] == 250
    assert (await client.ask(f"MAIL FROM:<{MAILBOX}>"))[0] == 503
    assert await client.ask("DATA") == (554, "5.5.1 No valid recipients")
    assert (await client.ask("RCPT TO:<a@example.net>"))[0] == 250
    assert (await client.ask("DATA now"))[0] == 501
    for reset in ("RSET", "EHLO again"):
        assert (await client.ask(reset, bare=True))[0] == 250
        assert (await client.ask("RCPT TO:<a@example.net>"))[0] == 503
        assert (await client.ask("DATA"))[0] == 503
        assert (await client.ask(f"MAIL FROM:<{MAILBOX}>"))[0] == 250
        assert (await client.ask("RCPT TO:<a@example.net>"))[0] == 250
    assert relay.courier.submissions == []


async def test_quit(relay, client):
    assert await client.ask("QUIT") == (221, "2.0.0 Goodbye")
    assert await client.rest() == b""
    await relay.until(lambda: not relay.sessions)


async def test_commands_are_limited(start):
    relay = await start(commands=10)
    client = await relay.connect()
    await client.send(b"NOOP\r\n" * 12)
    replies = [await client.reply() for _ in range(11)]
    assert replies[-1] == (421, "4.7.0 More than 10 commands. Closing")
    assert await client.rest() == b""


async def test_an_accepted_message_earns_new_commands(start):
    relay = await start(commands=10)
    client = await relay.logged_in()
    for _ in range(5):
        assert (await client.submit())[0] == 250


async def test_a_refused_message_does_not(start):
    relay = await start(commands=10)
    relay.courier.verdict = Verdict(Outcome.REFUSED, Reply(550, "5.1.1", "Nobody here"))
    client = await relay.logged_in()
    replies = [await client.submit()]  # EHLO, STARTTLS, EHLO, AUTH, MAIL, RCPT, DATA: seven
    await client.send(b"NOOP\r\n" * 4)
    replies += [await client.reply() for _ in range(4)]
    assert [code for code, _ in replies] == [550, 250, 250, 250, 421]


async def test_refused_commands_in_a_row_are_limited(relay):
    client = await relay.connect()
    await client.send(b"NONSENSE\r\n" * 49 + b"NOOP\r\n" + b"NONSENSE\r\n" * 50)
    codes = [(await client.reply())[0] for _ in range(101)]
    assert codes == [500] * 49 + [250] + [500] * 50 + [421]
    assert await client.rest() == b""


async def test_recipients_are_limited(relay, client):
    assert (await client.ask(f"MAIL FROM:<{MAILBOX}>"))[0] == 250
    await client.send(b"".join(b"RCPT TO:<r%d@example.net>\r\n" % number for number in range(502)))
    replies = [await client.reply() for _ in range(502)]
    assert {code for code, _ in replies[:500]} == {250}
    assert {code for code, _ in replies[500:]} == {452}
    assert replies[500][1].startswith("4.5.3 More than 500 recipients.")
    assert (await client.data(HEADER + b".\r\n"))[0] == 250
    assert len(relay.courier.submissions[0].envelope.recipients) == 500


async def test_the_log_names_the_first_recipients_only(relay, client, events):
    assert (await client.ask(f"MAIL FROM:<{MAILBOX}>"))[0] == 250
    await client.send(b"".join(b"RCPT TO:<r%d@example.net>\r\n" % number for number in range(60)))
    for _ in range(60):
        await client.reply()
    assert (await client.data(HEADER + b".\r\n"))[0] == 250
    assert events("message")[0]["recipients"].endswith(",r49@example.net and 10 more")


# The verdict.

VERDICTS = [
    (Verdict(Outcome.ACCEPTED, Reply(250, "2.6.0", "Queued mail for delivery")), 250, "2.6.0", "info"),
    (
        Verdict(Outcome.REFUSED, Reply(554, "5.2.252", "SendAsDenied"), "Why.", "What to do."),
        554,
        "5.2.252",
        "warning",
    ),
    (
        Verdict(Outcome.DEFERRED, Reply(432, "4.3.2", "Concurrent connections"), "Why."),
        451,
        "4.3.2",
        "warning",
    ),
    (Verdict(Outcome.UNCERTAIN, Reply(451, "4.4.2", "Lost"), "Why.", upstream=False), 451, "4.4.2", "error"),
]


@pytest.mark.parametrize(("verdict", "code", "enhanced", "level"), VERDICTS)
async def test_the_client_hears_the_verdict(relay, client, events, verdict, code, enhanced, level):
    relay.courier.verdict = verdict
    reply = await client.submit()
    assert reply[0] == code
    assert reply[1].startswith(enhanced)
    for words in (verdict.reply.text, verdict.sentence, verdict.action, relay.courier.submissions[0].id):
        assert words in reply[1]
    [event] = events("message")
    assert event["log_level"] == level
    assert event["verdict"] == verdict.outcome.value
    assert event["reply"] == str(verdict.reply)
    assert event["id"] == relay.courier.submissions[0].id


async def test_what_is_logged_of_a_message(relay, client, events, log):
    planted = secrets.token_hex(8)
    await client.begin("friend@example.net")
    assert (
        await client.data(b"Subject: %s\r\n" % planted.encode() + HEADER + planted.encode() + b"\r\n.\r\n")
    )[0] == 250
    [event] = events("message")
    assert event["device"] == event["sender"] == MAILBOX
    assert event["client"] == "127.0.0.1"
    assert event["recipients"] == "friend@example.net"
    assert event["size"] == relay.courier.submissions[0].size
    assert planted not in repr(log.entries)
    assert relay.password not in repr(log.entries)


async def test_a_foreign_from(relay, client, events):
    await client.begin()
    code, text = await client.data(HEADER.replace(MAILBOX.encode(), b"boss@example.org") + b".\r\n")
    assert code == 550
    assert text.startswith("5.7.1")
    assert relay.courier.submissions == []
    [event] = events("message_refused")
    assert event["reply"].startswith("550 5.7.1")
    assert event["id"] in text
    assert (await client.submit())[0] == 250


async def test_a_device_with_rules_of_its_own(start):
    device = {"senders": ("*@example.net",), "foreign_from": ForeignFrom.REWRITE}
    relay = await start(device=device)
    client = await relay.logged_in()
    assert (await client.ask("MAIL FROM:<any@example.net>"))[0] == 250
    assert (await client.ask("RCPT TO:<a@example.net>"))[0] == 250
    assert (await client.data(HEADER.replace(MAILBOX.encode(), b"boss@example.com") + b".\r\n"))[0] == 250
    assert b"Reply-To: boss@example.com" in relay.courier.submissions[0].header


async def test_the_trace_field(relay, client):
    assert (await client.submit())[0] == 250
    [submission] = relay.courier.submissions
    trace = submission.header.decode().partition("From:")[0]
    assert trace.startswith(
        "Received: from client.example.net ([127.0.0.1])\r\n\tby relay.example.org with ESMTPSA"
    )
    assert submission.id in trace
    assert "(version=TLSv1.3 cipher=TLS_" in trace
    assert "for <friend@example.net>" in trace


# Content and sizes.


@pytest.mark.parametrize(
    ("wire", "content"),
    [
        (HEADER + b".\r\n", HEADER),
        (HEADER + b"..\r\n.\r\n", HEADER + b".\r\n"),
        (HEADER + b"...a\r\na.\r\n.\r\n", HEADER + b"..a\r\na.\r\n"),
        (HEADER + b".single\r\n.\r\n", HEADER + b"single\r\n"),
        (HEADER + b"\x01\x80\xff\r\n.\r\n", HEADER + b"\x01\x80\xff\r\n"),
        (HEADER + b"\r\n\r\n.\r\n", HEADER + b"\r\n\r\n"),
    ],
)
async def test_content(relay, client, wire, content):
    await client.begin()
    assert (await client.data(wire))[0] == 250
    assert relay.courier.contents == [content]


async def test_an_empty_message(start):
    relay = await start(device={"foreign_from": ForeignFrom.REWRITE})
    client = await relay.logged_in()
    await client.begin()
    assert (await client.data(b".\r\n"))[0] == 250
    [submission] = relay.courier.submissions
    assert submission.body == b""
    assert f"From: {MAILBOX}\r\n".encode() in submission.header


@pytest.mark.parametrize("wire", [b"X: \0\r\n" + HEADER, HEADER + b"\0\r\n", HEADER + b".\0\r\n"])
async def test_nul_in_content(relay, client, wire):
    await client.begin()
    code, text = await client.data(wire + b".\r\n")
    assert (code, text.split()[0]) == (550, "5.6.0")
    assert relay.courier.submissions == []
    assert (await client.submit())[0] == 250


SMUGGLING = {
    "LF.LF": b"\n.\n",
    "CR.CR": b"\r.\r",
    "CRLF.CR": b"\r\n.\r",
    "LF.CRLF": b"\n.\r\n",
    "CRLF.LF": b"\r\n.\n",
    "CR.CRLF": b"\r.\r\n",
    "CRLF.CRCRLF": b"\r\n.\r\r\n",
    "CRCRLF.CRLF": b"\r\r\n.\r\n",
    "LF.CR": b"\n.\r",
}


@pytest.mark.parametrize("ending", SMUGGLING.values(), ids=SMUGGLING.keys())
@pytest.mark.parametrize("first", [True, False], ids=["at the beginning", "within"])
async def test_smuggling(relay, client, ending, first):
    """CVE-2023-51764 and its kin: only CRLF.CRLF ends a message, and nothing within it is executed."""
    smuggled = f"MAIL FROM:<{MAILBOX}>\r\nRCPT TO:<victim@example.net>\r\nDATA\r\n".encode() + HEADER
    await client.begin()
    wire = (ending.removeprefix(b"\r\n") if first else HEADER + b"one" + ending) + smuggled
    # CRCRLF.CRLF ends like CRLF.CRLF: what follows are commands, and the message is refused for its CR.
    over = b"\r\n.\r\n" in wire
    code, text = await client.data(wire if over else wire + b"two\r\n.\r\n")
    assert (code, text.split()[0]) == (550, "5.6.0")
    if not over:
        assert (await client.ask("NOOP"))[0] == 250
    assert relay.courier.submissions == []


async def test_exactly_at_the_limit(start):
    relay = await start(message_size=10_000)
    client = await relay.logged_in()
    assert "SIZE 10000" in await client.ehlo()
    body = b"x" * (10_000 - len(HEADER) - 2) + b"\r\n"
    assert (await client.submit(body))[0] == 250
    assert len(relay.courier.contents[0]) == 10_000
    code, text = await client.submit(b"x" + body)
    assert code == 552
    assert text.startswith("5.3.4 ")
    assert len(relay.courier.submissions) == 1


async def test_dots_on_the_wire_do_not_count(start):
    relay = await start(message_size=10_000)
    client = await relay.logged_in()
    lines = 100
    body = b".\r\n" * lines
    body = b"x" * (10_000 - len(HEADER) - len(body) - 2) + b"\r\n" + body
    await client.begin()
    assert (await client.data(HEADER + body.replace(b"\r\n.", b"\r\n..") + b".\r\n"))[0] == 250
    assert relay.courier.contents == [HEADER + body]


async def test_too_large_is_said_after_the_end(start):
    relay = await start(message_size=10_000)
    client = await relay.logged_in()
    await client.begin()
    code, text = await client.data(HEADER + b"x" * 30_000 + b"\r\n.\r\n")
    assert (code, text.split()[0]) == (552, "5.3.4")
    assert (await client.submit())[0] == 250
    assert len(relay.courier.submissions) == 1


async def test_absurdly_large_is_cut(start):
    relay = await start(message_size=10_000)
    client = await relay.logged_in()
    await client.begin()
    assert (await client.ask("DATA"))[0] == 354
    with contextlib.suppress(ConnectionError):
        for _ in range(100):
            await client.send(b"x" * 10_000)
    assert relay.courier.submissions == []
    await relay.until(lambda: not relay.sessions)


async def test_35_mb(relay, client):
    body = (secrets.token_bytes(500).hex().encode()[:998] + b"\r\n") * (35 * 1024 * 1024 // 1000 - 1)
    assert (await client.submit(body))[0] == 250
    assert relay.courier.contents == [HEADER + body]


# Clients that vanish.


async def test_vanishing_in_data(relay, client):
    await client.begin()
    assert (await client.ask("DATA"))[0] == 354
    await client.send(HEADER + b"half a mess")
    await relay.until(lambda: relay.session._intake.pending)
    await client.vanish()
    await relay.until(lambda: not relay.sessions)
    assert relay.courier.submissions == []
    await relay.works()


async def test_vanishing_during_the_delivery(relay, client, events):
    """The delivery goes on to its end and is logged: who vanished may send it again."""
    relay.courier.hold()
    await client.begin()
    assert (await client.ask("DATA"))[0] == 354
    await client.send(HEADER + b".\r\n")
    await relay.until(lambda: relay.courier.submissions)
    await client.vanish()
    await relay.until(lambda: not relay.sessions)
    assert events("message") == []
    relay.courier.go_on.set()
    await relay.until(lambda: events("message"))
    [left], [message] = events("client_left_before_reply"), events("message")
    assert left["id"] == message["id"] == relay.courier.submissions[0].id
    assert message["verdict"] == "accepted"
    await relay.until(lambda: not relay.listener._deliveries)


async def test_vanishing_at_once(relay):
    for _ in range(5):
        client = await relay.raw()
        client.writer.transport.abort()
    await relay.works()
    await relay.until(lambda: not relay.sessions)


# The PROXY protocol.

V2 = b"\r\n\r\n\0\r\nQUIT\n"
V1 = b"PROXY TCP4 192.0.2.7 203.0.113.1 40000 587\r\n"
V1_SIX = b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 587\r\n"


def v2(command, family, block):
    return V2 + struct.pack("!BBH", 0x20 | command, family, len(block)) + block


BLOCK_4 = socket.inet_aton("192.0.2.7") + socket.inet_aton("203.0.113.1") + struct.pack("!HH", 40000, 587)
BLOCK_6 = (
    socket.inet_pton(socket.AF_INET6, "2001:db8::7")
    + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    + struct.pack("!HH", 40000, 587)
)
HEADERS = {
    "v1": (V1, "192.0.2.7"),
    "v1 IPv6": (V1_SIX, "2001:db8::7"),
    "v1 UNKNOWN": (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
    "v1 UNKNOWN with addresses": (b"PROXY UNKNOWN 192.0.2.7 203.0.113.1 40000 587\r\n", "127.0.0.1"),
    "v2": (v2(1, 0x11, BLOCK_4), "192.0.2.7"),
    "v2 IPv6": (v2(1, 0x21, BLOCK_6), "2001:db8::7"),
    "v2 with extensions": (v2(1, 0x11, BLOCK_4 + b"\x04\0\x03abc"), "192.0.2.7"),
    "v2 LOCAL": (v2(0, 0, b""), "127.0.0.1"),
    "v2 LOCAL with addresses": (v2(0, 0x11, BLOCK_4), "127.0.0.1"),
    "v2 UNIX": (v2(1, 0x31, b"/a".ljust(108, b"\0") + b"/b".ljust(108, b"\0")), "127.0.0.1"),
}


@pytest.mark.parametrize(("header", "address"), HEADERS.values(), ids=HEADERS.keys())
@pytest.mark.parametrize("pieces", [False, True], ids=["whole", "octet by octet"])
async def test_proxy(start, header, address, pieces):
    relay = await start(Mode.PROXY)
    client = await relay.raw()
    for octet in header if pieces else ():
        await client.send(bytes([octet]))
        await asyncio.sleep(0)
    if not pieces:
        await client.send(header)
    assert (await client.reply(bare=True))[0] == 220
    await client.log_in()
    assert (await client.submit())[0] == 250
    [submission] = relay.courier.submissions
    assert submission.client == address
    literal = f"[IPv6:{address}]" if ":" in address else f"[{address}]"
    assert f"({literal})".encode() in submission.header


@pytest.mark.parametrize(
    "octets",
    [
        b"EHLO client.example.net\r\n",
        b"PROXY\r\n",
        b"PROXYTCP4 192.0.2.7 203.0.113.1 40000 587\r\n",
        b"PROXY TCP4 192.0.2.7\r\n",
        b"PROXY TCP4 999.0.2.7 203.0.113.1 40000 587\r\n",
        b"PROXY " + b"x" * 5000,
        V2 + b"\x99\x99\0\0",
        v2(1, 0x11, b"short"),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    ],
)
async def test_a_bad_proxy_header(start, events, octets):
    relay = await start(Mode.PROXY)
    client = await relay.raw()
    await client.send(octets)
    assert await client.rest() == b""
    assert len(events("proxy_header_refused")) == 1


@pytest.mark.parametrize("octets", [b"", b"PRO", b"PROXY TCP4 192.0.2.7 ", V2[:7], V2])
async def test_a_proxy_header_that_does_not_come(start, clock, events, octets):
    relay = await start(Mode.PROXY)
    client = await relay.raw()
    await client.send(octets)
    await asyncio.sleep(0.01)
    while not events("proxy_header_refused"):
        clock.advance(1)
        await asyncio.sleep(0.001)
    assert await client.rest() == b""
    assert events("proxy_header_refused")[0]["reason"] == "PROXY header missing"


async def test_a_proxy_that_leaves(start, events):
    relay = await start(Mode.PROXY)
    client = await relay.raw()
    client.writer.write_eof()
    assert await client.rest() == b""


async def test_a_proxy_header_without_a_proxy_is_no_command(relay):
    client = await relay.connect()
    assert (await client.ask(V1.strip()))[0] == 500


async def test_limits_and_throttle_see_the_real_address(start, monkeypatch):
    relay = await start(Mode.PROXY, connections_per_address=1)
    seen = []
    verify = relay.devices.verify

    async def spy(name, password, address):
        seen.append(address)
        return await verify(name, password, address)

    monkeypatch.setattr(relay.devices, "verify", spy)
    one = await relay.raw()
    await one.send(V1)
    await one.reply(bare=True)
    await one.log_in()
    assert seen == ["192.0.2.7"]
    same = await relay.raw()
    await same.send(V1)
    assert (await same.reply())[0] == 421
    other = await relay.raw()
    await other.send(V1.replace(b"192.0.2.7", b"192.0.2.8"))
    assert (await other.reply(bare=True))[0] == 220


# Ordinary clients.


def submit_with_smtplib(relay, tls, authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    context.check_hostname = False  # it would be compared with the address
    port = relay.ports[0]
    kind = smtplib.SMTP_SSL if tls else smtplib.SMTP
    kwargs = {"context": context} if tls else {}
    with kind("127.0.0.1", port, timeout=30, **kwargs) as client:
        if not tls:
            client.starttls(context=context)
        client.login(MAILBOX, relay.password)
        return client.sendmail(MAILBOX, ["a@example.net"], HEADER + b".\r\nbody\r\n")


@pytest.mark.parametrize("tls", [False, True], ids=["587", "465"])
async def test_smtplib(start, authority, tls):
    relay = await start(Mode.IMPLICIT_TLS if tls else Mode.STARTTLS)
    assert await asyncio.to_thread(submit_with_smtplib, relay, tls, authority) == {}
    assert relay.courier.contents == [HEADER + b".\r\nbody\r\n"]


# Anything at all.

ANY_LINE = st.one_of(
    st.binary(max_size=60).map(lambda octets: octets.replace(b"\r", b"").replace(b"\n", b"")),
    st.sampled_from([b"", b".", b"..", b".x", b"...", b"\0", b"\xff" * 9, b"From: x", b" ", b"x" * 3000]),
)
BODIES = st.lists(ANY_LINE, max_size=30).map(lambda lines: b"".join(line + b"\r\n" for line in lines))
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FEW
@given(BODIES)
async def test_any_content_arrives_unchanged(start, body):
    relay = await start()
    client = await relay.logged_in()
    await client.begin()
    stuffed = re.sub(rb"^\.", b"..", body, flags=re.MULTILINE)
    code, text = await client.data(HEADER + stuffed + b".\r\n")
    if b"\0" in body:
        assert (code, text.split()[0]) == (550, "5.6.0")
        assert relay.courier.submissions == []
    else:
        assert code == 250
        assert relay.courier.contents == [HEADER + body]
    client.writer.close()
    await relay.listener.stop(10)


COMMANDS = st.sampled_from(
    [
        b"EHLO x", b"HELO", b"NOOP", b"RSET", b"MAIL FROM:<office@example.org>", b"MAIL FROM:<\xff>",
        b"RCPT TO:<a@example.net>", b"RCPT TO:", b"AUTH PLAIN", b"AUTH LOGIN", b"AUTH LOGIN x", b"=", b"*",
        b"VRFY", b"", b"\0", b"MAIL FROM:<a@b> SIZE=x", b"STARTTLS x", b"x" * 13_000, b"BDAT 1",
    ]
)  # fmt: skip
GARBAGE = st.lists(
    st.tuples(COMMANDS | st.binary(max_size=40), st.sampled_from([b"\r\n", b"\n"])), max_size=30
)


@FEW
@given(GARBAGE, st.booleans())
@example([(b"NONSENSE", b"\n")] * 60, False)
async def test_any_commands_get_replies(start, garbage, logged_in):
    """One reply for each line, or 421 and the end; the relay goes on."""
    relay = await start()
    client = await relay.logged_in() if logged_in else await relay.connect()
    wire = b"".join(line.replace(b"\r", b"") + end for line, end in garbage)
    lines = wire.count(b"\n")
    assume(not re.search(rb"^(DATA|QUIT|STARTTLS)\b", wire, re.IGNORECASE | re.MULTILINE))
    await client.send(wire + b"QUIT\r\n")
    answers = await client.rest()
    ends = [line for line in answers.splitlines() if line[3:4] == b" "]
    assert all(re.fullmatch(rb"[2-5][0-9]{2}[ -][\x20-\x7e]*", line) for line in answers.splitlines())
    codes = [int(line[:3]) for line in ends]
    assert codes[-1] in (221, 421, 501)
    if codes[-1] == 221:
        assert len(ends) == lines + 1
    await relay.works()
    await relay.listener.stop(10)


# The relay stops.


async def test_stop_says_goodbye_to_idle_sessions(relay, client, secured):
    greeted = await relay.connect()
    await relay.until(lambda: all(session._waiting for session in relay.sessions))
    await relay.listener.stop(60)
    for each in (client, secured, greeted):
        assert await each.reply() == (421, "4.3.2 The relay is shutting down. Try again in a minute")
        assert await each.rest() == b""


async def test_stop_finishes_a_message_under_way(relay, client):
    relay.courier.hold()
    await client.begin()
    assert (await client.ask("DATA"))[0] == 354
    await client.send(HEADER)
    stop = asyncio.create_task(relay.listener.stop(60))
    await client.send(b"the end\r\n.\r\nNOOP\r\n")
    await relay.until(lambda: relay.courier.submissions)
    assert not stop.done()
    relay.courier.go_on.set()
    assert (await client.reply())[0] == 250
    assert (await client.reply())[0] == 421
    await stop
    assert relay.courier.contents == [HEADER + b"the end\r\n"]


async def test_stop_finishes_a_delivery_whose_client_is_gone(relay, client, events):
    relay.courier.hold()
    await client.begin()
    assert (await client.ask("DATA"))[0] == 354
    await client.send(HEADER + b".\r\n")
    await relay.until(lambda: relay.courier.submissions)
    await client.vanish()
    stop = asyncio.create_task(relay.listener.stop(60))
    await asyncio.sleep(0)
    assert not stop.done()
    relay.courier.go_on.set()
    await stop
    assert len(events("message")) == 1


@pytest.mark.parametrize("command", ["AUTH PLAIN", "AUTH LOGIN"])
async def test_stop_does_not_wait_for_half_a_login(relay, secured, command):
    assert (await secured.ask(command))[0] == 334
    await relay.listener.stop(60)
    assert (await secured.reply())[0] == 421


async def test_stop_does_not_wait_for_half_a_handshake(relay):
    client = await relay.connect()
    await client.ehlo()
    assert (await client.ask("STARTTLS"))[0] == 220
    await relay.until(lambda: relay.session._tls_begun)
    await relay.listener.stop(60)
    assert await client.rest() == b""


async def test_stop_does_not_wait_for_ever(relay, client, clock, events):
    relay.courier.hold()
    await client.begin()
    assert (await client.ask("DATA"))[0] == 354
    await client.send(HEADER + b".\r\n")
    await relay.until(lambda: relay.courier.submissions)
    stop = asyncio.create_task(relay.listener.stop(60))
    await asyncio.sleep(0)
    clock.advance(61)
    await stop
    assert [(event["sessions"], event["deliveries"]) for event in events("stop_impatient")] == [(1, 1)]
    assert await client.rest() == b""
    await relay.until(lambda: not relay.listener._deliveries)
    assert events("message") == []


async def test_a_proxy_header_that_comes_while_the_relay_stops(start):
    relay = await start(Mode.PROXY)
    client = await relay.raw()
    await asyncio.sleep(0)
    relay.listener.draining = True
    await client.send(V1)
    assert (await client.reply(bare=True))[0] == 220
    assert (await client.reply())[0] == 421


async def test_abort_of_a_session_that_is_over(relay, client):
    session = relay.session
    await client.vanish()
    session.abort()
    session.drain()
    assert session.transport is None


async def test_too_many_connections_on_465(start, events):
    """There is no TLS yet to say it in."""
    relay = await start(Mode.IMPLICIT_TLS, connections=1)
    first = await relay.connect(ssl=relay.trust, server_hostname="relay.example.org")
    second = await relay.raw()
    assert await second.rest() == b""
    assert len(events("connection_refused")) == 1
    assert (await first.ask("NOOP"))[0] == 250


# What the rest of the relay hears of it.


async def test_a_device_hands_in_no_more_than_it_may_in_an_hour(start):
    relay = await start(device={"hourly_messages": 1})
    client = await relay.logged_in()
    assert (await client.submit())[0] == 250
    code, text = await client.ask(f"MAIL FROM:<{MAILBOX}>")
    assert (code, text) == (451, "4.7.1 This device may hand in 1 messages an hour. Try again in 60 min")


async def test_a_message_that_was_not_accepted_does_not_count(start):
    relay = await start(device={"hourly_messages": 1})
    relay.courier.verdict = Verdict(Outcome.DEFERRED, Reply(451, "4.3.0", "Later"))
    client = await relay.logged_in()
    assert (await client.submit())[0] == 451
    relay.courier.verdict = Verdict(Outcome.ACCEPTED, Reply(250, "2.0.0", "Taken"))
    assert (await client.submit())[0] == 250


async def test_logins_are_told(relay):
    client = await relay.connect()
    await client.ehlo()
    await client.start_tls()
    await client.ehlo()
    assert (await client.ask(relay.plain(password="wrong")))[0] == 535
    assert (await client.ask(relay.plain()))[0] == 235
    assert relay.logins == ["", MAILBOX]


async def test_what_became_of_a_message_is_told(relay):
    client = await relay.logged_in()
    assert (await client.submit())[0] == 250
    [report] = relay.reports
    [submission] = relay.courier.submissions
    assert (report.id, report.size) == (submission.id, submission.size)
    assert (report.device, report.mailbox, report.client) == (MAILBOX, MAILBOX, "127.0.0.1")
    assert report.envelope == submission.envelope
    assert report.message_id == submission.message_id == "<1@example.org>"
    assert report.verdict is relay.courier.verdict


async def test_what_the_relay_refused_itself_is_told(relay):
    client = await relay.logged_in()
    await client.begin()
    assert (await client.data(b"From: boss@example.net\r\n\r\n.\r\n"))[0] == 550
    [report] = relay.reports
    assert report.verdict.outcome is Outcome.REFUSED
    assert (report.verdict.upstream, report.verdict.key) == (False, "relay-refused")
    assert report.verdict.reply.text.startswith("The message says From: <boss@example.net>")
