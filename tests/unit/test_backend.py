"""relay_app.backend: what the console is shown and may do, with a real database and a fake of the rest."""

import asyncio
import dataclasses
import secrets
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from relay_app import backend as backend_module
from relay_app.backend import Parts, RelayBackend
from relay_app.console.backend import RequestError, SignInKind, SignInState
from relay_app.errors import SignInError, SignInNeeded, StoreError, TokenError
from relay_app.identity import sign_in
from relay_app.identity.sign_in import PendingSignIn
from relay_app.identity.tokens import AccessToken, MailboxTokens, Snapshot, State
from relay_app.settings import HASHER, DeviceSettings, Flow, ForeignFrom, MailboxSettings, Settings, load
from relay_app.storage.devices import StoredDevices
from relay_app.storage.journal import Attempt, Entry, Journal
from relay_app.storage.store import Store

ME, OFFICE = "me@outlook.com", "office@example.org"
NOW = datetime(2030, 1, 2, 15, 30, tzinfo=UTC)


class FakeTokens:
    """Has one state, which `retry` turns into another."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.now = snapshot
        self.after_retry: Snapshot | TokenError = snapshot
        self.retried_on: asyncio.AbstractEventLoop | None = None

    def snapshot(self) -> Snapshot:
        return self.now

    async def retry(self) -> AccessToken:
        self.retried_on = asyncio.get_running_loop()
        if isinstance(self.after_retry, TokenError):
            raise self.after_retry
        self.now = self.after_retry
        return AccessToken("a token", self.now.user, 0.0)


class FakeSignIns:
    """Gives `answer`, or raises it; remembers what it was asked."""

    def __init__(self) -> None:
        self.answer: PendingSignIn | Exception = SignInError("not known")
        self.asked: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Callable[..., PendingSignIn]:
        def ask(*arguments: Any) -> PendingSignIn:
            self.asked.append((name, *arguments))
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

        return ask


@dataclass
class World:
    """A relay of which only the database is real."""

    settings: Settings
    store: Store
    tokens: dict[str, FakeTokens] = field(default_factory=dict)
    upstreams: dict[str, Any] = field(default_factory=dict)
    sign_ins: FakeSignIns = field(default_factory=FakeSignIns)
    certificate: Any = field(default_factory=lambda: SimpleNamespace(expires=NOW, problem=""))
    ports: tuple[int, int] = (587, 0)
    taken_on: list[asyncio.AbstractEventLoop] = field(default_factory=list)
    """The loops on which the listener has taken the devices anew."""

    def __post_init__(self) -> None:
        self.devices = StoredDevices(self.store)
        self.journal = Journal(self.store)
        for mailbox in self.settings.mailboxes:
            self.add(mailbox)

    def add(self, mailbox: MailboxSettings) -> None:
        self.tokens[mailbox.address] = FakeTokens(Snapshot(mailbox.address))
        pool = SimpleNamespace(in_use=2, idle=1)
        self.upstreams[mailbox.address] = SimpleNamespace(mailbox=mailbox, pool=pool)

    async def take_devices(self, revoked: str) -> None:
        self.taken_on.append(asyncio.get_running_loop())

    def backend(self) -> RelayBackend:
        parts: dict[str, Any] = {
            "settings": lambda: self.settings,
            "loop": asyncio.get_running_loop(),
            "tokens": self.tokens,
            "upstreams": self.upstreams,
            "certificate": self.certificate,
            "sign_ins": self.sign_ins,
            "journal": self.journal,
            "devices": self.devices,
            "devices_changed": self.take_devices,
            "metrics": lambda: b"# HELP relay_up\n",
            "ports": lambda: self.ports,
        }
        return RelayBackend(Parts(**parts))


@pytest.fixture(scope="module")
def relay_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A personal mailbox with a device of its own; a work mailbox with the device `Scanner`."""
    directory = tmp_path_factory.mktemp("settings")
    config = directory / "relay.toml"
    config.write_text(
        f"""
        [[mailbox]]
        address = "{ME}"
        tenant = "consumers"
        client_id = "00000000-0000-0000-0000-000000000001"
        flow = "device_code"
        [[mailbox.device]]
        password = "{secrets.token_urlsafe(12)}"

        [[mailbox]]
        address = "{OFFICE}"
        tenant = "example.org"
        client_id = "00000000-0000-0000-0000-000000000002"
        client_secret = "{secrets.token_urlsafe(12)}"
        secret_expires = 2031-05-06
        flow = "client_credentials"
        [[mailbox.device]]
        name = "Scanner"
        password = "{secrets.token_urlsafe(12)}"
        senders = ["*@example.org"]
        foreign_from = "rewrite"
        hourly_messages = 60
        """
    )
    return load(
        {
            "RELAY_CONFIG": str(config),
            "RELAY_HOSTNAME": "relay.test",
            "RELAY_DATA_DIR": str(directory),
            "RELAY_WEB_TOKEN": secrets.token_urlsafe(20),
        }
    )


