import asyncio
import secrets
import threading
from dataclasses import replace

import argon2
import pytest

from relay_app.errors import SmtpRefusal
from relay_app.inbound import devices as module
from relay_app.inbound.devices import Devices
from relay_app.inbound.throttle import Throttle
from relay_app.settings import HASHER, DeviceSettings

HERE, ELSEWHERE = "192.0.2.1", "198.51.100.1"
MINUTE, DAY = 60.0, 24 * 3600.0
REAL_SLEEP = asyncio.sleep  # fixture `waits` replaces it
CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


class Argon2:
    """Verifies as HASHER does, and remembers in which thread, with which parameters. Can be held up."""

    def __init__(self):
        self.threads = []
        self.parameters = []
        self.go_on = threading.Event()
        self.go_on.set()

    def verify(self, stored, password):
        self.threads.append(threading.get_ident())
        self.parameters.append(argon2.extract_parameters(stored))
        self.go_on.wait()
        return HASHER.verify(stored, password)

    @property
    def times(self):
        return len(self.threads)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def hasher(monkeypatch):
    recorder = Argon2()
    monkeypatch.setattr(module, "HASHER", recorder)
    monkeypatch.setattr(recorder, "hash", CHEAP.hash, raising=False)
    yield recorder
    recorder.go_on.set()


@pytest.fixture
def waits(monkeypatch):
    """The seconds that the throttle made clients wait. They pass at once."""
    seconds = []

    async def sleep(delay):
        if delay:
            seconds.append(delay)

    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    return seconds


@pytest.fixture
def throttle(clock):
    return Throttle(clock)


@pytest.fixture
def password():
    return secrets.token_urlsafe(12).encode()


@pytest.fixture
def scanner(password):
    return DeviceSettings("Scanner", CHEAP.hash(password), "office@example.org")


@pytest.fixture
def devices(scanner, throttle, clock, hasher, waits):
    devices = Devices([scanner], throttle, clock)
    yield devices
    devices.close()


async def refusal(devices, name=b"scanner", password=b"wrong", address=HERE):
    with pytest.raises(SmtpRefusal) as caught:
        await devices.verify(name, password, address)
    return caught.value


async def turn():
    """Let everything run that can."""
    for _ in range(20):
        await REAL_SLEEP(0)


async def test_the_right_password(devices, scanner, password):
    assert await devices.verify(b"scanner", password, HERE) is scanner


async def test_the_name_in_any_case(devices, scanner, password):
    assert await devices.verify(b"SCANNER", password, HERE) is scanner


async def test_a_wrong_password(devices):
    assert str(await refusal(devices)).startswith("535 5.7.8 ")


@pytest.mark.parametrize("name", [b"", b"nobody", b"\xff\xfe", b"scanner\0", b"s" * 9000])
async def test_a_wrong_name_hears_the_same_and_takes_the_same_argon2(devices, hasher, name):
    wrong_password = await refusal(devices)
    wrong_name = await refusal(devices, name=name)
    assert str(wrong_name) == str(wrong_password)
    assert hasher.times == 2
    assert hasher.parameters[0] == hasher.parameters[1]


async def test_the_right_password_for_a_wrong_name(devices, password):
    await devices.verify(b"scanner", password, HERE)
    assert (await refusal(devices, name=b"nobody", password=password)).code == 535


async def test_without_devices_nobody_gets_in(throttle, clock, hasher, waits):
    devices = Devices([], throttle, clock)
    assert (await refusal(devices)).code == 535
    assert hasher.times == 1
    devices.close()


async def test_argon2_does_not_run_in_the_event_loop(devices, hasher, password):
    hasher.go_on.clear()
    login = asyncio.create_task(devices.verify(b"scanner", password, HERE))
    while not hasher.times:
        await asyncio.get_running_loop().run_in_executor(None, threading.Event().wait, 0.001)
    assert not login.done()  # and yet we are here
    hasher.go_on.set()
    await login
    assert threading.get_ident() not in hasher.threads


