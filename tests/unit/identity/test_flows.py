"""How tokens are asked for, against Entra as the sandbox plays it."""

import json
import logging
import socket
import ssl
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import jwt
import pytest
import structlog
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.asymmetric import rsa

from relay_app.errors import SignInNeeded, StoreError, TokenError, VaultError
from relay_app.identity import flows
from relay_app.identity.credential import read_certificate
from relay_app.identity.flows import ClientCredentialsFlow, DelegatedFlow, tokens_for
from relay_app.identity.vault import Vault
from relay_app.settings import Flow, MailboxSettings


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
def office(world: Any) -> MailboxSettings:
    """A work mailbox that the app opens by itself."""
    return MailboxSettings(
        world.work, Flow.CLIENT_CREDENTIALS, world.tenant, world.client_id, world.client_secret
    )


def delegated(mailbox: MailboxSettings, sandbox: Any, vault: Vault) -> DelegatedFlow:
    return DelegatedFlow(mailbox, authority=sandbox.authority, ca=Path(sandbox.ca), vault=vault)


def app_only(mailbox: MailboxSettings, sandbox: Any) -> ClientCredentialsFlow:
    return ClientCredentialsFlow(mailbox, authority=sandbox.authority + "/", ca=Path(sandbox.ca))


@pytest.fixture
def signed_in(me: MailboxSettings, sandbox: Any, vault: Vault) -> DelegatedFlow:
    flow = delegated(me, sandbox, vault)
    flow.redeem(sandbox.control.refresh_token(me.address, me.client_id))
    return flow


def requests_made(sandbox: Any) -> int:
    return int(sandbox.control.counters().entra.token_requests)


def refresh_tokens(vault: Vault, name: str) -> list[str]:
    stored = vault.load(name)
    assert stored is not None
    return [entry["secret"] for entry in json.loads(stored)["RefreshToken"].values()]


# -- the app signs in as itself -----------------------------------------------------------------------------


def test_app_only_token_is_for_the_mailbox(office: Any, sandbox: Any) -> None:
    flow = app_only(office, sandbox)
    token = flow.fetch(force=False)
    assert token.user == office.address
    assert not flow.changed()
    assert flow.fetch(force=False).value == token.value
    assert requests_made(sandbox) == 1


def test_app_only_token_is_replaced_by_force(office: Any, sandbox: Any) -> None:
    flow = app_only(office, sandbox)
    assert flow.fetch(force=True).value != flow.fetch(force=True).value
    assert requests_made(sandbox) == 2
    assert sandbox.control.counters().entra.discovery_requests == 1  # one long-lived application


def test_no_connection_is_kept_until_the_next_token_is_due(office: Any, sandbox: Any) -> None:
    flow = app_only(office, sandbox)
    flow.fetch(force=True)
    assert flow._http is not None
    assert len(flow._http._session.get_adapter("https://localhost").poolmanager.pools) == 0


def test_a_token_of_seconds_expires_in_seconds(office: Any, sandbox: Any) -> None:
    flow = app_only(office, sandbox)
    long = flow.fetch(force=True)
    sandbox.control.fail_entra(expires_in=5)
    assert flow.fetch(force=True).expires_at < long.expires_at - 3500


@pytest.mark.parametrize("tenant", ["common", "organizations", "Consumers"])
def test_app_only_with_a_shared_tenant_is_refused_without_asking(
    office: Any, sandbox: Any, tenant: str
) -> None:
    with pytest.raises(TokenError, match=f"does not work with TENANT_ID {tenant}") as caught:
        app_only(replace(office, tenant=tenant), sandbox).fetch(force=False)
    assert not caught.value.temporary
    assert sandbox.control.counters().entra.discovery_requests == 0


def test_app_only_without_a_secret_is_refused_without_asking(office: Any, sandbox: Any) -> None:
    with pytest.raises(TokenError, match="no client secret") as caught:
        app_only(replace(office, client_secret=""), sandbox).fetch(force=False)
    assert not caught.value.temporary
    assert sandbox.control.counters().entra.discovery_requests == 0


