"""One SMTP session, spoken as Outlook speaks it (RFC 5321, 2920, 3030, 3207, 4954)."""

import asyncio
import datetime as dt
import email.utils
import logging
import re
import secrets
from collections.abc import Awaitable, Callable

from sandbox import xoauth2
from sandbox.accounts import Account
from sandbox.apps import OUTLOOK_AUDIENCES
from sandbox.content import END, find_end, from_addresses, undo_dot_stuffing
from sandbox.envelope import MAIL, MAIL_PARAMETERS, RCPT, RCPT_PARAMETERS, Transaction, parameters
from sandbox.faults import Fault
from sandbox.journal import Message
from sandbox.tokens import BadToken
from sandbox.wire import ConnectionLost, Wire
from sandbox.world import World

log = logging.getLogger("sandbox.outlook")

HOST = "AM0PR01CA0001.eurprd01.prod.exchangelabs.com"
_LONGEST_LINE = 12_288  # RFC 4954 4: what a server must take in an AUTH exchange


class SmtpSession:
    """Reads commands from a wire and answers them until one side has enough."""

    def __init__(self, wire: Wire, world: World) -> None:
        self._wire = wire
        self._world = world
        self.record = world.journal.open(wire.peer, world.clock.now())
        self.idle = False
        """It waits for a command."""
        self._account: Account | None = None
        self._transaction: Transaction | None = None
        self._replies: list[str] = []
        self._exchange: list[str] = []
        self._words = ""
        """What a fault wants said instead of the next positive reply."""
        self._rate = 0
        """Octets per second to read content at; 0: as it comes."""
        self._commands: dict[str, Callable[[str], Awaitable[None]]] = {
            "EHLO": self._ehlo,
            "HELO": self._helo,
            "STARTTLS": self._starttls,
            "AUTH": self._auth,
            "MAIL": self._mail,
            "RCPT": self._rcpt,
            "DATA": self._data,
            "BDAT": self._bdat,
            "RSET": self._rset,
            "NOOP": self._noop,
            "QUIT": self._quit,
        }

    async def run(self) -> None:
        """Serve until the connection ends."""
        try:
            await self._greet()
            while True:
                await self._serve_command(await self._read_line())
        except ConnectionLost:
            log.debug("connection %d ended", self.record.number)
            self._wire.close()
        except BaseException:
            self._wire.abort()
            raise
        finally:
            self._world.journal.close(self.record, self._world.clock.now())
            if self._account is not None:
                self._world.usage.disconnect(self._mailbox, self.record.number)

    def time_out(self, *, silent: bool) -> None:
        """End the session for the client's silence."""
        if not silent:
            self._say(f"451 4.7.0 Timeout waiting for client input {self._stamp()}")
            self._flush()
        self._wire.close()

    # -- the wire -------------------------------------------------------------------------------------------

    async def _read_line(self, show: Callable[[str], str] = str) -> str:
        """The next line without its CRLF. `show` gives the form that is fit for the journal."""
        buffer, scanned = self._wire.buffer, 0
        self.idle = True
        while (end := buffer.find(b"\r\n", max(0, scanned - 1))) < 0:
            if len(buffer) > _LONGEST_LINE:
                await self._hang_up("500 5.3.3 Line too long")
            scanned = len(buffer)
            await self._more()
        self.idle = False
        if end + 2 > _LONGEST_LINE:
            await self._hang_up("500 5.3.3 Line too long")
        line = buffer[:end].decode("utf-8", "surrogateescape")
        del buffer[: end + 2]
        self._exchange.append(show(line))
        return line

    async def _more(self) -> None:
        """Let out what we have to say and wait for what the client says next."""
        self._flush()
        if self._rate and not self.idle:
            await self._wire.trickle(self._rate)
            return
        try:
            async with asyncio.timeout(self._world.limits.idle_seconds or None):
                await self._wire.more()
        except TimeoutError:
            self.time_out(silent=False)
            raise ConnectionLost from None

    def _say(self, reply: str) -> None:
        """Queue a reply. Lines are separated by "\\n"."""
        words, self._words = self._words, ""
        if words and reply[0] in "23":
            reply = words
        self._replies.append(reply.replace("\n", "\r\n") + "\r\n")

    def _flush(self) -> None:
        """Send all queued replies at once, as RFC 2920 3.2 wants it."""
        if not self._replies:
            return
        self._wire.write("".join(self._replies).encode("utf-8", "surrogateescape"))
        self._replies.clear()
        if self._exchange:
            self.record.round_trips += 1
            self.record.exchanges.append(self._exchange)
            self._exchange = []

    async def _hang_up(self, reply: str) -> None:
        self._say(reply)
        self._flush()
        raise ConnectionLost

    def _stamp(self) -> str:
        """The tail of many of Outlook's replies: which server, when, which session."""
        now = dt.datetime.fromtimestamp(self._world.clock.now(), dt.UTC)
        return f"[{HOST} {now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03}Z 08DE{self.record.number:012X}]"

    # -- faults ---------------------------------------------------------------------------------------------

    async def _fault(self, stage: str, *addresses: str, user: str = "") -> bool:
        """Let a scripted fault strike here. True when it has answered in our place.

        Raises:
            ConnectionLost: the fault was to cut the connection.
        """
        fault = self._world.smtp_faults.take(stage, user=user or self.record.user, addresses=addresses)
        return fault is not None and await self._strike(fault)

    async def _strike(self, fault: Fault) -> bool:
        log.info("connection %d: fault %d at %s", self.record.number, fault.id, fault.stage)
        if fault.stall:
            self._flush()
            await asyncio.sleep(fault.stall)
        if fault.slow:
            self._rate = fault.slow
            self._wire.narrow()
        if fault.drop in ("now", "after_dot"):
            self._flush()
            self._wire.abort()
            raise ConnectionLost
        if fault.reply[:3] == "421":
            await self._hang_up(fault.reply)
        if fault.reply[:1] in ("4", "5"):
            self._say(fault.reply)
            return True
        self._words = fault.reply
        return False

    # -- commands -------------------------------------------------------------------------------------------

    async def _greet(self) -> None:
        if await self._fault("connect"):
            self._flush()
            raise ConnectionLost
        now = email.utils.format_datetime(dt.datetime.fromtimestamp(self._world.clock.now(), dt.UTC))
        self._say(f"220 {HOST} Microsoft ESMTP MAIL Service ready at {now}")

    async def _serve_command(self, line: str) -> None:
        verb, _, argument = line.partition(" ")
        command = self._commands.get(verb.upper())
        if command is None:
            self._say(f"500 5.3.3 Unrecognized command '{verb[:40]}' {self._stamp()}")
            return
        if verb.upper() == "AUTH":
            self._exchange[-1] = _without_credentials(line)
        await command(argument.strip(" "))

    async def _ehlo(self, name: str) -> None:
        if await self._fault("ehlo"):
            return
        self.record.ehlo = name
        self._transaction = None
        offers = ["PIPELINING", "DSN", "ENHANCEDSTATUSCODES"]
        offers.append("AUTH LOGIN XOAUTH2" if self._wire.tls else "STARTTLS")
        lines = [
            f"{HOST} Hello [{self._wire.peer.rpartition(':')[0]}]",
            f"SIZE {self._world.limits.message_octets}",
            *offers,
            "8BITMIME",
            "BINARYMIME",
            "CHUNKING",
        ]
        self._say("\n".join(f"250-{text}" for text in lines) + "\n250 SMTPUTF8")

    async def _helo(self, name: str) -> None:
        if await self._fault("ehlo"):
            return
        self.record.ehlo = name
        self._transaction = None
        self._say(f"250 {HOST} Hello [{self._wire.peer.rpartition(':')[0]}]")

    async def _starttls(self, _argument: str) -> None:
        if self._wire.tls:
            self._say("503 5.5.2 Only one STARTTLS command can be issued per session")
            return
        kind = self._world.smtp_certificate
        if fault := self._world.smtp_faults.take("starttls"):
            if await self._strike(fault):
                return
            kind = fault.certificate or kind
        self._say("220 2.0.0 SMTP server ready")
        self._flush()
        await self._wire.start_tls(self._world.certificates.context(kind))
        self.record.tls = self._wire.tls
        self.record.ehlo = ""  # RFC 3207 4.2: all that was said before is forgotten

    async def _noop(self, _argument: str) -> None:
        if not await self._fault("noop"):
            self._say("250 2.0.0 OK")

    async def _rset(self, _argument: str) -> None:
        if not await self._fault("rset"):
            self._transaction = None
            self._say("250 2.0.0 Resetting")

    async def _quit(self, _argument: str) -> None:
        if not await self._fault("quit"):
            await self._hang_up("221 2.0.0 Service closing transmission channel")

    # -- authentication -------------------------------------------------------------------------------------

    async def _auth(self, argument: str) -> None:
        mechanism, _, response = argument.partition(" ")
        mechanism = mechanism.upper()
        if not self._wire.tls or mechanism not in ("XOAUTH2", "LOGIN", "PLAIN"):
            self._say(f"504 5.7.4 Unrecognized authentication type {self._stamp()}")
            return
        if self._account is not None:
            self._say("503 5.5.1 Bad sequence of commands")
            return
        self._world.journal.counts.auth_attempts += 1
        if mechanism == "XOAUTH2":
            await self._xoauth2(response or await self._challenge(""))
        else:
            await self._basic(mechanism, response)

    async def _challenge(self, text: str) -> str:
        self._say(f"334 {text}")
        return await self._read_line(lambda _line: "(response)")

    async def _basic(self, mechanism: str, response: str) -> None:
        """Ask for the password as of old, and refuse it whatever it is."""
        if mechanism == "LOGIN":
            if not response:
                await self._challenge("VXNlcm5hbWU6")
            await self._challenge("UGFzc3dvcmQ6")
        elif not response:
            await self._challenge("")
        self._refuse_auth("535 5.7.139 Authentication unsuccessful, basic authentication is disabled.")

    async def _xoauth2(self, response: str) -> None:
        user, token = xoauth2.parse(response)
        if await self._fault("auth", user, user=user):
            self._world.journal.counts.auth_failures += 1
            return
        account = self._account_for(user, token)
        if account is None:
            if self._world.limits.auth_failure == "challenge":
                await self._challenge(xoauth2.error_challenge())
            self._refuse_auth("535 5.7.3 Authentication unsuccessful")
        elif account.smtp_auth_disabled:
            self._refuse_auth(
                "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the "
                "Mailbox. Visit https://aka.ms/smtp_auth_disabled for more information."
            )
        else:
            self._sign_in(account)
            self._say("235 2.7.0 Authentication successful")

    def _account_for(self, user: str, token: str) -> Account | None:
        """The mailbox that this token opens under this name, if it does."""
        try:
            bearer = self._world.mint.verify(token)
        except BadToken as error:
            log.info("connection %d: token refused: %s", self.record.number, error)
            return None
        if bearer.audience not in OUTLOOK_AUDIENCES:
            return None
        as_person = "SMTP.Send" in bearer.scopes and bearer.user.casefold() == user.casefold()
        app = self._world.apps.get(bearer.client_id)
        as_app = "SMTP.SendAsApp" in bearer.roles and app is not None and app.may_use(user)
        return self._world.accounts.get(user.casefold()) if as_person or as_app else None

    def _sign_in(self, account: Account) -> None:
        self._account = account
        self.record.user = account.address
        usage = self._world.usage
        now = usage.connect(self._mailbox, self.record.number)
        self._world.journal.authenticated(self._mailbox, now, usage.authenticated())

    def _refuse_auth(self, reply: str) -> None:
        self._world.journal.counts.auth_failures += 1
        self._say(f"{reply} {self._stamp()}")

    @property
    def _mailbox(self) -> str:
        assert self._account is not None
        return self._account.address.casefold()

    # -- a transaction --------------------------------------------------------------------------------------

    async def _mail(self, argument: str) -> None:
        match = MAIL.fullmatch(argument)
        if await self._fault("mail", match[1] if match else ""):
            return
        if refusal := self._refuse_mail(match):
            self._say(refusal)
            return
        assert match is not None
        if not self._world.usage.begin_message(self._mailbox):
            await self._hang_up(
                "421 4.4.2 Message submission rate for this client has exceeded the configured limit"
            )
        self._transaction = Transaction(self._exchange[-1], match[1], parameters(match[2]))
        self._say("250 2.1.0 Sender OK")

    def _refuse_mail(self, match: re.Match[str] | None) -> str:
        if not self.record.ehlo:
            return "503 5.5.2 Send hello first"
        if self._account is None:
            return f"530 5.7.57 Client not authenticated to send mail. {self._stamp()}"
        if self._transaction is not None:
            return "503 5.5.2 Sender already specified"
        if match is None:
            return "501 5.5.4 Invalid arguments"
        given = parameters(match[2])
        size, limit = given.get("SIZE", "0"), self._world.limits.message_octets
        if not given.keys() <= MAIL_PARAMETERS or not (size.isascii() and size.isdigit()):
            return "501 5.5.4 Invalid arguments"
        if given.get("BODY", "7BIT").upper() not in ("7BIT", "8BITMIME", "BINARYMIME"):
            return "501 5.5.4 Invalid arguments"
        if limit and int(size) > limit:
            return "552 5.3.4 Message size exceeds fixed maximum message size"
        if not match[1].isascii() and "SMTPUTF8" not in given:
            return "553 5.6.7 Address needs SMTPUTF8"
        return ""

    async def _rcpt(self, argument: str) -> None:
        match = RCPT.fullmatch(argument)
        if await self._fault("rcpt", match[1] if match else ""):
            return
        transaction, limit = self._transaction, self._world.limits.recipients_per_message
        if transaction is None:
            self._say("503 5.5.2 Need mail command")
        elif match is None or not match[1] or not parameters(match[2]).keys() <= RCPT_PARAMETERS:
            self._say("501 5.5.4 Invalid arguments")
        elif not match[1].isascii() and "SMTPUTF8" not in transaction.parameters:
            self._say("553 5.6.7 Address needs SMTPUTF8")
        elif limit and len(transaction.recipients) >= limit:
            self._say(f"452 4.5.3 Too many recipients {self._stamp()}")
        else:
            transaction.rcpt.append(self._exchange[-1])
            transaction.recipients.append(match[1])
            self._say("250 2.1.5 Recipient OK")

    async def _data(self, _argument: str) -> None:
        transaction = self._transaction
        if transaction is None or not transaction.recipients:
            self._say(f"503 5.5.2 Need {'mail' if transaction is None else 'rcpt'} command")
            return
        if transaction.chunks is not None or transaction.parameters.get("BODY", "").upper() == "BINARYMIME":
            self._say("503 5.5.1 Use BDAT")  # RFC 3030 2 and 3
            return
        addresses = [transaction.sender, *transaction.recipients]
        if await self._fault("data", *addresses):
            return
        self._say("354 Start mail input; end with <CRLF>.<CRLF>")
        self._flush()
        content = await self._read_content(addresses)
        await self._finish(transaction, content)

    async def _read_content(self, addresses: list[str]) -> bytes | None:
        """The content without dot-stuffing; None when it was far too big and is thrown away."""
        faults = self._world.smtp_faults
        doomed = faults.take("eod", user=self.record.user, addresses=addresses, mid_content=True)
        limit = self._world.limits.message_octets
        # Dot-stuffing makes content longer by a third at most ("\r\n.").
        bound = limit * 4 // 3 + 65_536 if limit else 0
        buffer, scanned, thrown_away = self._wire.buffer, 0, False
        buffer[:0] = b"\r\n"  # DATA's own CRLF counts: ".\r\n" right after it is an empty message
        while (end := find_end(buffer, scanned)) < 0:
            if doomed and len(buffer) > 2:
                break
            if bound and len(buffer) > bound:
                del buffer[: 1 - len(END)]
                thrown_away = True
            scanned = len(buffer)
            await self._more()
        if doomed:
            self._wire.abort()
            raise ConnectionLost
        stuffed = bytes(buffer[: end + 2])
        del buffer[: end + len(END)]
        content = undo_dot_stuffing(stuffed)
        self._content_read(len(content))
        return None if thrown_away else content

    async def _bdat(self, argument: str) -> None:
        """A chunk of content (RFC 3030): octets are counted, nothing is stuffed."""
        count, _, last = argument.upper().partition(" ")
        if not (count.isascii() and count.isdigit()) or last not in ("", "LAST"):
            self._say("501 5.5.4 Invalid arguments")
            return
        buffer, size = self._wire.buffer, int(count)
        while len(buffer) < size:
            await self._more()
        chunk = bytes(buffer[:size])
        del buffer[:size]
        transaction = self._transaction
        if transaction is None or not transaction.recipients:
            self._say(f"503 5.5.2 Need {'mail' if transaction is None else 'rcpt'} command")
            return
        transaction.chunks = (transaction.chunks or bytearray()) + chunk
        if not last:
            self._say(f"250 2.6.0 CHUNK received OK, {size} octets")
            return
        self._content_read(len(transaction.chunks))
        await self._finish(transaction, bytes(transaction.chunks))

    def _content_read(self, octets: int) -> None:
        self._exchange.append(f"({octets} octets)")
        if self._rate:
            self._rate = 0
            self._wire.read_on()

    async def _finish(self, transaction: Transaction, content: bytes | None) -> None:
        """The end of DATA: take the message, or say why not."""
        self._transaction = None
        addresses = [transaction.sender, *transaction.recipients]
        fault = self._world.smtp_faults.take("eod", user=self.record.user, addresses=addresses)
        if fault and await self._strike(fault):
            self._world.journal.counts.messages_refused += 1
            return
        if refusal := self._refuse_message(transaction, content):
            self._world.journal.counts.messages_refused += 1
            self._say(refusal)
            return
        assert content is not None
        name = f"{secrets.token_hex(16).upper()}@{HOST}"
        self._say(f"250 2.0.0 OK <{name}> [Hostname={HOST}]")
        await self._take(transaction, content, self._replies[-1].strip())
        if fault and fault.drop == "after_accept":
            self._replies.pop()
            self._flush()
            self._wire.abort()
            raise ConnectionLost

    async def _take(self, transaction: Transaction, content: bytes, reply: str) -> None:
        assert self._account is not None
        self._world.usage.sent(self._mailbox, len(transaction.recipients))
        self.record.messages += 1
        await self._world.journal.add(
            Message(
                number=self._world.journal.next_message(),
                connection=self.record.number,
                ehlo=self.record.ehlo,
                user=self._account.address,
                tls=self.record.tls,
                received_at=self._world.clock.now(),
                mail=transaction.mail,
                rcpt=transaction.rcpt,
                sender=transaction.sender,
                recipients=transaction.recipients,
                size=len(content),
                reply=reply,
                content=content,
            )
        )

    def _refuse_message(self, transaction: Transaction, content: bytes | None) -> str:
        limits, usage = self._world.limits, self._world.usage
        if content is None or (limits.message_octets and len(content) > limits.message_octets):
            return "552 5.3.4 Message size exceeds fixed maximum message size"
        if usage.too_many_connections(self._mailbox, self.record.number):
            return (
                "432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending "
                f"for more information. [Hostname={HOST}]"
            )
        if usage.over_quota(self._mailbox, len(transaction.recipients)):
            return (
                "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException; Failed to process "
                "message due to a permanent exception with message The message can't be submitted because "
                f"the sender's submission quota was exceeded. [Hostname={HOST}]"
            )
        if limits.sender_check and (foreign := self._foreign_sender(transaction, content)):
            assert self._account is not None
            return (
                f"554 5.2.252 SendAsDenied; {self._account.address} not allowed to send as {foreign}; "
                "STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied; Failed to "
                "process message due to a permanent exception with message [BeginDiagnosticData]Cannot "
                f"submit message. [EndDiagnosticData] [Hostname={HOST}]"
            )
        return ""

    def _foreign_sender(self, transaction: Transaction, content: bytes) -> str:
        """The first address in MAIL FROM or From: that is not the mailbox's; "" when all are."""
        assert self._account is not None
        envelope = [transaction.sender] if transaction.sender else []  # <> is everybody's
        for address in envelope + from_addresses(content):
            if not self._account.may_send_as(address):
                return address
        return ""


def _without_credentials(line: str) -> str:
    words = line.split(" ", 2)
    return " ".join(words[:2]) + (" (initial response)" if len(words) > 2 else "")
