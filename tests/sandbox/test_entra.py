"""Entra's grants, spoken by MSAL, and the rules of its endpoints."""

import base64
import hashlib
import json

import jwt
import pytest

OUTLOOK = "https://outlook.office.com/SMTP.Send"
GRAPH = "https://graph.microsoft.com/Mail.Send"
REDIRECT = "http://localhost:8400/callback"


@pytest.fixture
def post(sandbox, http):
    """POST a form to the token endpoint of a tenant and return status and body."""

    def send(tenant, **form):
        response = http.post(f"{sandbox.authority}/{tenant}/oauth2/v2.0/token", data=form, timeout=20)
        return response.status_code, response.json()

    return send


@pytest.fixture
def refresh(post, world):
    """Try a refresh token of the confidential app at /common."""

    def send(token, *, scope=OUTLOOK, tenant="common", **form):
        form = {"client_id": world.client_id, "client_secret": world.client_secret} | form
        return post(tenant, grant_type="refresh_token", refresh_token=token, scope=scope, **form)

    return send


def claims(token):
    return jwt.decode(token, options={"verify_signature": False})


def refusal(answer):
    status, body = answer
    [number] = body["error_codes"]
    assert body["error_description"].startswith(f"AADSTS{number}: ")
    assert " Trace ID: " in body["error_description"]
    return status, body["error"], number


# -- grants that work ----------------------------------------------------------------------------------------


def test_client_credentials(confidential, world):
    got = confidential(world.tenant).acquire_token_for_client(["https://outlook.office365.com/.default"])
    assert got["expires_in"] == 3600
    token = claims(got["access_token"])
    assert token["aud"] == "https://outlook.office365.com"
    assert token["roles"] == ["SMTP.SendAsApp"]
    assert token["tid"] == world.tenant
    assert "scp" not in token
    assert 1500 < len(got["access_token"]) < 2500


def test_refresh_token(confidential, control, world):
    app = confidential()
    old = control.refresh_token(world.personal, world.client_id)
    got = app.acquire_token_by_refresh_token(old, [OUTLOOK])
    assert got["scope"] == OUTLOOK
    token = claims(got["access_token"])
    assert (token["aud"], token["scp"]) == ("https://outlook.office.com", "SMTP.Send")
    assert token["preferred_username"] == world.personal
    assert token["tid"] == "9188040d-6c67-4c5b-b112-36a304b66dad"
    [account] = app.get_accounts()
    assert account["username"] == world.personal
    assert app.acquire_token_silent([OUTLOOK], account)["access_token"] == got["access_token"]
    assert got["refresh_token"] != old
    for value in (old, got["refresh_token"]):  # Entra leaves the old one in force
        assert "access_token" in app.acquire_token_by_refresh_token(value, [OUTLOOK])


def test_authorization_code(confidential, control, world):
    app = confidential("consumers")
    flow = app.initiate_auth_code_flow([OUTLOOK, GRAPH], redirect_uri=REDIRECT, response_mode="form_post")
    answer = control.authorize(world.personal, flow["auth_uri"])
    got = app.acquire_token_by_auth_code_flow(flow, answer, scopes=[OUTLOOK])
    assert claims(got["access_token"])["aud"] == "https://outlook.office.com"
    assert got["id_token_claims"]["preferred_username"] == world.personal
    [account] = app.get_accounts()
    other = app.acquire_token_silent([GRAPH], account)  # refresh tokens belong to no resource
    assert claims(other["access_token"])["aud"] == "https://graph.microsoft.com"


def test_device_code(public, control, world):
    control.limits(device_code_interval=1)
    flow = public.initiate_device_flow([OUTLOOK])
    assert flow["user_code"] in flow["message"]
    flow["expires_at"] = 0  # MSAL's way to poll once, without waiting
    assert public.acquire_token_by_device_flow(flow)["error"] == "authorization_pending"
    control.approve_device(flow["user_code"], world.personal)
    got = public.acquire_token_by_device_flow(flow)
    assert claims(got["access_token"])["preferred_username"] == world.personal
    assert got["refresh_token"]


def test_id_token_and_keys(sandbox, http, confidential, control, world):
    got = confidential().acquire_token_by_refresh_token(
        control.refresh_token(world.work, world.client_id), [OUTLOOK]
    )
    document = http.get(
        f"{sandbox.authority}/common/v2.0/.well-known/openid-configuration", timeout=20
    ).json()
    [key] = http.get(document["jwks_uri"], timeout=20).json()["keys"]
    verified = jwt.decode(got["id_token"], jwt.PyJWK(key).key, algorithms=["RS256"], audience=world.client_id)
    assert (verified["preferred_username"], verified["tid"]) == (world.work, world.tenant)