async def test_a_returning_device_costs_no_argon2(devices, hasher, password, clock):
    await devices.verify(b"scanner", password, HERE)
    clock.now += 4.9 * MINUTE
    await devices.verify(b"scanner", password, HERE)
    await devices.verify(b"Scanner", password, ELSEWHERE)
    assert hasher.times == 1


async def test_after_five_minutes_argon2_decides_again(devices, hasher, password, clock):
    await devices.verify(b"scanner", password, HERE)
    clock.now += 2.5 * MINUTE
    await devices.verify(b"scanner", password, ELSEWHERE)
    clock.now += 2.5 * MINUTE
    await devices.verify(b"scanner", password, HERE)
    assert hasher.times == 2


async def test_a_wrong_password_is_never_remembered(devices, hasher):
    await refusal(devices)
    await refusal(devices)
    assert hasher.times == 2


async def test_fifty_logins_at_once_take_one_argon2(devices, hasher, password):
    await asyncio.gather(*(devices.verify(b"scanner", password, HERE) for _ in range(50)))
    assert hasher.times == 1


async def test_logins_at_once_share_one_proof(devices, scanner, password):
    """Gmail logs in many times at once. A guess among them that brings a ban does not hit the rest."""
    for _ in range(9):
        await refusal(devices)
    first = asyncio.create_task(devices.verify(b"scanner", password, HERE))
    guesses = [asyncio.create_task(refusal(devices)) for _ in range(11)]
    last = asyncio.create_task(devices.verify(b"scanner", password, HERE))
    assert await first is scanner
    assert [(await guess).code for guess in guesses] == [535] * 10 + [454]
    assert await last is scanner


async def test_guessing_is_slowed_then_banned(devices, hasher, waits):
    codes = [(await refusal(devices)).code for _ in range(12)]
    assert codes == [535] * 10 + [454] * 2
    assert hasher.times == 10
    assert waits == [1, 2, 4, 8, 8, 8, 8, 8, 8]


async def test_parallel_guesses_do_not_all_pass_before_the_first_has_failed(devices, hasher):
    hasher.go_on.clear()
    guesses = [asyncio.create_task(refusal(devices, password=b"guess%d" % number)) for number in range(40)]
    await turn()
    hasher.go_on.set()
    codes = [(await guess).code for guess in guesses]
    assert sorted(codes) == [454] * 30 + [535] * 10
    assert hasher.times == 10


async def test_one_who_leaves_before_the_answer_is_counted(devices, hasher):
    """Else argon2 could be had without limit, by hanging up in time."""
    for number in range(10):
        hasher.go_on.clear()
        guess = asyncio.create_task(devices.verify(b"scanner", b"guess%d" % number, HERE))
        await turn()
        guess.cancel()
        with pytest.raises(asyncio.CancelledError):
            await guess
        hasher.go_on.set()
    assert (await refusal(devices)).code == 454


async def test_a_banned_client_learns_nothing_even_of_the_right_password(devices, hasher, password):
    """The owner logged in from elsewhere a minute ago: that must not make the relay answer guesses here."""
    await devices.verify(b"scanner", password, ELSEWHERE)
    wrong = [await refusal(devices) for _ in range(11)][-1]
    right = await refusal(devices, password=password)
    assert str(right) == str(wrong)
    assert right.code == 454


async def test_the_owner_is_let_in_while_his_network_is_banned(devices, scanner, waits, password, clock):
    await devices.verify(b"scanner", password, HERE)
    for number in range(60):
        await refusal(devices, name=b"guess%d" % number)
    for _ in range(11):
        last = await refusal(devices)
    assert last.code == 454
    waits.clear()
    assert await devices.verify(b"scanner", password, HERE) is scanner
    clock.now += 10 * MINUTE  # the proof is no longer fresh, the ban is
    assert await devices.verify(b"scanner", password, HERE) is scanner
    assert waits == [8, 8]  # as for the guesses: who hangs up sooner has learnt nothing


