"""What the console shows and does: its port to the relay.

`relay_app.backend` implements it, the console's tests use a fake. Every method is called from the console's
threads, may block, and is safe to call from several at once. Times are in UTC. Nothing here ever holds a
token, and a password only in `NewDevice`, once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import Enum
from typing import Protocol

from relay_app.errors import RelayError
from relay_app.identity.sign_in import SignInState as SignInState
from relay_app.identity.tokens import State
from relay_app.settings import DeviceSettings, Flow


class RequestError(RelayError):
    """What was asked for cannot be done; the text says why and what to do instead."""


class SignInKind(Enum):
    """How a person signs a mailbox in."""

    DEVICE_CODE = "device_code"
    AUTHORIZATION_CODE = "authorization_code"


@dataclass(frozen=True, slots=True)
class MailboxView:
    """One mailbox: its tokens, its connections."""

    address: str
    flow: Flow
    state: State
    sentence: str = ""
    """Why it is not OK, in plain words; and `action`, what to do."""
    action: str = ""
    code: str = ""
    """Microsoft's AADSTS code, or ""."""
    user: str = ""
    """Who is signed in, if known."""
    token_expires: datetime | None = None
    next_refresh: datetime | None = None
    secret_expires: date | None = None
    """When the client secret or certificate ends, if known."""
    connections_open: int = 0
    connections_busy: int = 0
    sign_in_kinds: tuple[SignInKind, ...] = ()
    """Empty for client credentials: nobody signs in."""


@dataclass(frozen=True, slots=True)
class SignInView:
    """A sign-in that was begun. `id` is unguessable."""

    id: str
    mailbox: str
    kind: SignInKind
    state: SignInState
    url: str
    """The authorization URL, or the page where the code is typed."""
    user_code: str = ""
    """For the device page."""
    redirect_uri: str = ""
    expires: datetime | None = None
    user: str = ""
    """Who has signed in, once it is done."""
    sentence: str = ""
    """Why it failed, in plain words; `action` what to do; `code` AADSTS..."""
    action: str = ""
    code: str = ""
    confirmable: bool = False
    """It failed, but `confirm` would store it: another account than the mailbox's has signed in."""


@dataclass(frozen=True, slots=True)
class DeviceView:
    """A device, from the configuration (read-only) or made in the console."""

    name: str
    mailbox: str
    senders: tuple[str, ...]
    foreign_from: str
    hourly_messages: int
    """The most it may hand in within an hour; 0: no limit."""
    configured: bool
    """True: from the settings, cannot be revoked here."""
    created: datetime | None = None
    last_seen: datetime | None = None


@dataclass(frozen=True, slots=True)
class NewDevice:
    """A device that was just made, with its password: shown once."""

    device: DeviceSettings
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class AttemptView:
    """One attempt to deliver a message."""

    at: datetime
    seconds: float
    outcome: str
    """accepted, refused, deferred, uncertain (delivery.verdict.Outcome)."""
    reply: str
    """Outlook's words, or ours."""
    sentence: str = ""
    action: str = ""
    cause: str = ""
    """The verdict's key; docs/errors.md has them all."""


@dataclass(frozen=True, slots=True)
class MessageView:
    """One message. Never its content."""

    id: str
    received: datetime
    device: str
    mailbox: str
    client: str
    sender: str
    recipients: tuple[str, ...]
    size: int
    message_id: str
    attempts: tuple[AttemptView, ...]
    """Oldest first; the last one tells where the message stands."""


@dataclass(frozen=True, slots=True)
class HourCount:
    """What became of the messages of one hour."""

    hour: datetime
    counts: Mapping[str, int]
    """outcome -> messages."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something about the relay as a whole that its owner should know."""

    key: str
    """Stable: certificate-self-signed, certificate-expires, no-alerts, vault-key-beside-vault,
    no-console-password."""
    text: str


@dataclass(frozen=True, slots=True)
class RelayView:
    """The relay as clients see it."""

    version: str
    hostname: str
    submission_port: int
    """STARTTLS; 0 if there is no such listener."""
    tls_port: int
    """TLS from the start; 0 if there is none."""
    certificate_expires: datetime | None
    alerts: bool
    """False: nobody is told when something is wrong."""
    notices: tuple[Notice, ...]


class Backend(Protocol):
    """The relay, as the console needs it. Unknown names raise RequestError."""

    def relay(self) -> RelayView: ...

    def mailboxes(self) -> Sequence[MailboxView]: ...

    def ready(self) -> Sequence[str]:
        """Why the relay cannot send at the moment, one sentence each; empty if it can."""
        ...

    def devices(self) -> Sequence[DeviceView]: ...

    def create_device(
        self, *, name: str, mailbox: str, senders: Sequence[str], foreign_from: str, hourly_messages: int
    ) -> NewDevice:
        """Make a device with a generated password."""
        ...

    def revoke_device(self, name: str) -> None:
        """Its next login is refused; its open connections end with their next message."""
        ...

    def recent(self, limit: int) -> Sequence[MessageView]:
        """The latest messages, newest first."""
        ...

    def find(self, text: str, limit: int) -> Sequence[MessageView]:
        """By our id, by Message-ID, or by recipient or sender (whole address or part); newest first."""
        ...

    def message(self, id: str) -> MessageView: ...

    def hours(self) -> Sequence[HourCount]:
        """The last 24 hours, oldest first, hours without mail included."""
        ...

    def begin_sign_in(self, mailbox: str, kind: SignInKind, redirect_uri: str) -> SignInView: ...

    def sign_in(self, id: str) -> SignInView: ...

    def redirected(self, parameters: Mapping[str, str]) -> SignInView:
        """Complete the sign-in whose state is in these query parameters of the redirect."""
        ...

    def pasted(self, id: str, address: str) -> SignInView:
        """Complete a sign-in with the address that the browser ended up on."""
        ...

    def confirm(self, id: str) -> SignInView:
        """Store a sign-in although another account has signed in."""
        ...

    def retry(self, mailbox: str) -> MailboxView:
        """Ask for a token now."""
        ...

    def metrics(self) -> bytes:
        """Prometheus text format."""
        ...
