"""One client's conversation: aiosmtpd's SMTP protocol class, with its traps replaced.

From aiosmtpd: the life of a connection, the command methods found by name, the PROXY protocol. Ours: reading
(`intake`), STARTTLS through the event loop's public `start_tls`, which commands are allowed when, the replies
(each with an enhanced status code), authentication off the event loop, MAIL, RCPT and DATA.
"""

import asyncio
import logging
import re
import secrets
import time
from base64 import b64decode, b64encode
from collections.abc import Coroutine
from dataclasses import fields, replace
from datetime import UTC, datetime
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Protocol, cast

import structlog
from aiosmtpd.proxy_protocol import V2_CMD, ProxyData, get_proxy
from aiosmtpd.smtp import SMTP

from relay_app.delivery.courier import Courier
from relay_app.delivery.replies import answer
from relay_app.delivery.verdict import Outcome, Timings, Verdict
from relay_app.errors import SmtpRefusal
from relay_app.inbound.devices import Devices
from relay_app.inbound.intake import ConnectionGoneError, Intake, LineTooLongError, MessageTooLargeError
from relay_app.inbound.rate import HourlyRate
from relay_app.inbound.report import Report
from relay_app.inbound.tls import Certificate
from relay_app.mail.address import parse_parameters, parse_path
from relay_app.mail.headers import trace_field
from relay_app.mail.policy import SenderRules, judge_sender, prepare
from relay_app.mail.reply import Reply
from relay_app.mail.submission import Envelope, Submission
from relay_app.mail.transparency import check_octets, unstuff
from relay_app.settings import DeviceSettings, Limits

_log = structlog.get_logger()

_AUTH_LINE = 12288  # octets, RFC 4954 4
_COMMAND_LINE = 2048  # octets; RFC 5321 4.5.3.1.4 asks for 512, internationalised addresses for more
_MAX_ERRORS = 50  # refused commands in a row
_TOO_MANY_RECIPIENTS = "4.5.3"
_MAX_LOGINS = 3  # wrong passwords in one connection
_PROXY_TIMEOUT = 5.0  # seconds
_HANDSHAKE_TIMEOUT = 30.0  # seconds
_STUFFING_ALLOWANCE = 50  # on the wire a message may be 1/50 larger: the dots that hide its dots
_LOGGED_RECIPIENTS = 50
_UPSTREAM_PATIENCE = 900.0  # seconds: longer than any delivery attempt takes
_LOGIN_PATIENCE = 5  # times `Limits.login_timeout`: for all commands before the login together
_CLOSE_TIMEOUT = 10.0  # seconds for the client to take our last words

_BEFORE_TLS = frozenset({"EHLO", "HELO", "NOOP", "QUIT", "RSET", "STARTTLS"})
_BEFORE_LOGIN = _BEFORE_TLS | {"AUTH"}
_COMMAND = re.compile(rb"([A-Za-z]{1,16})(?:[ \t]+(.*))?", re.DOTALL)


class Mode(Enum):
    """What a listener expects at the beginning of a connection."""

    STARTTLS = "starttls"
    IMPLICIT_TLS = "tls"
    PROXY = "proxy"
    """The PROXY protocol's header, then as STARTTLS."""


class Host(Protocol):
    """What a session needs of the listener it belongs to."""

    hostname: str
    limits: Limits
    certificate: Certificate
    devices: Devices
    rate: HourlyRate
    courier: Courier
    draining: bool

    def admit(self, session: "Session") -> str:
        """Count a session in. Returns why it cannot be, or ""."""
        ...

    def dismiss(self, session: "Session") -> None:
        """Count a session out."""
        ...

    def observe(self, report: Report) -> None:
        """Take note of what became of a message. Quick, and never fails."""
        ...

    def logged_in(self, device: str) -> None:
        """Take note of a login; `device` is "" for one that was refused. Quick, and never fails."""
        ...

    def finish(self, work: Coroutine[Any, Any, Reply]) -> "asyncio.Future[Reply]":
        """Run `work` to its end, even if the session that began it is gone."""
        ...


class _NoHooks:
    """Where aiosmtpd looks for `handle_*` hooks. Everything is on the session instead."""


