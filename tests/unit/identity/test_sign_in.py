"""Signing in, with Entra as the sandbox plays it: each way, and each way to go wrong."""

import json
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest
import structlog

from relay_app.errors import SignInError, SignInNeeded, StoreError, TokenError
from relay_app.identity.flows import DelegatedFlow
from relay_app.identity.sign_in import PendingSignIn, SignIns, SignInState, kinds
from relay_app.identity.vault import Vault
from relay_app.settings import Flow, MailboxSettings

REDIRECT = "http://localhost:8400/callback"
WAITING, DONE, FAILED = SignInState.WAITING, SignInState.DONE, SignInState.FAILED
Fails = Callable[..., str]


class Pace:
    """What the polling thread waits with: it goes on when told to, or at once. Remembers how long."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self._step = threading.Semaphore(0)
        self.free = True

    def hold(self) -> None:
        self.free = False

    def step(self) -> None:
        self._step.release()

    def wait(self, ended: threading.Event, seconds: float) -> None:
        self.asked.append(seconds)
        if not self.free:
            while not self._step.acquire(timeout=0.005):
                if ended.is_set():
                    return


@pytest.fixture
def pace() -> Pace:
    return Pace()


@pytest.fixture
def world(sandbox: Any) -> Any:
    return sandbox.control.world()


@pytest.fixture
def me(world: Any) -> MailboxSettings:
    """A personal mailbox with a confidential app."""
    return MailboxSettings(
        world.personal, Flow.AUTHORIZATION_CODE, "consumers", world.client_id, world.client_secret
    )


@pytest.fixture
def public(me: Any, world: Any) -> MailboxSettings:
    """The same with a public app."""
    return replace(me, flow=Flow.DEVICE_CODE, client_id=world.public_client_id, client_secret="")


@pytest.fixture
def mailboxes(me: MailboxSettings) -> dict[str, MailboxSettings]:
    """What the settings say; a test may change it."""
    return {me.address: me}


@pytest.fixture
def signed_in() -> list[str]:
    """The mailboxes that the relay was told of."""
    return []


@pytest.fixture
def sign_ins(
    sandbox: Any, vault: Vault, mailboxes: Any, clock: Any, pace: Pace, signed_in: list[str]
) -> Iterator[SignIns]:
    made = SignIns(
        mailboxes.get,
        authority=sandbox.authority,
        ca=Path(sandbox.ca),
        vault=vault,
        clock=clock.monotonic,
        wait=pace.wait,
        signed_in=signed_in.append,
    )
    yield made
    made.close()
    polling_ends()


def token_user(mailbox: MailboxSettings, sandbox: Any, vault: Vault) -> str:
    """Who a relay that starts now gets tokens for, from the refresh token in the vault."""
    flow = DelegatedFlow(mailbox, authority=sandbox.authority, ca=Path(sandbox.ca), vault=vault)
    return flow.fetch(force=True).user


def settled(sign_ins: SignIns, id: str) -> PendingSignIn:
    """The sign-in, once it has ended and so has its thread."""
    attempt = sign_ins._attempts[id]
    assert attempt.ended.wait(30)
    polling_ends()
    return sign_ins.status(id)


def polling_ends() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("sign-in "):
            thread.join(30)
            assert not thread.is_alive()


def agree(sandbox: Any, pending: PendingSignIn, account: str = "") -> dict[str, str]:
    """Sign in at Microsoft's page: what the redirect brings."""
    answer: dict[str, str] = sandbox.control.authorize(account or pending.mailbox, pending.url)
    return answer


def address(parameters: dict[str, str]) -> str:
    """Where the browser ends up."""
    return f"{REDIRECT}?{urlencode(parameters, quote_via=quote)}"


def redemptions(sandbox: Any) -> int:
    return int(sandbox.control.counters().entra.by_grant.get("authorization_code", 0))


# -- authorization code -------------------------------------------------------------------------------------


def test_a_sign_in_by_redirect(
    me: Any, sandbox: Any, vault: Vault, sign_ins: SignIns, signed_in: list[str]
) -> None:
    pending = sign_ins.begin_code(me.address, REDIRECT)
    assert (pending.state, pending.kind, pending.mailbox) == (WAITING, Flow.AUTHORIZATION_CODE, me.address)
    assert pending.redirect_uri == REDIRECT
    assert timedelta(minutes=14) < pending.expires - datetime.now(UTC) <= timedelta(minutes=15)
    assert len(pending.id) >= 32
    assert sign_ins.status(pending.id) == pending
    done = sign_ins.redirected(agree(sandbox, pending))
    assert (done.state, done.user, done.sentence) == (DONE, me.address, "")
    assert sign_ins.status(pending.id) == done
    assert signed_in == [me.address]
    assert token_user(me, sandbox, vault) == me.address


