import asyncio
import errno
import socket

import pytest

from relay_app.errors import ListenError
from relay_app.inbound.listener import Listener
from relay_app.inbound.session import Mode
from relay_app.settings import Endpoint, Limits


class Someone:
    """A session, as far as the counting is concerned."""

    aborted = drained = False

    def __init__(self, address):
        self.address = address

    def drain(self):
        self.drained = True

    def abort(self):
        self.aborted = True


@pytest.fixture
def listener():
    return Listener(hostname="relay", limits=Limits(), certificate=None, devices=None, courier=None)


@pytest.fixture
async def taken():
    """A port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def test_all_modes_at_once(start, events):
    relay = await start(Mode.STARTTLS, Mode.IMPLICIT_TLS, Mode.PROXY)
    starttls, tls, proxy = relay.ports
    plain = await relay.connect(starttls)
    assert "STARTTLS" in await plain.ehlo()
    protected = await relay.connect(tls, ssl=relay.trust, server_hostname="relay.example.org")
    assert "STARTTLS" not in await protected.ehlo()
    behind = await relay.raw(proxy)
    await behind.send(b"PROXY UNKNOWN\r\n")
    assert (await behind.reply(bare=True))[0] == 220
    assert [event["mode"] for event in events("listening")] == ["starttls", "tls", "proxy"]


async def test_several_addresses_and_ipv6(listener, events):
    endpoints = [Endpoint("127.0.0.1", 0), Endpoint("127.0.0.2", 0), Endpoint("::1", 0)]
    await listener.start({Mode.STARTTLS: endpoints})
    addresses = [event["address"] for event in events("listening")]
    assert [address.rpartition(":")[0] for address in addresses] == ["127.0.0.1", "127.0.0.2", "[::1]"]
    await listener.stop(0)


async def test_a_port_that_is_taken(listener, taken):
    free = Endpoint("127.0.0.1", 0)
    with pytest.raises(
        ListenError, match=rf"^cannot listen on 127\.0\.0\.1:{taken}: another program.*ss -ltnp"
    ):
        await listener.start({Mode.STARTTLS: [free, Endpoint("127.0.0.1", taken)]})
    assert listener._servers == []  # all or none


async def test_an_address_of_another_machine(listener):
    with pytest.raises(ListenError, match=r"192\.0\.2\.1:0: this machine does not have that address"):
        await listener.start({Mode.STARTTLS: [Endpoint("192.0.2.1", 0)]})


async def test_an_address_that_is_none(listener):
    with pytest.raises(ListenError, match=r"cannot listen on nowhere\.invalid:0: "):
        await listener.start({Mode.STARTTLS: [Endpoint("nowhere.invalid", 0)]})


async def test_a_port_that_needs_a_privilege(listener, monkeypatch):
    async def refuse(*_args, **_kwargs):
        raise PermissionError(errno.EACCES, "permission denied")

    monkeypatch.setattr(asyncio.get_running_loop(), "create_server", refuse)
    with pytest.raises(ListenError, match="ip_unprivileged_port_start=0"):
        await listener.start({Mode.STARTTLS: [Endpoint("127.0.0.1", 587)]})


async def test_stop_closes_the_ports(start):
    relay = await start()
    await relay.listener.stop(0)
    with pytest.raises(ConnectionRefusedError):
        await relay.raw()


async def test_connections_are_limited_in_total(start, events):
    relay = await start(connections=2)
    first = await relay.connect()
    await relay.connect()
    third = await relay.raw()
    assert await third.reply() == (421, "4.7.0 Too many connections. Try again in a minute")
    assert await third.rest() == b""
    assert [event["client"] for event in events("connection_refused")] == ["127.0.0.1"]
    await first.ask("QUIT")
    await relay.until(lambda: len(relay.sessions) == 1)
    await relay.connect()


async def test_connections_are_limited_per_address(start):
    relay = await start(connections_per_address=2)
    first = await relay.connect()
    await relay.connect()
    third = await relay.raw()
    assert await third.reply() == (421, "4.7.0 Too many connections from your address. Try again in a minute")
    first.writer.transport.abort()
    await relay.until(lambda: len(relay.sessions) == 1)
    await relay.connect()
    elsewhere = await relay.raw(local_addr=("127.0.0.9", 0))
    assert (await elsewhere.reply(bare=True))[0] == 220


def test_an_ipv6_network_is_one_client(listener):
    """Else one host with its 2**64 addresses could take all connections."""
    admitted = [Someone(f"2001:db8::{number:x}") for number in range(100)]
    assert [listener.admit(someone) for someone in admitted] == [""] * 100
    assert "from your address" in listener.admit(Someone("2001:db8::ffff"))
    assert listener.admit(Someone("2001:db8:0:1::1")) == ""
    for someone in admitted:
        listener.dismiss(someone)
    assert listener._per_network == {"2001:db8:0:1::/64": 1}


def test_whoever_was_not_admitted_is_not_counted_out(listener):
    listener.dismiss(Someone("192.0.2.1"))
    assert listener._per_network == {}
    one, two = Someone("192.0.2.1"), Someone("192.0.2.1")
    listener.admit(one)
    listener.admit(two)
    listener.dismiss(one)
    listener.dismiss(one)
    assert listener._per_network == {"192.0.2.1": 1}


async def test_limits_can_change_while_running(start):
    relay = await start()
    relay.listener.limits = Limits(message_size=1000)
    client = await relay.connect()
    assert "SIZE 1000" in await client.ehlo()


async def test_what_fails_after_its_session_is_gone_is_logged(listener, events):
    async def fail():
        raise RuntimeError("planted")

    task = listener.finish(fail())
    await asyncio.wait([task])
    assert isinstance(events("delivery_failed")[0]["exc_info"], RuntimeError)
    assert listener._deliveries == set()


@pytest.mark.parametrize("last", ["session", "delivery"])
async def test_stop_waits_for_sessions_and_deliveries(listener, last):
    someone, go_on = Someone("192.0.2.1"), asyncio.Event()
    listener.admit(someone)
    delivery = listener.finish(go_on.wait())
    stop = asyncio.create_task(listener.stop(60))
    await asyncio.sleep(0)
    assert someone.drained
    ends = [go_on.set, lambda: listener.dismiss(someone)]
    for end in ends if last == "session" else reversed(ends):
        assert not stop.done()
        end()
        await asyncio.sleep(0)
    await stop
    assert delivery.done()
    assert not someone.aborted


async def test_stop_does_not_wait_for_ever(listener, clock, events):
    someone = Someone("192.0.2.1")
    listener.admit(someone)
    delivery = listener.finish(asyncio.Event().wait())
    stop = asyncio.create_task(listener.stop(60))
    await asyncio.sleep(0)
    clock.advance(61)
    await stop
    assert someone.aborted
    await asyncio.wait([delivery])
    assert delivery.cancelled()
    assert [(event["sessions"], event["deliveries"]) for event in events("stop_impatient")] == [(1, 1)]
