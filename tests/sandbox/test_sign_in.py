"""The pages that a person sees, filled in as a browser would."""

import base64
import hashlib
import html.parser
from urllib.parse import parse_qs, parse_qsl, urlencode, urljoin, urlsplit

import jwt
import pytest

OUTLOOK = "https://outlook.office.com/SMTP.Send"
REDIRECT = "http://localhost:8400/callback"
ASKED = f"{OUTLOOK} offline_access openid profile"


class Page(html.parser.HTMLParser):
    """What a person sees and can press: texts by id, and the forms."""

    def __init__(self, response):
        super().__init__()
        self.url, self.status, self.headers, self.html = (
            response.url,
            response.status_code,
            response.headers,
            response.text,
        )
        self.forms, self.texts, self._open = [], {}, []
        self.feed(response.text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "form":
            self.forms.append(
                {"action": attributes.get("action", ""), "fields": {}, "buttons": {}, "ids": {}}
            )
        elif tag == "input" and attributes["type"] == "hidden":
            self.forms[-1]["fields"][attributes["name"]] = attributes["value"]
        elif tag == "input":
            self.forms[-1]["fields"][attributes["name"]] = attributes.get("value", "")
            self.forms[-1]["ids"][attributes["id"]] = attributes["name"]
        elif tag == "button":
            self.forms[-1]["buttons"][attributes["id"]] = (attributes.get("name"), attributes.get("value"))
        if tag not in ("input", "meta", "link"):
            self._open.append(attributes.get("id"))

    def handle_endtag(self, tag):
        self._open.pop()

    def handle_data(self, data):
        for name in filter(None, self._open):
            self.texts[name] = self.texts.get(name, "") + data

    def fields(self, button):
        """Where pressing the button leads, and what the browser sends."""
        [form] = [form for form in self.forms if button in form["buttons"]]
        name, value = form["buttons"][button]
        return urljoin(self.url, form["action"]), form["fields"] | ({name: value} if name else {})


@pytest.fixture
def browser(http):
    """`browser(url)` opens a page; `browser(page, button, field id=text)` presses a button of it.

    Redirects to the app are not followed: they come back as they are.
    """

    def go(target, button="", **typed):
        if not button:
            response = http.get(target, allow_redirects=False, timeout=20)
        else:
            url, fields = target.fields(button)
            names = {key: name for form in target.forms for key, name in form["ids"].items()}
            fields |= {names[key]: text for key, text in typed.items()}
            response = http.post(url, data=fields, allow_redirects=False, timeout=20)
        return response if response.is_redirect else Page(response)

    return go


@pytest.fixture
def address(sandbox, world):
    """The authorization URL of the confidential app; parameters can be changed, None leaves one out."""

    def build(tenant="common", **changes):
        query = {
            "client_id": world.client_id,
            "response_type": "code",
            "redirect_uri": REDIRECT,
            "scope": ASKED,
            "state": 'a"<b>&c',
        } | changes
        return f"{sandbox.authority}/{tenant}/oauth2/v2.0/authorize?" + urlencode(
            {name: value for name, value in query.items() if value is not None}
        )

    return build


def answer(response):
    """The parameters that a redirect brings to the app."""
    assert response.status_code == 302
    location = response.headers["Location"]
    assert location.startswith(REDIRECT + "?")
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}


# -- authorize -----------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:response_mode='form_post' is recommended")
def test_choose_consent_and_return(confidential, browser, world):
    app = confidential()
    flow = app.initiate_auth_code_flow([OUTLOOK], redirect_uri=REDIRECT, response_mode="query")
    page = browser(flow["auth_uri"])
    assert {"account-0", "next"} <= {name for form in page.forms for name in form["buttons"]}
    page = browser(page, "next", address=world.personal.upper())
    assert page.texts["user"] == world.personal
    assert page.texts["app"] == "Relay (confidential)"
    assert "Send emails from your mailbox using SMTP AUTH" in page.texts["scopes"]
    assert "Maintain access to data you have given it access to" in page.texts["scopes"]
    got = app.acquire_token_by_auth_code_flow(flow, answer(browser(page, "accept")))
    assert got["id_token_claims"]["preferred_username"] == world.personal
    assert got["id_token_claims"]["nonce"] == hashlib.sha256(flow["nonce"].encode()).hexdigest()


