"""relay_app.app: the whole relay in this process, with the sandbox in Microsoft's place."""

import asyncio
import contextlib
import errno
import http.client
import json
import os
import secrets
import signal
import smtplib
import socket
import ssl
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.fernet import Fernet
from structlog.testing import capture_logs

from relay_app import app as app_module
from relay_app.app import App
from relay_app.backend import Parts, RelayBackend
from relay_app.console.backend import NewDevice, SignInKind, SignInState, SignInView
from relay_app.delivery.outlook import Connection
from relay_app.errors import ListenError, SettingsError, StoreError
from relay_app.identity import keeper
from relay_app.identity.vault import Vault
from relay_app.settings import HASHER, DeviceSettings, load
from relay_app.storage.blobs import StoredBlobs
from relay_app.storage.devices import StoredDevice, StoredDevices
from relay_app.storage.journal import KEEP, Attempt, Entry, Journal
from relay_app.storage.store import Store
from sandbox import journal
from sandbox.client import AppCredentials, Control, SandboxProcess

SECOND = "second@example.org"
REDIRECT = "http://localhost:8025/sign-in/callback"
_PATIENCE = 30  # seconds
Event = dict[str, Any]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with SandboxProcess(tmp_path_factory.mktemp("sandbox")) as process:
        process.control.add_account(SECOND)
        yield process


@pytest.fixture
def control(sandbox: SandboxProcess) -> Control:
    sandbox.control.reset()
    return sandbox.control


@pytest.fixture(scope="module")
def second_app(sandbox: SandboxProcess) -> AppCredentials:
    """The app that may send as SECOND."""
    return sandbox.control.add_app(roles=("SMTP.SendAsApp",), mailboxes=(SECOND,))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@dataclass
class Config:
    """The relay's settings as a test writes them: variables, and the file that RELAY_CONFIG names."""

    file: Path
    environ: dict[str, str]
    mailboxes: list[dict[str, Any]] = field(default_factory=list)
    limits: dict[str, float] = field(default_factory=dict)
    relay: dict[str, str] = field(default_factory=dict)

    def write(self) -> None:
        lines = ["[relay]", *_pairs(self.relay), "[limits]", *_pairs(self.limits)]
        for mailbox in self.mailboxes:
            lines += ["[[mailbox]]", *_pairs({k: v for k, v in mailbox.items() if k != "device"})]
            for device in mailbox["device"]:
                lines += ["[[mailbox.device]]", *_pairs(device)]
        self.file.write_text("\n".join(lines) + "\n")

    def load(self) -> Any:
        return load(self.environ)

    def app(self) -> App:
        self.write()
        return App(self.load(), self.load)

    @contextlib.contextmanager
    def store(self) -> Iterator[Store]:
        """The relay's database, for a test to look into."""
        data = Path(self.environ["RELAY_DATA_DIR"])
        data.mkdir(exist_ok=True)
        store = Store.open("", data)
        try:
            yield store
        finally:
            store.close()

    def stored_devices(self) -> list[StoredDevice]:
        with self.store() as store:
            return StoredDevices(store).list()


def _pairs(table: dict[str, Any]) -> list[str]:
    return [f"{name} = {json.dumps(value)}" for name, value in table.items()]  # JSON's values are TOML's too


def _device(name: str) -> dict[str, str]:
    return {"name": name, "password": secrets.token_urlsafe(12)}


@pytest.fixture
def config(sandbox: SandboxProcess, control: Control, tmp_path: Path) -> Config:
    """One mailbox, the sandbox's work account, and one device, `scanner`."""
    world = control.world()
    environ = {
        "RELAY_CONFIG": str(tmp_path / "relay.toml"),
        "RELAY_LISTEN": "127.0.0.1:0",
        "RELAY_WEB_LISTEN": "127.0.0.1:0",
        "RELAY_HOSTNAME": "relay.test",
        "RELAY_DATA_DIR": str(tmp_path / "data"),
        "RELAY_UPSTREAM": sandbox.smtp,
        "RELAY_UPSTREAM_CA": sandbox.ca,
        "RELAY_AUTHORITY": sandbox.authority,
    }
    mailbox = {
        "address": world.work,
        "flow": "client_credentials",
        "tenant": world.tenant,
        "client_id": world.client_id,
        "client_secret": world.client_secret,
        "device": [_device("scanner")],
    }
    return Config(tmp_path / "relay.toml", environ, [mailbox])


@pytest.fixture
def second(config: Config, second_app: AppCredentials) -> dict[str, Any]:
    """A second mailbox, with the device `nas`, for a test to add."""
    return {
        **config.mailboxes[0],
        "address": SECOND,
        "client_id": second_app.client_id,
        "client_secret": second_app.client_secret,
        "device": [_device("nas")],
    }


def deliver_signal(number: signal.Signals) -> None:
    """Send this process a signal, if the relay handles it: pytest must survive."""
    assert signal.getsignal(number) not in {signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler}
    os.kill(os.getpid(), number)