@pytest.fixture
async def world(relay_settings: Settings, tmp_path: Path) -> AsyncIterator[World]:
    store = Store.open("", tmp_path)
    yield World(relay_settings, store)
    store.close()


@pytest.fixture
async def relay(world: World) -> RelayBackend:
    return world.backend()


async def ask(method: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Call it as the console does: in another thread, while the loop runs."""
    return await asyncio.to_thread(partial(method, *arguments, **keywords))


async def refused(method: Callable[..., Any], *arguments: Any, **keywords: Any) -> str:
    with pytest.raises(RequestError) as caught:
        await ask(method, *arguments, **keywords)
    return str(caught.value)


# --- the relay and its mailboxes ------------------------------------------------------------------------


async def test_the_relay(world: World, relay: RelayBackend) -> None:
    view = await ask(relay.relay)
    assert (view.version, view.hostname) == (version("smtp-relay"), "relay.test")
    assert (view.submission_port, view.tls_port) == (587, 0)
    assert view.certificate_expires == NOW
    assert view.alerts is False
    notices = {notice.key: notice.text for notice in view.notices}
    assert list(notices) == [
        "certificate-self-signed",
        "no-alerts",
        "vault-key-beside-vault",
        "no-console-password",
    ]
    assert all("Set RELAY_" in text or "set RELAY_" in text for text in notices.values())


async def test_a_relay_with_everything_set(world: World, relay: RelayBackend, tmp_path: Path) -> None:
    world.settings = replace(
        world.settings,
        tls_cert=tmp_path / "cert.pem",
        alert_urls=("json://localhost",),
        vault_key="a key",
        web_password_hash="a hash",
    )
    view = await ask(relay.relay)
    assert view.alerts is True
    assert view.notices == ()

    world.certificate.problem = "The new files do not belong together."
    [notice] = (await ask(relay.relay)).notices
    assert (notice.key, notice.text) == ("certificate-rejected", "The new files do not belong together.")


async def test_metrics(relay: RelayBackend) -> None:
    assert await ask(relay.metrics) == b"# HELP relay_up\n"


async def test_mailboxes(world: World, relay: RelayBackend) -> None:
    due = NOW + timedelta(minutes=50)
    ends = NOW + timedelta(hours=1)
    world.tokens[OFFICE].now = Snapshot(OFFICE, State.OK, OFFICE, ends.timestamp(), due.timestamp())
    error = SignInNeeded("The sign-in has expired.", action="Sign in again.", code="AADSTS700082")
    world.tokens[ME].now = Snapshot(ME, State.SIGN_IN_NEEDED, last_error=error)

    me, office = await ask(relay.mailboxes)
    assert (me.address, me.flow, me.state) == (ME, Flow.DEVICE_CODE, State.SIGN_IN_NEEDED)
    assert (me.sentence, me.action, me.code) == ("The sign-in has expired.", "Sign in again.", "AADSTS700082")
    assert (me.user, me.token_expires, me.next_refresh, me.secret_expires) == ("", None, None, None)
    assert me.sign_in_kinds == (SignInKind.DEVICE_CODE, SignInKind.AUTHORIZATION_CODE)

    assert (office.address, office.flow, office.state) == (OFFICE, Flow.CLIENT_CREDENTIALS, State.OK)
    assert (office.sentence, office.action, office.code) == ("", "", "")
    assert (office.user, office.token_expires, office.next_refresh) == (OFFICE, ends, due)
    assert office.secret_expires == date(2031, 5, 6)
    assert (office.connections_open, office.connections_busy) == (3, 2)
    assert office.sign_in_kinds == ()


@pytest.mark.parametrize("gone", ["tokens", "upstreams"])
async def test_a_mailbox_that_a_reload_takes_away_meanwhile(
    world: World, relay: RelayBackend, gone: str
) -> None:
    """A reload removes first the one, then the other."""
    del getattr(world, gone)[ME]
    assert [view.address for view in await ask(relay.mailboxes)] == [OFFICE]


async def test_ready(world: World, relay: RelayBackend) -> None:
    assert await ask(relay.ready) == [f"{ME}: starting", f"{OFFICE}: starting"]
    world.tokens[OFFICE].now = Snapshot(OFFICE, State.OK)
    world.tokens[ME].now = Snapshot(ME, State.OK)
    assert await ask(relay.ready) == []


@pytest.mark.parametrize(("left", "ready"), [(timedelta(hours=1), True), (timedelta(0), False)])
async def test_ready_as_long_as_the_last_token_is_valid(
    world: World, relay: RelayBackend, left: timedelta, ready: bool
) -> None:
    """Mail flows until then, whatever becomes of the next token."""
    error = TokenError("No connection.", temporary=True)
    ends = (datetime.now(UTC) + left).timestamp()
    world.tokens[OFFICE].now = Snapshot(OFFICE, State.FAILING, OFFICE, ends, ends, error)
    world.tokens[ME].now = Snapshot(ME, State.OK)
    assert await ask(relay.ready) == ([] if ready else [f"{OFFICE}: No connection."])


async def test_retry(world: World, relay: RelayBackend) -> None:
    tokens = world.tokens[ME]
    tokens.after_retry = Snapshot(ME, State.OK, ME)
    view = await ask(relay.retry, ME)
    assert (view.state, view.user) == (State.OK, ME)
    assert tokens.retried_on is asyncio.get_running_loop()


async def test_a_retry_that_fails(world: World, relay: RelayBackend) -> None:
    error = TokenError("The client secret is wrong.", temporary=False)
    world.tokens[ME].now = Snapshot(ME, State.FAILING, last_error=error)
    world.tokens[ME].after_retry = error
    view = await ask(relay.retry, ME)
    assert (view.state, view.sentence) == (State.FAILING, "The client secret is wrong.")


async def test_a_retry_of_no_mailbox(relay: RelayBackend) -> None:
    assert await refused(relay.retry, "you@outlook.com") == "There is no mailbox 'you@outlook.com'."


async def test_a_loop_that_does_not_answer(
    world: World, relay: RelayBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread of the console does not wait forever."""
    waited: list[float | None] = []
    result = Future.result

    def expired(self: "Future[Any]", timeout: float | None = None) -> Any:
        if timeout is None:
            return result(self)
        waited.append(timeout)
        raise TimeoutError

    monkeypatch.setattr(Future, "result", expired)
    with pytest.raises(TimeoutError):
        await ask(relay.retry, ME)
    assert waited == [backend_module._PATIENCE]
    # A request under way and then one of its own may each take as long as a mail waits for a token.
    assert 2 * MailboxTokens(ME, None)._patience < backend_module._PATIENCE  # type: ignore[arg-type]


# --- devices --------------------------------------------------------------------------------------------

GOOD = {"name": "nas", "mailbox": OFFICE, "senders": (), "foreign_from": "refuse", "hourly_messages": 0}


async def test_devices(world: World, relay: RelayBackend) -> None:
    stored = DeviceSettings("nas", HASHER.hash("a password"), ME, ("*@example.org",), ForeignFrom.REWRITE, 5)
    world.devices.add(stored, NOW)
    world.devices.touch({"nas": NOW + timedelta(hours=1)})
    own, scanner, nas = await ask(relay.devices)
    assert (own.name, own.mailbox, own.configured) == (ME, ME, True)
    assert (scanner.name, scanner.mailbox, scanner.configured) == ("Scanner", OFFICE, True)
    assert (scanner.senders, scanner.foreign_from) == (("*@example.org",), "rewrite")
    assert (scanner.hourly_messages, scanner.created, scanner.last_seen) == (60, None, None)
    assert (nas.name, nas.mailbox, nas.configured) == ("nas", ME, False)
    assert (nas.senders, nas.foreign_from, nas.hourly_messages) == (("*@example.org",), "rewrite", 5)
    assert (nas.created, nas.last_seen) == (NOW, NOW + timedelta(hours=1))


async def test_creating_a_device(world: World, relay: RelayBackend) -> None:
    made = await ask(
        relay.create_device,
        name=" Drucker größer ",
        mailbox=OFFICE,
        senders=[" Scan@Example.org", "*@b.example"],
        foreign_from="rewrite",
        hourly_messages=10_000,
    )
    [stored] = world.devices.list()
    assert stored.settings == made.device
    assert made.device.name == "Drucker größer"
    assert made.device.senders == ("scan@example.org", "*@b.example")
    assert (made.device.mailbox, made.device.foreign_from) == (OFFICE, ForeignFrom.REWRITE)
    assert made.device.hourly_messages == 10_000
    assert HASHER.verify(made.device.password_hash, made.password)
    assert len(made.password) == 20
    assert datetime.now(UTC) - stored.created < timedelta(minutes=10)
    assert world.taken_on == [asyncio.get_running_loop()]


async def test_each_device_gets_a_password_of_its_own(relay: RelayBackend) -> None:
    first = await ask(relay.create_device, **GOOD)
    second = await ask(relay.create_device, **GOOD | {"name": "nas2"})
    assert first.password != second.password


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": " "}, "The name must have 1 to 255 printable characters."),
        ({"name": "a\nb"}, "The name must have 1 to 255 printable characters."),
        ({"name": "ä" * 128}, "The name must have 1 to 255 printable characters."),
        (
            {"name": "SCANNER"},
            "There is a device named 'SCANNER' in the relay's settings. Choose another name.",
        ),
        ({"mailbox": "you@outlook.com"}, "There is no mailbox 'you@outlook.com'. Choose one of the list."),
        ({"senders": ["a@b.c", "nobody"]}, "'nobody' is neither an address nor *@domain. Correct it."),
        ({"hourly_messages": -1}, "Messages per hour must be a number from 0 (no limit) to 10000."),
        ({"hourly_messages": 10_001}, "Messages per hour must be a number from 0 (no limit) to 10000."),
        ({"foreign_from": "drop"}, "The policy for a foreign From: must be refuse or rewrite."),
    ],
)
async def test_a_device_that_cannot_be(
    world: World, relay: RelayBackend, changes: dict[str, Any], said: str
) -> None:
    assert await refused(relay.create_device, **GOOD | changes) == said
    assert world.devices.list() == []
    assert world.taken_on == []


