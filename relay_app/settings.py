"""The settings, parsed once; every problem reported at once."""

from dataclasses import dataclass, field
from enum import Enum


class Flow(Enum):
    """How a mailbox's tokens are obtained (Microsoft identity platform, OAuth 2.0 grants)."""

    AUTHORIZATION_CODE = "authorization_code"
    DEVICE_CODE = "device_code"
    CLIENT_CREDENTIALS = "client_credentials"

    @property
    def delegated(self) -> bool:
        """A person signs in once; the refresh token that this gives lives in the vault."""
        return self is not Flow.CLIENT_CREDENTIALS


class ForeignFrom(Enum):
    """What to do with a `From:` address that the device may not use."""

    REFUSE = "refuse"
    REWRITE = "rewrite"


@dataclass(frozen=True, slots=True)
class DeviceSettings:
    """A client that submits mail, with a credential and rules of its own."""

    name: str
    """The login name, compared without regard to case."""
    password_hash: str = field(repr=False)
    """argon2, in PHC string format."""
    mailbox: str
    """The address of the mailbox that its mail leaves through."""
    senders: tuple[str, ...] = ()
    """Addresses it may send as besides the mailbox's own: `name@domain` or `*@domain`, lower case."""
    foreign_from: ForeignFrom = ForeignFrom.REFUSE


@dataclass(frozen=True, slots=True)
class MailboxSettings:
    """An Outlook.com or Microsoft 365 account that mail leaves through, and its app registration."""

    address: str
    flow: Flow
    tenant: str
    """`common`, `consumers`, `organizations`, a tenant's id or one of its domains."""
    client_id: str
    client_secret: str = field(default="", repr=False)
    """Empty for a public client."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host and a port. Host "" or 0.0.0.0 is every IPv4 address, :: every IPv6 address."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
