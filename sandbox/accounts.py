"""Accounts: the mailboxes that people sign in to."""

import uuid
from dataclasses import dataclass, field

CONSUMER_TENANT = "9188040d-6c67-4c5b-b112-36a304b66dad"
"""The tenant id that Microsoft uses for every personal account."""


@dataclass(slots=True)
class Account:
    """A personal (outlook.com) or work (Microsoft 365) account with a mailbox."""

    address: str
    """The primary sign-in name: `preferred_username` in tokens, and the only `user=` that XOAUTH2 takes."""
    tenant: str
    personal: bool
    aliases: tuple[str, ...] = ()
    """Other addresses that it may send as. None of them may be used to sign in."""
    smtp_auth_disabled: bool = False
    """`SmtpClientAuthenticationDisabled` on the mailbox: a valid token is refused too."""
    oid: str = field(default_factory=lambda: str(uuid.uuid4()))

    def may_send_as(self, address: str) -> bool:
        return address.casefold() in {own.casefold() for own in (self.address, *self.aliases)}