def connections(control: Control) -> list[journal.Connection]:
    """Outlook's connections that have been used for a message, oldest first."""
    return [connection for connection in control.connections() if connection.messages]


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(_PATIENCE):
        while not condition():  # noqa: ASYNC110 (any condition, set by any thread)
            await asyncio.sleep(0.001)


@dataclass
class Running:
    """A relay that runs in this test's event loop."""

    config: Config
    task: "asyncio.Task[None]"
    log: list[Event]

    def events(self, name: str) -> list[Event]:
        return [event for event in self.log if event["event"] == name]

    async def logged(self, name: str, count: int = 1) -> list[Event]:
        """Wait for so many events of a name, unless the relay ends before."""
        await until(lambda: len(self.events(name)) >= count or self.task.done())
        found = self.events(name)
        assert len(found) >= count, self.log
        return found

    @property
    def port(self) -> int:
        return int(self.events("listening")[0]["address"].rpartition(":")[2])

    async def connect(self, device: dict[str, str] | None = None) -> smtplib.SMTP:
        """A client under TLS, logged in as `device` if that is given."""
        return await asyncio.to_thread(self._connect, device)

    def _connect(self, device: dict[str, str] | None) -> smtplib.SMTP:
        trusting = ssl.create_default_context()
        trusting.check_hostname = False
        trusting.verify_mode = ssl.CERT_NONE
        client = smtplib.SMTP("127.0.0.1", self.port, local_hostname="client.test", timeout=_PATIENCE)
        try:
            client.starttls(context=trusting)
            client.ehlo()
            if device is not None:
                client.login(device["name"], device["password"])
        except BaseException:
            client.close()
            raise
        return client

    async def submit(self, device: dict[str, str]) -> bytes:
        """Send one message as the device's mailbox, or else as the first; the reply, with its code."""
        mailboxes = self.config.mailboxes
        mailbox = next((each for each in mailboxes if device in each["device"]), mailboxes[0])
        client = await self.connect(device)
        try:
            return await asyncio.to_thread(transaction, client, mailbox["address"])
        finally:
            client.close()

    async def accepts(self, device: dict[str, str]) -> bool:
        """Whether a device can log in."""
        try:
            client = await self.connect(device)
        except smtplib.SMTPAuthenticationError:
            return False
        client.close()
        return True

    async def reload(self) -> None:
        """Write the file, send SIGHUP, wait until it has taken effect."""
        before = len(self.events("reloaded"))
        self.config.write()
        deliver_signal(signal.SIGHUP)
        await self.logged("reloaded", before + 1)

    async def stop(self) -> None:
        deliver_signal(signal.SIGTERM)
        await self.task


def begin(client: smtplib.SMTP, sender: str) -> None:
    """Go as far as the 354."""
    assert client.mail(sender)[0] == 250
    assert client.rcpt("someone@example.net")[0] == 250
    assert client.docmd("DATA")[0] == 354


def finish(client: smtplib.SMTP, sender: str) -> bytes:
    """Send a message after the 354 and return the reply, with its code."""
    header = f"From: {sender}\r\nMessage-ID: <test@client.test>\r\nSubject: a test\r\n"
    client.send(f"{header}\r\nhello\r\n.\r\n".encode())
    code, text = client.getreply()
    return b"%d %b" % (code, text)


def transaction(client: smtplib.SMTP, sender: str) -> bytes:
    begin(client, sender)
    return finish(client, sender)


@contextlib.asynccontextmanager
async def running(config: Config) -> AsyncIterator[Running]:
    """Start a relay; in the end it has been stopped, and nothing went wrong that nobody foresaw."""
    with capture_logs() as log:
        relay = Running(config, asyncio.create_task(config.app().run()), log)
        try:
            await relay.logged("started")
            yield relay
        finally:
            if not relay.task.done():
                await relay.stop()
    assert relay.events("session_failed") == []


@dataclass
class Gate:
    """Holds something back."""

    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self) -> None:
        self.arrived.set()
        await self.opened.wait()


@pytest.fixture
def hold(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Gate]:
    """`hold("send")` keeps connections to Outlook from sending, `hold("quit")` from saying QUIT."""

    def make(method: str) -> Gate:
        gate, original = Gate(), getattr(Connection, method)

        async def held(self: Connection, *args: Any) -> Any:
            try:
                await gate.wait()
            except asyncio.CancelledError:
                self.abort()
                raise
            return await original(self, *args)

        monkeypatch.setattr(Connection, method, held)
        return gate

    return make


# --- start, serve, stop ---------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_serves_until_told_to_stop(config: Config, control: Control, number: signal.Signals) -> None:
    scanner = config.mailboxes[0]["device"][0]
    async with running(config) as relay:
        reply = await relay.submit(scanner)
        assert reply.startswith(b"250 2.0.0 ")
        [message] = control.messages()
        assert message.sender == config.mailboxes[0]["address"]
        assert relay.events("started")[0]["mailboxes"] == [message.sender]
        assert relay.events("certificate_self_signed")
        assert relay.events("vault_key_beside_vault")

        deliver_signal(number)
        await relay.task
        assert [event["event"] for event in relay.log[-2:]] == ["stopping", "stopped"]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", relay.port))
    await until(lambda: all(each.closed_at for each in connections(control)))
    assert connections(control)[0].exchanges[-1] == ["QUIT"]