async def test_a_name_that_is_taken(world: World, relay: RelayBackend) -> None:
    await ask(relay.create_device, **GOOD)
    said = await refused(relay.create_device, **GOOD | {"name": "NAS"})
    assert said == "There is a device named 'NAS' already. Choose another name."
    assert [each.settings.name for each in world.devices.list()] == ["nas"]


async def test_revoking_a_device(world: World, relay: RelayBackend) -> None:
    await ask(relay.create_device, **GOOD)
    await ask(relay.revoke_device, "NAS")
    assert world.devices.list() == []
    assert world.taken_on == [asyncio.get_running_loop()] * 2

    said = await refused(relay.revoke_device, "nas")
    assert said == "There is no device named 'nas'. It may have been revoked already."
    assert len(world.taken_on) == 2


async def test_a_device_of_the_settings_is_not_revoked_here(world: World, relay: RelayBackend) -> None:
    said = await refused(relay.revoke_device, "scanner")
    assert said == "The device 'scanner' is in the relay's settings. Remove it there, then reload."
    assert world.taken_on == []


# --- messages -------------------------------------------------------------------------------------------


def entry(id: str, **changes: Any) -> Entry:
    attempt = Attempt(
        at=NOW + timedelta(seconds=1),
        seconds=0.5,
        outcome="refused",
        reply="550 5.7.60 Client does not have permissions",
        sentence="Why.",
        action="What to do.",
        cause="send-as-denied",
    )
    values: dict[str, Any] = {
        "id": id,
        "received": NOW,
        "device": "Scanner",
        "mailbox": OFFICE,
        "client": "192.0.2.1",
        "sender": OFFICE,
        "recipients": ("a@example.net", "b@example.net"),
        "size": 1234,
        "message_id": f"<{id}@mail.example>",
        "attempts": (attempt,),
    }
    return Entry(**values | changes)