def test_the_authorization_url(me: Any, sandbox: Any, sign_ins: SignIns) -> None:
    url = urlsplit(sign_ins.begin_code(me.address, REDIRECT).url)
    assert f"{url.scheme}://{url.netloc}{url.path}" == f"{sandbox.authority}/consumers/oauth2/v2.0/authorize"
    query = {name: value for name, [value] in parse_qs(url.query).items()}
    assert query["client_id"] == me.client_id
    assert query["redirect_uri"] == REDIRECT
    assert set(query["scope"].split()) == {
        "https://outlook.office.com/SMTP.Send",
        "offline_access",
        "openid",
        "profile",
    }
    assert query["code_challenge_method"] == "S256"
    assert query["response_mode"] == "query"  # form_post could not be pasted
    assert query["prompt"] == "select_account"
    assert query["login_hint"] == me.address
    assert len(query["state"]) >= 16
    assert query["nonce"]
    assert me.client_secret not in url.query


@pytest.mark.parametrize("tenant", ["consumers", "common"])
def test_each_tenant_of_a_personal_account(
    me: Any, sandbox: Any, vault: Vault, sign_ins: SignIns, mailboxes: Any, tenant: str
) -> None:
    mailboxes[me.address] = replace(me, tenant=tenant)
    assert sign_ins.redirected(agree(sandbox, sign_ins.begin_code(me.address, REDIRECT))).state is DONE
    assert token_user(mailboxes[me.address], sandbox, vault) == me.address


@pytest.mark.parametrize("tenant", ["", "common", "organizations"])
def test_each_tenant_of_a_work_account(
    me: Any, world: Any, sandbox: Any, vault: Vault, sign_ins: SignIns, mailboxes: Any, tenant: str
) -> None:
    work = replace(me, address=world.work, tenant=tenant or world.tenant)
    mailboxes[work.address] = work
    assert sign_ins.redirected(agree(sandbox, sign_ins.begin_code(work.address, REDIRECT))).state is DONE
    assert token_user(work, sandbox, vault) == work.address


def test_a_public_client(public: Any, sandbox: Any, vault: Vault, sign_ins: SignIns, mailboxes: Any) -> None:
    mailboxes[public.address] = public
    assert sign_ins.redirected(agree(sandbox, sign_ins.begin_code(public.address, REDIRECT))).state is DONE
    assert token_user(public, sandbox, vault) == public.address


def test_an_app_with_a_certificate(
    me: Any, sandbox: Any, vault: Vault, sign_ins: SignIns, mailboxes: Any, key_pair: tuple[Path, Path]
) -> None:
    app = sandbox.control.add_app(certificate=key_pair[0].read_text())
    mailbox = replace(
        me, client_id=app.client_id, client_secret="", client_cert=key_pair[0], client_key=key_pair[1]
    )
    mailboxes[me.address] = mailbox
    assert sign_ins.redirected(agree(sandbox, sign_ins.begin_code(me.address, REDIRECT))).state is DONE
    assert token_user(mailbox, sandbox, vault) == me.address


def test_a_running_relay_takes_the_sign_in(me: Any, sandbox: Any, vault: Vault, sign_ins: SignIns) -> None:
    relay = DelegatedFlow(me, authority=sandbox.authority, ca=Path(sandbox.ca), vault=vault)
    with pytest.raises(SignInNeeded):
        relay.fetch(force=False)
    sign_ins.redirected(agree(sandbox, sign_ins.begin_code(me.address, REDIRECT)))
    assert relay.changed()
    assert relay.fetch(force=False).user == me.address


def test_a_redirect_is_redeemed_once(me: Any, sandbox: Any, sign_ins: SignIns, signed_in: Any) -> None:
    parameters = agree(sandbox, sign_ins.begin_code(me.address, REDIRECT))
    first = sign_ins.redirected(parameters)
    assert sign_ins.redirected(parameters) == first  # the page was loaded again
    assert sign_ins.redirected(parameters | {"code": "another"}) == first
    assert redemptions(sandbox) == 1
    assert signed_in == [me.address]


