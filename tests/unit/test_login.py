"""relay_app.login: signing in at a terminal, with Entra as the sandbox plays it."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import click
import pytest
import segno
from cryptography.fernet import Fernet
from structlog.testing import capture_logs

from relay_app import login
from relay_app.errors import SettingsError, SignInError, TokenError, VaultError
from relay_app.identity.flows import DelegatedFlow
from relay_app.identity.sign_in import PendingSignIn, SignIns
from relay_app.login import choose, redeem, redirect_uri, sign_in
from relay_app.resources import open_vault
from relay_app.settings import Endpoint, Flow, MailboxSettings, Settings, load
from sandbox.client import AppCredentials, Control, SandboxProcess

REDIRECT = "http://localhost:8025/sign-in/callback"
OTHER = "other@outlook.com"


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with SandboxProcess(tmp_path_factory.mktemp("sandbox")) as process:
        process.control.add_account(OTHER, personal=True)
        yield process


@pytest.fixture
def control(sandbox: SandboxProcess) -> Control:
    sandbox.control.reset()
    return sandbox.control


@pytest.fixture(scope="module")
def app(sandbox: SandboxProcess) -> AppCredentials:
    return sandbox.control.add_app(redirect_uris=(REDIRECT,))


@pytest.fixture
def settings(sandbox: SandboxProcess, control: Control, app: AppCredentials, tmp_path: Path) -> Settings:
    """The personal account, with a confidential app."""
    environ = {
        "CLIENT_ID": app.client_id,
        "CLIENT_SECRET": app.client_secret,
        "TENANT_ID": "consumers",
        "USER_EMAIL": control.world().personal,
        "RELAY_PASSWORD": "a password of a device",
        "RELAY_DATA_DIR": str(tmp_path / "data"),
        "RELAY_UPSTREAM_CA": sandbox.ca,
        "RELAY_AUTHORITY": sandbox.authority,
    }
    return load(environ)


@pytest.fixture
def me(settings: Settings) -> MailboxSettings:
    return settings.mailboxes[0]


@pytest.fixture
def public(settings: Settings, me: MailboxSettings, control: Control) -> Settings:
    """The same account with a public app, by device code."""
    changed = replace(me, flow=Flow.DEVICE_CODE, client_id=control.world().public_client_id, client_secret="")
    return replace(settings, mailboxes=(changed,))


class Person:
    """Answers at the prompts, by means of what is on the screen."""

    def __init__(self) -> None:
        self.answers: list[str | Callable[[str], str]] = []
        """A text, or what makes one of the screen so far."""
        self.screen: Callable[[], str] = str
        self.asked: list[str] = []

    def answer(self, question: str) -> str:
        self.asked.append(question)
        answer = self.answers.pop(0)
        return answer if isinstance(answer, str) else answer(self.screen())


@pytest.fixture
def screen(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """What has been printed so far."""
    shown: list[str] = []

    def read() -> str:
        shown.append(capsys.readouterr().out)
        return "".join(shown)

    return read


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch, screen: Callable[[], str]) -> Person:
    person = Person()
    person.screen = screen

    def confirm(question: str) -> bool:
        return person.answer(question) == "y"

    monkeypatch.setattr(click, "prompt", person.answer)
    monkeypatch.setattr(click, "confirm", confirm)
    return person


@pytest.fixture(autouse=True)
def log() -> Iterator[list[Any]]:
    with capture_logs() as log:
        yield log


def authorization_url(screen: str) -> str:
    """The one that was printed last."""
    return [line for line in screen.splitlines() if line.startswith("https://")][-1]


def user_code(screen: str) -> str:
    return screen.split("type this code:")[1].split()[0]


def signs_in(control: Control, account: str) -> Callable[[str], str]:
    """What a person pastes who has signed in with `account`."""

    def address(screen: str) -> str:
        url = authorization_url(screen)
        [redirect] = parse_qs(urlsplit(url).query)["redirect_uri"]
        return f"{redirect}?{urlencode(control.authorize(account, url))}"

    return address


def token_user(settings: Settings) -> str:
    """Who a relay that starts now gets a token for."""
    store, vault = open_vault(settings)
    try:
        mailbox = settings.mailboxes[0]
        flow = DelegatedFlow(mailbox, authority=settings.authority, ca=settings.upstream_ca, vault=vault)
        return flow.fetch(force=True).user
    finally:
        store.close()


def stored(settings: Settings) -> list[str]:
    """Which mailboxes have a sign-in."""
    store, vault = open_vault(settings)
    try:
        return vault.names()
    finally:
        store.close()


# --- which mailbox --------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", [None, "me@outlook.com", "Me@Outlook.com"])
def test_the_only_mailbox_need_not_be_named(
    settings: Settings, me: MailboxSettings, address: str | None
) -> None:
    by_itself = replace(me, address="office@example.org", flow=Flow.CLIENT_CREDENTIALS)
    assert choose(replace(settings, mailboxes=(by_itself, me)), address) == me


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        (None, "It is not said which mailbox signs in. Name one of me@outlook.com, other@outlook.com"),
        ("you@outlook.com", "you@outlook.com is not one of them. Name one of me@outlook.com, "),
    ],
)
def test_one_of_several_mailboxes_must_be_named(
    settings: Settings, me: MailboxSettings, address: str | None, problem: str
) -> None:
    other = replace(me, address=OTHER)
    several = replace(settings, mailboxes=(me, other))
    with pytest.raises(SettingsError) as caught:
        choose(several, address)
    assert str(caught.value).startswith(problem)
    assert choose(several, OTHER) == other


def test_no_mailbox_needs_a_sign_in(settings: Settings, me: MailboxSettings) -> None:
    by_itself = replace(settings, mailboxes=(replace(me, flow=Flow.CLIENT_CREDENTIALS),))
    for attempt in (lambda: redeem(by_itself, None, "a token"), lambda: sign_in(by_itself, None)):
        with pytest.raises(SettingsError, match="all of them use client_credentials"):
            attempt()


# --- by device code -------------------------------------------------------------------------------------


class Looks:
    """What `sign_in` waits with: at the first look something happens, then time passes quickly."""

    def __init__(self, happens: Callable[[], object]) -> None:
        self._happens = happens
        self._tick = threading.Event()
        self.seconds: set[float] = set()

    def sleep(self, seconds: float) -> None:
        if not self.seconds:
            self._happens()
        self.seconds.add(seconds)
        self._tick.wait(0.001)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sign-ins ask Microsoft again at once."""
    original = SignIns.__init__

    def init(self: SignIns, *arguments: Any, **keywords: Any) -> None:
        original(self, *arguments, **keywords, wait=lambda ended, _: ended.wait(0.001))

    monkeypatch.setattr(SignIns, "__init__", init)