class _Goodbye(Exception):
    """Say this, then close the connection."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply


_SHUTTING_DOWN = Reply(421, "4.3.2", "The relay is shutting down. Try again in a minute")


class Session(SMTP):
    """A connection from a device."""

    def __init__(self, host: Host, mode: Mode) -> None:
        limits = host.limits
        super().__init__(
            _NoHooks(),
            hostname=host.hostname,
            data_size_limit=limits.message_size,
            enable_SMTPUTF8=True,
            # aiosmtpd's own timer is only a backstop: `intake` times each wait.
            timeout=limits.transaction_timeout + limits.command_timeout + _UPSTREAM_PATIENCE,
            loop=asyncio.get_running_loop(),
        )
        self.address = "unknown"
        """The client's real address: behind a proxy, the one that the proxy names."""
        self._host = host
        self._mode = mode
        self._intake = Intake()
        self._replies = bytearray()
        self._device: DeviceSettings | None = None
        self._tls_version = self._tls_cipher = self._helo = ""
        self._commands = self._errors = self._logins = 0
        self._waiting = self._tls_begun = False
        self._login_by = self.loop.time() + _LOGIN_PATIENCE * limits.login_timeout
        self._begin_transaction()

    def __dir__(self) -> list[str]:
        """The commands: aiosmtpd looks for them here, and would look at everything for each connection."""
        return _COMMANDS

    # The connection: asyncio's protocol callbacks.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin. aiosmtpd starts `_handle_client` as a task."""
        super().connection_made(transport)
        self._intake.attach(cast("asyncio.ReadTransport", transport))

    def data_received(self, data: bytes) -> None:
        """Take octets, decrypted if TLS is active."""
        self._intake.feed(data)

    def eof_received(self) -> bool:
        """Note that the client has sent its last. Unlike aiosmtpd's, what it pipelined is still answered."""
        self._intake.end()
        return not self._tls_begun  # a TLS connection cannot stay half open

    def connection_lost(self, error: Exception | None) -> None:
        """End. A delivery under way goes on (`Host.finish`)."""
        self._intake.end()
        super().connection_lost(error)

    def drain(self) -> None:
        """End the session: now if it waits for a line or for TLS, else before its next command."""
        if self._waiting:
            self._intake.interrupt(_Goodbye(_SHUTTING_DOWN))
        elif self._tls_begun and not self._tls_version:
            self.abort()

    def abort(self) -> None:
        """End the session at once."""
        if self.transport is not None:
            cast("asyncio.WriteTransport", self.transport).abort()

    def _timeout_cb(self) -> None:
        self.abort()  # aiosmtpd's close() would wait for a client that does not read

    async def _handle_client(self) -> None:
        """Hold the conversation."""
        try:
            await self._greet()
            while True:
                await self._answer_command()
        except _Goodbye as goodbye:
            self._say(goodbye.reply)
        except TimeoutError:
            self._say(Reply(421, "4.4.2", "Too long without a complete command or message. Closing"))
        except (ConnectionGoneError, ConnectionError):
            _log.debug("client_gone", client=self.address)
        finally:
            self._host.dismiss(self)
            if self.transport is not None:
                self._flush()
                self.transport.close()
                # asyncio never says that a connection is lost whose handshake failed: the timer lets go.
                self._reset_timeout(_CLOSE_TIMEOUT)

    async def _greet(self) -> None:
        await self._find_address()
        if refusal := self._host.admit(self):
            _log.warning("connection_refused", client=self.address, reason=refusal)
            if self._mode is Mode.IMPLICIT_TLS:
                raise ConnectionGoneError(refusal)
            raise _Goodbye(Reply(421, "4.7.0", refusal))
        if self._mode is Mode.IMPLICIT_TLS:
            await self._start_tls()
        self._say(Reply(220, "", f"{self.hostname} ESMTP ready"))

    async def _find_address(self) -> None:
        assert self.session is not None
        self.address = cast("tuple[str, int]", self.session.peer)[0]
        if self._mode is not Mode.PROXY:
            return
        try:
            async with asyncio.timeout(_PROXY_TIMEOUT):
                header = await get_proxy(cast("Any", self._intake))
        except TimeoutError:
            header = ProxyData(version=None).with_error("PROXY header missing")
        if not header.valid:
            _log.warning("proxy_header_refused", client=self.address, reason=header.error)
            raise ConnectionGoneError("no PROXY header")
        # The proxy's own check of us says LOCAL (v2) or UNKNOWN (v1).
        if header.command != V2_CMD.LOCAL and isinstance(header.src_addr, IPv4Address | IPv6Address):
            self.address = str(header.src_addr)

    async def _start_tls(self) -> None:
        """Upgrade the connection. What the client said in plain text is forgotten (RFC 3207 4.2)."""
        assert self.transport is not None
        assert self.session is not None
        self._tls_begun = True
        try:
            transport = await self.loop.start_tls(
                cast("asyncio.WriteTransport", self.transport),
                self,
                self._host.certificate.context,
                server_side=True,
                ssl_handshake_timeout=_HANDSHAKE_TIMEOUT,
                ssl_shutdown_timeout=_CLOSE_TIMEOUT,
            )
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            _log.info("tls_handshake_failed", client=self.address, reason=str(error) or type(error).__name__)
            raise ConnectionGoneError("TLS handshake failed") from error
        if transport is None:
            raise ConnectionGoneError("connection closed during the TLS handshake")
        self.transport = transport
        self._intake.attach(cast("asyncio.ReadTransport", transport))
        self._tls_version = transport.get_extra_info("ssl_object").version()
        self._tls_cipher = transport.get_extra_info("cipher")[0]
        self._helo = ""
        self._begin_transaction()

    # Commands.

    async def _answer_command(self) -> None:
        try:
            line = await self._next_line()
            match = _COMMAND.fullmatch(line)
            name = match[1].decode("ascii").upper() if match is not None else ""
            self._check_allowed(name, line)
            assert match is not None
            await self._smtp_methods[name](_text(match[2]))
            self._errors = 0
        except SmtpRefusal as refusal:
            self._say(Reply(refusal.code, refusal.enhanced, refusal.text))
            if refusal.enhanced != _TOO_MANY_RECIPIENTS:  # whoever goes on asking still has a message to send
                self._errors += 1
            if self._errors >= _MAX_ERRORS:
                raise _Goodbye(Reply(421, "4.7.0", "Too many refused commands. Closing")) from None
        except (_Goodbye, ConnectionGoneError, ConnectionError, TimeoutError):
            raise
        except Exception:
            # The reason goes to the log; its text is nothing for the client.
            _log.exception("session_failed", client=self.address)
            self._begin_transaction()
            self._say(Reply(451, "4.3.0", "Internal error in the relay; nothing was sent. Try again later"))

    async def _next_line(self) -> bytes:
        if self._host.draining:
            raise _Goodbye(_SHUTTING_DOWN)
        limits = self._host.limits
        self._commands += 1
        if self._commands > limits.commands:
            raise _Goodbye(Reply(421, "4.7.0", f"More than {limits.commands} commands. Closing"))
        if not self._intake.has_line:
            self._flush()  # replies to pipelined commands leave together (RFC 2920 3.2)
        self._reset_timeout()
        return await self._read_line("5.5.2")

    async def _read_line(self, too_long: str) -> bytes:
        """Read a command or a response; `drain` may interrupt. `too_long` is an enhanced status code."""
        limits = self._host.limits
        timeout = limits.command_timeout
        if self._device is None:
            timeout = min(limits.login_timeout, self._login_by - self.loop.time())
        self._waiting = True
        try:
            return await self._intake.line(_AUTH_LINE, timeout)
        except LineTooLongError:
            raise SmtpRefusal(500, too_long, f"Line too long: the limit is {_AUTH_LINE} octets") from None
        finally:
            self._waiting = False

    def _check_allowed(self, name: str, line: bytes) -> None:
        if name not in self._smtp_methods:
            raise SmtpRefusal(500, "5.5.2", "Command not recognised")
        if len(line) > _COMMAND_LINE and name != "AUTH":
            raise SmtpRefusal(500, "5.5.2", f"Line too long: the limit is {_COMMAND_LINE} octets")
        if not self._tls_version and name not in _BEFORE_TLS:
            raise SmtpRefusal(530, "5.7.0", "Start TLS first: choose STARTTLS in the mail program")
        if self._device is None and name not in _BEFORE_LOGIN:
            raise SmtpRefusal(530, "5.7.0", "Log in first: this relay is not open to everybody")
        if not self._helo and name in {"AUTH", "MAIL"}:
            raise SmtpRefusal(503, "5.5.1", "Send EHLO first")

    async def smtp_EHLO(self, arg: str | None) -> None:
        """RFC 5321 4.1.1.1. Offers what really works, and nothing else."""
        self._hello(arg)
        size = self._host.limits.message_size
        offers = [self.hostname, f"SIZE {size}", "8BITMIME", "SMTPUTF8", "PIPELINING", "ENHANCEDSTATUSCODES"]
        offers.append("AUTH PLAIN LOGIN" if self._tls_version else "STARTTLS")
        self._say(Reply(250, "", "\n".join(offers)))

    async def smtp_HELO(self, arg: str | None) -> None:
        """RFC 5321 4.1.1.1. Old devices know no better, and may log in all the same."""
        self._hello(arg)
        self._say(Reply(250, "", self.hostname))

    def _hello(self, arg: str | None) -> None:
        if not arg:
            raise SmtpRefusal(501, "5.5.4", "Syntax: EHLO hostname")
        self._helo = arg
        self._begin_transaction()

    async def smtp_NOOP(self, arg: str | None) -> None:
        """RFC 5321 4.1.1.9."""
        self._say(Reply(250, "2.0.0", "OK"))

    async def smtp_RSET(self, arg: str | None) -> None:
        """RFC 5321 4.1.1.5."""
        self._begin_transaction()
        self._say(Reply(250, "2.0.0", "OK"))

    async def smtp_QUIT(self, arg: str | None) -> None:
        """RFC 5321 4.1.1.10."""
        raise _Goodbye(Reply(221, "2.0.0", "Goodbye"))

    async def smtp_VRFY(self, arg: str | None) -> None:
        """RFC 5321 3.5.3: nobody may ask who exists."""
        raise SmtpRefusal(502, "5.5.1", "Command not implemented")

    smtp_EXPN = smtp_HELP = smtp_VRFY

    async def smtp_STARTTLS(self, arg: str | None) -> None:
        """RFC 3207."""
        if arg:
            raise SmtpRefusal(501, "5.5.4", "Syntax: STARTTLS")
        if self._tls_version:
            raise SmtpRefusal(503, "5.5.1", "TLS is active already")
        if self._intake.pending:
            # Sent in plain text in the hope that it counts as protected (CVE-2024-34083).
            self._intake.clear()
            raise _Goodbye(Reply(421, "4.7.0", "Commands after STARTTLS, before TLS. Closing"))
        self._say(Reply(220, "2.0.0", "Ready to start TLS"))
        self._flush()  # and nothing waits between here and start_tls
        await self._start_tls()

    # Authentication (RFC 4954).

    async def smtp_AUTH(self, arg: str | None) -> None:
        """PLAIN and LOGIN, their names in any case, with and without initial response."""
        if self._device is not None:
            raise SmtpRefusal(503, "5.5.1", "Logged in already")
        mechanism, _, initial = (arg or "").partition(" ")
        match mechanism.upper():
            case "PLAIN":
                name, password = await self._plain(initial.strip())
            case "LOGIN":
                name = await self._respond("Username:", initial.strip())
                password = await self._respond("Password:")
            case _:
                raise SmtpRefusal(504, "5.5.4", "Choose PLAIN or LOGIN as authentication mechanism")
        await self._log_in(name, password)

    async def _plain(self, initial: str) -> tuple[bytes, bytes]:
        """RFC 4616. The authorization identity is ignored: a device has one identity."""
        parts = (await self._respond("", initial)).split(b"\0")
        if len(parts) != 3:
            raise SmtpRefusal(501, "5.5.2", "PLAIN is an identity, a name and a password, NULs in between")
        return parts[1], parts[2]

    async def _respond(self, challenge: str, initial: str = "") -> bytes:
        """Return the client's response to a challenge, or its initial response ("=": an empty one)."""
        response = initial.encode()
        if not initial:
            self._say(Reply(334, "", b64encode(challenge.encode()).decode()))
            self._flush()
            response = await self._read_line("5.5.6")
        if response == b"*":
            raise SmtpRefusal(501, "5.7.0", "Authentication cancelled")
        try:
            return b64decode(b"" if response == b"=" else response, validate=True)
        except ValueError:
            raise SmtpRefusal(501, "5.5.2", "Not base64") from None

    async def _log_in(self, name: bytes, password: bytes) -> None:
        devices = self._host.devices
        try:
            self._device = await devices.verify(name, password, self.address)
        except SmtpRefusal as refusal:
            # An unknown name is not logged: people type passwords into the wrong field.
            _log.warning(
                "login_refused", client=self.address, device=devices.known(name), reply=str(refusal.code)
            )
            self._host.logged_in("")
            self._logins += 1
            if self._logins >= _MAX_LOGINS:
                raise _Goodbye(Reply(refusal.code, refusal.enhanced, refusal.text)) from None
            raise
        self._host.logged_in(self._device.name)
        self._say(Reply(235, "2.7.0", "Authentication successful"))

    # The mail transaction.

    def _begin_transaction(self) -> None:
        self._mail: Envelope | None = None
        self._recipients: list[str] = []
        self._deadline = 0.0  # by the event loop's clock

    async def smtp_MAIL(self, arg: str | None) -> None:
        """RFC 5321 4.1.1.2, with SIZE (RFC 1870), BODY (6152), SMTPUTF8 (6531) and AUTH (4954)."""
        if self._mail is not None:
            raise SmtpRefusal(503, "5.5.1", "A message has been begun already. Send RSET first")
        self._check_still_welcome()
        sender, rest = parse_path(_after("FROM:", arg), smtputf8=True, sender=True)
        parameters = parse_parameters(rest)
        body = parameters.pop("BODY", "7BIT")
        smtputf8 = "SMTPUTF8" in parameters
        if parameters.pop("SMTPUTF8", None) is not None:
            raise SmtpRefusal(501, "5.5.4", "SMTPUTF8 takes no value")
        size = parameters.pop("SIZE", "0") or ""
        parameters.pop("AUTH", None)  # RFC 4954 5: we trust nobody's word; the login counts
        if parameters:
            raise SmtpRefusal(555, "5.5.4", f"Unknown parameter {', '.join(parameters)}")
        if body is None or body.upper() not in {"7BIT", "8BITMIME"}:
            raise SmtpRefusal(501, "5.5.4", "BODY can be 7BIT or 8BITMIME")
        if not (size.isascii() and size.isdigit()):
            raise SmtpRefusal(501, "5.5.4", "SIZE is a number of octets")
        limits = self._host.limits
        if int(size[:20]) > limits.message_size:
            raise SmtpRefusal(552, "5.3.4", _too_large(limits))
        _check_ascii(sender, smtputf8=smtputf8)
        judge_sender(sender, self._rules())
        self._mail = Envelope(sender, (), body.upper() == "8BITMIME", smtputf8)
        self._deadline = self.loop.time() + limits.transaction_timeout
        self._say(Reply(250, "2.1.0", "Sender OK"))

    def _check_still_welcome(self) -> None:
        """End the session if its device's password, or the device itself, is no more (a reload)."""
        assert self._device is not None
        current = self._host.devices.current(self._device)
        if current is None:
            raise _Goodbye(Reply(421, "4.7.0", "The settings of this device have changed. Log in again"))
        self._device = current
        if wait := self._host.rate.wait(current.name, current.hourly_messages):
            raise SmtpRefusal(
                451,
                "4.7.1",
                f"This device may hand in {current.hourly_messages} messages an hour. "
                f"Try again in {int(wait // 60) + 1} min",
            )

    async def smtp_RCPT(self, arg: str | None) -> None:
        """RFC 5321 4.1.1.3."""
        if self._mail is None:
            raise SmtpRefusal(503, "5.5.1", "Send MAIL first")
        limit = self._host.limits.recipients
        if len(self._recipients) >= limit:
            raise SmtpRefusal(
                452,
                _TOO_MANY_RECIPIENTS,
                f"More than {limit} recipients. Send the message again for the others",
            )
        recipient, rest = parse_path(_after("TO:", arg), smtputf8=True)
        if parameters := parse_parameters(rest):
            raise SmtpRefusal(555, "5.5.4", f"Unknown parameter {', '.join(parameters)}")
        if not recipient:
            raise SmtpRefusal(553, "5.1.3", "The recipient's address is empty")
        _check_ascii(recipient, smtputf8=self._mail.smtputf8)
        self._recipients.append(recipient)
        self._say(Reply(250, "2.1.5", "Recipient OK"))

    async def smtp_DATA(self, arg: str | None) -> None:
        """RFC 5321 4.1.1.4. The reply is the upstream's verdict."""
        if arg:
            raise SmtpRefusal(501, "5.5.4", "Syntax: DATA")
        if self._mail is None:
            raise SmtpRefusal(503, "5.5.1", "Send MAIL first")
        if not self._recipients:
            raise SmtpRefusal(554, "5.5.1", "No valid recipients")
        envelope = replace(self._mail, recipients=tuple(self._recipients))
        try:
            content = await self._receive()
            reply = await self._hand_over(envelope, content)
        finally:
            self._begin_transaction()
        if reply.positive:
            assert self._device is not None
            self._commands = 0
            self._host.rate.take(self._device.name, self._device.hourly_messages)
        self._say(reply)

    async def _receive(self) -> bytearray:
        limits = self._host.limits
        self._say(Reply(354, "", "End the message with a dot alone on a line"))
        self._flush()
        try:
            return await self._intake.message(
                limits.message_size + limits.message_size // _STUFFING_ALLOWANCE,
                idle=limits.data_timeout,
                timeout=self._deadline - self.loop.time(),
            )
        except MessageTooLargeError as error:
            if not error.finished:
                raise _Goodbye(Reply(552, "5.3.4", _too_large(limits))) from None
            raise SmtpRefusal(552, "5.3.4", _too_large(limits)) from None

    async def _hand_over(self, envelope: Envelope, content: bytearray) -> Reply:
        """Give the message to the courier and return what the client is to hear."""
        id = f"{time.time_ns() // 1_000_000:x}{secrets.token_hex(2)}"
        try:
            submission, repairs = self._submit(id, envelope, content)
        except SmtpRefusal as refusal:
            _log.warning(
                "message_refused",
                **self._facts(id, envelope, len(content)),
                verdict="refused",
                reply=str(refusal),
            )
            reply = Reply(refusal.code, refusal.enhanced, refusal.text)
            verdict = Verdict(Outcome.REFUSED, reply, upstream=False, key="relay-refused")
            self._report(id, datetime.now(UTC), envelope, len(content), "", verdict, 0.0)
            return replace(reply, text=f"{refusal.text} (id {id})")
        try:
            return await asyncio.shield(self._host.finish(self._deliver(submission, repairs)))
        except asyncio.CancelledError:
            _log.warning("client_left_before_reply", id=id, consequence="it may send the message again")
            raise

    def _submit(self, id: str, envelope: Envelope, content: bytearray) -> tuple[Submission, tuple[str, ...]]:
        assert self._device is not None
        check_octets(content)
        content = unstuff(content)
        if len(content) > self._host.limits.message_size:
            raise SmtpRefusal(552, "5.3.4", _too_large(self._host.limits))
        now = datetime.now(UTC)
        trace = trace_field(
            helo=self._helo,
            client=self.address,
            hostname=self.hostname,
            submission_id=id,
            tls_version=self._tls_version,
            cipher=self._tls_cipher,
            recipients=envelope.recipients,
            smtputf8=envelope.smtputf8,
            now=now,
        )
        prepared = prepare(
            content,
            envelope=envelope,
            rules=self._rules(),
            trace=trace,
            message_id=f"<{id}@{self.hostname}>",
            now=now,
        )
        submission = Submission(
            id=id,
            device=self._device.name,
            mailbox=self._device.mailbox,
            envelope=envelope,
            header=prepared.header,
            body=prepared.body,
            client=self.address,
            received_at=now,
            message_id=prepared.message_id,
        )
        return submission, prepared.repairs

    async def _deliver(self, submission: Submission, repairs: tuple[str, ...]) -> Reply:
        started = self.loop.time()
        try:
            verdict = await self._host.courier.deliver(submission)
        except Exception:
            _log.exception(
                "delivery_failed", **self._facts(submission.id, submission.envelope, submission.size)
            )
            text = (
                f"Internal error in the relay; the message may or may not have gone out (id {submission.id})"
            )
            return Reply(451, "4.3.0", text)
        seconds = self.loop.time() - started
        reply = answer(verdict, submission.id)
        _log.log(
            _SEVERITY[verdict.outcome],
            "message",
            **self._facts(submission.id, submission.envelope, submission.size),
            verdict=verdict.outcome.value,
            cause=verdict.key,
            reply=str(verdict.reply),
            repairs=repairs,
            seconds=seconds,
            **{f"{name}_seconds": getattr(verdict.timings, name) for name in _TIMINGS},
        )
        self._report(
            submission.id,
            submission.received_at,
            submission.envelope,
            submission.size,
            submission.message_id,
            verdict,
            seconds,
        )
        return reply

    def _report(
        self,
        id: str,
        received: datetime,
        envelope: Envelope,
        size: int,
        message_id: str,
        verdict: Verdict,
        seconds: float,
    ) -> None:
        assert self._device is not None
        device, mailbox = self._device.name, self._device.mailbox
        self._host.observe(
            Report(id, received, device, mailbox, self.address, envelope, size, message_id, verdict, seconds)
        )

    def _facts(self, id: str, envelope: Envelope, size: int) -> dict[str, Any]:
        """What the log says of every message. Never its content."""
        assert self._device is not None
        recipients = envelope.recipients[:_LOGGED_RECIPIENTS]
        more = len(envelope.recipients) - len(recipients)
        return {
            "id": id,
            "device": self._device.name,
            "client": self.address,
            "sender": envelope.sender,
            "recipients": ",".join(recipients) + (f" and {more} more" if more else ""),
            "size": size,
        }

    def _rules(self) -> SenderRules:
        assert self._device is not None
        return SenderRules(self._device.mailbox, self._device.senders, self._device.foreign_from)

    def _say(self, reply: Reply) -> None:
        self._replies += reply.wire()

    def _flush(self) -> None:
        if self._replies and self.transport is not None:
            cast("asyncio.WriteTransport", self.transport).write(bytes(self._replies))
        self._replies.clear()