async def test_it_listens_on_every_kind_of_endpoint(config: Config) -> None:
    config.environ |= {"RELAY_LISTEN_TLS": "127.0.0.1:0", "RELAY_LISTEN_PROXY": "127.0.0.1:0"}
    async with running(config) as relay:
        assert [event["mode"] for event in relay.events("listening")] == ["starttls", "tls", "proxy"]


async def test_a_vault_key_of_its_own(config: Config) -> None:
    config.environ["RELAY_VAULT_KEY"] = Fernet.generate_key().decode()
    async with running(config) as relay:
        assert relay.events("vault_key_beside_vault") == []
    assert not (Path(config.environ["RELAY_DATA_DIR"]) / "vault.key").exists()


async def test_stopping_before_it_has_started(config: Config) -> None:
    with capture_logs() as log:
        task = asyncio.create_task(config.app().run())
        await asyncio.sleep(0)  # the relay has come to its first await: nothing listens yet
        assert [event for event in log if event["event"] == "listening"] == []
        deliver_signal(signal.SIGTERM)
        await task
    assert log[-1]["event"] == "stopped"


async def test_a_message_under_way_is_finished(config: Config, control: Control) -> None:
    sender = config.mailboxes[0]["address"]
    async with running(config) as relay:
        client = await relay.connect(config.mailboxes[0]["device"][0])
        await asyncio.to_thread(begin, client, sender)
        deliver_signal(signal.SIGTERM)
        await relay.logged("stopping")
        deliver_signal(signal.SIGTERM)  # impatience changes nothing
        reply = await asyncio.to_thread(finish, client, sender)
        client.close()
        await relay.task
    assert reply.startswith(b"250 ")
    assert len(control.messages()) == 1
    assert len(relay.events("stopping")) == len(relay.events("stopped")) == 1