def test_a_wrong_secret_names_the_code_and_what_to_do(office: Any, sandbox: Any) -> None:
    wrong = "not the secret"
    with pytest.raises(TokenError, match="CLIENT_SECRET") as caught:
        app_only(replace(office, client_secret=wrong), sandbox).fetch(force=False)
    assert caught.value.code == "AADSTS7000215"
    assert not caught.value.temporary
    assert not isinstance(caught.value, SignInNeeded)
    assert wrong not in str(caught.value)


def test_an_unknown_app(office: Any, sandbox: Any) -> None:
    unknown = replace(office, client_id="00000000-0000-4000-8000-000000000000")
    with pytest.raises(TokenError, match="does not find the app 00000000") as caught:
        app_only(unknown, sandbox).fetch(force=False)
    assert (caught.value.code, caught.value.temporary) == ("AADSTS700016", False)


def test_who_has_mended_the_app_does_not_wait(office: Any, sandbox: Any) -> None:
    """MSAL would repeat a 400 for a minute without asking."""
    sandbox.control.fail_entra(aadsts=50194)
    flow = app_only(office, sandbox)
    with pytest.raises(TokenError, match="one organisation only"):
        flow.fetch(force=False)
    assert flow.fetch(force=False).value


# -- an app with a certificate ------------------------------------------------------------------------------


@pytest.fixture
def certified(office: Any, sandbox: Any, key_pair: tuple[Path, Path]) -> MailboxSettings:
    """The work mailbox, opened by an app that proves itself with a certificate."""
    app = sandbox.control.add_app(
        certificate=key_pair[0].read_text(), roles=("SMTP.SendAsApp",), mailboxes=(office.address,)
    )
    return replace(
        office, client_id=app.client_id, client_secret="", client_cert=key_pair[0], client_key=key_pair[1]
    )


def test_app_only_with_a_certificate(certified: Any, sandbox: Any) -> None:
    flow = app_only(certified, sandbox)
    first = flow.fetch(force=False)
    assert first.user == certified.address
    assert flow.fetch(force=True).value != first.value
    assert sandbox.control.counters().entra.discovery_requests == 1


def test_the_assertion_is_signed_and_the_key_stays_here(certified: Any, odd_entra: Any) -> None:
    odd_entra.answers.append((200, {}, b'{"access_token": "a"}'))
    ClientCredentialsFlow(certified, authority=odd_entra.authority, ca=odd_entra.ca).fetch(force=True)
    form = {name: value for name, [value] in parse_qs(odd_entra.posted[0]).items()}
    assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    public_key: Any = read_certificate(certified.client_cert).public_key()
    claims = jwt.decode(
        form["client_assertion"],
        public_key,
        algorithms=["PS256"],
        audience=f"{odd_entra.authority}/consumers/token",
    )
    assert claims["iss"] == claims["sub"] == certified.client_id
    assert "client_secret" not in form
    assert certified.client_key.read_text().splitlines()[1] not in odd_entra.posted[0]


def test_a_renewed_certificate_is_used_without_a_restart(
    certified: Any, sandbox: Any, tmp_path: Path, pair_for: Any
) -> None:
    cert, key = (tmp_path / path.name for path in (certified.client_cert, certified.client_key))
    cert.write_bytes(certified.client_cert.read_bytes())
    key.write_bytes(certified.client_key.read_bytes())
    flow = app_only(replace(certified, client_cert=cert, client_key=key), sandbox)
    flow.fetch(force=True)
    pair_for(tmp_path, rsa.generate_private_key(65537, 2048))
    with pytest.raises(TokenError, match="does not take the app's certificate") as caught:
        flow.fetch(force=True)
    assert caught.value.code == "AADSTS700027"
    sandbox.control.add_certificate(certified.client_id, cert.read_text())
    assert flow.fetch(force=True).value