@pytest.mark.parametrize("tenant", ["common", "organizations", "consumers", "example.org", "own"])
def test_discovery(sandbox, http, world, tenant):
    tenant = world.tenant if tenant == "own" else tenant
    document = http.get(
        f"{sandbox.authority}/{tenant}/v2.0/.well-known/openid-configuration", timeout=20
    ).json()
    root = f"{sandbox.authority}/{tenant}/oauth2/v2.0"
    assert document["token_endpoint"] == f"{root}/token"
    assert document["authorization_endpoint"] == f"{root}/authorize"
    assert document["device_authorization_endpoint"] == f"{root}/devicecode"
    shared = tenant in ("common", "organizations", "consumers")
    assert document["issuer"] == f"{sandbox.authority}/{'{tenantid}' if shared else world.tenant}/v2.0"


def test_default_scope_is_what_was_consented(refresh, control, world):
    token = control.refresh_token(world.work, world.client_id, f"{OUTLOOK} offline_access")
    status, body = refresh(token, scope="https://outlook.office.com/.default")
    assert (status, claims(body["access_token"])["scp"]) == (200, "SMTP.Send")
    assert body["scope"] == "https://outlook.office.com/.default https://outlook.office.com/SMTP.Send"


def test_without_scope_the_first_consent_counts(refresh, control, world):
    status, body = refresh(control.refresh_token(world.work, world.client_id), scope="")
    assert (status, body["scope"]) == (200, OUTLOOK)


def test_no_refresh_token_without_offline_access(refresh, control, world):
    status, body = refresh(control.refresh_token(world.work, world.client_id, OUTLOOK), client_info="1")
    assert status == 200
    assert body.keys() & {"refresh_token", "id_token", "client_info"} == {"client_info"}
    padded = body["client_info"] + "=" * (-len(body["client_info"]) % 4)
    assert json.loads(base64.urlsafe_b64decode(padded))["utid"] == world.tenant


# -- clients that are refused --------------------------------------------------------------------------------


def test_wrong_secret(confidential, world):
    got = confidential(world.tenant, secret="wrong").acquire_token_for_client(
        ["https://outlook.office.com/.default"]
    )
    assert got["error"] == "invalid_client"
    assert got["error_codes"] == [7000215]
    assert "not the client secret ID" in got["error_description"]


def test_secrets(refresh, control, world):
    app = control.add_app()
    token = control.refresh_token(world.personal, app.client_id)
    second = control.add_secret(app.client_id)

    def attempt(secret):
        return refresh(token, client_id=app.client_id, client_secret=secret)

    assert attempt(app.client_secret)[0] == attempt(second)[0] == 200
    control.expire_secrets(app.client_id)
    assert refusal(attempt(second)) == (401, "invalid_client", 7000222)
    assert refusal(attempt("")) == (401, "invalid_client", 7000218)
    assert attempt(control.add_secret(app.client_id))[0] == 200


def test_public_client_must_not_send_a_secret(refresh, control, world):
    token = control.refresh_token(world.personal, world.public_client_id)
    assert refusal(refresh(token, client_id=world.public_client_id)) == (401, "invalid_client", 700025)
    assert refresh(token, client_id=world.public_client_id, client_secret="")[0] == 200


def test_unknown_app(post, world):
    assert refusal(post(world.tenant, grant_type="client_credentials", client_id="nobody")) == (
        400,
        "unauthorized_client",
        700016,
    )


def test_unknown_tenant(sandbox, http, post, world):
    assert refusal(post("nowhere", grant_type="refresh_token", client_id=world.client_id))[2] == 90002
    response = http.get(f"{sandbox.authority}/nowhere/v2.0/.well-known/openid-configuration", timeout=20)
    assert (response.status_code, response.json()["error"]) == (400, "invalid_tenant")


@pytest.mark.parametrize("tenant", ["common", "consumers"])
def test_client_credentials_on_a_shared_endpoint(post, world, tenant):
    answer = post(tenant, grant_type="client_credentials", client_id=world.client_id)
    assert refusal(answer) == (400, "invalid_request", 9001023)


def test_client_credentials_of_a_public_client(post, world):
    answer = post(world.tenant, grant_type="client_credentials", client_id=world.public_client_id)
    assert refusal(answer) == (401, "invalid_client", 7000216)


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (OUTLOOK, (400, "invalid_scope", 1002012)),
        ("https://nothing.example.org/.default", (400, "invalid_resource", 500011)),
    ],
)
def test_client_credentials_scope(post, world, scope, expected):
    form = {"client_id": world.client_id, "client_secret": world.client_secret, "scope": scope}
    assert refusal(post(world.tenant, grant_type="client_credentials", **form)) == expected