def test_the_same_redirect_twice_at_once(me: Any, sandbox: Any, sign_ins: SignIns) -> None:
    parameters = agree(sandbox, sign_ins.begin_code(me.address, REDIRECT))
    sandbox.control.fail_entra(stall=0.2, expires_in=3600)
    outcomes: list[PendingSignIn] = []
    threads = [
        threading.Thread(target=lambda: outcomes.append(sign_ins.redirected(parameters))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [each.state for each in outcomes] == [DONE] * 4
    assert redemptions(sandbox) == 1


def test_two_tabs_both_come_to_a_good_end(me: Any, sandbox: Any, vault: Vault, sign_ins: SignIns) -> None:
    one, two = (sign_ins.begin_code(me.address, REDIRECT) for _ in range(2))
    from_one, from_two = agree(sandbox, one), agree(sandbox, two)
    assert sign_ins.redirected(from_two).id == two.id
    assert sign_ins.redirected(from_one).id == one.id
    assert [sign_ins.status(each.id).state for each in (one, two)] == [DONE, DONE]
    assert token_user(me, sandbox, vault) == me.address


@pytest.mark.parametrize("state", [None, "", "wrong"])
def test_a_redirect_without_our_state_is_refused(
    me: Any, sandbox: Any, sign_ins: SignIns, state: str | None
) -> None:
    pending = sign_ins.begin_code(me.address, REDIRECT)
    parameters = agree(sandbox, pending)
    del parameters["state"]
    with pytest.raises(SignInError, match=r"Begin a new sign-in\."):
        sign_ins.redirected(parameters if state is None else parameters | {"state": state})
    assert sign_ins.status(pending.id).state is WAITING
    assert redemptions(sandbox) == 0


def test_a_redirect_without_an_answer_is_refused(me: Any, sandbox: Any, sign_ins: SignIns) -> None:
    pending = sign_ins.begin_code(me.address, REDIRECT)
    state = agree(sandbox, pending)["state"]
    with pytest.raises(SignInError, match="no code"):
        sign_ins.redirected({"state": state})
    assert sign_ins.status(pending.id).state is WAITING


def test_a_code_of_another_sign_in_fails_by_pkce(me: Any, sandbox: Any, sign_ins: SignIns) -> None:
    ours, theirs = (sign_ins.begin_code(me.address, REDIRECT) for _ in range(2))
    stolen = agree(sandbox, theirs)["code"]
    ended = sign_ins.redirected({"code": stolen, "state": agree(sandbox, ours)["state"]})
    assert (ended.state, ended.code) == (FAILED, "AADSTS501481")


def test_an_answer_with_another_nonce_is_refused(
    me: Any, odd_entra: Any, vault: Vault, mailboxes: Any
) -> None:
    sign_ins = SignIns(mailboxes.get, authority=odd_entra.authority, ca=odd_entra.ca, vault=vault)
    odd_entra.answers.append((200, {}, json.dumps(answer(nonce="another")).encode()))
    pending = sign_ins.begin_code(me.address, REDIRECT)
    state = parse_qs(urlsplit(pending.url).query)["state"][0]
    ended = sign_ins.redirected({"code": "code", "state": state})
    assert ended.state is FAILED
    assert "nonce" in ended.sentence
    assert vault.names() == []


def answer(**claims: str) -> dict[str, Any]:
    """A token answer with an ID token that nobody has signed."""
    import base64

    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    token = {"sub": "a", "preferred_username": "me@outlook.com", **claims}
    return {
        "access_token": "a",
        "refresh_token": "r",
        "expires_in": 3600,
        "scope": "https://outlook.office.com/SMTP.Send",
        "id_token": f"{part({})}.{part(token)}.",
        "client_info": part({"uid": "a", "utid": "b"}),
    }


def test_consent_refused(me: Any, sandbox: Any, vault: Vault, sign_ins: SignIns) -> None:
    pending = sign_ins.begin_code(me.address, REDIRECT)
    ended = sign_ins.redirected(sandbox.control.decline(pending.url))
    assert ended.state is FAILED
    assert ended.code == "AADSTS65004"
    assert "declined" in ended.sentence
    assert "accept what the app asks for" in ended.action
    assert vault.names() == []


def test_consent_refused_in_the_words_for_personal_accounts(me: Any, sandbox: Any, sign_ins: SignIns) -> None:
    state = agree(sandbox, pending := sign_ins.begin_code(me.address, REDIRECT))["state"]
    text = "The user has denied access to the scope requested by the client application."
    ended = sign_ins.redirected({"error": "access_denied", "error_description": text, "state": state})
    assert (ended.id, ended.state) == (pending.id, FAILED)
    assert ended.sentence == "The sign-in was cancelled, or the consent was declined."


def test_microsofts_page_in_trouble_is_no_end(me: Any, sandbox: Any, sign_ins: SignIns) -> None:
    pending = sign_ins.begin_code(me.address, REDIRECT)
    parameters = agree(sandbox, pending)
    noted = sign_ins.redirected({"error": "temporarily_unavailable", "state": parameters["state"]})
    assert noted.state is WAITING
    assert noted.sentence
    done = sign_ins.redirected(parameters)
    assert (done.state, done.sentence) == (DONE, "")


def test_a_code_that_is_too_old(me: Any, sandbox: Any, sign_ins: SignIns) -> None:
    parameters = agree(sandbox, sign_ins.begin_code(me.address, REDIRECT))
    sandbox.control.advance_clock(700)
    ended = sign_ins.redirected(parameters)
    assert (ended.state, ended.code) == (FAILED, "AADSTS70008")


def test_microsoft_unreachable_in_the_middle(me: Any, sandbox: Any, vault: Vault, sign_ins: SignIns) -> None:
    parameters = agree(sandbox, sign_ins.begin_code(me.address, REDIRECT))
    sandbox.control.fail_entra(drop=True)
    noted = sign_ins.redirected(parameters)
    assert noted.state is WAITING
    assert "no connection" in noted.sentence
    assert vault.names() == []
    done = sign_ins.redirected(parameters)  # the person loads the page again
    assert (done.state, done.sentence, done.action) == (DONE, "", "")


def test_microsoft_unreachable_at_the_start(me: Any, sandbox: Any, sign_ins: SignIns) -> None:
    sandbox.control.fail_entra("discovery", drop=True)
    with pytest.raises(TokenError, match="no connection") as caught:
        sign_ins.begin_code(me.address, REDIRECT)
    assert caught.value.temporary
    assert sign_ins.begin_code(me.address, REDIRECT).state is WAITING


@pytest.mark.parametrize(
    ("code", "words", "action"),
    [
        (7000215, "client secret is wrong", "CLIENT_SECRET"),
        (7000222, "client secret has expired", "CLIENT_SECRET"),
        (7000218, "no client secret was sent", "Allow public client flows"),
        (700025, "public client", "Remove CLIENT_SECRET"),
        (700016, "does not find the app", "CLIENT_ID"),
        (50194, "one organisation only", "TENANT_ID"),
        (9002332, "organisations only", "TENANT_ID"),
        (53003, "Conditional Access", "administrator"),
        (65001, "Nobody has consented", "console's Sign in page"),
        (50034, "deleted", "USER_EMAIL"),
    ],
)
def test_what_microsoft_refuses_ends_it_with_a_sentence(
    me: Any, sandbox: Any, vault: Vault, sign_ins: SignIns, code: int, words: str, action: str
) -> None:
    parameters = agree(sandbox, sign_ins.begin_code(me.address, REDIRECT))
    sandbox.control.fail_entra(aadsts=code)
    ended = sign_ins.redirected(parameters)
    assert (ended.state, ended.code) == (FAILED, f"AADSTS{code}")
    assert words in ended.sentence
    assert action in ended.action
    assert vault.names() == []


def test_a_wrong_secret(me: Any, sandbox: Any, sign_ins: SignIns, mailboxes: Any) -> None:
    mailboxes[me.address] = replace(me, client_secret="not the secret")
    ended = sign_ins.redirected(agree(sandbox, sign_ins.begin_code(me.address, REDIRECT)))
    assert (ended.state, ended.code) == (FAILED, "AADSTS7000215")


def test_a_wrong_tenant(me: Any, sign_ins: SignIns, mailboxes: Any) -> None:
    mailboxes[me.address] = replace(me, tenant="nonexistent.example")
    with pytest.raises(TokenError, match=r"no directory nonexistent\.example"):
        sign_ins.begin_code(me.address, REDIRECT)


def test_a_certificate_that_cannot_be_used(
    me: Any, sign_ins: SignIns, mailboxes: Any, tmp_path: Path
) -> None:
    missing = tmp_path / "missing.pem"
    mailboxes[me.address] = replace(me, client_secret="", client_cert=missing, client_key=missing)
    with pytest.raises(TokenError, match=r"missing\.pem cannot be used"):
        sign_ins.begin_code(me.address, REDIRECT)


def test_a_clock_that_is_wrong_by_two_hours(me: Any, sandbox: Any, vault: Vault, sign_ins: SignIns) -> None:
    for hours in (2, -4):
        sandbox.control.advance_clock(hours * 3600)
        assert sign_ins.redirected(agree(sandbox, sign_ins.begin_code(me.address, REDIRECT))).state is DONE
        assert token_user(me, sandbox, vault) == me.address


def test_an_unexpected_exception_is_told_without_its_text(
    me: Any, sandbox: Any, sign_ins: SignIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("planted")

    pending = sign_ins.begin_code(me.address, REDIRECT)
    parameters = agree(sandbox, pending)
    monkeypatch.setattr(sign_ins._attempts[pending.id].dialogue, "redeem", broken)
    ended = sign_ins.redirected(parameters)
    assert ended.state is FAILED
    assert "ZeroDivisionError in" in ended.sentence
    assert "planted" not in repr(ended)


@pytest.mark.parametrize(
    "uri",
    [
        "http://relay.example:8025/callback",
        "http://192.0.2.1/",
        "ftp://localhost/",
        "localhost:8025",
        "https://",
        "https://[::1",
        "https://relay.example/#part",
        "",
    ],
)
def test_a_redirect_address_that_microsoft_does_not_take(me: Any, sign_ins: SignIns, uri: str) -> None:
    with pytest.raises(SignInError, match="Microsoft does not send anybody back"):
        sign_ins.begin_code(me.address, uri)


@pytest.mark.parametrize(
    "uri", ["https://relay.example/callback", "http://localhost/x", "http://127.0.0.1:8025/x"]
)
def test_a_redirect_address_that_microsoft_takes(me: Any, sign_ins: SignIns, uri: str) -> None:
    assert sign_ins.begin_code(me.address, uri).redirect_uri == uri


# -- paste --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        "{}",
        "  {}\n",
        "<{}>",
        '"{}"',
        "\u201e{}\u201c",
        "{}&session_state=0a1b",
        "{}#",
    ],
)
def test_a_pasted_address(me: Any, sandbox: Any, vault: Vault, sign_ins: SignIns, form: str) -> None:
    pending = sign_ins.begin_code(me.address, REDIRECT)
    done = sign_ins.pasted(pending.id, form.format(address(agree(sandbox, pending))))
    assert (done.id, done.state) == (pending.id, DONE)
    assert token_user(me, sandbox, vault) == me.address


def test_a_pasted_address_in_several_lines_or_without_its_scheme(
    me: Any, sandbox: Any, sign_ins: SignIns
) -> None:
    for change in (
        lambda text: "\n  ".join(text[start : start + 60] for start in range(0, len(text), 60)),
        lambda text: text.removeprefix("http://"),
    ):
        pending = sign_ins.begin_code(me.address, REDIRECT)
        assert sign_ins.pasted(pending.id, change(address(agree(sandbox, pending)))).state is DONE


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not an address"),
        ("   ", "not an address"),
        ("me@outlook.com", "not an address"),
        ("M.C5_BAY.2.U.0123", "not an address"),
        ("http://[::1", "not an address"),
        ("http://localhost:8400/callback", "no code in it"),
        ("https://login.microsoftonline.com/common/login?x=1", "no code in it"),
        ("http://localhost:8400/callback?code=abc", "cut off"),
        ("http://localhost:8400/callback?state=abc", "no code in it"),
        ("http://localhost:8400/callback?code=abc&state=abc", "older sign-in"),
        ("http://localhost:8400/?" + "x" * 100_000 + "&code=1&state=1", "no code in it"),
    ],
)
def test_a_paste_that_is_no_answer_says_why_and_the_sign_in_waits(
    me: Any, sandbox: Any, sign_ins: SignIns, text: str, why: str
) -> None:
    pending = sign_ins.begin_code(me.address, REDIRECT)
    with pytest.raises(SignInError, match=why):
        sign_ins.pasted(pending.id, text)
    assert sign_ins.pasted(pending.id, address(agree(sandbox, pending))).state is DONE