def test_a_certificate_that_has_ended(certified: Any, sandbox: Any, tmp_path: Path, pair_for: Any) -> None:
    cert, key = pair_for(
        tmp_path, rsa.generate_private_key(65537, 2048), ends=datetime(2021, 1, 1, tzinfo=UTC)
    )
    sandbox.control.add_certificate(certified.client_id, cert.read_text())
    with pytest.raises(TokenError) as caught:
        app_only(replace(certified, client_cert=cert, client_key=key), sandbox).fetch(force=True)
    assert caught.value.code == "AADSTS700027"


def test_a_clock_that_is_wrong_by_two_hours_and_a_certificate(certified: Any, sandbox: Any) -> None:
    sandbox.control.advance_clock(7200)
    with pytest.raises(TokenError, match="the clock of this machine is wrong") as caught:
        app_only(certified, sandbox).fetch(force=True)
    assert caught.value.code == "AADSTS700024"


def test_a_clock_that_is_wrong_by_two_hours_and_a_secret(
    office: Any, sandbox: Any, signed_in: DelegatedFlow
) -> None:
    for seconds in (7200, -14400):
        sandbox.control.advance_clock(seconds)
        assert app_only(office, sandbox).fetch(force=True).value
        assert signed_in.fetch(force=True).value


def test_a_certificate_that_cannot_be_read(certified: Any, sandbox: Any, tmp_path: Path) -> None:
    flow = app_only(replace(certified, client_key=tmp_path / "missing.pem"), sandbox)
    with pytest.raises(TokenError, match=r"private key .*missing\.pem cannot be used") as caught:
        flow.fetch(force=True)
    assert not caught.value.temporary
    assert requests_made(sandbox) == 0


def test_a_person_signs_in_to_an_app_with_a_certificate(certified: Any, sandbox: Any, vault: Vault) -> None:
    mailbox = replace(certified, flow=Flow.AUTHORIZATION_CODE)
    flow = delegated(mailbox, sandbox, vault)
    flow.redeem(sandbox.control.refresh_token(mailbox.address, mailbox.client_id))
    assert flow.fetch(force=True).user == mailbox.address
    assert delegated(mailbox, sandbox, vault).fetch(force=True).user == mailbox.address


# -- a person has signed in ---------------------------------------------------------------------------------


def test_nobody_has_signed_in(me: Any, sandbox: Any, vault: Vault) -> None:
    with pytest.raises(SignInNeeded, match=r"smtp-relay login me@outlook\.com"):
        delegated(me, sandbox, vault).fetch(force=False)
    assert sandbox.control.counters().entra.discovery_requests == 0


def test_redeem_stores_a_sign_in_that_outlives_a_restart(
    me: Any, sandbox: Any, vault: Vault, signed_in: DelegatedFlow
) -> None:
    restarted = delegated(me, sandbox, vault)
    made = requests_made(sandbox)
    token = restarted.fetch(force=False)  # from the vault
    assert requests_made(sandbox) == made
    assert token.user == me.address
    assert restarted.fetch(force=True).value != token.value
    assert signed_in.fetch(force=True).value


def test_a_replaced_refresh_token_is_stored(me: Any, sandbox: Any, vault: Vault, signed_in: Any) -> None:
    (old,) = refresh_tokens(vault, me.address)
    signed_in.fetch(force=True)
    (new,) = refresh_tokens(vault, me.address)
    assert new != old
    assert not signed_in.changed()  # it was we who wrote it
    sandbox.control.forget(old)
    assert delegated(me, sandbox, vault).fetch(force=True).value


def test_a_sign_in_by_another_process_is_noticed(me: Any, sandbox: Any, vault: Vault) -> None:
    relay = delegated(me, sandbox, vault)
    with pytest.raises(SignInNeeded):
        relay.fetch(force=False)
    assert not relay.changed()
    login = delegated(me, sandbox, vault)
    token = login.redeem(sandbox.control.refresh_token(me.address, me.client_id))
    assert relay.changed()
    assert relay.fetch(force=False).value == token.value
    assert not relay.changed()


