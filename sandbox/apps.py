"""App registrations."""

import secrets
import uuid
from dataclasses import dataclass, field

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
    """None: a public client ("Allow public client flows")."""
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
        return not self.secrets

    def may_use(self, address: str) -> bool:
        """Whether an app-only token of this app opens the mailbox."""
        return address.casefold() in {mailbox.casefold() for mailbox in self.mailboxes}