def test_the_link_itself_pasted(me: Any, sign_ins: SignIns) -> None:
    pending = sign_ins.begin_code(me.address, REDIRECT)
    with pytest.raises(SignInError, match="the address of Microsoft's sign-in page"):
        sign_ins.pasted(pending.id, pending.url)


def test_another_sign_ins_address_pasted(me: Any, sandbox: Any, sign_ins: SignIns) -> None:
    ours, theirs = (sign_ins.begin_code(me.address, REDIRECT) for _ in range(2))
    parameters = agree(sandbox, theirs)
    with pytest.raises(SignInError, match=r"belongs to another sign-in, of me@outlook\.com"):
        sign_ins.pasted(ours.id, address(parameters))
    sign_ins.redirected(parameters)
    with pytest.raises(SignInError, match="has been used already"):
        sign_ins.pasted(ours.id, address(parameters))
    assert sign_ins.status(ours.id).state is WAITING
    assert redemptions(sandbox) == 1


def test_the_same_address_pasted_again_is_not_redeemed_again(
    me: Any, sandbox: Any, sign_ins: SignIns
) -> None:
    pending = sign_ins.begin_code(me.address, REDIRECT)
    text = address(agree(sandbox, pending))
    assert sign_ins.pasted(pending.id, text) == sign_ins.pasted(pending.id, text)
    assert redemptions(sandbox) == 1