@pytest.mark.usefixtures("impatient")
def test_a_device_code(
    public: Settings, control: Control, screen: Callable[[], str], capsys: pytest.CaptureFixture[str]
) -> None:
    me = public.mailboxes[0].address
    looks = Looks(lambda: control.approve_device(user_code(screen()), me))
    assert sign_in(public, None, sleep=looks.sleep) == me
    assert looks.seconds == {login._LOOK}
    assert token_user(public) == me

    said = screen()
    assert said.startswith(f"To sign in {me}, open this page, on any device:\n\n    https://")
    url = said.split("on any device:\n\n    ")[1].split("\n")[0]
    assert "Ctrl-C gives up.\n" in said
    assert max(map(len, said.splitlines())) <= 100
    segno.make(url).terminal(compact=True)
    assert capsys.readouterr().out in said  # for a phone's camera


@pytest.mark.usefixtures("impatient")
def test_a_device_code_that_is_declined(
    public: Settings, control: Control, screen: Callable[[], str]
) -> None:
    looks = Looks(lambda: control.decline_device(user_code(screen())))
    with pytest.raises(SignInError) as caught:
        sign_in(public, None, sleep=looks.sleep)
    assert str(caught.value).startswith("The sign-in was declined. Sign in again")
    assert str(caught.value).endswith("(AADSTS70018)")
    assert stored(public) == []


def test_no_device_code(public: Settings, control: Control) -> None:
    control.fail_entra("devicecode", aadsts=7000112)
    with pytest.raises(TokenError, match="AADSTS7000112"):
        sign_in(public, None)


# --- by pasting -----------------------------------------------------------------------------------------


def test_pasting(settings: Settings, control: Control, person: Person, screen: Callable[[], str]) -> None:
    me = settings.mailboxes[0].address
    person.answers = [signs_in(control, me)]
    assert sign_in(settings, None) == me
    assert token_user(settings) == me
    said = screen()
    assert said.startswith(f"To sign in {me}, open this address in a browser, on any device:\n\nhttps://")
    assert f"goes to {REDIRECT}?code=..." in said
    assert person.asked == ["\nPaste it here"]


def test_a_wrong_paste_and_then_the_right_one(
    settings: Settings, control: Control, person: Person, screen: Callable[[], str]
) -> None:
    me = settings.mailboxes[0].address
    person.answers = ["nonsense", authorization_url, f"{REDIRECT}?state=x", signs_in(control, me)]
    assert sign_in(settings, me) == me
    said = screen()
    assert "\nThis is not an address. " in said
    assert "\nThis is the address of Microsoft's sign-in page. " in said
    assert "\nThe address has no code in it. " in said
    assert len(person.asked) == 4


def test_microsoft_out_of_reach_when_it_is_pasted(
    settings: Settings, control: Control, person: Person, screen: Callable[[], str]
) -> None:
    """The address is still good and can be pasted again."""
    me = settings.mailboxes[0].address
    pasted: list[str] = []

    def paste(screen: str) -> str:
        pasted.append(signs_in(control, me)(screen))
        control.fail_entra("token", drop=True, times=5)
        return pasted[0]

    def again(_: str) -> str:
        control.clear_faults()
        return pasted[0]

    person.answers = [paste, again]
    assert sign_in(settings, None) == me
    assert "cannot be used: no connection. See that the relay can reach the Internet." in screen()


