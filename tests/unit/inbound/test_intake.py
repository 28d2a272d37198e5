import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_app.inbound import intake as module
from relay_app.inbound.intake import (
    ConnectionGoneError,
    Intake,
    LineTooLongError,
    MessageTooLargeError,
)

LONG = 1e6  # seconds: no time limit


class Transport:
    """Knows whether reading is paused."""

    paused = False

    def pause_reading(self):
        assert not self.paused
        self.paused = True

    def resume_reading(self):
        assert self.paused
        self.paused = False


@pytest.fixture
async def transport():
    return Transport()


@pytest.fixture
async def intake(transport):
    intake = Intake()
    intake.attach(transport)
    return intake


async def begun(coroutine):
    """Run a reader until it waits."""
    task = asyncio.ensure_future(coroutine)
    await asyncio.sleep(0)
    return task


async def line(intake, limit=100):
    return await intake.line(limit, LONG)


async def message(intake, limit=1000, idle=LONG, timeout=LONG):
    return bytes(await intake.message(limit, idle=idle, timeout=timeout))


# Lines.


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"NOOP\r\n", b"NOOP"),
        (b"NOOP\n", b"NOOP"),
        (b"\r\n", b""),
        (b"\n", b""),
        (b"NO\rOP\r\n", b"NO\rOP"),
        (b"NOOP\r\r\n", b"NOOP\r"),
        (b"\0\xff\r\n", b"\0\xff"),
    ],
)
async def test_a_line(intake, octets, expected):
    intake.feed(octets)
    assert await line(intake) == expected
    assert not intake.pending


async def test_lines_in_one_packet(intake):
    intake.feed(b"one\r\ntwo\r\nthr")
    assert [await line(intake), await line(intake)] == [b"one", b"two"]
    assert intake.pending
    assert not intake.has_line
    intake.feed(b"ee\n")
    assert intake.has_line
    assert await line(intake) == b"three"


@pytest.mark.parametrize(("length", "fits"), [(98, True), (99, False), (250, False)])
@pytest.mark.parametrize("pieces", [1, 7])
async def test_the_limit_of_a_line(intake, length, fits, pieces):
    octets = b"x" * length + b"\r\nnext\r\n"
    reader = await begun(line(intake))
    step = -(-len(octets) // pieces)
    for start in range(0, len(octets), step):
        intake.feed(octets[start : start + step])
    if fits:
        assert await reader == b"x" * length
    else:
        with pytest.raises(LineTooLongError):
            await reader
    assert await line(intake) == b"next"


async def test_a_line_without_end_takes_no_memory(intake, transport):
    reader = await begun(line(intake))
    for _ in range(1000):
        intake.feed(b"x" * 10_000)
        assert len(intake._buffer) <= 100
        assert not transport.paused
    intake.feed(b"\r\n")
    with pytest.raises(LineTooLongError):
        await reader


async def test_an_octet_now_and_then_is_no_line(intake, clock):
    reader = await begun(intake.line(100, 300))
    for _ in range(3):
        clock.advance(99)
        intake.feed(b"x")
        await asyncio.sleep(0)
        assert not reader.done()
    clock.advance(4)
    with pytest.raises(TimeoutError):
        await reader


async def test_a_time_that_is_up_already(intake):
    with pytest.raises(TimeoutError):
        await intake.line(100, -1)
    intake.feed(b"but what is here can be read\n")
    assert await intake.line(100, -1) == b"but what is here can be read"


# Messages.


@pytest.mark.parametrize(
    ("wire", "content"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"a\r\n.\r\n", b"a\r\n"),
        (b"..\r\n.\r\n", b"..\r\n"),
        (b"a\r\n..\r\n.\r\n", b"a\r\n..\r\n"),
        (b"a\n.\nb\r\n.\r\n", b"a\n.\nb\r\n"),
        (b"a\n.\r\nb\r\n.\r\n", b"a\n.\r\nb\r\n"),
        (b"a\r\n.\nb\r\n.\r\n", b"a\r\n.\nb\r\n"),
        (b"a\r.\rb\r\n.\r\n", b"a\r.\rb\r\n"),
        (b"a\r\n.\rb\r\n.\r\n", b"a\r\n.\rb\r\n"),
        (b"a\r.\r\nb\r\n.\r\n", b"a\r.\r\nb\r\n"),
        (b"a\r\n.\r\r\nb\r\n.\r\n", b"a\r\n.\r\r\nb\r\n"),
        (b".\nb\r\n.\r\n", b".\nb\r\n"),
        (b".\rb\r\n.\r\n", b".\rb\r\n"),
        (b"\n.\r\nb\r\n.\r\n", b"\n.\r\nb\r\n"),
        (b"\0\xff\r\n.\r\n", b"\0\xff\r\n"),
    ],
)
async def test_only_crlf_dot_crlf_ends_a_message(intake, wire, content):
    intake.feed(wire + b"NOOP\r\n")
    assert await message(intake) == content
    assert await line(intake) == b"NOOP"


