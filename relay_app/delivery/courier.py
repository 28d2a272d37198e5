"""Decides how a submission travels."""

import asyncio
from collections.abc import Mapping
from typing import Protocol

from relay_app.delivery.outlook import unreached
from relay_app.delivery.upstream import Upstream
from relay_app.delivery.verdict import Verdict
from relay_app.mail.submission import Submission


class Courier(Protocol):
    """Takes responsibility for a submission, as far as its verdict says."""

    async def deliver(self, submission: Submission) -> Verdict:
        """Deliver, and say what became of it. Does not raise.

        Cancelling the caller does not stop a delivery that has begun: half a transaction helps nobody.
        """
        ...


class DirectCourier:
    """Sends each submission to the upstream at once and returns the upstream's verdict. Nothing is kept."""

    def __init__(self, upstreams: Mapping[str, Upstream]) -> None:
        self._upstreams = upstreams
        """By the mailbox's address, as in `Submission.mailbox`."""
        self._deliveries: set[asyncio.Task[Verdict]] = set()

    async def deliver(self, submission: Submission) -> Verdict:
        upstream = self._upstreams.get(submission.mailbox)
        if not upstream:
            text = f"The relay has no mailbox {submission.mailbox}"
            return unreached("mailbox-unknown", "4.3.5", text, "Add it to the relay's settings.")
        delivery = asyncio.get_running_loop().create_task(upstream.send(submission))
        self._deliveries.add(delivery)
        delivery.add_done_callback(self._deliveries.discard)
        return await asyncio.shield(delivery)

    async def close(self) -> None:
        """Finish what is under way, then say goodbye to the upstreams. The caller sets the limit:
        when this is cancelled, the deliveries still under way are cut off."""
        try:
            if self._deliveries:
                await asyncio.wait(self._deliveries)
        finally:
            for delivery in self._deliveries:
                delivery.cancel()
        await asyncio.gather(*(upstream.close() for upstream in self._upstreams.values()))