async def test_messages(world: World, relay: RelayBackend) -> None:
    world.journal.record(entry("one"), entry("two", received=NOW + timedelta(minutes=1)))
    assert [view.id for view in await ask(relay.recent, 10)] == ["two", "one"]
    assert [view.id for view in await ask(relay.recent, 1)] == ["two"]
    assert [view.id for view in await ask(relay.find, "<one@mail.example>", 10)] == ["one"]
    assert [view.id for view in await ask(relay.find, "B@example", 1)] == ["two"]
    assert await ask(relay.find, "nobody", 10) == []

    one = await ask(relay.message, "one")
    assert dataclasses.asdict(one) == dataclasses.asdict(entry("one"))
    assert await ask(relay.find, "one", 10) == [one]
    said = await refused(relay.message, "three")
    assert said == "There is no message 'three'. Messages are forgotten after 30 days."


async def test_hours(world: World, relay: RelayBackend) -> None:
    now = datetime.now(UTC)
    # Of the hour before: this one may be over before it is counted.
    world.journal.record(entry("one", received=now - timedelta(hours=1)))
    hours = await ask(relay.hours)
    assert len(hours) == 24
    assert [hour.hour for hour in hours] == sorted(hour.hour for hour in hours)
    assert [dict(hour.counts) for hour in hours if hour.counts] == [{"refused": 1}]


