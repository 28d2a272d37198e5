"""The keeper: refreshes tokens before they expire, so that no mail has to wait for one."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from relay_app.identity.tokens import MailboxTokens

_LOOK = 5.0
"""Seconds between two looks into the vault, at most: how soon a sign-in by another process is noticed."""
_REST = 1.0
"""Seconds between two requests for one mailbox, at least."""


class Keeper:
    """Keeps the tokens of all mailboxes fresh, in the background, for as long as the relay runs.

    When and how often is decided by each `MailboxTokens.due_in`; changes of state are logged there too.
    """

    def __init__(
        self, sources: Iterable[MailboxTokens], *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._sources = tuple(sources)
        self._sleep = sleep

    async def run(self) -> None:
        """Fetch each mailbox's first token now, and a new one before it expires, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for source in self._sources:
                group.create_task(self._keep(source), name=f"keeper {source.address}")

    async def _keep(self, source: MailboxTokens) -> None:
        while True:
            due = source.due_in()
            # The source has logged what went wrong and knows when to try again. Nothing may stop this loop,
            # not even a log that cannot be written.
            if due > 0:
                await self._sleep(min(due, _LOOK))
                with suppress(Exception):
                    await source.look()
                continue
            with suppress(Exception):
                await source.refresh()
            await self._sleep(_REST)