def test_state_comes_back_as_it_was(browser, address):
    page = browser(browser(address()), "account-0")
    assert answer(browser(page, "accept"))["state"] == 'a"<b>&c'


def test_consent_is_asked_for_once(browser, address, control, world):
    page = browser(browser(address()), "next", address=world.work)
    browser(page, "accept")
    assert "code" in answer(browser(browser(address()), "next", address=world.work))
    more = address(scope=f"{ASKED} https://graph.microsoft.com/Mail.Send")
    assert "Send mail as you" in browser(browser(more), "next", address=world.work).texts["scopes"]
    assert "scopes" in browser(browser(address(prompt="consent")), "next", address=world.work).texts
    other = address(client_id=control.add_app().client_id)
    assert "scopes" in browser(browser(other), "next", address=world.work).texts
    control.reset()
    assert "scopes" in browser(browser(address()), "next", address=world.work).texts


def test_form_post(browser, address, confidential, world):
    app = confidential()
    flow = app.initiate_auth_code_flow([OUTLOOK], redirect_uri=REDIRECT, response_mode="form_post")
    page = browser(browser(browser(flow["auth_uri"]), "next", address=world.personal), "accept")
    url, fields = page.fields("continue")
    assert url == REDIRECT
    assert "access_token" in app.acquire_token_by_auth_code_flow(flow, fields)


@pytest.mark.parametrize("mode", ["query", "form_post"])
def test_declined(browser, address, mode):
    page = browser(browser(browser(address(response_mode=mode)), "account-0"), "cancel")
    got = answer(page) if mode == "query" else page.fields("continue")[1]
    assert got["error"] == "access_denied"
    assert got["error_subcode"] == "cancel"
    assert got["error_description"].startswith("AADSTS65004: User declined to consent")
    assert got["state"] == 'a"<b>&c'


def test_control_can_decline(control, address):
    got = control.decline(address())
    assert (got["error"], got["state"]) == ("access_denied", 'a"<b>&c')
    assert "code" not in got


def test_login_hint_is_filled_in(browser, address, world):
    page = browser(address(login_hint=world.work))
    assert browser(page, "next").texts["user"] == world.work


@pytest.mark.parametrize(
    ("changes", "number"),
    [
        ({"redirect_uri": "http://localhost:8400/other"}, 50011),
        ({"redirect_uri": "https://localhost:8400/callback"}, 50011),
        ({"redirect_uri": "http://localhost.example.org:8400/callback"}, 50011),
        ({"redirect_uri": "http://[oops/callback"}, 50011),
        ({"client_id": "nobody"}, 700016),
        ({"client_id": None}, 900144),
        ({"response_mode": "fragment"}, 70007),
        ({"tenant": "nowhere"}, 90002),
    ],
)
def test_refused_before_the_app_is_trusted(browser, address, changes, number):
    page = browser(address(**changes))
    assert page.status == 400
    assert page.texts["error"].startswith(f"AADSTS{number}: ")


@pytest.mark.parametrize(
    ("audience", "tenant", "number"),
    [
        ("AzureADMyOrg", "common", 50194),
        ("AzureADMyOrg", "consumers", 9002332),
        ("PersonalMicrosoftAccount", "common", 9002331),
    ],
)
def test_audience_of_the_app(browser, address, control, audience, tenant, number):
    client_id = control.add_app(audience=audience).client_id
    assert browser(address(tenant, client_id=client_id)).texts["error"].startswith(f"AADSTS{number}: ")


@pytest.mark.parametrize(
    ("changes", "error", "number"),
    [
        ({"response_type": "token"}, "unsupported_response_type", 70005),
        ({"response_type": None}, "invalid_request", 900144),
        ({"scope": None}, "invalid_request", 900144),
        ({"scope": "https://outlook.office.com/Fly"}, "invalid_scope", 70011),
        ({"prompt": "none"}, "login_required", 50058),
        ({"prompt": "now"}, "invalid_request", 90023),
        ({"code_challenge": "x" * 43, "code_challenge_method": "plain"}, "invalid_request", 50147),
        ({"code_challenge": "x" * 43}, "invalid_request", 50147),
        ({"code_challenge": "short", "code_challenge_method": "S256"}, "invalid_request", 50147),
    ],
)
def test_refused_to_the_app(browser, address, changes, error, number):
    got = answer(browser(address(**changes)))
    assert got["error"] == error
    assert got["error_description"].startswith(f"AADSTS{number}: ")
    assert got["state"] == 'a"<b>&c'