@pytest.mark.parametrize(
    "question",
    [
        lambda relay: relay.devices(),
        lambda relay: relay.create_device(**GOOD),
        lambda relay: relay.revoke_device("nas"),
        lambda relay: relay.recent(1),
        lambda relay: relay.find("x", 1),
        lambda relay: relay.message("x"),
        lambda relay: relay.hours(),
    ],
    ids=["devices", "create", "revoke", "recent", "find", "message", "hours"],
)
async def test_a_database_that_cannot_be_used(
    world: World,
    relay: RelayBackend,
    monkeypatch: pytest.MonkeyPatch,
    question: Callable[[RelayBackend], Any],
) -> None:
    """The console can say why."""

    def broken(_: Store) -> Any:
        raise StoreError("The database cannot be used: its disk is full. Make room.")

    monkeypatch.setattr(Store, "reading", broken)
    monkeypatch.setattr(Store, "writing", broken)
    said = await refused(question, relay)
    assert said == "The database cannot be used: its disk is full. Make room."
    assert world.taken_on == []


# --- sign-ins -------------------------------------------------------------------------------------------

PENDING = PendingSignIn(
    id="unguessable",
    mailbox=ME,
    kind=Flow.DEVICE_CODE,
    state=sign_in.SignInState.FAILED,
    url="https://microsoft.example/device",
    expires=NOW,
    user_code="ABC-DEF",
    redirect_uri="http://localhost:8025/sign-in/callback",
    user="other@outlook.com",
    sentence="Another account has signed in.",
    action="Sign in again.",
    code="AADSTS70018",
    confirmable=True,
)
_SIGN_IN_QUESTIONS = [
    (
        lambda relay: relay.begin_sign_in(ME, SignInKind.DEVICE_CODE, "http://localhost/"),
        ("begin_device", ME),
    ),
    (
        lambda relay: relay.begin_sign_in(ME, SignInKind.AUTHORIZATION_CODE, "http://localhost/"),
        ("begin_code", ME, "http://localhost/"),
    ),
    (lambda relay: relay.sign_in("id"), ("status", "id")),
    (lambda relay: relay.redirected({"code": "c"}), ("redirected", {"code": "c"})),
    (
        lambda relay: relay.pasted("id", "http://localhost/?code=c"),
        ("pasted", "id", "http://localhost/?code=c"),
    ),
    (lambda relay: relay.confirm("id"), ("confirm", "id")),
]


