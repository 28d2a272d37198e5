"""Access tokens for one mailbox (work in progress: interface only)."""

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A bearer token for the upstream and the user name that goes with it in XOAUTH2."""

    value: str = field(repr=False)
    user: str
    """The account's primary sign-in name; an alias is refused with 535 5.7.3."""
    expires_at: float
    """Seconds since the epoch."""


class TokenSource(Protocol):
    """Where delivery gets tokens for one mailbox."""

    async def token(self) -> AccessToken:
        """Return a token that is valid now; from memory when possible.

        Raises:
            TokenError: none can be had.
        """
        ...

    async def renew(self, rejected: AccessToken) -> AccessToken:
        """Return a token other than `rejected`, which the upstream has refused.

        Raises:
            TokenError: none can be had.
        """
        ...