@pytest.mark.parametrize(
    "registered",
    ["http://localhost:8400/callback", "http://localhost/callback", "http://localhost:1/callback"],
)
def test_the_port_of_localhost_does_not_count(browser, address, control, registered):
    client_id = control.add_app(redirect_uris=(registered,)).client_id
    assert "account-0" in browser(address(client_id=client_id)).forms[0]["buttons"]


@pytest.mark.parametrize(
    "host", ["https://relay.example.org", "https://localhost", "http://relay.example.org"]
)
def test_any_other_port_counts(browser, address, control, host):
    uri = f"{host}:8443/callback"
    client_id = control.add_app(redirect_uris=(uri,)).client_id
    assert "error" not in browser(address(client_id=client_id, redirect_uri=uri)).texts
    elsewhere = address(client_id=client_id, redirect_uri=f"{host}:8444/callback")
    assert "AADSTS50011" in browser(elsewhere).texts["error"]


def test_without_redirect_uri_the_only_one_is_meant(browser, address, control):
    assert "code" in answer(browser(browser(browser(address(redirect_uri=None)), "account-0"), "accept"))
    several = control.add_app(redirect_uris=(REDIRECT, "http://localhost/2")).client_id
    assert "AADSTS500113" in browser(address(client_id=several, redirect_uri=None)).texts["error"]


def test_a_query_of_the_redirect_uri_is_kept(browser, address, control):
    uri = f"{REDIRECT}?mailbox=1"
    client_id = control.add_app(redirect_uris=(uri,)).client_id
    page = browser(browser(address(client_id=client_id, redirect_uri=uri)), "account-0")
    got = answer(browser(page, "accept"))
    assert (got["mailbox"], "code" in got) == ("1", True)


@pytest.mark.parametrize(
    ("tenant", "account", "number"),
    [
        ("own", "personal", 50020),
        ("organizations", "personal", 50020),
        ("consumers", "work", 50020),
        ("common", "nobody@example.org", 50034),
        ("common", "me.alias@outlook.com", 50034),
    ],
)
def test_accounts_that_cannot_be_used_here(browser, address, world, tenant, account, number):
    tenant = world.tenant if tenant == "own" else tenant
    typed = getattr(world, account, account)
    page = browser(browser(address(tenant)), "next", address=typed)
    assert page.texts["error"].startswith(f"AADSTS{number}: ")
    assert typed in page.texts["error"]
    fitting = world.personal if tenant in ("consumers", "common") else world.work
    assert browser(page, "next", address=fitting).texts["user"] == fitting


def test_personal_account_with_an_app_for_work_accounts(browser, address, control, world):
    client_id = control.add_app(audience="AzureADMultipleOrgs").client_id
    page = browser(browser(address(client_id=client_id)), "next", address=world.personal)
    assert page.texts["error"].startswith("AADSTS500200: ")


def test_everything_is_escaped(browser, address, control):
    evil = '"><script>alert(1)</script>'
    client_id = control.add_app(name=evil).client_id
    page = browser(address(client_id=client_id, login_hint=evil))
    pages = [
        page,
        browser(page, "next", address=evil),
        browser(page, "account-0"),
        browser(address(client_id=client_id, response_mode=evil)),
        browser(browser(browser(address(state=evil, response_mode="form_post")), "account-0"), "accept"),
    ]
    for each in pages:
        assert "<script>alert" not in each.html
        assert each.headers["X-Frame-Options"] == "DENY"
    assert browser(page, "account-0").texts["app"] == evil


def test_refusals_on_request(browser, address, control, world):
    control.fail_entra("authorize", aadsts=53003, client_id=world.client_id)
    page = browser(address())
    assert (page.status, page.texts["error"][:13]) == (400, "AADSTS53003: ")
    assert "error" not in browser(address()).texts
    control.fail_entra("authorize", status=500)
    assert browser(address()).status == 500


# -- the device's page ---------------------------------------------------------------------------------------


@pytest.fixture
def device(public, control):
    """A device flow of the public app, and a function that polls once, without waiting."""
    control.limits(device_code_interval=1)  # less than that, and MSAL warns that we poll too soon
    flow = public.initiate_device_flow([OUTLOOK])
    flow["expires_at"] = 0  # MSAL's way to poll once, without waiting

    def poll():
        return public.acquire_token_by_device_flow(flow)

    return flow, poll