@pytest.mark.parametrize(("question", "asked"), _SIGN_IN_QUESTIONS)
async def test_sign_ins(
    world: World, relay: RelayBackend, question: Callable[[RelayBackend], Any], asked: tuple[Any, ...]
) -> None:
    world.sign_ins.answer = PENDING
    view = await ask(question, relay)
    assert world.sign_ins.asked == [asked]
    assert dataclasses.asdict(view) == dataclasses.asdict(PENDING) | {
        "kind": SignInKind.DEVICE_CODE,
        "state": SignInState.FAILED,
    }


@pytest.mark.parametrize("question", [question for question, _ in _SIGN_IN_QUESTIONS])
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (SignInError("This sign-in is not known."), "This sign-in is not known."),
        (
            TokenError("No answer.", action="Try later.", code="AADSTS90033", temporary=True),
            "No answer. Try later. (AADSTS90033)",
        ),
        (RequestError("What a part of the console refuses."), "What a part of the console refuses."),
    ],
)
async def test_a_sign_in_that_is_refused(
    world: World,
    relay: RelayBackend,
    question: Callable[[RelayBackend], Any],
    error: Exception,
    said: str,
) -> None:
    world.sign_ins.answer = error
    assert await refused(question, relay) == said


async def test_every_state_and_kind_has_its_counterpart() -> None:
    """The console's types and the sign-ins' are converted by value."""
    assert [each.value for each in sign_in.SignInState] == [each.value for each in SignInState]
    assert {each.value for each in Flow if each.delegated} == {each.value for each in SignInKind}


# --- secrets and threads --------------------------------------------------------------------------------


async def test_no_view_has_a_secret(world: World, relay: RelayBackend) -> None:
    world.settings = replace(
        world.settings,
        store_url="postgresql+psycopg://relay:secret-of-the-store@localhost/relay",
        vault_key="secret-of-the-vault",
        web_password_hash="secret-of-the-console",
        alert_urls=("json://secret-of-the-alerts@localhost",),
    )
    made = await ask(relay.create_device, **GOOD)
    world.journal.record(entry("one"))
    world.sign_ins.answer = PENDING
    views = [await ask(relay.relay), await ask(relay.sign_in, "id"), await ask(relay.retry, OFFICE)]
    for several in (relay.mailboxes, relay.devices, partial(relay.recent, 10), relay.hours):
        views += await ask(several)
    shown = str([*map(dataclasses.asdict, views), await ask(relay.ready), made])
    planted = [each.client_secret for each in world.settings.mailboxes if each.client_secret]
    planted += [each.password_hash for each in world.settings.devices]
    planted += [made.password, made.device.password_hash, world.settings.web_token, "secret-of-", "a token"]
    for secret in planted:
        assert secret not in shown


async def test_many_threads_at_once(world: World, relay: RelayBackend) -> None:
    """Of those who want the same name, one gets it; nobody is left waiting."""
    create = [ask(relay.create_device, **GOOD | {"name": f"nas{number % 4}"}) for number in range(8)]
    others = [ask(relay.devices) for _ in range(4)] + [ask(relay.retry, ME) for _ in range(4)]
    outcomes = await asyncio.gather(*create, *others, return_exceptions=True)
    made, rest = outcomes[:8], outcomes[8:]
    assert sum(isinstance(each, RequestError) for each in made) == 4
    assert [each.settings.name for each in world.devices.list()] == ["nas0", "nas1", "nas2", "nas3"]
    assert not any(isinstance(each, Exception) for each in rest)
    assert world.taken_on == [asyncio.get_running_loop()] * 4