async def test_the_owner_does_not_wait_where_others_only_failed(devices, waits, password):
    await devices.verify(b"scanner", password, HERE)
    for _ in range(9):
        await refusal(devices)
    waits.clear()
    await devices.verify(b"scanner", password, HERE)
    assert waits == []


async def test_the_owner_is_let_in_at_a_new_place_while_strangers_guess_elsewhere(devices, scanner, password):
    for number in range(60):
        await refusal(devices, address=f"10.0.0.{number}")
    assert await devices.verify(b"scanner", password, HERE) is scanner


async def test_a_month_later_the_owner_is_a_stranger_again(devices, password, clock):
    await devices.verify(b"scanner", password, HERE)
    clock.now += 30 * DAY
    for _ in range(10):
        await refusal(devices)
    assert (await refusal(devices, password=password)).code == 454


async def test_a_ban_ends(devices, scanner, password, clock):
    for _ in range(10):
        await refusal(devices)
    assert (await refusal(devices, password=password)).code == 454
    clock.now += 15 * MINUTE
    assert await devices.verify(b"scanner", password, HERE) is scanner


async def test_a_right_password_forgives_the_mistyped_ones(devices, waits, password):
    for _ in range(4):
        await refusal(devices)
    await devices.verify(b"scanner", password, HERE)
    waits.clear()
    await refusal(devices)
    assert waits == []


async def test_a_changed_password_ends_the_proof_of_the_old_one(devices, scanner, password):
    await devices.verify(b"scanner", password, HERE)
    changed = secrets.token_urlsafe(12).encode()
    devices.replace([replace(scanner, password_hash=CHEAP.hash(changed))])
    assert (await refusal(devices, password=password)).code == 535
    assert (await devices.verify(b"scanner", changed, HERE)).name == "Scanner"


async def test_a_removed_device_is_unknown(devices, password):
    await devices.verify(b"scanner", password, HERE)
    devices.replace([])
    assert (await refusal(devices, password=password)).code == 535


async def test_a_reload_during_a_wait_counts(devices, scanner, hasher, password):
    """The list is read again after the wait: a device that has just been removed does not get in."""
    hasher.go_on.clear()
    first = asyncio.create_task(refusal(devices))
    second = asyncio.create_task(refusal(devices, password=password))
    await turn()
    devices.replace([])
    hasher.go_on.set()
    await first
    assert (await second).code == 535


async def test_changed_rules_do_not_end_the_proof(devices, scanner, hasher, password):
    await devices.verify(b"scanner", password, HERE)
    more = replace(scanner, senders=("sales@example.org",))
    devices.replace([more])
    assert await devices.verify(b"scanner", password, HERE) is more
    assert hasher.times == 1


def test_current(devices, scanner):
    assert devices.current(scanner) is scanner
    more = replace(scanner, senders=("sales@example.org",))
    devices.replace([more])
    assert devices.current(scanner) is more
    devices.replace([replace(scanner, password_hash=CHEAP.hash("another"))])
    assert devices.current(scanner) is None
    devices.replace([])
    assert devices.current(scanner) is None


def test_known(devices):
    assert devices.known(b"SCANNER") == "Scanner"
    assert devices.known(b"hunter2") == "unknown"


async def test_memory_is_bounded(devices, monkeypatch, password):
    monkeypatch.setattr(module, "_MAX_PROOFS", 10)
    for number in range(100):
        await devices.verify(b"scanner", password, f"10.0.0.{number}")
    assert len(devices._proofs) == 10
    assert not devices._turns


async def test_nothing_remembered_gives_a_password_away(devices, password):
    await devices.verify(b"scanner", password, HERE)
    assert password not in repr(vars(devices)).encode()
    assert password not in b"".join(digest for digest, _ in devices._proofs)


async def test_a_broken_hash_is_an_error_not_a_wrong_password(devices, scanner):
    devices.replace([scanner, DeviceSettings("broken", scanner.password_hash[:-4] + "!", "a@example.org")])
    with pytest.raises(argon2.exceptions.VerificationError):
        await devices.verify(b"broken", b"any", HERE)
