"""The SMTP conversation with an upstream, as a state machine without I/O, clock or threads.

The shell (outlook.py) feeds it what was received and asks it what to send; events say what to do:

    greeting, EHLO, STARTTLS   -> StartTls   shell: upgrade the connection, then tls_started()
    EHLO                       -> SignIn     shell: get a token, then sign_in()
    AUTH XOAUTH2               -> Ready      shell: begin() a transaction, noop() or quit()
    MAIL, RCPT..., DATA        -> SendContent  shell: write the stuffed content, then end_content()
    final reply                -> Finished   with the verdict; `usable` says whether another may begin
    at any time                -> Rejected   the upstream will not have us: no STARTTLS, AUTH refused, ...
                               -> Closing    the upstream is about to close (421): nothing was delivered
                               -> Broken     what it sent is not SMTP

Sources: RFC 5321 (SMTP), RFC 3207 (STARTTLS), RFC 4954 (AUTH), RFC 2920 (PIPELINING), RFC 1870 (SIZE),
RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8); XOAUTH2 as in Microsoft's "Authenticate an IMAP, POP or SMTP
connection using OAuth".
"""

import base64
import binascii
import json
import re
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from relay_app.delivery.recipients import everybody_or_nobody
from relay_app.delivery.replies import Stage, judge
from relay_app.delivery.reply_parser import ProtocolError, ReplyParser
from relay_app.delivery.verdict import Outcome, Verdict
from relay_app.mail.reply import Reply
from relay_app.mail.submission import Envelope, Submission

_COMMAND_LINE = 510
"""Octets of a command line, without CRLF (RFC 5321 4.5.3.1.4)."""


@dataclass(frozen=True, slots=True)
class StartTls:
    """The upstream waits for the TLS handshake."""


@dataclass(frozen=True, slots=True)
class SignIn:
    """The connection is encrypted and the upstream takes XOAUTH2: sign in now."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Signed in and idle; also the answer to NOOP."""


@dataclass(frozen=True, slots=True)
class SendContent:
    """All recipients are accepted and 354 has come."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The transaction is over."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Rejected:
    """The upstream does not let us in; the connection is of no use."""

    verdict: Verdict
    stage: Stage


@dataclass(frozen=True, slots=True)
class Closing:
    """The upstream ends the session before it has taken any content, or has confirmed our QUIT."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Broken:
    """The upstream does not speak SMTP, or not in its turn; the connection is of no use."""

    reason: str


Event = StartTls | SignIn | Ready | SendContent | Finished | Rejected | Closing | Broken


@dataclass(frozen=True, slots=True)
class _Command:
    """Something the upstream answers with one reply. `line` is None where nothing is sent to get it."""

    name: str
    line: bytes | None = field(repr=False)
    handler: Callable[[Reply], None]


@dataclass(slots=True)
class _Transaction:
    """What is known of the mail transaction so far."""

    recipients: tuple[str, ...]
    opened: bool = False
    """MAIL was accepted and no final reply has come: RSET before the next one."""
    answered: int = 0
    unwanted: dict[str, Reply] = field(default_factory=dict)
    verdict: Verdict | None = None
    content_sent: bool = False