_COMMANDS = [name for name in vars(Session) if name.startswith("smtp_")]
_TIMINGS = tuple(each.name for each in fields(Timings))
_SEVERITY = {
    Outcome.ACCEPTED: logging.INFO,
    Outcome.REFUSED: logging.WARNING,
    Outcome.DEFERRED: logging.WARNING,
    Outcome.UNCERTAIN: logging.ERROR,
}


def _text(argument: bytes | None) -> str | None:
    if argument is None:
        return None
    try:
        return argument.decode("utf-8").strip() or None
    except UnicodeDecodeError:
        raise SmtpRefusal(501, "5.5.2", "The command is neither ASCII nor UTF-8") from None


def _after(keyword: str, argument: str | None) -> str:
    if argument is None or argument[: len(keyword)].upper() != keyword:
        raise SmtpRefusal(
            501, "5.5.4", f"Syntax: {'MAIL' if keyword == 'FROM:' else 'RCPT'} {keyword}<address>"
        )
    return argument[len(keyword) :]


def _check_ascii(address: str, *, smtputf8: bool) -> None:
    if not smtputf8 and not address.isascii():
        raise SmtpRefusal(553, "5.6.7", "An address that is not ASCII needs SMTPUTF8 on MAIL (RFC 6531)")


def _too_large(limits: Limits) -> str:
    return f"The message is larger than {limits.message_size // 2**20} MB, the most that Outlook takes"
