"""The pool: how many connections, which one, and how fresh."""

import asyncio

import pytest

from relay_app.delivery.outlook import Connection, Deadlines, Undelivered, tls_context
from relay_app.delivery.pool import CHECK_AFTER, MAX_CONNECTIONS, Pool


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def connect(tokens):
    """Return what the pool calls to open a connection to a server."""
    made = []

    def to(server):
        async def connect() -> Connection:
            deadlines = Deadlines(quit=5, check=0.2)
            connection = await Connection.open(
                server.endpoint, tls_context(server.cafile), "relay", deadlines
            )
            made.append(connection)
            await connection.sign_in(await tokens.token())
            return connection

        return connect

    yield to
    for connection in made:
        connection.abort()


async def session(wire):
    """Let the client in, answer its NOOPs, and return what it said."""
    await wire.let_in()
    heard = b""
    while not heard.endswith(b"QUIT\r\n"):
        heard += await wire.hear()
        if heard.endswith(b"NOOP\r\n"):
            await wire.say(b"250 here\r\n")
    await wire.say(b"221 bye\r\n")
    return heard


async def borrow(pool, connect):
    await pool.acquire()
    return await pool.connection(connect)


async def test_the_connection_used_last_is_used_first(serve, connect, clock):
    async with serve(session) as server:
        pool = Pool(queue_deadline=5, clock=clock)
        first = await borrow(pool, connect(server))
        second = await borrow(pool, connect(server))
        assert (pool.in_use, pool.idle) == (2, 0)
        pool.release(first)
        pool.release(second)
        assert (pool.in_use, pool.idle) == (0, 2)
        assert await borrow(pool, connect(server)) is second
        assert await borrow(pool, connect(server)) is first
        pool.release(first)
        pool.release(second)
        await pool.close()
        assert (pool.in_use, pool.idle) == (0, 0)
        assert [await server.finished.get() for _ in range(2)] == [b"QUIT\r\n", b"QUIT\r\n"]


async def test_a_connection_that_was_idle_for_long_is_tried_first(serve, connect, clock):
    async with serve(session) as server:
        pool = Pool(queue_deadline=5, clock=clock)
        connection = await borrow(pool, connect(server))
        for idle in (CHECK_AFTER - 1, CHECK_AFTER):
            pool.release(connection)
            clock.now += idle
            assert await borrow(pool, connect(server)) is connection
        pool.release(connection)
        await pool.close()
        assert await server.finished.get() == b"NOOP\r\nQUIT\r\n"


async def test_one_that_does_not_answer_is_replaced(serve, connect, clock):
    async def silent(wire):
        await wire.let_in()
        return await wire.reader.read()

    async with serve(silent, session) as server:
        pool = Pool(queue_deadline=5, clock=clock)
        old = await borrow(pool, connect(server))
        pool.release(old)
        clock.now += CHECK_AFTER
        new = await borrow(pool, connect(server))
        assert new is not old
        assert await server.finished.get() == b"NOOP\r\n"
        pool.release(new)
        await pool.close()


async def test_cancelled_while_trying_one(serve, connect, clock):
    asked = asyncio.Event()

    async def silent(wire):
        await wire.let_in()
        await wire.hear()
        asked.set()
        return await wire.reader.read()

    async with serve(silent) as server:
        pool = Pool(queue_deadline=5, clock=clock)
        pool.release(await borrow(pool, connect(server)))
        clock.now += CHECK_AFTER
        borrowing = asyncio.ensure_future(borrow(pool, connect(server)))
        await asked.wait()
        borrowing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await borrowing
        assert await server.finished.get() == b""  # closed, not forgotten
        assert pool.idle == 0


async def test_one_that_was_closed_meanwhile_is_replaced(serve, connect, until):
    async def short(wire):
        await wire.let_in()

    async with serve(short, session) as server:
        pool = Pool(queue_deadline=5)
        old = await borrow(pool, connect(server))
        pool.release(old)
        await until(lambda: not old.usable)
        assert pool.idle == 0
        new = await borrow(pool, connect(server))
        assert new is not old
        pool.release(new)
        await pool.close()


async def test_a_broken_connection_is_not_kept(serve, connect):
    async with serve(session) as server:
        pool = Pool(queue_deadline=5)
        connection = await borrow(pool, connect(server))
        connection.abort()
        pool.release(connection)
        assert (pool.in_use, pool.idle) == (0, 0)
        assert isinstance(await server.finished.get(), ConnectionError)


async def test_a_slot_without_a_connection():
    pool = Pool(queue_deadline=5)
    await pool.acquire()
    pool.release(None)
    assert (pool.in_use, pool.idle) == (0, 0)


async def test_slots_are_given_in_the_order_of_asking(until):
    pool = Pool(queue_deadline=5)
    for _ in range(MAX_CONNECTIONS):
        await pool.acquire()
    served = []

    async def wait(name):
        await pool.acquire()
        served.append(name)

    waiting = [asyncio.ensure_future(wait(name)) for name in "abc"]
    await until(lambda: pool.waiting == 3)
    assert served == []
    for _ in range(3):
        pool.release(None)
    await asyncio.gather(*waiting)
    assert served == ["a", "b", "c"]
    assert pool.in_use == MAX_CONNECTIONS
    assert pool.waiting == 0


async def test_waiting_for_a_slot_has_an_end():
    pool = Pool(queue_deadline=0.05)
    for _ in range(MAX_CONNECTIONS):
        await pool.acquire()
    with pytest.raises(Undelivered) as caught:
        await pool.acquire()
    assert caught.value.verdict.key == "queue-timeout"
    assert (pool.in_use, pool.waiting) == (MAX_CONNECTIONS, 0)


async def test_idle_connections_are_closed_in_time(serve, connect):
    async with serve(session) as server:
        pool = Pool(queue_deadline=5, close_after=0.01)
        pool.release(await borrow(pool, connect(server)))
        assert await server.finished.get() == b"QUIT\r\n"
        assert pool.idle == 0


async def test_one_borrowed_just_before_its_time_is_up_stays(serve, connect):
    async with serve(session) as server:
        pool = Pool(queue_deadline=5)
        connection = await borrow(pool, connect(server))
        pool.release(connection)
        closing = asyncio.ensure_future(pool.close())
        borrowing = asyncio.ensure_future(borrow(pool, connect(server)))
        # In this order: close() plans the closing, the borrower borrows, the closing comes too late.
        assert await borrowing is connection
        await closing
        assert connection.usable
        pool.release(connection)
        assert await server.finished.get() == b"QUIT\r\n"


async def test_after_close_what_comes_back_is_closed_too(serve, connect):
    async with serve(session) as server:
        pool = Pool(queue_deadline=5)
        connection = await borrow(pool, connect(server))
        await pool.close()
        pool.release(connection)
        assert await server.finished.get() == b"QUIT\r\n"
