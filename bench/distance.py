"""A TCP proxy that is far away. `python -m bench.distance PORT RTT` listens on 127.0.0.1, prints its port.

Everything is passed on RTT/2 seconds after it came, in order, however much it is: there is delay, but no
limit of bandwidth. The TCP handshake takes its time too: the connection to PORT on 127.0.0.1 is opened 1.5
RTT after a client's (SYN, SYN-ACK, ACK), so that the greeting comes 2 RTT after it, as from a distant host.
"""

import asyncio
import sys
from contextlib import suppress


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    """Pass on what comes, and the end, `delay` seconds later."""
    loop = asyncio.get_running_loop()
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def arrive() -> None:
        while True:
            due, data = await under_way.get()
            await asyncio.sleep(due - loop.time())
            if not data:
                return
            writer.write(data)

    async with asyncio.TaskGroup() as group:
        group.create_task(arrive())
        data = b"begin"
        while data:
            try:
                data = await reader.read(1 << 18)
            except ConnectionError:
                data = b""
            under_way.put_nowait((loop.time() + delay, data))
    writer.close()


async def _serve(port: int, rtt: float) -> None:
    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(rtt * 1.5)
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.TaskGroup() as group:
            group.create_task(_carry(reader, far_writer, rtt / 2))
            group.create_task(_carry(far_reader, writer, rtt / 2))
        for end in (writer, far_writer):
            with suppress(ConnectionError):
                await end.wait_closed()

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2])))