async def test_a_stop_does_not_wait_forever(
    config: Config, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    control.fail_smtp("eod", stall=600)
    monkeypatch.setattr(app_module, "_GOODBYE", 0.01)
    config.limits["drain_timeout"] = 0.01
    async with running(config) as relay:
        sending = asyncio.create_task(relay.submit(config.mailboxes[0]["device"][0]))
        await until(lambda: control.faults() == [])  # Outlook has the message and keeps silent
        await relay.stop()
        with pytest.raises(smtplib.SMTPServerDisconnected):
            await sending
    assert relay.events("stop_impatient")[0]["deliveries"] == 1
    assert relay.events("stopped")


async def test_a_background_task_does_not_hold_a_stop_up(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    class DeafKeeper:
        """Misses the first cancellation, as asyncio.wait_for can until Python 3.12."""

        def __init__(self, _: object) -> None:
            self._never = asyncio.Event()

        async def run(self) -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._never.wait()
            await self._never.wait()

    monkeypatch.setattr(app_module, "Keeper", DeafKeeper)
    async with running(config) as relay:
        await relay.stop()


async def test_microsoft_cannot_be_reached(config: Config) -> None:
    with socket.create_server(("127.0.0.1", 0)) as placeholder:
        port = placeholder.getsockname()[1]
    config.environ |= {"RELAY_AUTHORITY": f"https://localhost:{port}", "RELAY_UPSTREAM": f"localhost:{port}"}
    async with running(config) as relay:
        reply = await relay.submit(config.mailboxes[0]["device"][0])
        assert reply.startswith(b"451 4.7.0 ")
        assert b"no connection" in reply
        await relay.logged("tokens_failing")


# --- the journal ----------------------------------------------------------------------------------------


async def test_each_message_is_in_the_journal(config: Config, control: Control) -> None:
    """Also one that waits to be written when the relay stops, and one that the relay itself refuses."""
    me = config.mailboxes[0]["address"]
    async with running(config) as relay:
        client = await relay.connect(config.mailboxes[0]["device"][0])
        assert (await asyncio.to_thread(transaction, client, me)).startswith(b"250 ")
        await asyncio.to_thread(begin, client, me)
        refusal = await asyncio.to_thread(finish, client, "stranger@example.net")
        assert refusal.startswith(b"550 ")
        client.close()
    with config.store() as store:
        refused, accepted = Journal(store).recent(10)
    assert (accepted.device, accepted.mailbox, accepted.sender) == ("scanner", me, me)
    assert accepted.recipients == ("someone@example.net",)
    assert accepted.client == "127.0.0.1"
    assert accepted.message_id == "<test@client.test>"
    [attempt] = accepted.attempts
    assert (attempt.outcome, attempt.cause) == ("accepted", "")
    assert attempt.reply.startswith("250 ")
    assert accepted.received <= attempt.at <= datetime.now(UTC)
    assert attempt.seconds > 0

    [attempt] = refused.attempts
    assert (attempt.outcome, attempt.cause) == ("refused", "relay-refused")
    assert attempt.reply in refusal.decode()


def _old_entry() -> Entry:
    at = datetime.now(UTC) - KEEP
    attempt = Attempt(at, 0.1, "accepted", "250 OK")
    return Entry(
        "old", at, "scanner", "me@example.org", "192.0.2.1", "me@example.org", (), 1, "<a@b>", (attempt,)
    )


async def test_the_journal_forgets(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start, and again and again; a database that cannot be used is no reason to stop."""
    monkeypatch.setattr(app_module, "_PURGE", 0.001)
    purge = Journal.purge
    failures = iter([StoreError("the disk is full")])

    def fail_once(self: Journal, before: datetime) -> int:
        for failure in failures:
            raise failure
        return purge(self, before)

    monkeypatch.setattr(Journal, "purge", fail_once)
    with config.store() as store:
        journal = Journal(store)
        journal.record(_old_entry())
        async with running(config) as relay:
            await until(lambda: journal.message("old") is None)
            journal.record(_old_entry())
            await until(lambda: journal.message("old") is None)
    assert [event["reason"] for event in relay.events("journal_not_purged")] == ["the disk is full"]


# --- the console ----------------------------------------------------------------------------------------


@pytest.fixture
def backends(monkeypatch: pytest.MonkeyPatch) -> list[RelayBackend]:
    """What the consoles of this test's relays were given, in their order."""
    made: list[RelayBackend] = []

    def make(parts: Parts) -> RelayBackend:
        made.append(RelayBackend(parts))
        return made[-1]

    monkeypatch.setattr(app_module, "RelayBackend", make)
    return made


async def _create(backend: RelayBackend, config: Config, name: str) -> NewDevice:
    """Make a device as the console does: in another thread."""
    create = partial(
        backend.create_device,
        name=name,
        mailbox=config.mailboxes[0]["address"],
        senders=(),
        foreign_from="refuse",
        hourly_messages=0,
    )
    return await asyncio.to_thread(create)


def _credentials(made: NewDevice) -> dict[str, str]:
    return {"name": made.device.name, "password": made.password}


def _fetch(address: str, path: str) -> bytes:
    connection = http.client.HTTPConnection(address, timeout=_PATIENCE)
    with contextlib.closing(connection):
        connection.request("GET", path)
        return connection.getresponse().read()


async def test_the_console_answers_until_the_relay_stops(config: Config) -> None:
    async with running(config) as relay:
        [listening] = relay.events("console_listening")
        address = listening["address"]
        assert await asyncio.to_thread(_fetch, address, "/healthz") == b"ok\n"
        await relay.logged("tokens_ok")
        assert await asyncio.to_thread(_fetch, address, "/readyz") == b"ok\n"
        assert b"# HELP " in await asyncio.to_thread(_fetch, address, "/metrics")
        await relay.stop()
        with pytest.raises(ConnectionRefusedError):
            _fetch(address, "/healthz")


def _open_files() -> list[str]:
    files = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            files.append(os.readlink(entry))
    return files


async def test_nothing_stays_behind(config: Config) -> None:
    database = str(Path(config.environ["RELAY_DATA_DIR"]) / "relay.db")
    async with running(config) as relay:
        assert (await relay.submit(config.mailboxes[0]["device"][0])).startswith(b"250 ")
        assert {"console", "journal"} <= {thread.name for thread in threading.enumerate()}
        assert database in _open_files()
    assert {"console", "journal"}.isdisjoint(thread.name for thread in threading.enumerate())
    assert [file for file in _open_files() if file.startswith(database)] == []


async def test_no_console(config: Config) -> None:
    config.environ["RELAY_WEB_LISTEN"] = ""
    async with running(config) as relay:
        assert relay.events("console_listening") == []
        assert (await relay.submit(config.mailboxes[0]["device"][0])).startswith(b"250 ")


@pytest.mark.parametrize(
    ("listeners", "ports"),
    [
        ({"listen": "127.0.0.1:0"}, (0, 0)),
        ({"listen": "", "listen_proxy": "127.0.0.1:0"}, (0, 0)),
        ({"listen": "127.0.0.1:{0}", "listen_tls": "127.0.0.1:{1}"}, (0, 1)),
    ],
)
async def test_the_console_knows_the_ports(
    config: Config, backends: list[RelayBackend], listeners: dict[str, str], ports: tuple[int, int]
) -> None:
    del config.environ["RELAY_LISTEN"]
    free = _free_ports() if "{0}" in listeners["listen"] else (0, 0)
    config.relay |= {name: text.format(*free) for name, text in listeners.items()}
    async with running(config):
        view = backends[0].relay()
    assert (view.submission_port, view.tls_port) == tuple(free[number] for number in ports)


def _free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        return first.getsockname()[1], second.getsockname()[1]


async def test_a_device_of_the_console(config: Config, backends: list[RelayBackend]) -> None:
    """It can log in as soon as it is made, and no longer as soon as it is revoked."""
    me = config.mailboxes[0]["address"]
    async with running(config) as relay:
        nas = _credentials(await _create(backends[0], config, "NAS"))
        client = await relay.connect(nas)
        assert (await asyncio.to_thread(transaction, client, me)).startswith(b"250 ")

        await asyncio.to_thread(backends[0].revoke_device, "nas")
        code, _ = await asyncio.to_thread(client.mail, me)
        assert code == 421
        client.close()
        assert not await relay.accepts(nas)
        assert await relay.accepts(config.mailboxes[0]["device"][0])


async def test_a_device_of_the_console_outlives_a_restart_and_a_reload(
    config: Config, backends: list[RelayBackend]
) -> None:
    async with running(config):
        nas = _credentials(await _create(backends[0], config, "nas"))
    async with running(config) as relay:
        assert (await relay.submit(nas)).startswith(b"250 ")
        await relay.reload()
        assert await relay.accepts(nas)


async def test_when_a_device_was_last_seen(config: Config, backends: list[RelayBackend]) -> None:
    async with running(config) as relay:
        nas = _credentials(await _create(backends[0], config, "nas"))
        assert not await relay.accepts(nas | {"password": "wrong"})
        assert [each.last_seen for each in await asyncio.to_thread(config.stored_devices)] == [None]
        before = datetime.now(UTC)
        assert await relay.accepts(nas)
    [device] = config.stored_devices()
    assert device.last_seen is not None
    assert before <= device.last_seen <= datetime.now(UTC)


async def test_a_configured_device_wins_over_one_of_the_console(config: Config) -> None:
    [scanner] = config.mailboxes[0]["device"]
    other = {"name": "SCANNER", "password": secrets.token_urlsafe(12)}
    settings = DeviceSettings("SCANNER", HASHER.hash(other["password"]), config.mailboxes[0]["address"])
    with config.store() as store:
        StoredDevices(store).add(settings, datetime.now(UTC))
    async with running(config) as relay:
        assert await relay.accepts(scanner)
        assert not await relay.accepts(other)


async def test_a_database_that_cannot_be_read_at_a_reload(
    config: Config, backends: list[RelayBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    [scanner] = config.mailboxes[0]["device"]

    def broken(_: StoredDevices) -> list[StoredDevice]:
        raise StoreError("the disk is gone")

    async with running(config) as relay:
        nas = _credentials(await _create(backends[0], config, "nas"))
        with monkeypatch.context() as context:
            context.setattr(StoredDevices, "list", broken)
            await relay.reload()
        [event] = relay.events("devices_not_read")
        assert event["reason"] == "the disk is gone"
        assert await relay.accepts(scanner)
        assert await relay.accepts(nas)  # as it was read last


async def test_a_device_is_revoked_though_the_database_is_lost_in_that_moment(
    config: Config, backends: list[RelayBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: StoredDevices) -> list[StoredDevice]:
        raise StoreError("the disk is gone")

    async with running(config) as relay:
        nas = _credentials(await _create(backends[0], config, "nas"))
        other = _credentials(await _create(backends[0], config, "other"))
        with monkeypatch.context() as context:
            context.setattr(StoredDevices, "list", broken)
            await asyncio.to_thread(backends[0].revoke_device, "NAS")
            assert not await relay.accepts(nas)
            assert await relay.accepts(other)


@pytest.fixture
def personal(config: Config, control: Control) -> dict[str, Any]:
    """A mailbox that needs a sign-in, with the device `phone`, for a test to add."""
    app = control.add_app(redirect_uris=(REDIRECT,))
    return {
        "address": control.world().personal,
        "tenant": "consumers",
        "client_id": app.client_id,
        "client_secret": app.client_secret,
        "device": [_device("phone")],
    }


async def _sign_in(backend: RelayBackend, control: Control, begun: SignInView) -> SignInView:
    """What the browser brings back from Microsoft's page, given to the console."""
    return await asyncio.to_thread(backend.redirected, control.authorize(begun.mailbox, begun.url))


async def test_mail_flows_at_once_after_a_sign_in_on_the_console(
    config: Config,
    control: Control,
    backends: list[RelayBackend],
    personal: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeper, "_LOOK", 3600.0)  # which would find the sign-in, too
    config.mailboxes[:] = [personal]
    [phone] = personal["device"]
    async with running(config) as relay:
        assert (await relay.submit(phone)).startswith(b"451 4.7.0 ")
        begun = await asyncio.to_thread(
            backends[0].begin_sign_in, personal["address"], SignInKind.AUTHORIZATION_CODE, REDIRECT
        )
        done = await _sign_in(backends[0], control, begun)
        assert (done.state, done.user) == (SignInState.DONE, personal["address"])
        await relay.logged("tokens_ok")
        assert (await relay.submit(phone)).startswith(b"250 ")
    assert control.messages()[0].user == personal["address"]


async def test_a_sign_in_of_a_mailbox_that_has_gone_meanwhile(
    config: Config, control: Control, backends: list[RelayBackend], personal: dict[str, Any]
) -> None:
    config.mailboxes.append(personal)
    async with running(config) as relay:
        begun = await asyncio.to_thread(
            backends[0].begin_sign_in, personal["address"], SignInKind.AUTHORIZATION_CODE, REDIRECT
        )
        config.mailboxes.remove(personal)
        await relay.reload()
        assert (await _sign_in(backends[0], control, begun)).state is SignInState.DONE
        assert (await relay.submit(config.mailboxes[0]["device"][0])).startswith(b"250 ")
    assert personal["address"] not in [event["mailbox"] for event in relay.events("tokens_ok")]


# --- files and addresses that cannot be used ------------------------------------------------------------


def problems_of(config: Config) -> tuple[str, ...]:
    with capture_logs(), pytest.raises(SettingsError) as caught:
        config.app()
    return caught.value.problems


def test_all_unusable_files_are_named_at_once(config: Config, tmp_path: Path) -> None:
    with config.store() as store:
        Vault(StoredBlobs(store), Fernet.generate_key()).store("a@example.org", b"{}")
        StoredBlobs(store).store("b@example.org", b"damaged")
    junk = tmp_path / "junk.pem"
    junk.write_text("not PEM")
    config.environ |= {
        "RELAY_VAULT_KEY": Fernet.generate_key().decode(),
        "RELAY_TLS_CERT": str(junk),
        "RELAY_TLS_KEY": str(junk),
        "RELAY_UPSTREAM_CA": str(junk),
    }
    ca, certificate, wrong_key, damaged = problems_of(config)
    assert ca.startswith(f"RELAY_UPSTREAM_CA: {junk} has no PEM certificates")
    assert certificate.startswith("RELAY_TLS_CERT, RELAY_TLS_KEY: ")
    assert "entry a@example.org: it was written with another key" in wrong_key
    assert "entry b@example.org: it is damaged" in damaged
    with config.store() as store:
        assert StoredBlobs(store).load("b@example.org") == b"damaged"


def test_a_data_directory_that_cannot_be_made(config: Config, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    config.environ |= {
        "RELAY_DATA_DIR": str(tmp_path / "file" / "data"),
        "RELAY_UPSTREAM_CA": str(tmp_path / "file"),
    }
    data, ca = problems_of(config)
    assert data.startswith(f"RELAY_DATA_DIR: cannot write in {tmp_path / 'file' / 'data'}: Not a directory. ")
    assert f"chown {os.getuid()}" in data
    assert ca.startswith("RELAY_UPSTREAM_CA: ")

    config.environ |= {"RELAY_TLS_CERT": str(tmp_path / "file"), "RELAY_TLS_KEY": str(tmp_path / "file")}
    assert [problem.partition(":")[0] for problem in problems_of(config)] == [
        "RELAY_DATA_DIR",
        "RELAY_UPSTREAM_CA",
        "RELAY_TLS_CERT, RELAY_TLS_KEY",
    ]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [(errno.ENOSPC, "Make room"), (errno.EROFS, "mount it for writing"), (errno.EACCES, "chown")],
)
def test_a_disk_that_takes_nothing(
    config: Config, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    def full(**_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    [problem] = problems_of(config)
    assert os.strerror(number) in problem
    assert remedy in problem


async def test_a_port_in_use(config: Config) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, capture_logs() as log:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        config.environ["RELAY_LISTEN"] = f"127.0.0.1:0,{taken}"
        with pytest.raises(ListenError, match=f"cannot listen on {taken}: another program listens there"):
            await config.app().run()
    [free] = [event["address"] for event in log if event["event"] == "listening"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(free.rpartition(":")[2])))


async def test_the_consoles_port_in_use(config: Config) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, capture_logs() as log:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        config.environ["RELAY_WEB_LISTEN"] = taken
        with pytest.raises(ListenError, match=f"cannot listen on {taken} for the console"):
            await config.app().run()
    names = [event["event"] for event in log]
    assert "started" not in names
    [listening] = [event["address"] for event in log if event["event"] == "listening"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(listening.rpartition(":")[2])))
    assert {"console", "journal"}.isdisjoint(thread.name for thread in threading.enumerate())


# --- reload ---------------------------------------------------------------------------------------------


async def test_devices_come_and_go(config: Config, control: Control) -> None:
    devices = config.mailboxes[0]["device"]
    [scanner] = devices
    nas = _device("nas")
    async with running(config) as relay:
        assert await relay.accepts(scanner)
        assert not await relay.accepts(nas)

        devices.append(nas)
        await relay.reload()
        assert (await relay.submit(nas)).startswith(b"250 ")

        changed = _device("scanner")
        devices[:] = [changed]
        await relay.reload()
        assert await relay.accepts(changed)
        assert not await relay.accepts(scanner)
        assert not await relay.accepts(nas)
    assert control.counters().entra.token_requests == 1


async def test_mailboxes_come_and_go(
    config: Config, control: Control, second: dict[str, Any], second_app: AppCredentials
) -> None:
    first = config.mailboxes[0]
    [scanner], [nas] = first["device"], second["device"]
    async with running(config) as relay:
        assert (await relay.submit(scanner)).startswith(b"250 ")

        config.mailboxes.append(second)
        await relay.reload()
        await until(lambda: SECOND in [event["mailbox"] for event in relay.events("tokens_ok")])
        assert (await relay.submit(nas)).startswith(b"250 ")

        second["client_secret"] = control.add_secret(second_app.client_id)
        await relay.reload()
        assert (await relay.submit(nas)).startswith(b"250 ")
        assert (await relay.submit(scanner)).startswith(b"250 ")
        of_first, of_second, of_changed = connections(control)
        assert (of_first.user, of_first.messages, of_first.closed_at) == (first["address"], 2, None)
        assert (of_second.user, of_changed.user) == (SECOND, SECOND)
        assert of_second.closed_at is not None
        assert of_second.exchanges[-1] == ["QUIT"]
        assert of_changed.closed_at is None
        assert control.counters().smtp.mailbox_peak[SECOND] == 1

        config.mailboxes.remove(second)
        await relay.reload()
        assert not await relay.accepts(nas)
        assert (await relay.submit(scanner)).startswith(b"250 ")
        of_first, _, of_changed = connections(control)
        assert of_first.closed_at is None
        assert of_changed.closed_at is not None
    assert [event["mailboxes"] for event in relay.events("reloaded")] == [
        [first["address"], SECOND],
        [first["address"], SECOND],
        [first["address"]],
    ]


async def test_limits_change(config: Config) -> None:
    async with running(config) as relay:
        config.limits["message_size"] = 1234567
        await relay.reload()
        client = await relay.connect()
        assert client.esmtp_features["size"] == "1234567"
        client.close()


async def test_other_settings_wait_for_a_restart(
    config: Config, control: Control, second: dict[str, Any]
) -> None:
    async with running(config) as relay:
        config.environ |= {"RELAY_UPSTREAM": "upstream.invalid:587", "RELAY_HOSTNAME": "other.test"}
        config.mailboxes.append(second)
        await relay.reload()
        assert [event["setting"] for event in relay.events("reload_incomplete")] == ["hostname", "upstream"]
        assert all("restart" in event["consequence"] for event in relay.events("reload_incomplete"))
        assert (await relay.submit(second["device"][0])).startswith(b"250 ")  # through the old upstream

        await relay.reload()  # still true, so still said
        assert len(relay.events("reload_incomplete")) == 4
    assert control.messages()[0].ehlo == "relay.test"


async def test_a_broken_file_changes_nothing(config: Config) -> None:
    [scanner] = config.mailboxes[0]["device"]
    async with running(config) as relay:
        config.file.write_text('[limits]\ncolour = "green"\ncommands = -1\n')
        deliver_signal(signal.SIGHUP)
        await until(lambda: len(relay.events("reload_refused")) >= 2)
        reasons = [event["reason"] for event in relay.events("reload_refused")]
        assert any("colour" in reason for reason in reasons)
        assert any("commands" in reason for reason in reasons)
        assert relay.events("reloaded") == []
        assert (await relay.submit(scanner)).startswith(b"250 ")

        await relay.reload()  # mended


async def test_a_reload_that_breaks_is_not_the_last(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(config) as relay:
        with monkeypatch.context() as broken:
            broken.setattr(app_module, "tokens_for", lambda *_, **__: 1 / 0)
            config.mailboxes[0]["tenant"] = "example.org"
            config.write()
            deliver_signal(signal.SIGHUP)
            [failed] = await relay.logged("reload_failed")
        assert failed["exc_info"]
        assert "restart" in failed["consequence"]
        await relay.reload()
        assert (await relay.submit(config.mailboxes[0]["device"][0])).startswith(b"250 ")


def _issue(authority: trustme.CA, directory: Path) -> tuple[Path, Path]:
    issued = authority.issue_cert("relay.test", key_type=trustme.KeyType.ECDSA)
    directory.mkdir(exist_ok=True)
    cert, key = directory / "cert.pem", directory / "key.pem"
    issued.cert_chain_pems[0].write_to_path(str(cert))
    issued.private_key_pem.write_to_path(str(key))
    return cert, key


@pytest.mark.parametrize("asked", [True, False], ids=["by SIGHUP", "by itself"])
async def test_a_renewed_certificate_is_picked_up(
    config: Config,
    authority: trustme.CA,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: bool,
) -> None:
    monkeypatch.setattr(app_module, "_CERTIFICATE_POLL", 3600.0 if asked else 0.001)
    cert, key = _issue(authority, tmp_path / "tls")
    config.environ |= {"RELAY_TLS_CERT": str(cert), "RELAY_TLS_KEY": str(key)}

    async def shown(relay: Running) -> bytes | None:
        client = await relay.connect()
        assert isinstance(client.sock, ssl.SSLSocket)
        try:
            return client.sock.getpeercert(binary_form=True)
        finally:
            client.close()

    async with running(config) as relay:
        assert relay.events("certificate_self_signed") == []
        first = await shown(relay)
        assert first == ssl.PEM_cert_to_DER_cert(cert.read_text())
        _issue(authority, tmp_path / "tls")
        if asked:
            await relay.reload()
        # The watcher may have looked between the two writes, refused the pair, and looked again.
        await relay.logged("certificate_loaded")
        assert await shown(relay) == ssl.PEM_cert_to_DER_cert(cert.read_text()) != first


# --- mail and signals during a reload -------------------------------------------------------------------


@pytest.mark.parametrize("what", ["removed", "changed"])
async def test_a_message_on_its_way_to_outlook_outlives_its_mailbox(
    config: Config,
    control: Control,
    second: dict[str, Any],
    second_app: AppCredentials,
    hold: Callable[[str], Gate],
    what: str,
) -> None:
    config.mailboxes.append(second)
    [nas] = second["device"]
    async with running(config) as relay:
        gate = hold("send")
        sending = asyncio.create_task(relay.submit(nas))
        await gate.arrived.wait()
        if what == "removed":
            config.mailboxes.remove(second)
        else:
            second["client_secret"] = control.add_secret(second_app.client_id)
        await relay.reload()
        gate.opened.set()
        assert (await sending).startswith(b"250 ")
        await until(lambda: connections(control)[0].closed_at is not None)
    assert [message.user for message in control.messages()] == [SECOND]


async def test_a_message_that_comes_after_its_mailbox_has_gone_is_deferred(
    config: Config, control: Control, second: dict[str, Any]
) -> None:
    """Its client has been logged in since before."""
    config.mailboxes.append(second)
    async with running(config) as relay:
        client = await relay.connect(second["device"][0])
        await asyncio.to_thread(begin, client, SECOND)
        config.mailboxes.remove(second)
        await relay.reload()
        reply = await asyncio.to_thread(finish, client, SECOND)
        client.close()
    assert reply.startswith(b"451 4.3.5 "), reply
    assert control.messages() == []


async def test_a_changed_mailbox_is_never_missing(
    config: Config,
    control: Control,
    second: dict[str, Any],
    second_app: AppCredentials,
    hold: Callable[[str], Gate],
) -> None:
    config.mailboxes.append(second)
    [nas] = second["device"]
    async with running(config) as relay:
        assert (await relay.submit(nas)).startswith(b"250 ")
        gate = hold("quit")
        second["client_secret"] = control.add_secret(second_app.client_id)
        config.write()
        deliver_signal(signal.SIGHUP)
        await gate.arrived.wait()
        assert (await relay.submit(nas)).startswith(b"250 ")
        assert relay.events("reloaded") == []
        gate.opened.set()
        await relay.logged("reloaded")
        assert (await relay.submit(nas)).startswith(b"250 ")
    assert len(control.messages()) == 3


async def test_an_upstream_that_does_not_close_does_not_hold_a_reload_up(
    config: Config, second: dict[str, Any], hold: Callable[[str], Gate], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_module, "_GOODBYE", 0.01)
    config.mailboxes.append(second)
    async with running(config) as relay:
        assert (await relay.submit(second["device"][0])).startswith(b"250 ")
        gate = hold("quit")
        config.mailboxes.remove(second)
        await relay.reload()
        assert gate.arrived.is_set()
        assert not await relay.accepts(second["device"][0])


@pytest.fixture
def slow_load(config: Config) -> Iterator[tuple[threading.Event, threading.Event]]:
    """A reload that has read the settings (first event) hands them over when the second event is set."""
    read, go_on = threading.Event(), threading.Event()
    parse = config.load

    def load_slowly() -> Any:
        settings = parse()
        if threading.current_thread() is not threading.main_thread():
            read.set()
            assert go_on.wait(_PATIENCE)
        return settings

    config.load = load_slowly  # type: ignore[method-assign]
    yield read, go_on
    go_on.set()


async def test_a_second_sighup_during_a_reload(
    config: Config, slow_load: tuple[threading.Event, threading.Event]
) -> None:
    read, go_on = slow_load
    async with running(config) as relay:
        deliver_signal(signal.SIGHUP)
        await until(read.is_set)
        config.limits["message_size"] = 1234567
        config.write()
        deliver_signal(signal.SIGHUP)
        go_on.set()
        await relay.logged("reloaded", 2)
        client = await relay.connect()
        assert client.esmtp_features["size"] == "1234567"
        client.close()


async def test_stopping_while_the_settings_are_read(
    config: Config, slow_load: tuple[threading.Event, threading.Event]
) -> None:
    read, go_on = slow_load
    async with running(config) as relay:
        deliver_signal(signal.SIGHUP)
        await until(read.is_set)
        await relay.stop()
        go_on.set()
        assert relay.log[-1]["event"] == "stopped"
        assert relay.events("reloaded") == []


async def test_stopping_while_a_mailbox_is_being_closed(
    config: Config, control: Control, second: dict[str, Any]
) -> None:
    config.mailboxes.append(second)
    async with running(config) as relay:
        assert (await relay.submit(second["device"][0])).startswith(b"250 ")
        control.fail_smtp("quit", stall=600)
        config.mailboxes.remove(second)
        config.write()
        deliver_signal(signal.SIGHUP)
        await until(lambda: control.faults() == [])
        await relay.stop()
        assert relay.log[-1]["event"] == "stopped"
        assert relay.events("reloaded") == relay.events("reload_failed") == []