def test_a_sign_in_that_is_declined(settings: Settings, control: Control, person: Person) -> None:
    def declines(screen: str) -> str:
        return f"{REDIRECT}?{urlencode(control.decline(authorization_url(screen)))}"

    person.answers = [declines]
    with pytest.raises(SignInError) as caught:
        sign_in(settings, None)
    assert "consent was declined" in str(caught.value)
    assert "smtp-relay login me@outlook.com" in str(caught.value)
    assert stored(settings) == []


def test_a_sign_in_that_is_forgotten_while_somebody_thinks(
    settings: Settings, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[SignIns] = []
    begin = SignIns.begin_code

    def begin_code(self: SignIns, *arguments: str) -> PendingSignIn:
        made.append(self)
        return begin(self, *arguments)

    monkeypatch.setattr(SignIns, "begin_code", begin_code)

    def late(_: str) -> str:
        made[0]._attempts.clear()
        return f"{REDIRECT}?code=x&state=y"

    person.answers = [late]
    with pytest.raises(SignInError, match="This sign-in is not known"):
        sign_in(settings, None)


@pytest.mark.parametrize("anyway", [True, False])
def test_another_account(settings: Settings, control: Control, person: Person, anyway: bool) -> None:
    person.answers = [signs_in(control, OTHER), "y" if anyway else "n"]
    if anyway:
        assert sign_in(settings, None) == OTHER
        assert token_user(settings) == OTHER
    else:
        with pytest.raises(SignInError, match=r"Sign in again and choose me@outlook\.com"):
            sign_in(settings, None)
        assert stored(settings) == []
    assert person.asked[1] == (
        f"{OTHER} has signed in, but the mailbox is me@outlook.com. The sign-in was not stored.\n"
        "Use it all the same?"
    )


def test_a_secret_that_is_wrong(
    settings: Settings, me: MailboxSettings, control: Control, person: Person
) -> None:
    wrong = replace(me, client_secret="not the secret")
    person.answers = [signs_in(control, me.address)]
    with pytest.raises(SignInError, match=r"The client secret is wrong\..*\(AADSTS7000215\)$"):
        sign_in(replace(settings, mailboxes=(wrong,)), None)


@pytest.mark.parametrize(
    ("web_url", "web_listen", "wanted"),
    [
        ("", (Endpoint("0.0.0.0", 8025),), "http://localhost:8025"),
        ("", (Endpoint("127.0.0.1", 80), Endpoint("::1", 81)), "http://localhost:80"),
        ("", (), "http://localhost:8025"),
        ("http://nas:8025", (Endpoint("0.0.0.0", 9000),), "http://localhost:9000"),
        ("https://relay.example.org", (), "https://relay.example.org"),
    ],
)
def test_where_microsoft_sends_the_browser(
    settings: Settings, web_url: str, web_listen: tuple[Endpoint, ...], wanted: str
) -> None:
    changed = replace(settings, web_url=web_url, web_listen=web_listen)
    assert redirect_uri(changed) == f"{wanted}/sign-in/callback"


def test_a_sign_in_that_nobody_can_read_is_replaced(
    settings: Settings, control: Control, person: Person
) -> None:
    """The vault's key is lost: its error says to sign in again."""
    me = settings.mailboxes[0].address
    person.answers = [signs_in(control, me), signs_in(control, me)]
    sign_in(settings, None)
    other_key = replace(settings, vault_key=Fernet.generate_key().decode())
    with pytest.raises(VaultError, match="it was written with another key"):
        token_user(other_key)
    assert sign_in(other_key, None) == me
    assert token_user(other_key) == me


# --- with a refresh token -------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [True, False])
def test_a_refresh_token_is_redeemed(
    settings: Settings, me: MailboxSettings, control: Control, named: bool
) -> None:
    refresh_token = control.refresh_token(me.address, me.client_id)
    assert redeem(settings, me.address.upper() if named else None, refresh_token) == me.address
    assert token_user(settings) == me.address


def test_a_refresh_token_that_microsoft_refuses(settings: Settings) -> None:
    with pytest.raises(TokenError) as caught:
        redeem(settings, None, "a refresh token")
    assert "AADSTS" in str(caught.value)
    assert "a refresh token" not in str(caught.value)
    assert stored(settings) == []


def test_without_a_data_directory(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    broken = replace(settings, data_dir=tmp_path / "file" / "data")
    for attempt in (lambda: redeem(broken, None, "a token"), lambda: sign_in(broken, None)):
        with pytest.raises(SettingsError, match="RELAY_DATA_DIR: cannot write in "):
            attempt()


def test_secrets_are_not_shown(
    settings: Settings,
    me: MailboxSettings,
    control: Control,
    person: Person,
    screen: Callable[[], str],
    log: list[Any],
) -> None:
    pasted: list[str] = []

    def paste(screen: str) -> str:
        pasted.append(signs_in(control, me.address)(screen))
        return pasted[0]

    person.answers = [paste]
    sign_in(settings, None)
    [code] = parse_qs(urlsplit(pasted[0]).query)["code"]
    for secret in (code, me.client_secret):
        assert secret not in screen()
        assert secret not in str(log)
