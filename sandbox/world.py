"""Everything there is in the sandbox: one tenant, its apps and accounts, and the rules of the place."""

import uuid
from dataclasses import dataclass, field
from typing import Self

from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.accounts import CONSUMER_TENANT, Account
from sandbox.apps import App, Secret
from sandbox.certificates import Certificates
from sandbox.clock import Clock
from sandbox.counts import EntraCounts
from sandbox.faults import FaultBook
from sandbox.grants import Grants
from sandbox.journal import Journal
from sandbox.limits import Limits
from sandbox.tokens import TokenMint
from sandbox.usage import Usage

TENANT_DOMAIN = "example.org"
PERSONAL = "me@outlook.com"
WORK = "office@example.org"
SHARED_ENDPOINTS = frozenset({"common", "organizations", "consumers"})


@dataclass(slots=True)
class Origin:
    """What a world begins with."""

    tenant: str
    signing_key: rsa.RSAPrivateKey = field(repr=False)
    key_id: str
    accounts: list[Account]
    apps: list[App]
    """The confidential app, the public app, then those added later."""

    @classmethod
    def new(cls) -> Self:
        """The default: one app of each kind, one account of each kind."""
        tenant = str(uuid.uuid4())
        return cls(
            tenant=tenant,
            signing_key=rsa.generate_private_key(public_exponent=65537, key_size=2048),
            key_id=uuid.uuid4().hex,
            accounts=[
                Account(PERSONAL, CONSUMER_TENANT, personal=True, aliases=("me.alias@outlook.com",)),
                Account(WORK, tenant, personal=False, aliases=("sales@example.org",)),
            ],
            apps=[
                App(
                    name="Relay (confidential)",
                    tenant=tenant,
                    secrets=[Secret()],
                    roles=frozenset({"SMTP.SendAsApp"}),
                    mailboxes=(WORK,),
                ),
                App(name="Relay (public)", tenant=tenant),
            ],
        )


class World:
    """State shared by Entra, Outlook and the control API. Lives in one event loop."""

    def __init__(self, certificates: Certificates, origin: Origin) -> None:
        self.certificates = certificates
        self.clock = Clock()
        self.limits = Limits()
        self.smtp_faults = FaultBook()
        self.smtp_certificate = "good"
        self.entra_faults = FaultBook()
        self.entra_counts = EntraCounts()
        self.tenant = origin.tenant
        self.mint = TokenMint(self.clock, origin.signing_key, origin.key_id)
        self.grants = Grants(self.clock, self.limits)
        self.journal = Journal(self.limits)
        self.usage = Usage(self.clock, self.limits)
        self.accounts = {account.address.casefold(): account for account in origin.accounts}
        self.apps = {app.client_id: app for app in origin.apps}
        self.confidential_app, self.public_app = origin.apps[:2]

    def add_account(self, account: Account) -> None:
        self.accounts[account.address.casefold()] = account

    def account(self, address: str) -> Account:
        """Raises KeyError: there is no such account (an alias is none)."""
        try:
            return self.accounts[address.casefold()]
        except KeyError:
            raise KeyError(f"There is no account {address}.") from None

    def delete_account(self, address: str) -> None:
        """Raises KeyError: there is no such account."""
        del self.accounts[self.account(address).address.casefold()]

    def add_app(self, app: App) -> None:
        self.apps[app.client_id] = app

    def app(self, client_id: str) -> App:
        """Raises KeyError: there is no such app."""
        try:
            return self.apps[client_id]
        except KeyError:
            raise KeyError(f"There is no app {client_id}.") from None

    def knows_tenant(self, tenant: str) -> bool:
        known = SHARED_ENDPOINTS | {self.tenant, CONSUMER_TENANT, TENANT_DOMAIN}
        return tenant.casefold() in known

    def reset(self) -> None:
        """Forget what happened, what was ordered and who has consented to what.

        Accounts, apps, sign-ins and open connections stay.
        """
        self.clock.reset()
        self.limits.reset()
        self.smtp_certificate = "good"
        self.smtp_faults.clear()
        self.entra_faults.clear()
        self.entra_counts = EntraCounts()  # requests that still wait go on counting in the old one
        self.grants.forget_consents()
        self.journal.reset()
        self.usage.reset()