class Conversation:
    """One connection's conversation, from the greeting to QUIT."""

    def __init__(self, ehlo_name: str) -> None:
        self.extensions: dict[str, str] = {}
        """What the last EHLO reply offered: keyword in capitals, and its parameters."""
        self.replies = 0
        """How many replies have come: the measure of progress."""
        self._ehlo_name = ehlo_name
        self._parser = ReplyParser()
        self._unsent: deque[_Command] = deque()
        self._unanswered: deque[_Command] = deque()
        self._outgoing = bytearray()
        self._events: list[Event] = []
        self._transaction = _Transaction(())
        self._encrypted = False
        self._handshaking = False
        self._signed_in = False
        self._over = False
        self._send(_Command("the greeting", None, self._on_greeting))

    # --- what the shell asks -----------------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """Signed in, and ready for a transaction."""
        return self._signed_in and not self._over and not self._unanswered and self._parser.empty

    @property
    def awaiting(self) -> str:
        """The name of the command whose reply is due next; "" if none is."""
        return self._unanswered[0].name if self._unanswered else ""

    @property
    def content_sent(self) -> bool:
        """The final dot was handed out and not answered yet: only the upstream knows what became of it."""
        return self._transaction.content_sent and not self._transaction.verdict

    def outgoing(self) -> bytes:
        """Return what is to be sent now, once."""
        data = bytes(self._outgoing)
        self._outgoing.clear()
        return data

    # --- what the shell tells ----------------------------------------------------------------------------

    def receive(self, data: bytes) -> list[Event]:
        """Take received bytes and return what they mean. What comes after the end is ignored."""
        if self._over:
            return []
        self._parser.feed(data)
        try:
            if self._handshaking:
                raise ProtocolError(_INJECTED)
            while not self._over and (reply := self._parser.next_reply()):
                self._on_reply(reply)
        except ProtocolError as error:
            self._over = True
            self._events.append(Broken(str(error)))
        events, self._events = self._events, []
        return events

    def tls_started(self) -> None:
        """The handshake is done and the certificate verified."""
        self._handshaking = False
        self._encrypted = True
        self._ehlo()

    def sign_in(self, user: str, token: str) -> None:
        """AUTH XOAUTH2, with an initial response only if the command line has room for it (RFC 4954 4).

        Microsoft's tokens have 1.5 kB and more: they are sent after the empty challenge. Outlook would take
        the long line, others (Dovecot) do not.
        """
        response = base64.b64encode(f"user={user}\x01auth=Bearer {token}\x01\x01".encode())
        one_line = b"AUTH XOAUTH2 " + response
        if len(one_line) <= _COMMAND_LINE:
            self._send(_Command("AUTH", one_line, self._on_auth))
        else:
            self._send(_Command("AUTH", b"AUTH XOAUTH2", lambda reply: self._on_challenge(reply, response)))

    def begin(self, submission: Submission) -> list[Event]:
        """Start a transaction: MAIL, RCPT and DATA, in one flight if the upstream offers PIPELINING.

        Returns [Finished] at once when the upstream cannot take this message at all.
        """
        self._require_usable()
        reset = self._transaction.opened
        if refusal := self._impossible(submission):
            return [Finished(refusal)]
        envelope = submission.envelope
        commands = [_Command("RSET", b"RSET", self._on_reset)] if reset else []
        commands.append(_Command("MAIL", self._mail(submission), self._on_mail))
        for recipient in envelope.recipients:
            line = b"RCPT TO:<%b>" % recipient.encode()
            commands.append(_Command("RCPT", line, self._on_rcpt))
        commands.append(_Command("DATA", b"DATA", self._on_data))
        self._transaction = _Transaction(envelope.recipients)
        self._send(*commands)
        return []

    def end_content(self) -> bytes:
        """Return the final dot. Once it is handed out, a lost connection means uncertainty."""
        self._transaction.content_sent = True
        return b".\r\n"

    def noop(self) -> None:
        """Ask whether the upstream is still there; it answers Ready."""
        self._require_usable()
        self._send(_Command("NOOP", b"NOOP", self._on_noop))

    def quit(self) -> None:
        """Say goodbye; the upstream answers Closing."""
        self._require_usable()
        self._send(_Command("QUIT", b"QUIT", self._closing))

    # --- commands and replies ----------------------------------------------------------------------------

    def _require_usable(self) -> None:
        if not self.usable:
            raise RuntimeError("this conversation is not ready for a command")

    def _send(self, *commands: _Command) -> None:
        self._unsent.extend(commands)
        self._pump()

    def _pump(self) -> None:
        """Move on: all commands at once with PIPELINING (RFC 2920), else each after the last one's reply."""
        while self._unsent and (not self._unanswered or "PIPELINING" in self.extensions):
            command = self._unsent.popleft()
            if command.line is not None:
                self._outgoing += command.line + b"\r\n"
            self._unanswered.append(command)

    def _on_reply(self, reply: Reply) -> None:
        self.replies += 1
        if not self._unanswered:
            if reply.code != 421:  # RFC 5321 3.8: the one reply that may come unasked
                raise ProtocolError(f"the server said something unasked: {reply.code}")
            self._closing(reply)
            return
        command = self._unanswered.popleft()
        # 53x: it takes us for strangers (again), so it is this connection that is of no more use.
        if command.name in ("NOOP", "RSET", "MAIL", "RCPT", "DATA") and (
            reply.code == 421 or 530 <= reply.code < 540
        ):
            self._closing(reply)
            return
        command.handler(reply)
        self._pump()

    def _closing(self, reply: Reply) -> None:
        self._over = True
        self._unsent.clear()
        self._events.append(Closing(reply))

    def _reject(self, verdict: Verdict, stage: Stage) -> None:
        self._over = True
        self._events.append(Rejected(verdict, stage))

    # --- greeting, EHLO, STARTTLS ------------------------------------------------------------------------

    def _on_greeting(self, reply: Reply) -> None:
        if self._accepted(reply, 220):
            self._ehlo()

    def _ehlo(self) -> None:
        # RFC 3207 4.2: what was offered before the handshake is forgotten.
        self.extensions = {}
        self._send(_Command("EHLO", b"EHLO " + self._ehlo_name.encode(), self._on_ehlo))

    def _on_ehlo(self, reply: Reply) -> None:
        if not self._accepted(reply, 250):
            return
        offered = (line.partition(" ") for line in reply.text.split("\n")[1:])
        self.extensions = {keyword.upper(): parameters.upper() for keyword, _, parameters in offered}
        if self._encrypted:
            self._look_for_xoauth2()
        elif "STARTTLS" in self.extensions:
            self._send(_Command("STARTTLS", b"STARTTLS", self._on_starttls))
        else:
            # Never a token in clear: this may be an attacker between us and the upstream.
            self._reject(
                _unable(
                    "no-starttls",
                    Reply(454, "4.7.0", "STARTTLS is not offered"),
                    "The server offers no encryption (STARTTLS), and the relay sends no token without it.",
                    "Check RELAY_UPSTREAM, and whether a firewall or virus scanner changes SMTP on the way.",
                ),
                Stage.CONNECT,
            )

    def _on_starttls(self, reply: Reply) -> None:
        if not self._accepted(reply, 220):
            return
        if not self._parser.empty:
            raise ProtocolError(_INJECTED)  # RFC 3207 section 6: it would pass for protected
        self._handshaking = True
        self._events.append(StartTls())

    def _look_for_xoauth2(self) -> None:
        if "XOAUTH2" in self.extensions.get("AUTH", "").split():
            self._events.append(SignIn())
            return
        self._reject(
            _unable(
                "no-xoauth2",
                Reply(454, "4.7.0", "AUTH XOAUTH2 is not offered"),
                "The server does not offer to sign in with OAuth (AUTH XOAUTH2).",
                "Check RELAY_UPSTREAM: it must name smtp.office365.com:587 or smtp-mail.outlook.com:587.",
            ),
            Stage.AUTH,
        )

    def _accepted(self, reply: Reply, code: int) -> bool:
        if reply.code == code:
            return True
        if reply.positive:
            raise ProtocolError(f"the server said {reply.code} where {code} is due")
        self._reject(judge(reply, Stage.CONNECT), Stage.CONNECT)
        return False

    # --- AUTH --------------------------------------------------------------------------------------------

    def _on_challenge(self, reply: Reply, response: bytes) -> None:
        if reply.code == 334:
            self._send(_Command("AUTH", response, self._on_auth))
        elif reply.positive:
            raise ProtocolError(f"the server answered AUTH with {reply.code} before it had the token")
        else:
            self._on_auth(reply)

    def _on_auth(self, reply: Reply) -> None:
        self._auth_answer(reply, "")

    def _auth_answer(self, reply: Reply, challenge: str) -> None:
        if reply.code == 235:
            self._signed_in = True
            self._events.append(Ready())
        elif reply.code == 334 and not challenge:
            # The reason as base64 JSON; an empty response gets the final refusal (Google's form of XOAUTH2).
            reason = _challenge(reply.text)
            self._send(_Command("AUTH", b"", lambda last: self._auth_answer(last, reason)))
        elif reply.positive:
            raise ProtocolError(f"the server answered AUTH with {reply.code}")
        else:
            text = _redacted("\n".join(part for part in (reply.text, challenge) if part))
            self._reject(judge(Reply(reply.code, reply.enhanced, text), Stage.AUTH), Stage.AUTH)

    # --- the transaction ---------------------------------------------------------------------------------

    def _impossible(self, submission: Submission) -> Verdict | None:
        """Return a refusal if the upstream lacks what this message needs, else None."""
        envelope = submission.envelope
        limit = self.extensions.get("SIZE", "")
        if not all(_USABLE.fullmatch(address) for address in (envelope.sender, *envelope.recipients)):
            return _refused("bad-address", Reply(553, "5.1.3", "An address is not a valid one"))
        if limit.isdecimal() and 0 < int(limit) < submission.size:
            reply = Reply(552, "5.3.4", f"The message has {submission.size} octets, Outlook takes {limit}")
            return _refused("message-too-big", reply, "Send a smaller message or a link.")
        if _needs_utf8(envelope) and "SMTPUTF8" not in self.extensions:
            reply = Reply(
                553, "5.6.7", "Outlook does not take addresses with letters outside ASCII (SMTPUTF8)"
            )
            return _refused("no-smtputf8", reply, "Use an ASCII address.")
        if "8BITMIME" not in self.extensions and _has_8bit(submission):
            reply = Reply(554, "5.6.3", "The upstream does not take 8-bit content (8BITMIME)")
            return _refused("no-8bitmime", reply, "Send it in quoted-printable or base64.")
        return None

    def _mail(self, submission: Submission) -> bytes:
        envelope = submission.envelope
        parameters = b""
        if "SIZE" in self.extensions:
            parameters += b" SIZE=%d" % submission.size
        if "8BITMIME" in self.extensions and (envelope.body_8bit or _has_8bit(submission)):
            parameters += b" BODY=8BITMIME"
        if "SMTPUTF8" in self.extensions and (envelope.smtputf8 or _needs_utf8(envelope)):
            parameters += b" SMTPUTF8"
        return b"MAIL FROM:<%b>%b" % (envelope.sender.encode(), parameters)

    def _on_reset(self, reply: Reply) -> None:
        if not _completed(reply):
            self._closing(reply)

    def _on_noop(self, reply: Reply) -> None:
        if _completed(reply):
            self._events.append(Ready())
        else:
            self._closing(reply)

    def _on_mail(self, reply: Reply) -> None:
        if _completed(reply):
            self._transaction.opened = True
        else:
            self._conclude(judge(reply, Stage.MAIL))

    def _on_rcpt(self, reply: Reply) -> None:
        transaction = self._transaction
        recipient = transaction.recipients[transaction.answered]
        transaction.answered += 1
        if not _completed(reply):
            transaction.unwanted[recipient] = reply
        if transaction.answered == len(transaction.recipients):
            self._conclude(everybody_or_nobody(transaction.unwanted))

    def _on_data(self, reply: Reply) -> None:
        verdict = self._transaction.verdict
        if reply.code == 354 and not verdict:
            self._unanswered.append(_Command("the final dot", None, self._on_final))
            self._events.append(SendContent())
        elif reply.code == 354:
            # Too late to take DATA back; whatever is sent now would be delivered to somebody.
            self._over = True
            self._conclude(verdict)
        elif reply.positive:
            raise ProtocolError(f"the server answered DATA with {reply.code}")
        else:
            self._conclude(judge(reply, Stage.DATA))

    def _on_final(self, reply: Reply) -> None:
        transaction = self._transaction
        if reply.positive and (reply.code >= 300 or not transaction.content_sent):
            raise ProtocolError(f"the server answered the content with {reply.code}")
        # Refused in the middle of the content: what we have begun to write cannot be ended any more.
        self._over = reply.code == 421 or not transaction.content_sent
        transaction.opened = False
        self._conclude(judge(reply, Stage.DATA))

    def _conclude(self, verdict: Verdict | None) -> None:
        """Keep the first verdict, send nothing more, and finish when all that was sent is answered."""
        transaction = self._transaction
        transaction.verdict = transaction.verdict or verdict
        if transaction.verdict:
            self._unsent.clear()
            if not self._unanswered:
                self._events.append(Finished(transaction.verdict))