async def test_the_buffer_becomes_the_message(intake):
    """35 MB are not copied."""
    buffer = intake._buffer
    intake.feed(b"content\r\n.\r\nNOOP\r\n")
    assert await intake.message(1000, idle=LONG, timeout=LONG) is buffer


@pytest.mark.parametrize("step", [1, 7, 10_000])
@pytest.mark.parametrize(
    ("length", "fits", "finished"),
    [
        (1000, True, True),
        (1001, False, True),
        (3990, False, True),
        (4010, False, False),
        (9000, False, False),
    ],
)
async def test_the_limit_of_a_message(intake, length, fits, finished, step):
    wire = b"x" * (length - 2) + b"\r\n.\r\nNOOP\r\n"
    reader = await begun(message(intake))
    for start in range(0, len(wire), step):
        intake.feed(wire[start : start + step])
    if step == 10_000 and length > 1000:
        finished = True  # its end is seen at once
    if fits:
        assert len(await reader) == length
    else:
        with pytest.raises(MessageTooLargeError) as error:
            await reader
        assert error.value.finished is finished
    if finished:
        assert await line(intake) == b"NOOP"


async def test_a_message_too_large_takes_no_memory(intake):
    reader = await begun(message(intake, limit=10**6))
    for _ in range(30):
        intake.feed(b"x" * 10**5)
        assert len(intake._buffer) <= 1.1 * 10**6
    intake.feed(b"\r\n.\r\n")
    with pytest.raises(MessageTooLargeError):
        await reader


async def test_a_dot_line_in_what_was_dropped_is_not_the_first_line(intake):
    """What is left of an oversized message may begin with a dot, and is not its beginning."""
    reader = await begun(message(intake, limit=100))
    intake.feed(b"x" * 150 + b".\r\nx")
    assert intake._buffer == b".\r\nx"
    await asyncio.sleep(0)
    assert not reader.done()
    intake.feed(b"\r\n.\r\nNOOP\r\n")
    with pytest.raises(MessageTooLargeError):
        await reader
    assert await line(intake) == b"NOOP"


async def test_a_slow_message_is_fine_a_silent_one_is_not(intake, clock):
    reader = await begun(message(intake, idle=180, timeout=3600))
    for _ in range(10):
        clock.advance(179)
        intake.feed(b"x")
        await asyncio.sleep(0)
        assert not reader.done()
    clock.advance(181)
    with pytest.raises(TimeoutError):
        await reader


async def test_a_message_octet_by_octet_is_bounded(intake, clock):
    reader = await begun(message(intake, idle=180, timeout=600))
    for _ in range(4):
        clock.advance(149)
        intake.feed(b"x")
        await asyncio.sleep(0)
        assert not reader.done()
    clock.advance(5)
    with pytest.raises(TimeoutError):
        await reader


# The same octets in any packets give the same lines and messages.

PIECES = st.sampled_from(
    [b"\r\n", b"\r\n.\r\n", b"\n", b"\r", b".", b"..", b"\r\n.", b"x", b"NOOP", b"\0", b"\xff"]
)
STREAMS = st.lists(PIECES, max_size=25).map(b"".join)


async def read_all(intake, kinds, packets):
    """Read lines and messages in turn, with small limits, and note what comes."""
    seen = []

    async def read():
        for kind in kinds:
            try:
                seen.append(await line(intake, 12) if kind else await message(intake, 12))
            except LineTooLongError:
                seen.append("line too long")
            except MessageTooLargeError:
                seen.append("message too large")
                return  # how much of it was dropped depends on the packets

    reader = asyncio.ensure_future(read())
    for packet in packets:
        intake.feed(packet)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    intake.end()
    try:
        await reader
    except ConnectionGoneError:
        seen.append("gone")
    return seen


