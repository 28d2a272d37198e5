"""The courier that keeps nothing."""

import asyncio
from dataclasses import replace

import pytest

from relay_app.delivery.courier import DirectCourier
from relay_app.delivery.verdict import Outcome


async def takes_one(wire):
    await wire.let_in()
    await wire.message()
    return await wire.until_closed()


class Gate:
    """A script that holds its message back until it is opened."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def __call__(self, wire):
        await wire.let_in()
        await wire.envelope()
        await wire.hear(b"\r\n.\r\n")
        self.reached.set()
        await self.opened.wait()
        await wire.say(b"250 2.0.0 ok\r\n")
        return await wire.until_closed()


async def test_a_submission_goes_to_its_mailbox(serve, upstream, submission):
    async with serve(takes_one) as server:
        courier = DirectCourier({"user@example.org": upstream(server)})
        verdict = await courier.deliver(submission())
        await courier.close()
        assert await server.finished.get() == b"QUIT\r\n"
    assert verdict.outcome is Outcome.ACCEPTED


async def test_a_mailbox_that_is_not_there(submission):
    verdict = await DirectCourier({}).deliver(replace(submission(), mailbox="gone@example.org"))
    assert verdict.outcome is Outcome.DEFERRED
    assert str(verdict.reply) == "451 4.3.5 The relay has no mailbox gone@example.org"


async def test_a_client_that_leaves_does_not_stop_the_delivery(serve, upstream, submission):
    gate = Gate()
    async with serve(gate) as server:
        sender = upstream(server)
        courier = DirectCourier({"user@example.org": sender})
        client = asyncio.ensure_future(courier.deliver(submission()))
        await gate.reached.wait()
        client.cancel()
        with pytest.raises(asyncio.CancelledError):
            await client
        assert sender.pool.in_use == 1
        closing = asyncio.ensure_future(courier.close())
        gate.opened.set()
        await closing  # waits for the delivery, whose connection then says goodbye in order
        assert await server.finished.get() == b"QUIT\r\n"
        assert (sender.pool.in_use, sender.pool.idle) == (0, 0)


async def test_a_close_that_is_cut_short_cuts_the_deliveries(serve, upstream, submission, until):
    gate = Gate()
    async with serve(gate) as server:
        sender = upstream(server)
        courier = DirectCourier({"user@example.org": sender})
        client = asyncio.ensure_future(courier.deliver(submission()))
        await gate.reached.wait()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await courier.close()
        with pytest.raises(asyncio.CancelledError):
            await client
        assert sender.pool.in_use == 0
        gate.opened.set()
        await server.finished.get()