_INJECTED = "the server sent plain text after it had agreed to STARTTLS"
# A line break in an address would be a command of its own, a ">" would add parameters to ours.
_USABLE = re.compile(
    r"""(?:[^\x00-\x20\x7f<>"\ud800-\udfff]|"(?:[^\x00-\x1f\x7f"\\\ud800-\udfff]|\\[\x20-\x7e])*")*"""
)
_LONG_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{64,}={0,2}")


def _unable(key: str, reply: Reply, sentence: str, action: str) -> Verdict:
    return Verdict(Outcome.DEFERRED, reply, sentence, action, upstream=False, key=key)


def _refused(key: str, reply: Reply, action: str = "") -> Verdict:
    return Verdict(Outcome.REFUSED, reply, action=action, upstream=False, key=key)


def _completed(reply: Reply) -> bool:
    """Whether the command was carried out. A 3xx makes no sense here."""
    if 300 <= reply.code < 400:
        raise ProtocolError(f"the server said {reply.code} where no more input is due")
    return reply.positive


def _redacted(text: str) -> str:
    """Take out what may be our token: some servers repeat a command that they refuse."""
    return _LONG_BASE64.sub("[removed]", text)


def _challenge(text: str) -> str:
    """Return the reason in a 334, e.g. "status 401, schemes bearer"; unread, if it is not JSON."""
    try:
        reason = json.loads(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        return f"challenge {text[:200]}"
    pairs: Iterable[tuple[str, object]] = (
        reason.items() if isinstance(reason, dict) else [("challenge", reason)]
    )
    return ", ".join(f"{name} {value}" for name, value in pairs)[:200] or "challenge {}"


def _needs_utf8(envelope: Envelope) -> bool:
    return not all(address.isascii() for address in (envelope.sender, *envelope.recipients))


def _has_8bit(submission: Submission) -> bool:
    """Look at the content itself: a client may send 8 bits without saying so."""
    if not submission.header.isascii():
        return True
    body = submission.body
    if not isinstance(body, memoryview):
        return not body.isascii()
    return not all(bytes(body[at : at + 65536]).isascii() for at in range(0, len(body), 65536))