def test_who_has_the_old_key_does_not_spoil_what_has_the_new_one(
    me: Any, sandbox: Any, blobs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vault gets another key while a relay renews a token."""
    old, new = Fernet.generate_key(), Fernet.generate_key()
    vault = Vault(blobs, old)
    relay = delegated(me, sandbox, vault)
    relay.redeem(sandbox.control.refresh_token(me.address, me.client_id))
    store = vault.store_if_unchanged

    def late(*args: Any) -> Any:
        assert Vault(blobs, old).rekey(new).changed == 1
        return store(*args)

    monkeypatch.setattr(vault, "store_if_unchanged", late)
    assert relay.fetch(force=True).value  # its last one
    assert relay.changed()
    with pytest.raises(VaultError, match="written with another key"):
        relay.fetch(force=False)
    assert delegated(me, sandbox, Vault(blobs, new)).fetch(force=True).value


def test_a_sign_in_made_during_a_refresh_is_not_overwritten(
    me: Any, sandbox: Any, vault: Vault, signed_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = delegated(me, sandbox, vault)
    store = vault.store_if_unchanged

    def late(*args: Any) -> Any:
        login.redeem(sandbox.control.refresh_token(me.address, me.client_id))
        return store(*args)

    monkeypatch.setattr(vault, "store_if_unchanged", late)
    assert signed_in.fetch(force=True).value  # good, if not the newest
    assert signed_in.changed()
    assert signed_in.fetch(force=False).value == login.fetch(force=False).value


def test_a_full_disk_does_not_keep_mail_waiting(
    me: Any, vault: Vault, signed_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = vault.load(me.address)
    with monkeypatch.context() as patch, structlog.testing.capture_logs() as log:

        def full(*args: Any) -> None:
            raise VaultError("Cannot write x: No space left on device.")

        patch.setattr(vault, "store_if_unchanged", full)
        assert signed_in.fetch(force=True).value
    assert [line["event"] for line in log] == ["sign_in_not_stored"]
    assert vault.load(me.address) == before
    signed_in.fetch(force=False)
    assert vault.load(me.address) != before


def test_the_user_is_the_primary_name_not_the_alias(me: Any, sandbox: Any, vault: Vault) -> None:
    alias = replace(me, address="Me.Alias@outlook.com")
    flow = delegated(alias, sandbox, vault)
    token = flow.redeem(sandbox.control.refresh_token(me.address, me.client_id))
    assert token.user == me.address
    assert flow.fetch(force=True).user == me.address
    assert vault.names() == ["me.alias@outlook.com"]


def test_without_a_primary_name_the_user_is_the_address(me: Any, vault: Vault, signed_in: Any) -> None:
    cache = json.loads(vault.load(me.address) or b"")
    for account in cache["Account"].values():
        account["username"] = ""
    vault.store(me.address, json.dumps(cache).encode())
    assert signed_in.fetch(force=False).user == me.address


def test_a_public_client_needs_no_secret(me: Any, world: Any, sandbox: Any, vault: Vault) -> None:
    public = replace(me, flow=Flow.DEVICE_CODE, client_id=world.public_client_id, client_secret="")
    flow = delegated(public, sandbox, vault)
    flow.redeem(sandbox.control.refresh_token(me.address, world.public_client_id))
    assert flow.fetch(force=True).user == me.address


def test_a_sign_in_for_another_app_is_none(
    me: Any, world: Any, sandbox: Any, vault: Vault, signed_in: Any
) -> None:
    other = replace(me, client_id=world.public_client_id, client_secret="")
    with pytest.raises(SignInNeeded, match=world.public_client_id):
        delegated(other, sandbox, vault).fetch(force=True)


def test_a_sign_in_at_another_authority_is_none(me: Any, sandbox: Any, vault: Vault, signed_in: Any) -> None:
    stored = vault.load(me.address)
    assert stored is not None
    vault.store(me.address, stored.replace(b'"localhost"', b'"login.example.org"'))
    with pytest.raises(SignInNeeded):
        signed_in.fetch(force=True)


def test_a_sign_in_that_is_exercised_daily_outlives_90_days(
    me: Any, sandbox: Any, vault: Vault, signed_in: DelegatedFlow
) -> None:
    for _ in range(100):
        sandbox.control.advance_clock(86400)
        assert signed_in.fetch(force=True).value
    assert delegated(me, sandbox, vault).fetch(force=True).value


def test_a_refresh_token_that_works_once_is_replaced_before_it_is_forgotten(
    me: Any, sandbox: Any, vault: Vault, signed_in: DelegatedFlow
) -> None:
    sandbox.control.limits(refresh_tokens_once=True)
    for _ in range(3):
        assert signed_in.fetch(force=True).value
        signed_in = delegated(me, sandbox, vault)  # killed and started again
    assert signed_in.fetch(force=True).value


def test_a_password_changed_while_tokens_live(me: Any, sandbox: Any, signed_in: DelegatedFlow) -> None:
    token = signed_in.fetch(force=False)
    sandbox.control.change_password(me.address)
    assert signed_in.fetch(force=False).value == token.value  # an access token is not revoked
    with pytest.raises(SignInNeeded, match="change of password") as caught:
        signed_in.fetch(force=True)
    assert caught.value.code == "AADSTS50173"


def test_an_account_deleted_while_tokens_live(me: Any, sandbox: Any, vault: Vault) -> None:
    sandbox.control.add_account("gone@outlook.com", personal=True)
    gone = replace(me, address="gone@outlook.com")
    flow = delegated(gone, sandbox, vault)
    flow.redeem(sandbox.control.refresh_token(gone.address, gone.client_id))
    sandbox.control.delete_account(gone.address)
    with pytest.raises(SignInNeeded, match="may have been deleted") as caught:
        flow.fetch(force=True)
    assert caught.value.code == "AADSTS50034"


def test_a_storage_that_is_away_is_not_a_lost_sign_in(
    me: Any, sandbox: Any, vault: Vault, blobs: Any, signed_in: DelegatedFlow
) -> None:
    blobs.error = StoreError("No connection to the database.")
    assert not signed_in.changed()
    with structlog.testing.capture_logs() as log:
        assert signed_in.fetch(force=True).value
    assert [line["event"] for line in log] == ["sign_in_not_stored"]
    with pytest.raises(VaultError):
        delegated(me, sandbox, vault).fetch(force=True)  # but who starts without it has none
    blobs.error = None
    assert signed_in.fetch(force=False).value
    assert delegated(me, sandbox, vault).fetch(force=False).value


def test_whose_sign_in_it_is(me: Any, vault: Vault, signed_in: DelegatedFlow) -> None:
    assert flows.usernames(vault.load(me.address), me.address) == [me.address]
    assert flows.usernames(None, me.address) == []
    assert flows.usernames(b'{"Account": {"a": {}}}', me.address) == []
    with pytest.raises(VaultError, match="is not a sign-in"):
        flows.usernames(b"[]", me.address)


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (lambda control, me, token: control.revoke(me.address), "AADSTS50173"),
        (lambda control, me, token: control.forget(token), "AADSTS70000"),
        (lambda control, me, token: control.advance_clock(91 * 86400), "AADSTS700082"),
        (lambda control, me, token: control.fail_entra(aadsts=50076), "AADSTS50076"),
        (lambda control, me, token: control.fail_entra(aadsts=65001), "AADSTS65001"),
        (lambda control, me, token: control.fail_entra(aadsts=53003), "AADSTS53003"),
    ],
)
def test_a_sign_in_that_has_ended(
    me: Any, sandbox: Any, vault: Vault, signed_in: Any, end: Any, code: str
) -> None:
    (token,) = refresh_tokens(vault, me.address)
    end(sandbox.control, me, token)
    with pytest.raises(SignInNeeded, match="smtp-relay login") as caught:
        signed_in.fetch(force=True)
    assert caught.value.code == code
    assert refresh_tokens(vault, me.address) == [token]  # it may work again


def test_a_redeemed_token_that_is_refused_changes_nothing(
    me: Any, vault: Vault, sandbox: Any, signed_in: Any
) -> None:
    before = vault.load(me.address)
    with pytest.raises(SignInNeeded):
        signed_in.redeem("not a refresh token")
    assert vault.load(me.address) == before
    assert signed_in.fetch(force=True).value


@pytest.mark.parametrize("oidc", ["openid profile", "offline_access"])
def test_a_redeemed_token_must_tell_whose_it_is_and_go_on(
    me: Any, vault: Vault, odd_entra: Any, oidc: str
) -> None:
    answer: dict[str, Any] = {
        "access_token": "a",
        "expires_in": 60,
        "scope": "x",
        "client_info": "eyJ1aWQiOiJhIiwidXRpZCI6ImIifQ",
    }
    if oidc == "offline_access":
        answer["refresh_token"] = "r"
    else:
        answer["id_token"] = "e30.eyJzdWIiOiJhIiwicHJlZmVycmVkX3VzZXJuYW1lIjoibWVAb3V0bG9vay5jb20ifQ."
    odd_entra.answers.append((200, {}, json.dumps(answer).encode()))
    flow = DelegatedFlow(me, authority=odd_entra.authority, ca=odd_entra.ca, vault=vault)
    with pytest.raises(TokenError, match="did not say whose") as caught:
        flow.redeem("r")
    assert not caught.value.temporary
    assert vault.names() == []


def test_a_damaged_entry_is_told_each_time_until_it_is_gone(
    me: Any, sandbox: Any, vault: Vault, signed_in: Any, blobs: Any
) -> None:
    blobs.store(me.address, b"damaged")
    for _ in range(2):
        with pytest.raises(VaultError, match="damaged"):
            signed_in.fetch(force=False)
        assert not signed_in.changed()  # no reason to read it again and again
    blobs.remove(me.address)
    with pytest.raises(SignInNeeded):
        signed_in.fetch(force=False)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"])
def test_an_entry_that_is_not_a_token_cache(me: Any, sandbox: Any, vault: Vault, content: bytes) -> None:
    vault.store(me.address, content)
    with pytest.raises(VaultError, match="is not a sign-in"):
        delegated(me, sandbox, vault).fetch(force=False)


# -- when Microsoft, or the way to it, is in trouble --------------------------------------------------------


def failing(flow: Any) -> TokenError:
    with pytest.raises(TokenError) as caught:
        flow.fetch(force=True)
    assert type(caught.value) is TokenError
    return caught.value


@pytest.mark.parametrize("stage", ["token", "discovery"])
@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_service_in_trouble_is_asked_again_when_it_says(
    office: Any, sandbox: Any, stage: str, status: int
) -> None:
    flow = app_only(office, sandbox)
    sandbox.control.fail_entra(stage, status=status, retry_after=17)
    error = failing(flow)
    assert error.temporary
    assert error.retry_after == 17
    assert str(status) in error.sentence
    assert flow.fetch(force=True).value  # MSAL would not ask for 17 seconds


def test_throttling_with_a_reason(office: Any, sandbox: Any) -> None:
    sandbox.control.fail_entra(aadsts=90033, status=429)
    error = failing(app_only(office, sandbox))
    assert (error.temporary, error.code, error.retry_after) == (True, "AADSTS90033", 0)


@pytest.mark.parametrize("stage", ["token", "discovery"])
def test_a_lost_connection(office: Any, sandbox: Any, stage: str) -> None:
    flow = app_only(office, sandbox)
    sandbox.control.fail_entra(stage, drop=True)
    error = failing(flow)
    assert error.temporary
    assert "no connection" in error.sentence
    assert flow.fetch(force=True).value


@pytest.mark.parametrize("stage", ["token", "discovery"])
def test_no_answer(office: Any, sandbox: Any, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows, "_TIMEOUT", (5, 0.05))
    sandbox.control.fail_entra(stage, stall=1)
    error = failing(app_only(office, sandbox))
    assert error.temporary
    assert "no answer in time" in error.sentence


def test_nobody_listens(office: Any, sandbox: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        authority = f"https://localhost:{taken.getsockname()[1]}"
        error = failing(ClientCredentialsFlow(office, authority=authority, ca=Path(sandbox.ca)))
    assert error.temporary
    assert "Internet" in error.action


@pytest.mark.parametrize("kind", ["wrong_name", "self_signed", "expired"])
def test_a_wrong_certificate(office: Any, sandbox: Any, kind: str) -> None:
    flow = app_only(office, sandbox)
    sandbox.control.certificate(kind, service="entra")
    error = failing(flow)
    assert error.temporary
    assert "certificate cannot be verified" in error.sentence
    assert "RELAY_UPSTREAM_CA" in error.action
    assert requests_made(sandbox) == 0
    sandbox.control.certificate("good", service="entra")
    assert flow.fetch(force=True).value


def test_an_authority_that_the_system_does_not_trust(office: Any, sandbox: Any) -> None:
    error = failing(ClientCredentialsFlow(office, authority=sandbox.authority, ca=None))
    assert "certificate cannot be verified" in error.sentence


def test_the_environment_does_not_change_whom_we_trust(
    office: Any, sandbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent")
    assert app_only(office, sandbox).fetch(force=True).value


def test_a_ca_bundle_that_is_missing(office: Any, sandbox: Any, tmp_path: Path) -> None:
    flow = ClientCredentialsFlow(office, authority=sandbox.authority, ca=tmp_path / "missing.pem")
    error = failing(flow)
    assert not error.temporary
    assert "missing.pem" in error.sentence
    assert error.action == "Correct RELAY_UPSTREAM_CA."


def test_a_ca_bundle_that_is_none(office: Any, sandbox: Any, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate\n")
    error = failing(ClientCredentialsFlow(office, authority=sandbox.authority, ca=tmp_path / "ca.pem"))
    assert "RELAY_UPSTREAM_CA" in error.action


def test_an_authority_that_is_not_https(office: Any, sandbox: Any) -> None:
    error = failing(ClientCredentialsFlow(office, authority="http://localhost", ca=Path(sandbox.ca)))
    assert not error.temporary
    assert "RELAY_AUTHORITY" in error.action


def test_an_unknown_tenant(office: Any, sandbox: Any) -> None:
    error = failing(app_only(replace(office, tenant="nonexistent.example"), sandbox))
    assert (error.code, error.temporary) == ("AADSTS90002", False)
    assert "no directory nonexistent.example" in error.sentence


@pytest.mark.parametrize("stage", ["token", "discovery"])
def test_a_proxy_that_forbids(office: Any, sandbox: Any, stage: str) -> None:
    sandbox.control.fail_entra(stage, status=403)
    error = failing(app_only(office, sandbox))
    assert error.temporary
    assert "HTTP status 403" in error.sentence
    assert "proxy" in error.action


def test_an_answer_that_is_not_json_is_logged_nowhere(
    office: Any, odd_entra: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    odd_entra.answers.append((200, {}, b'{"access_token": "planted'))
    error = failing(ClientCredentialsFlow(office, authority=odd_entra.authority, ca=odd_entra.ca))
    assert error.temporary
    assert "planted" not in str(error) + caplog.text


def test_an_answer_that_breaks_off(office: Any, odd_entra: Any) -> None:
    odd_entra.answers.append((200, {"Content-Encoding": "gzip"}, b"not gzip"))
    error = failing(ClientCredentialsFlow(office, authority=odd_entra.authority, ca=odd_entra.ca))
    assert error.temporary
    assert "broke off (ContentDecodingError)" in error.sentence


def test_a_redirect_does_not_take_the_secret_elsewhere(office: Any, odd_entra: Any) -> None:
    odd_entra.answers += [(307, {"Location": f"{odd_entra.authority}/elsewhere"}, b"")] * 2
    assert failing(ClientCredentialsFlow(office, authority=odd_entra.authority, ca=odd_entra.ca)).temporary
    assert odd_entra.paths == ["/consumers/token"]


def test_retry_after_as_a_date_is_not_a_number_of_seconds(office: Any, odd_entra: Any) -> None:
    odd_entra.answers.append((503, {"Retry-After": "Thu, 01 Jan 2026 00:00:00 GMT"}, b""))
    error = failing(ClientCredentialsFlow(office, authority=odd_entra.authority, ca=odd_entra.ca))
    assert error.retry_after == 0


def test_retry_after_has_a_limit(office: Any, odd_entra: Any) -> None:
    odd_entra.answers.append((503, {"Retry-After": "999999999"}, b""))
    error = failing(ClientCredentialsFlow(office, authority=odd_entra.authority, ca=odd_entra.ca))
    assert error.retry_after == 3600


def test_a_token_without_a_life_span(office: Any, odd_entra: Any) -> None:
    odd_entra.answers += [
        (200, {}, b'{"access_token": "a"}'),
        (200, {}, b'{"access_token": "a", "expires_in": "1200"}'),
    ]
    flow = ClientCredentialsFlow(office, authority=odd_entra.authority, ca=odd_entra.ca)
    first, second = flow.fetch(force=True), flow.fetch(force=True)
    assert 590 < second.expires_at - first.expires_at < 610


# -- the rest -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "directory", "trusted"),
    [("ca.pem", "full", "ca.pem"), (None, "full", "full"), (None, "empty", True), (None, None, True)],
)
def test_the_systems_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str | None, directory: str | None, trusted: Any
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "0a1b2c3d.0").touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    paths = ssl.get_default_verify_paths()._replace(cafile=file, capath=directory)
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)
    assert flows._system_trust() == trusted


async def test_tokens_for_either_flow(
    me: Any, office: Any, sandbox: Any, vault: Vault, signed_in: Any
) -> None:
    for mailbox in (me, office):
        tokens = tokens_for(mailbox, authority=sandbox.authority, ca=Path(sandbox.ca), vault=vault)
        first = await tokens.token()
        assert first.user == mailbox.address
        assert (await tokens.renew(first)).value != first.value


async def test_no_secret_in_the_log(
    me: Any, sandbox: Any, vault: Vault, signed_in: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    (refresh_token,) = refresh_tokens(vault, me.address)
    tokens = tokens_for(me, authority=sandbox.authority, ca=Path(sandbox.ca), vault=vault)
    with structlog.testing.capture_logs() as log:
        token = await tokens.token()
        renewed = await tokens.renew(token)
        sandbox.control.revoke(me.address)
        with pytest.raises(SignInNeeded) as caught:
            await tokens.refresh()
    text = f"{caplog.text}{log}{caught.value}{tokens.last_error!r}"
    for secret in (
        me.client_secret,
        refresh_token,
        token.value,
        renewed.value,
        *refresh_tokens(vault, me.address),
    ):
        assert secret not in text


def test_nothing_heavy_is_imported_at_start() -> None:
    script = (
        "import sys; from relay_app.identity import expiry, flows, keeper, sign_in, vault\n"
        "from relay_app.settings import Flow, MailboxSettings\n"
        "store = vault.Vault(None, b'A' * 43 + b'=')\n"
        "sign_in.SignIns(lambda _: None, authority='https://localhost', ca=None, vault=store)\n"
        "for flow in Flow:\n"
        "    box = MailboxSettings('me@outlook.com', flow, 'consumers', 'app')\n"
        "    flows.tokens_for(box, authority='https://localhost', ca=None, vault=store)\n"
        "print([name for name in ('msal', 'requests') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
