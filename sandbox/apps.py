"""App registrations."""

import secrets
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from cryptography import x509

OIDC_SCOPES = frozenset({"openid", "profile", "email", "offline_access"})
DELEGATED = {
    "https://outlook.office.com": frozenset({"SMTP.Send"}),
    "https://outlook.office365.com": frozenset({"SMTP.Send"}),
    "https://graph.microsoft.com": frozenset({"SMTP.Send", "Mail.Send", "User.Read"}),
}
"""Resource -> the delegated permissions it has. What `aud` will be in a token for it."""
OUTLOOK_AUDIENCES = frozenset({"https://outlook.office.com", "https://outlook.office365.com"})
AUDIENCES = frozenset(
    {"AzureADandPersonalMicrosoftAccount", "PersonalMicrosoftAccount", "AzureADMultipleOrgs", "AzureADMyOrg"}
)

_LOOPBACK = frozenset({"localhost", "127.0.0.1"})


@dataclass(slots=True)
class Secret:
    """A client secret. Entra shows the value once; the id is what people paste by mistake."""

    value: str = field(default_factory=lambda: secrets.token_urlsafe(30), repr=False)
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    expires_at: float = float("inf")


@dataclass(slots=True)
class App:
    """One app registration, as the portal shows it."""

    client_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    name: str = "relay"
    tenant: str = ""
    """Where it is registered."""
    secrets: list[Secret] = field(default_factory=list)
    certificates: list[x509.Certificate] = field(default_factory=list)
    """Neither secrets nor certificates: a public client ("Allow public client flows")."""
    audience: str = "AzureADandPersonalMicrosoftAccount"
    """`signInAudience`."""
    redirect_uris: tuple[str, ...] = ("http://localhost:8400/callback",)
    delegated: frozenset[str] = frozenset({"SMTP.Send", "Mail.Send"})
    roles: frozenset[str] = frozenset()
    """Application permissions with admin consent: `SMTP.SendAsApp`, `Mail.Send`."""
    mailboxes: tuple[str, ...] = ()
    """Mailboxes that its service principal has been given (Add-MailboxPermission)."""

    @property
    def public(self) -> bool:
        return not self.secrets and not self.certificates

    def accepts_redirect(self, uri: str) -> bool:
        """Whether it is registered. The port of http://localhost does not count (RFC 8252 7.3)."""
        return _without_loopback_port(uri) in map(_without_loopback_port, self.redirect_uris)

    def register(self, uris: Iterable[str]) -> None:
        """Add redirect addresses; those it has already do not count."""
        self.redirect_uris = tuple(dict.fromkeys([*self.redirect_uris, *uris]))

    def may_use(self, address: str) -> bool:
        """Whether an app-only token of this app opens the mailbox."""
        return address.casefold() in {mailbox.casefold() for mailbox in self.mailboxes}


def _without_loopback_port(uri: str) -> SplitResult | str:
    try:
        parts = urlsplit(uri)
        host = parts.hostname
    except ValueError:
        return uri
    return parts._replace(netloc=host) if parts.scheme == "http" and host in _LOOPBACK else parts