def test_a_refusal_pasted(me: Any, sandbox: Any, sign_ins: SignIns) -> None:
    pending = sign_ins.begin_code(me.address, REDIRECT)
    ended = sign_ins.pasted(pending.id, address(sandbox.control.decline(pending.url)))
    assert (ended.state, ended.code) == (FAILED, "AADSTS65004")


# -- device code --------------------------------------------------------------------------------------------


@pytest.fixture
def device(public: MailboxSettings, mailboxes: Any) -> MailboxSettings:
    mailboxes[public.address] = public
    return public


def test_a_sign_in_by_device_code(
    device: Any, sandbox: Any, vault: Vault, sign_ins: SignIns, signed_in: list[str]
) -> None:
    pending = sign_ins.begin_device(device.address.upper())
    assert (pending.state, pending.kind, pending.mailbox) == (WAITING, Flow.DEVICE_CODE, device.address)
    assert pending.user_code
    assert pending.url.startswith("https://")
    assert pending.redirect_uri == ""
    assert timedelta(minutes=14) < pending.expires - datetime.now(UTC) <= timedelta(minutes=15)
    sandbox.control.approve_device(pending.user_code, device.address)
    done = settled(sign_ins, pending.id)
    assert (done.state, done.user) == (DONE, device.address)
    assert signed_in == [device.address]
    assert token_user(device, sandbox, vault) == device.address


def test_it_asks_as_often_as_microsoft_wants(
    device: Any, sandbox: Any, sign_ins: SignIns, pace: Pace, until: Any
) -> None:
    pace.hold()
    pending = sign_ins.begin_device(device.address)
    sandbox.control.fail_entra(aadsts=70016, error="slow_down")
    for polls in range(1, 4):
        pace.step()
        until(lambda polls=polls: len(pace.asked) == polls + 1)
    assert pace.asked == [5, 10, 10, 10]
    assert sign_ins.status(pending.id).state is WAITING


def test_device_code_declined(device: Any, sandbox: Any, vault: Vault, sign_ins: SignIns) -> None:
    pending = sign_ins.begin_device(device.address)
    sandbox.control.decline_device(pending.user_code)
    ended = settled(sign_ins, pending.id)
    assert (ended.state, ended.code) == (FAILED, "AADSTS70018")
    assert "declined" in ended.sentence
    assert vault.names() == []


def test_device_code_left_to_expire_at_microsoft(device: Any, sandbox: Any, sign_ins: SignIns) -> None:
    pending = sign_ins.begin_device(device.address)
    sandbox.control.advance_clock(901)
    ended = settled(sign_ins, pending.id)
    assert (ended.state, ended.code) == (FAILED, "AADSTS70020")
    assert "15 minutes" in ended.sentence