@given(STREAMS, st.lists(st.booleans(), min_size=1, max_size=10), st.data())
def test_packets_make_no_difference(stream, kinds, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    packets = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    single = [bytes([octet]) for octet in stream]

    async def read(packets):
        return await read_all(Intake(), kinds, packets)

    whole = asyncio.run(read([stream]))
    assert asyncio.run(read(packets)) == whole
    assert asyncio.run(read(single)) == whole


# Back pressure.


async def test_a_client_that_sends_faster_than_we_read_must_wait(intake, transport):
    intake.feed(b"x" * 64 * 1024)
    assert not transport.paused
    intake.feed(b"\n" * 2)
    assert transport.paused
    intake.feed(b"\n")  # what was on its way already
    with pytest.raises(LineTooLongError):
        await line(intake)
    assert not transport.paused


async def test_reading_goes_on_when_a_reader_waits(intake, transport):
    intake.feed(b"x" * 70_000)
    assert transport.paused
    reader = await begun(message(intake, limit=10**6))
    assert not transport.paused
    intake.feed(b"x" * 70_000)
    assert not transport.paused  # a message may fill the buffer
    intake.feed(b"\r\n.\r\n" + b"x" * 70_000)
    assert len(await reader) == 140_002
    intake.feed(b"x")
    assert transport.paused


async def test_a_new_transport_is_not_stopped_by_the_old_one(intake, transport):
    intake.feed(b"x" * 70_000)
    upgraded = Transport()
    intake.attach(upgraded)
    assert not transport.paused
    intake.feed(b"x")
    assert upgraded.paused


async def test_without_a_transport_nothing_is_paused():
    intake = Intake()
    reader = await begun(intake.read(10))
    intake.feed(b"x" * 70_000)
    assert await reader == b"x" * 10


# The end, interruptions.


async def test_what_came_before_the_end_can_be_read(intake):
    intake.feed(b"QUIT\r\nNO")
    intake.end()
    assert await line(intake) == b"QUIT"
    with pytest.raises(ConnectionGoneError):
        await line(intake)


@pytest.mark.parametrize("read", [line, message])
async def test_the_end_ends_a_wait(intake, read):
    reader = await begun(read(intake))
    intake.feed(b"half")
    intake.end()
    with pytest.raises(ConnectionGoneError):
        await reader


async def test_interrupt(intake):
    reader = await begun(line(intake))
    intake.interrupt(KeyError("enough"))
    intake.interrupt(ValueError("too late"))
    intake.feed(b"NOOP\r\n")
    with pytest.raises(KeyError):
        await reader
    assert await line(intake) == b"NOOP"


async def test_interrupt_without_a_wait_does_nothing(intake):
    intake.interrupt(KeyError())
    intake.feed(b"NOOP\r\n")
    assert await line(intake) == b"NOOP"


async def test_clear(intake):
    intake.feed(b"injected\r\n")
    intake.clear()
    assert not intake.pending


# As aiosmtpd's PROXY parser reads.


async def test_readexactly(intake):
    reader = await begun(intake.readexactly(5))
    intake.feed(b"PRO")
    intake.feed(b"XY TCP4")
    assert await reader == b"PROXY"


async def test_readuntil(intake):
    reader = await begun(intake.readuntil())
    intake.feed(b" UNKNOWN\r")
    intake.feed(b"\nEHLO")
    assert await reader == b" UNKNOWN\r\n"
    assert intake.pending


async def test_readuntil_is_bounded(intake):
    reader = await begun(intake.readuntil())
    intake.feed(b"x" * 257)
    with pytest.raises(LineTooLongError):
        await reader


async def test_read(intake):
    reader = await begun(intake.read(3))
    intake.feed(b"ab")
    assert await reader == b"ab"
    intake.feed(b"cdef")
    assert await intake.read(3) == b"cde"


def test_limits_are_what_the_tests_assume():
    assert (module._HIGH_WATER, module._DISCARD_FACTOR) == (64 * 1024, 4)