@pytest.mark.parametrize(
    ("audience", "tenant", "number"),
    [
        ("AzureADMyOrg", "common", 50194),
        ("AzureADMyOrg", "consumers", 9002332),
        ("AzureADMultipleOrgs", "consumers", 9002332),
        ("PersonalMicrosoftAccount", "common", 9002331),
        ("PersonalMicrosoftAccount", "organizations", 9002331),
    ],
)
def test_audience_of_the_app(refresh, control, audience, tenant, number):
    app = control.add_app(audience=audience)
    assert refusal(refresh("any", tenant=tenant, client_id=app.client_id)) == (400, "invalid_request", number)


def test_missing_parameters(post, refresh, world):
    assert refusal(post("common", client_id=world.client_id)) == (400, "invalid_request", 900144)
    assert refusal(post("common", grant_type="refresh_token"))[2] == 900144
    assert refusal(refresh(""))[2] == 900144


def test_unknown_grant_type(post, world):
    answer = post("common", grant_type="password", client_id=world.client_id)
    assert refusal(answer) == (400, "unsupported_grant_type", 70003)


# -- grants that are refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("https://outlook.office.com/Fly", ("invalid_scope", 70011)),
        ("Fly", ("invalid_scope", 70011)),
        ("https://outlook.office365.com/SMTP.Send", ("invalid_scope", 70011)),
        (f"{OUTLOOK} {GRAPH}", ("invalid_request", 28000)),
        (GRAPH, ("invalid_grant", 70000)),
    ],
)
def test_scopes_of_a_personal_account(refresh, control, world, scope, expected):
    token = control.refresh_token(world.personal, world.client_id)
    assert refusal(refresh(token, scope=scope)) == (400, *expected)


def test_scope_that_a_work_account_has_not_consented_to(refresh, control, world):
    answer = refresh(control.refresh_token(world.work, world.client_id), scope=GRAPH)
    assert refusal(answer) == (400, "invalid_grant", 65001)
    assert answer[1]["suberror"] == "consent_required"


def test_refresh_tokens_that_are_dead(refresh, control, world):
    assert refusal(refresh("made-up")) == (400, "invalid_grant", 70000)
    theirs = control.refresh_token(world.personal, world.public_client_id)
    assert refusal(refresh(theirs)) == (400, "invalid_grant", 70000)
    forgotten = control.refresh_token(world.personal, world.client_id)
    control.forget(forgotten)
    assert refusal(refresh(forgotten)) == (400, "invalid_grant", 70000)
    revoked = control.refresh_token(world.personal, world.client_id)
    control.revoke(world.personal)
    assert refusal(refresh(revoked)) == (400, "invalid_grant", 50173)
    assert refresh(control.refresh_token(world.personal, world.client_id))[0] == 200


def test_refresh_token_dies_of_inactivity_and_use_keeps_it_alive(refresh, control, world):
    used, unused = (control.refresh_token(world.personal, world.client_id) for _ in range(2))
    control.advance_clock(89 * 86_400)
    assert refresh(used)[0] == 200
    control.advance_clock(86_400)
    assert refresh(used)[0] == 200
    answer = refresh(unused)
    assert refusal(answer) == (400, "invalid_grant", 700082)
    assert "was inactive for 90.00:00:0" in answer[1]["error_description"]


def test_accounts_at_the_wrong_endpoint(refresh, control, world):
    personal = control.refresh_token(world.personal, world.client_id)
    assert refusal(refresh(personal, tenant=world.tenant)) == (400, "invalid_grant", 50020)
    assert refusal(refresh(personal, tenant="organizations")) == (400, "invalid_grant", 50020)
    assert refresh(personal, tenant="consumers")[0] == 200
    work = control.refresh_token(world.work, world.client_id)
    assert refusal(refresh(work, tenant="consumers")) == (400, "invalid_grant", 70000)
    assert refresh(work, tenant=world.tenant)[0] == 200


@pytest.fixture
def code(sandbox, control, world):
    """An authorization code whose PKCE verifier is `verifier`."""
    challenge = base64.urlsafe_b64encode(hashlib.sha256(b"verifier").digest()).decode().rstrip("=")
    return control.authorize(
        world.personal,
        f"{sandbox.authority}/common/oauth2/v2.0/authorize?client_id={world.client_id}&scope={OUTLOOK}"
        f"&response_type=code&redirect_uri={REDIRECT}&code_challenge={challenge}&code_challenge_method=S256",
    )["code"]