def test_device_code_left_to_expire_by_our_clock(
    device: Any, sign_ins: SignIns, pace: Pace, clock: Any, until: Any
) -> None:
    pace.hold()
    pending = sign_ins.begin_device(device.address)
    clock.advance(901)
    pace.step()
    until(lambda: sign_ins._attempts[pending.id].ended.is_set())
    ended = sign_ins.status(pending.id)
    assert ended.state is FAILED
    assert "expired" in ended.sentence


def test_device_code_cancelled(
    device: Any, sandbox: Any, vault: Vault, sign_ins: SignIns, pace: Pace
) -> None:
    pace.hold()
    pending = sign_ins.begin_device(device.address)
    ended = sign_ins.cancel(pending.id)
    assert (ended.state, ended.sentence) == (FAILED, "The sign-in was cancelled.")
    sandbox.control.approve_device(pending.user_code, device.address)
    polling_ends()
    assert vault.names() == []
    assert sign_ins.cancel(pending.id) == ended


def test_cancelled_while_microsoft_is_asked(
    device: Any, sandbox: Any, vault: Vault, sign_ins: SignIns, pace: Pace, monkeypatch: pytest.MonkeyPatch
) -> None:
    pace.hold()
    pending = sign_ins.begin_device(device.address)
    sandbox.control.approve_device(pending.user_code, device.address)
    dialogue = sign_ins._attempts[pending.id].dialogue
    poll = dialogue.poll

    def late(flow: Any) -> Any:
        granted = poll(flow)
        assert granted is not None
        sign_ins.cancel(pending.id)
        return granted

    monkeypatch.setattr(dialogue, "poll", late)
    pace.step()
    assert settled(sign_ins, pending.id).state is FAILED
    assert vault.names() == []
    assert sign_ins._attempts[pending.id].granted is None


def test_microsoft_unreachable_while_the_person_types(
    device: Any, sandbox: Any, sign_ins: SignIns, pace: Pace, until: Any
) -> None:
    pace.hold()
    pending = sign_ins.begin_device(device.address)
    sandbox.control.fail_entra(status=503, retry_after=17)
    pace.step()
    until(lambda: len(pace.asked) == 2)
    noted = sign_ins.status(pending.id)
    assert noted.state is WAITING
    assert "HTTP status 503" in noted.sentence
    assert pace.asked == [5, 17]
    pace.step()
    until(lambda: len(pace.asked) == 3)
    assert sign_ins.status(pending.id).sentence == ""  # back in touch
    assert pace.asked[2] == 5
    sandbox.control.approve_device(pending.user_code, device.address)
    pace.step()
    assert settled(sign_ins, pending.id).state is DONE


@pytest.mark.parametrize("code", [7000218, 700016])
def test_no_device_code(device: Any, sandbox: Any, sign_ins: SignIns, code: int) -> None:
    sandbox.control.fail_entra("devicecode", aadsts=code)
    with pytest.raises(TokenError) as caught:
        sign_ins.begin_device(device.address)
    assert caught.value.code == f"AADSTS{code}"
    assert not caught.value.temporary


def test_a_mean_server_cannot_make_us_spin(
    device: Any, odd_entra: Any, vault: Vault, pace: Pace, until: Any, mailboxes: Any
) -> None:
    pace.hold()
    odd = {"user_code": "A", "device_code": "d", "verification_uri": "https://x.example", "expires_in": 900}
    odd_entra.answers.append((200, {}, json.dumps(odd | {"interval": 0}).encode()))
    sign_ins = SignIns(
        mailboxes.get, authority=odd_entra.authority, ca=odd_entra.ca, vault=vault, wait=pace.wait
    )
    sign_ins.begin_device(device.address)
    until(lambda: pace.asked == [1])
    sign_ins.close()


def test_nothing_is_pasted_into_a_device_code(device: Any, sign_ins: SignIns, pace: Pace) -> None:
    pace.hold()
    pending = sign_ins.begin_device(device.address)
    with pytest.raises(SignInError, match=pending.user_code):
        sign_ins.pasted(pending.id, "http://localhost/?code=1")


# -- who has signed in --------------------------------------------------------------------------------------


@pytest.fixture
def other(sandbox: Any) -> str:
    """Another personal account."""
    sandbox.control.add_account("other@outlook.com", personal=True)
    return "other@outlook.com"


def test_another_account_is_noticed_and_not_stored(
    me: Any, other: str, sandbox: Any, vault: Vault, sign_ins: SignIns, signed_in: list[str]
) -> None:
    ended = sign_ins.redirected(agree(sandbox, sign_ins.begin_code(me.address, REDIRECT), other))
    assert (ended.state, ended.user, ended.confirmable) == (FAILED, other, True)
    assert (
        ended.sentence
        == f"{other} has signed in, but the mailbox is {me.address}. The sign-in was not stored."
    )
    assert me.address in ended.action
    assert "alias" in ended.action
    assert vault.names() == []
    assert signed_in == []


def test_another_account_by_device_code(
    device: Any, other: str, sandbox: Any, vault: Vault, sign_ins: SignIns
) -> None:
    pending = sign_ins.begin_device(device.address)
    sandbox.control.approve_device(pending.user_code, other)
    ended = settled(sign_ins, pending.id)
    assert (ended.state, ended.confirmable) == (FAILED, True)
    assert sign_ins.confirm(pending.id).state is DONE
    assert token_user(device, sandbox, vault) == other


