"""One mailbox's way to Outlook: tokens, connections, and what is tried twice."""


from relay_app.delivery.verdict import Outcome


async def test_cold_then_warm(serve, upstream, submission):
    async def script(wire):
        await wire.let_in()
        await wire.message()
        await wire.message()
        return await wire.until_closed()

    async with serve(script) as server:
        sender = upstream(server)
        first = await sender.send(submission())
        wire = server.wires[0]
        cold = len(wire.flights)
        second = await sender.send(submission())
        await sender.close()
        assert await server.finished.get() == b"QUIT\r\n"

    assert first.outcome is second.outcome is Outcome.ACCEPTED
    # Two round trips on a warm connection: the envelope in one write, the whole content in another.
    assert wire.flights[cold:] == [
        b"MAIL FROM:<user@example.org> SIZE=22\r\nRCPT TO:<a@example.net>\r\nDATA\r\n",
        b"Subject: hi\r\n\r\nHello\r\n.\r\n",
    ]
    assert first.timings.connect > 0
    assert second.timings.connect == 0