def test_device(browser, device, world):
    flow, poll = device
    assert flow["verification_uri"].endswith("/common/oauth2/deviceauth")
    page = browser(browser(flow["verification_uri"]), "next", code=f" {flow['user_code'].lower()} ")
    page = browser(page, "next", address=world.personal)
    assert page.texts["user"] == world.personal
    page = browser(page, "continue")
    assert "Send emails" in page.texts["scopes"]
    assert poll()["error"] == "authorization_pending"
    assert "Relay (public)" in browser(page, "accept").texts["done"]
    token = jwt.decode(poll()["access_token"], options={"verify_signature": False})
    assert token["preferred_username"] == world.personal


def test_device_with_a_consent_that_is_remembered(browser, device, world):
    flow, poll = device
    page = browser(browser(flow["verification_uri"] + f"?otc={flow['user_code']}"), "next")
    browser(browser(browser(page, "account-0"), "continue"), "accept")
    assert "access_token" in poll()


def test_device_consent_is_asked_for_once(browser, public, control, world):
    for expected in ("scopes", "done"):
        flow = public.initiate_device_flow([OUTLOOK])
        page = browser(browser(flow["verification_uri"]), "next", code=flow["user_code"])
        page = browser(browser(page, "next", address=world.work), "continue")
        assert expected in page.texts
        if expected == "scopes":
            browser(page, "accept")


@pytest.mark.parametrize("at", ["question", "consent"])
def test_device_declined(browser, device, world, at):
    flow, poll = device
    page = browser(browser(flow["verification_uri"]), "next", code=flow["user_code"])
    page = browser(page, "next", address=world.work)
    page = browser(page, "continue") if at == "consent" else page
    assert "not given access" in browser(page, "cancel").texts["done"]
    assert poll()["error"] == "authorization_declined"


def test_device_code_that_is_unknown_or_too_old(browser, device, control):
    flow, _ = device
    page = browser(browser(flow["verification_uri"]), "next", code="<b>ABC")
    assert "didn't work" in page.texts["error"]
    assert "<b>ABC" not in page.html
    control.advance_clock(900)
    assert "didn't work" in browser(page, "next", code=flow["user_code"]).texts["error"]


def test_device_code_is_spent(browser, device, world):
    flow, poll = device
    page = browser(browser(flow["verification_uri"]), "next", code=flow["user_code"])
    browser(browser(browser(page, "account-0"), "continue"), "accept")
    assert "access_token" in poll()
    assert "didn't work" in browser(page, "account-0").texts["error"]


def test_device_flow_of_a_tenant_and_a_personal_account(sandbox, http, browser, world):
    flow = http.post(
        f"{sandbox.authority}/{world.tenant}/oauth2/v2.0/devicecode",
        data={"client_id": world.public_client_id, "scope": OUTLOOK},
        timeout=20,
    ).json()
    page = browser(browser(flow["verification_uri"]), "next", code=flow["user_code"])
    page = browser(page, "next", address=world.personal)
    assert page.texts["error"].startswith("AADSTS50020: ")
    assert browser(page, "next", address=world.work).texts["user"] == world.work


def test_device_page_refuses_on_request(browser, device, control):
    control.fail_entra("deviceauth", aadsts=53003)
    flow, _ = device
    assert browser(flow["verification_uri"]).texts["error"].startswith("AADSTS53003: ")


def test_pkce(http, sandbox, browser, address, world):
    verifier = "v" * 43
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    page = browser(browser(address(code_challenge=challenge, code_challenge_method="S256")), "account-0")
    code = answer(browser(page, "accept"))["code"]

    def redeem(verifier):
        form = {"client_id": world.client_id, "client_secret": world.client_secret, "code": code}
        form |= {"redirect_uri": REDIRECT, "grant_type": "authorization_code", "code_verifier": verifier}
        return http.post(f"{sandbox.authority}/common/oauth2/v2.0/token", data=form, timeout=20).json()

    assert redeem("w" * 43)["error_codes"] == [501481]
    assert "access_token" in redeem(verifier)


def test_answers_are_not_kept(browser, address):
    page = browser(browser(address()), "account-0")
    response = browser(page, "accept")
    assert response.headers["Cache-Control"] == "no-store"
    assert dict(parse_qsl(urlsplit(response.headers["Location"]).query))["code"]