@pytest.fixture
def redeem(post, world):
    def send(code, **form):
        form = {"redirect_uri": REDIRECT, "code_verifier": "verifier", "client_id": world.client_id} | form
        secret = world.client_secret
        return post("common", grant_type="authorization_code", code=code, client_secret=secret, **form)

    return send


def test_refresh_tokens_that_are_good_once(refresh, control, world):
    control.limits(refresh_tokens_once=True)
    old = control.refresh_token(world.personal, world.client_id)
    status, body = refresh(old)
    assert status == 200
    assert refusal(refresh(old)) == (400, "invalid_grant", 70000)
    assert refresh(body["refresh_token"])[0] == 200


def test_a_refresh_token_in_use_lives_on(refresh, control, world):
    token = control.refresh_token(world.personal, world.client_id)
    for _ in range(2):
        control.advance_clock(89 * 86_400)
        assert refresh(token)[0] == 200
    control.advance_clock(90 * 86_400)
    assert refusal(refresh(token)) == (400, "invalid_grant", 700082)


def test_deleted_account(refresh, control, world):
    control.add_account("gone@outlook.com", personal=True)
    token = control.refresh_token("gone@outlook.com", world.client_id)
    control.delete_account("gone@outlook.com")
    assert refusal(refresh(token)) == (400, "invalid_grant", 50034)
    control.add_account("gone@outlook.com", personal=True)  # the name again, but somebody else
    assert refusal(refresh(token)) == (400, "invalid_grant", 50034)
    assert refresh(control.refresh_token("gone@outlook.com", world.client_id))[0] == 200


@pytest.mark.parametrize(("account", "survives"), [("personal", False), ("work", True)])
def test_changed_password(refresh, control, world, account, survives):
    address = getattr(world, account)
    confidential = control.refresh_token(address, world.client_id)
    public = control.refresh_token(address, world.public_client_id)
    control.change_password(address)
    dead = (400, "invalid_grant", 50173)
    assert refusal(refresh(public, client_id=world.public_client_id, client_secret="")) == dead
    answer = refresh(confidential)
    assert answer[0] == 200 if survives else refusal(answer) == dead


def test_code_is_good_once(redeem, code):
    assert redeem(code)[0] == 200
    assert refusal(redeem(code)) == (400, "invalid_grant", 54005)


def test_code_with_the_wrong_verifier_or_redirect(redeem, code):
    assert refusal(redeem(code, code_verifier="guess")) == (400, "invalid_grant", 501481)
    assert refusal(redeem(code, redirect_uri="http://localhost/")) == (400, "invalid_client", 500112)
    assert refusal(redeem("made-up")) == (400, "invalid_grant", 70000)
    assert redeem(code)[0] == 200


def test_code_expires(redeem, control, code):
    control.advance_clock(600)
    assert refusal(redeem(code)) == (400, "invalid_grant", 70008)


@pytest.fixture
def device(sandbox, http, post, control, world):
    """Start a device flow of the public app; returns the user code and a function that polls."""
    answer = http.post(
        f"{sandbox.authority}/common/oauth2/v2.0/devicecode",
        data={"client_id": world.public_client_id, "scope": OUTLOOK},
        timeout=20,
    ).json()

    def poll():
        return post(
            "common",
            grant_type="urn:ietf:params:oauth:grant-type:device_code",
            client_id=world.public_client_id,
            device_code=answer["device_code"],
        )

    return answer["user_code"], poll


def test_device_code_declined(control, device):
    user_code, poll = device
    assert refusal(poll()) == (400, "authorization_pending", 70016)
    control.decline_device(user_code)
    assert refusal(poll()) == (400, "authorization_declined", 70018)


def test_device_code_expires(control, device):
    _, poll = device
    control.advance_clock(900)
    assert refusal(poll()) == (400, "expired_token", 70020)


def test_device_code_is_good_once(control, world, device):
    user_code, poll = device
    control.approve_device(user_code, world.personal)
    assert poll()[0] == 200
    assert refusal(poll()) == (400, "bad_verification_code", 70019)


def test_device_flow_of_a_confidential_client(sandbox, http, post, world):
    answer = http.post(
        f"{sandbox.authority}/common/oauth2/v2.0/devicecode",
        data={"client_id": world.client_id, "scope": OUTLOOK},
        timeout=20,
    ).json()
    polled = post(
        "common", grant_type="device_code", client_id=world.client_id, device_code=answer["device_code"]
    )
    assert refusal(polled) == (401, "invalid_client", 7000218)