def test_the_old_sign_in_outlives_a_wrong_one(
    me: Any, other: str, sandbox: Any, vault: Vault, sign_ins: SignIns
) -> None:
    sign_ins.redirected(agree(sandbox, sign_ins.begin_code(me.address, REDIRECT)))
    sign_ins.redirected(agree(sandbox, sign_ins.begin_code(me.address, REDIRECT), other))
    assert token_user(me, sandbox, vault) == me.address


def test_an_alias_is_confirmed_once(
    me: Any, sandbox: Any, vault: Vault, sign_ins: SignIns, mailboxes: Any, signed_in: list[str]
) -> None:
    alias = replace(me, address="me.alias@outlook.com")
    mailboxes[alias.address] = alias
    pending = sign_ins.begin_code(alias.address, REDIRECT)
    ended = sign_ins.redirected(agree(sandbox, pending, me.address))
    assert ended.confirmable
    done = sign_ins.confirm(pending.id)
    assert (done.state, done.user, done.sentence, done.confirmable) == (DONE, me.address, "", False)
    assert sign_ins.confirm(pending.id) == done
    assert signed_in == [alias.address]
    assert token_user(alias, sandbox, vault) == me.address
    again = sign_ins.begin_code(alias.address, REDIRECT)
    assert parse_qs(urlsplit(again.url).query)["login_hint"] == [me.address]
    assert sign_ins.redirected(agree(sandbox, again, me.address)).state is DONE


def test_the_case_of_an_address_does_not_matter(
    me: Any, sandbox: Any, sign_ins: SignIns, mailboxes: Any
) -> None:
    sandbox.control.add_account("Mixed.Case@outlook.com", personal=True)
    mailboxes["mixed.case@outlook.com"] = replace(me, address="mixed.case@outlook.com")
    pending = sign_ins.begin_code("mixed.case@outlook.com", REDIRECT)
    assert sign_ins.redirected(agree(sandbox, pending, "Mixed.Case@outlook.com")).state is DONE


def test_a_sign_in_in_the_vault_that_cannot_be_read_is_replaced(
    me: Any, sandbox: Any, vault: Vault, blobs: Any, sign_ins: SignIns
) -> None:
    blobs.store(me.address, b"damaged")
    assert sign_ins.redirected(agree(sandbox, sign_ins.begin_code(me.address, REDIRECT))).state is DONE
    assert token_user(me, sandbox, vault) == me.address


def test_nothing_to_confirm(me: Any, sandbox: Any, sign_ins: SignIns) -> None:
    pending = sign_ins.begin_code(me.address, REDIRECT)
    with pytest.raises(SignInError, match="nothing to confirm"):
        sign_ins.confirm(pending.id)
    sign_ins.cancel(pending.id)
    with pytest.raises(SignInError, match="nothing to confirm"):
        sign_ins.confirm(pending.id)


@pytest.mark.parametrize("end", ["cancel", "expire"])
def test_what_is_not_confirmed_is_forgotten(
    me: Any, other: str, sandbox: Any, vault: Vault, sign_ins: SignIns, clock: Any, end: str
) -> None:
    pending = sign_ins.begin_code(me.address, REDIRECT)
    sign_ins.redirected(agree(sandbox, pending, other))
    if end == "cancel":
        sign_ins.cancel(pending.id)
    else:
        clock.advance(901)
    ended = sign_ins.status(pending.id)
    assert (ended.state, ended.confirmable) == (FAILED, False)
    assert sign_ins._attempts[pending.id].granted is None
    with pytest.raises(SignInError, match="nothing to confirm"):
        sign_ins.confirm(pending.id)
    assert vault.names() == []


def test_a_vault_that_cannot_be_written_loses_nothing(
    me: Any, sandbox: Any, vault: Vault, blobs: Any, sign_ins: SignIns, signed_in: list[str]
) -> None:
    pending = sign_ins.begin_code(me.address, REDIRECT)
    parameters = agree(sandbox, pending)
    blobs.error = StoreError("The disk is full.")
    ended = sign_ins.redirected(parameters)
    assert (ended.state, ended.confirmable, ended.user) == (FAILED, True, me.address)
    assert "The disk is full." in ended.sentence
    assert sign_ins.confirm(pending.id).state is FAILED  # still full
    assert signed_in == []
    blobs.error = None
    assert sign_ins.confirm(pending.id).state is DONE
    assert signed_in == [me.address]
    assert token_user(me, sandbox, vault) == me.address


def test_an_answer_that_does_not_say_whose_it_is(
    me: Any, odd_entra: Any, vault: Vault, mailboxes: Any
) -> None:
    sign_ins = SignIns(mailboxes.get, authority=odd_entra.authority, ca=odd_entra.ca, vault=vault)
    nameless = answer()
    del nameless["id_token"]
    odd_entra.answers.append((200, {}, json.dumps(nameless).encode()))
    pending = sign_ins.begin_code(me.address, REDIRECT)
    state = parse_qs(urlsplit(pending.url).query)["state"][0]
    ended = sign_ins.redirected({"code": "code", "state": state})
    assert ended.state is FAILED
    assert "did not say whose" in ended.sentence


# -- which sign-ins there are -------------------------------------------------------------------------------


def test_how_a_mailbox_can_be_signed_in(me: Any, public: Any, key_pair: tuple[Path, Path]) -> None:
    code, device = Flow.AUTHORIZATION_CODE, Flow.DEVICE_CODE
    assert kinds(me) == (code,)
    assert kinds(replace(me, client_secret="", client_cert=key_pair[0], client_key=key_pair[1])) == (code,)
    assert kinds(public) == (device, code)
    assert kinds(replace(public, flow=code)) == (code, device)
    assert kinds(replace(me, flow=Flow.CLIENT_CREDENTIALS)) == ()


def test_mailboxes_that_cannot_be_signed_in(me: Any, sign_ins: SignIns, mailboxes: Any) -> None:
    with pytest.raises(SignInError, match="no mailbox nobody@outlook"):
        sign_ins.begin_code("nobody@outlook.com", REDIRECT)
    with pytest.raises(SignInError, match="cannot be signed in with a device code"):
        sign_ins.begin_device(me.address)
    mailboxes[me.address] = replace(me, flow=Flow.CLIENT_CREDENTIALS)
    for begin in (sign_ins.begin_device, lambda address: sign_ins.begin_code(address, REDIRECT)):
        with pytest.raises(SignInError, match="Nobody signs in"):
            begin(me.address)


def test_unknown_ids(sign_ins: SignIns) -> None:
    for use in (sign_ins.status, sign_ins.cancel, sign_ins.confirm, lambda id: sign_ins.pasted(id, "x")):
        with pytest.raises(SignInError, match="not known"):
            use("unknown")


def test_a_sign_in_expires_and_is_forgotten(me: Any, sandbox: Any, sign_ins: SignIns, clock: Any) -> None:
    pending = sign_ins.begin_code(me.address, REDIRECT)
    parameters = agree(sandbox, pending)
    clock.advance(899)
    assert sign_ins.status(pending.id).state is WAITING
    clock.advance(1)
    assert sign_ins.status(pending.id).state is FAILED
    assert sign_ins.redirected(parameters).sentence.startswith("The sign-in has expired")
    assert redemptions(sandbox) == 0
    clock.advance(900)
    with pytest.raises(SignInError, match="not known"):
        sign_ins.status(pending.id)
    with pytest.raises(SignInError, match="too old"):
        sign_ins.redirected(parameters)


def test_a_good_end_is_remembered_as_such(me: Any, sandbox: Any, sign_ins: SignIns, clock: Any) -> None:
    pending = sign_ins.begin_code(me.address, REDIRECT)
    done = sign_ins.redirected(agree(sandbox, pending))
    clock.advance(1000)
    assert sign_ins.status(pending.id) == done
    assert sign_ins.cancel(pending.id) == done


def test_there_are_never_many_of_one_mailbox(
    me: Any, device: Any, world: Any, sign_ins: SignIns, mailboxes: Any, pace: Pace
) -> None:
    mailboxes[world.work] = replace(me, address=world.work, tenant="common")
    elsewhere = sign_ins.begin_code(world.work, REDIRECT)
    pace.hold()
    first = sign_ins.begin_device(device.address)
    displaced = sign_ins._attempts[first.id]
    later = [sign_ins.begin_code(device.address, REDIRECT) for _ in range(8)]
    with pytest.raises(SignInError, match="newer ones"):
        sign_ins.status(first.id)
    assert displaced.ended.is_set()  # its thread ends
    assert [sign_ins.status(each.id).state for each in [*later, elsewhere]] == [WAITING] * 9


def test_at_the_end_all_are_given_up(me: Any, device: Any, sign_ins: SignIns, pace: Pace) -> None:
    pace.hold()
    pending = sign_ins.begin_device(device.address)
    sign_ins.close()
    assert sign_ins.status(pending.id).sentence == "The relay was stopped."


# -- secrets ------------------------------------------------------------------------------------------------


def test_no_code_and_no_token_is_logged_or_shown(
    me: Any,
    other: str,
    sandbox: Any,
    vault: Vault,
    sign_ins: SignIns,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    with structlog.testing.capture_logs() as log:
        pending = sign_ins.begin_code(me.address, REDIRECT)
        attempt = sign_ins._attempts[pending.id]
        parameters = agree(sandbox, pending)
        done = sign_ins.redirected(parameters)
        wrong = sign_ins.begin_code(me.address, REDIRECT)
        stray = agree(sandbox, wrong, other)
        ended = sign_ins.redirected(stray)
        with pytest.raises(SignInError) as caught:
            sign_ins.pasted(sign_ins.begin_code(me.address, REDIRECT).id, address(parameters))
    stored = json.loads(vault.load(me.address) or b"")
    secrets = [entry["secret"] for kind in ("AccessToken", "RefreshToken") for entry in stored[kind].values()]
    secrets += [parameters["code"], stray["code"], attempt.flow["code_verifier"], me.client_secret]
    shown = f"{log}{caplog.text}{capsys.readouterr()}{pending}{done}{ended}{caught.value}{attempt}"
    for secret in secrets:
        assert secret not in shown
    assert [(line["event"], line["mailbox"]) for line in log] == [
        ("signed_in", me.address),
        ("sign_in_failed", me.address),
    ]
