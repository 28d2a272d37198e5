"""The pages, as a browser without JavaScript gets them."""

import re
from dataclasses import replace
from datetime import timedelta
from html import unescape

import pytest

from relay_app.console import pages
from relay_app.console.application import create_app
from relay_app.console.backend import MailboxView, RequestError, SignInKind, SignInState, SignInView
from relay_app.console.security import Access
from relay_app.identity.tokens import State
from relay_app.settings import Flow


def text_of(response) -> str:
    """What a reader sees: without markup, with single spaces."""
    body = re.sub(r"<(script|style|svg).*?</\1>", " ", response.text, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


def link(response, text: str) -> str:
    """Where a link leads."""
    return unescape(re.search(rf'<a [^>]*href="([^"]+)"[^>]*>{re.escape(text)}</a>', response.text)[1])


class TestOverview:
    def test_ready(self, local) -> None:
        page = text_of(local.get("/"))
        assert "Everything is ready to send" in page
        assert "port 587 (STARTTLS), port 465 (TLS)" in page
        assert "Nobody is told when something is wrong" in page

    def test_mailboxes(self, local) -> None:
        page = text_of(local.get("/"))
        assert "me@outlook.com Sign-in needed The sign-in has ended: the password was changed." in page
        assert "What to do: Sign in again." in page
        assert "2 open, 1 in use" in page
        assert "AADSTS50173" in page

    @pytest.mark.parametrize(
        ("state", "headline"), [(State.OK, "Some mail cannot go out"), (State.FAILING, "Mail cannot go out")]
    )
    def test_not_ready(self, local, backend, state, headline) -> None:
        backend.mailbox_views = {"a@b.example": MailboxView("a@b.example", Flow.DEVICE_CODE, state)}
        backend.reasons = ["me@outlook.com must sign in again.", "The disk is full."]
        page = text_of(local.get("/"))
        assert f"{headline} me@outlook.com must sign in again. The disk is full." in page

    @pytest.mark.parametrize(
        ("days", "text"),
        [(-1, "expired on"), (0, "expires in 0 days"), (1, "expires in 1 day"), (30, "expires in 30 days"),
         (31, "valid until")],
    )  # fmt: skip
    def test_the_secrets_end(self, local, backend, days, text) -> None:
        today = pages.words.now().astimezone().date()
        view = backend.mailbox_views["office@example.org"]
        backend.mailbox_views = {view.address: replace(view, secret_expires=today + timedelta(days=days))}
        assert f"Client secret {text}" in text_of(local.get("/"))

    def test_who_signed_in_if_it_is_somebody_else(self, local, backend) -> None:
        view = replace(backend.mailbox_views["office@example.org"], user="admin@example.org")
        backend.mailbox_views = {view.address: view}
        assert "Signed in as admin@example.org" in text_of(local.get("/"))

    def test_the_day_in_numbers(self, local) -> None:
        page = local.get("/")
        assert page.text.count('class="chart ') == 2
        assert "accepted 276" in text_of(page)

    def test_an_outcome_that_is_new(self, local, backend) -> None:
        backend.hour_counts[-1] = replace(backend.hour_counts[-1], counts={"bounced": 7})
        assert "bounced 7" in text_of(local.get("/"))

    def test_last_messages(self, local) -> None:
        page = local.get("/")
        assert "accepted friend@example.net and 1 more from me@outlook.com" in text_of(page)
        assert 'href="/messages/3f9c2a7be1d04c58"' in page.text

    def test_nothing_yet(self, local, backend) -> None:
        backend.message_views, backend.mailbox_views, backend.hour_counts = [], {}, []
        page = text_of(local.get("/"))
        assert "No message has come in yet." in page
        assert "There is no mailbox in the settings." in page

    def test_without_javascript_it_stays_current(self, local) -> None:
        assert '<noscript><meta http-equiv="refresh"' in local.get("/").text

    def test_try_again(self, local, backend) -> None:
        assert "Try again now" in text_of(local.get("/"))
        response = local.submit("/mailboxes/me@outlook.com/retry")
        assert (response.status_code, response.location) == (303, "/")
        assert backend.mailbox_views["me@outlook.com"].state is State.OK


class TestSignIn:
    def begin(self, local, kind: SignInKind) -> str:
        response = local.submit("/sign-in/me@outlook.com", kind=kind.value)
        assert response.status_code == 303
        return response.location

    def test_choice(self, local) -> None:
        page = text_of(local.get("/sign-in/me@outlook.com"))
        assert "With a code" in page
        assert "In this browser" in page

    def test_nobody_signs_in_with_client_credentials(self, local) -> None:
        page = local.get("/sign-in/office@example.org")
        assert "Nobody signs in for this mailbox" in text_of(page)
        assert 'name="kind"' not in page.text

    def test_no_such_mailbox(self, local) -> None:
        assert local.get("/sign-in/nobody@example.org").status_code == 404

    @pytest.mark.parametrize("kind", ["", "password"])
    def test_no_such_way(self, local, kind) -> None:
        response = local.submit("/sign-in/me@outlook.com", kind=kind)
        assert response.status_code == 400
        assert "Choose one of the ways" in text_of(response)

    def test_refused_beside_the_form(self, local) -> None:
        response = local.submit("/sign-in/office@example.org", kind="device_code")
        assert response.status_code == 409
        assert "office@example.org cannot be signed in this way." in text_of(response)

    def test_device_code(self, local) -> None:
        page = local.get(self.begin(local, SignInKind.DEVICE_CODE))
        assert "ABCD1234" in page.text
        assert link(page, "www.microsoft.com/link") == "https://www.microsoft.com/link"
        assert '<noscript><meta http-equiv="refresh"' in page.text

    def test_authorization_code(self, local, backend) -> None:
        page = local.get(self.begin(local, SignInKind.AUTHORIZATION_CODE))
        assert link(page, "Sign in at Microsoft").startswith("https://login.microsoftonline.com/")
        assert "localhost refused to connect" in page.text
        assert '<meta http-equiv="refresh"' not in page.text  # it would take away what is being typed
        [view] = backend.sign_ins.values()
        assert view.redirect_uri == "http://localhost:8025/sign-in/callback"

    def test_at_a_public_address(self, owner, backend) -> None:
        page = owner.get(self.begin(owner, SignInKind.AUTHORIZATION_CODE))
        [view] = backend.sign_ins.values()
        assert view.redirect_uri == "https://console.example.org/sign-in/callback"
        assert "localhost refused to connect" not in page.text

    @pytest.mark.parametrize(
        ("url", "base", "redirect"),
        [
            ("http://tower.lan:8025", "http://tower.lan:9000", "http://localhost:9000/sign-in/callback"),
            ("", "http://tower.lan", "http://localhost:80/sign-in/callback"),
            ("", "https://tower.lan", "http://localhost:443/sign-in/callback"),
            ("https://c.example/", "http://tower.lan", "https://c.example/sign-in/callback"),
        ],
    )
    def test_redirect_uri(self, backend, url, base, redirect) -> None:
        app = create_app(backend, Access(url=url))
        with app.test_request_context("/", base):
            assert pages.redirect_uri() == redirect

    def test_it_comes_back_by_itself(self, local) -> None:
        location = self.begin(local, SignInKind.AUTHORIZATION_CODE)
        state = location.rsplit("/", 1)[1]
        response = local.get(f"/sign-in/callback?code=abc&state={state}")
        assert (response.status_code, response.location) == (303, location)
        assert "The relay can send as me@outlook.com now." in text_of(local.get(location))

    def test_pasted(self, local, backend) -> None:
        location = self.begin(local, SignInKind.AUTHORIZATION_CODE)
        response = local.submit(location, address=" http://localhost/sign-in/callback?code=abc ")
        assert (response.status_code, response.location) == (303, location)
        assert backend.answers == ["http://localhost/sign-in/callback?code=abc"]

    def test_pasted_nothing(self, local, backend) -> None:
        response = local.submit(self.begin(local, SignInKind.AUTHORIZATION_CODE), address="  ")
        assert response.status_code == 400
        assert "Paste the address first." in text_of(response)
        assert backend.answers == []

    def test_pasted_something_else(self, local) -> None:
        location = self.begin(local, SignInKind.AUTHORIZATION_CODE)
        response = local.submit(location, address="https://example.org/<b>")
        assert response.status_code == 409
        assert "That address has no code." in text_of(response)
        assert ">https://example.org/&lt;b&gt;</textarea>" in response.text  # not lost

    def test_a_code_is_not_shown_again(self, local, backend) -> None:
        location = self.begin(local, SignInKind.AUTHORIZATION_CODE)

        def refuse(id: str, address: str) -> SignInView:
            raise RequestError("The address is from an older sign-in.")

        backend.pasted = refuse
        response = local.submit(location, address="http://localhost/?code=secret-code&state=x")
        assert response.status_code == 409
        assert "secret-code" not in response.text

    def test_somebody_else_signed_in(self, local, backend) -> None:
        view = SignInView(
            "other", "me@outlook.com", SignInKind.DEVICE_CODE, SignInState.DONE, "", user="you@outlook.com"
        )
        backend.sign_ins["other"] = view
        assert "This is another account than the mailbox me@outlook.com." in text_of(
            local.get("/sign-ins/other")
        )

    def failed(self, backend, **fields) -> None:
        backend.sign_ins["failed"] = SignInView(
            "failed", "me@outlook.com", SignInKind.DEVICE_CODE, SignInState.FAILED, "", **fields
        )

    def test_failed(self, local, backend) -> None:
        self.failed(backend, sentence="The sign-in was declined.", action="Ask.", code="AADSTS70018")
        page = local.get("/sign-ins/failed")
        assert "That did not work The sign-in was declined. What to do: Ask." in text_of(page)
        assert "AADSTS70018" in page.text
        assert link(page, "Start again") == "/sign-in/me@outlook.com"
        assert "/confirm" not in page.text

    def test_failed_without_a_reason(self, local, backend) -> None:
        self.failed(backend)
        assert "Microsoft did not complete the sign-in." in text_of(local.get("/sign-ins/failed"))

    def test_confirmed(self, local, backend) -> None:
        self.failed(backend, confirmable=True)
        backend.confirm = lambda id: backend.sign_ins[id]
        assert 'action="/sign-ins/failed/confirm"' in local.get("/sign-ins/failed").text
        response = local.submit("/sign-ins/failed/confirm")
        assert (response.status_code, response.location) == (303, "/sign-ins/failed")

    def test_cannot_be_confirmed(self, local, backend) -> None:
        def refuse(id: str) -> SignInView:
            raise RequestError("There is nothing to confirm in this sign-in.")

        self.failed(backend)
        backend.confirm = refuse
        response = local.submit("/sign-ins/failed/confirm")
        assert response.status_code == 409
        assert "There is nothing to confirm" in text_of(response)


class TestSettings:
    def test_gmail(self, local) -> None:
        page = text_of(local.get("/gmail?device=scanner"))
        fields = (
            "Name",
            "Email address office@example.org",
            "Treat as an alias",
            "SMTP Server relay.example.org",
            "Port 587",
            "Username scanner",
            "Password",
            "Secured connection using TLS",
        )
        places = [page.index(field) for field in fields]
        assert places == sorted(places)  # in the order Gmail asks

    @pytest.mark.parametrize("device", ["", "?device=nobody"])
    def test_the_first_device_if_none_is_chosen(self, local, device) -> None:
        assert "Username me@outlook.com" in text_of(local.get(f"/gmail{device}"))

    @pytest.mark.parametrize("program", pages.PROGRAMS)
    @pytest.mark.parametrize("device", ["me@outlook.com", "scanner"])
    def test_each_program(self, local, program, device) -> None:
        path = "/gmail" if program == "gmail" else f"/gmail/{program}"
        response = local.get(f"{path}?device={device}")
        assert response.status_code == 200
        assert "relay.example.org" in response.text

    def test_no_such_program(self, local) -> None:
        assert local.get("/gmail/telex").status_code == 404

    @pytest.mark.parametrize("program", ["", "/msmtp"])
    def test_without_devices(self, local, backend, program) -> None:
        backend.device_views = {}
        assert "There is no device yet." in text_of(local.get(f"/gmail{program}"))

    def test_tls_only(self, local, backend) -> None:
        backend.relay_view = replace(backend.relay_view, submission_port=0)
        assert "Secured connection using SSL" in text_of(local.get("/gmail"))
        assert "Use STARTTLS No" in text_of(local.get("/gmail/unraid"))

    def test_what_gmail_will_not_accept(self, local, backend) -> None:
        notice = replace(backend.relay_view.notices[0], key="certificate-self-signed")
        backend.relay_view = replace(
            backend.relay_view, hostname="tower", submission_port=2587, tls_port=0, notices=(notice,)
        )
        page = text_of(local.get("/gmail"))
        assert "The relay's certificate is self-signed." in page
        assert "Gmail's servers cannot find tower." in page
        assert "The relay listens on port 2587" in page
        assert "Port 587" in page


FIELDS = {
    "name": "label-printer",
    "mailbox": "office@example.org",
    "senders": "a@example.org, *@b.example\nc@example.org",
    "foreign_from": "rewrite",
    "hourly_messages": "60",
}


class TestDevices:
    def test_list(self, local) -> None:
        page = local.get("/devices")
        assert "me@outlook.com from the settings" in text_of(page)
        assert "/devices/scanner/revoke" in page.text
        assert "/devices/me@outlook.com/revoke" not in page.text  # read-only

    def test_none(self, local, backend) -> None:
        backend.device_views = {}
        assert "There is no device yet." in text_of(local.get("/devices"))

    def test_created(self, local, backend) -> None:
        response = local.submit("/devices/new", **FIELDS)
        assert response.status_code == 201
        device = backend.device_views["label-printer"]
        assert device.senders == ("a@example.org", "*@b.example", "c@example.org")
        assert (device.foreign_from, device.hourly_messages) == ("rewrite", 60)
        [password] = backend.passwords
        assert response.text.count(password) == 1
        for path in ("/devices", "/gmail?device=label-printer", "/devices/label-printer/revoke"):
            assert password not in local.get(path).text

    def test_spaces_around_the_name(self, local, backend) -> None:
        assert local.submit("/devices/new", **FIELDS | {"name": " scanner-2 "}).status_code == 201
        assert "scanner-2" in backend.device_views

    def test_no_limit_if_left_empty(self, local, backend) -> None:
        assert local.submit("/devices/new", **FIELDS | {"hourly_messages": ""}).status_code == 201
        assert backend.device_views["label-printer"].hourly_messages == 0

    @pytest.mark.parametrize(
        ("changed", "status", "problem"),
        [
            ({"name": "scanner"}, 409, "There is a device scanner already."),
            ({"hourly_messages": "-1"}, 400, "Messages per hour must be a whole number."),
            ({"hourly_messages": "ten"}, 400, "Messages per hour must be a whole number."),
            ({"hourly_messages": "1" * 5000}, 400, "Messages per hour must be a whole number."),
            ({"foreign_from": ""}, 400, "Choose what happens to a foreign sender"),
        ],
    )
    def test_a_problem_loses_nothing(self, local, backend, changed, status, problem) -> None:
        fields = FIELDS | changed
        response = local.submit("/devices/new", **fields)
        assert response.status_code == status
        assert problem in text_of(response)
        assert f'value="{fields["name"].strip()}"' in response.text.replace(
            '" label-printer "', '"label-printer"'
        )
        assert "a@example.org, *@b.example\nc@example.org</textarea>" in response.text
        assert "<option selected>office@example.org" in response.text
        assert backend.passwords == []

    def test_revoked(self, local, backend) -> None:
        assert "Revoke scanner?" in text_of(local.get("/devices/scanner/revoke"))
        assert "scanner" in backend.device_views  # asking is not doing
        response = local.submit("/devices/scanner/revoke")
        assert (response.status_code, response.location) == (303, "/devices")
        assert "scanner" not in backend.device_views

    def test_one_from_the_settings_stays(self, local, backend) -> None:
        assert '<form method="post" class="card"' not in local.get("/devices/me@outlook.com/revoke").text
        response = local.submit("/devices/me@outlook.com/revoke")
        assert response.status_code == 409
        assert "me@outlook.com comes from the configuration. Remove it there." in text_of(response)

    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_no_such_device(self, local, method) -> None:
        path = "/devices/nobody/revoke"
        response = local.get(path) if method == "GET" else local.submit(path)
        assert response.status_code == 404

    def test_a_name_with_a_slash(self, local, backend) -> None:
        local.submit("/devices/new", **FIELDS | {"name": "a/b?c#d%"})
        target = re.search(r'href="(/devices/a/b[^"]*/revoke)"', local.get("/devices").text)[1]
        assert local.submit(target).status_code == 303
        assert "a/b?c#d%" not in backend.device_views


class TestMessages:
    def test_latest(self, local, backend) -> None:
        page = text_of(local.get("/messages"))
        assert "2 messages" in page
        assert "find" not in backend.calls

    @pytest.mark.parametrize("query", ["nobody@", "77aa01c4de995b32", "%3Ctwo@example.org%3E", "+nobody%40+"])
    def test_found(self, local, query) -> None:
        page = text_of(local.get(f"/messages?q={query}"))
        assert "1 message " in page
        assert "refused nobody@example.net" in page

    def test_not_found(self, local) -> None:
        response = local.get("/messages?q=%3Cscript%3E")
        assert "Nothing found for “<script>”" in text_of(response)
        assert "<script>”" not in response.text

    def test_as_many_as_are_shown(self, local, backend) -> None:
        backend.message_views = backend.message_views * pages.FOUND
        assert f"The latest {pages.FOUND} messages." in text_of(local.get("/messages"))

    def test_none_yet(self, local, backend) -> None:
        backend.message_views = []
        assert "No message has come in yet." in text_of(local.get("/messages"))

    def test_story(self, local) -> None:
        page = text_of(local.get("/messages/3f9c2a7be1d04c58"))
        assert "To friend@example.net , other@example.com" in page
        story = page[page.index("What happened") :]
        parts = (
            "me@outlook.com handed it in.",
            "deferred",
            "432 4.3.2 STOREDRV",
            "Cause: concurrent-connections",
            "accepted",
            "250 2.0.0 OK",
        )
        places = [story.index(part) for part in parts]
        assert places == sorted(places)

    def test_refused(self, local) -> None:
        page = text_of(local.get("/messages/77aa01c4de995b32"))
        assert "There is no such recipient. What to do: Correct the address." in page
        assert "550 5.1.1 User unknown" in page

    def test_under_way(self, local, backend) -> None:
        backend.message_views = [replace(backend.message_views[0], attempts=(), recipients=(), message_id="")]
        assert "under way" in text_of(local.get("/messages"))
        assert "The relay is handing it to Outlook." in text_of(local.get("/messages/3f9c2a7be1d04c58"))


class TestTheme:
    @pytest.mark.parametrize("theme", pages.THEMES)
    def test_remembered(self, local, theme) -> None:
        response = local.submit("/set-theme", theme=theme, next="/messages?q=x")
        assert (response.status_code, response.location) == (303, "/messages?q=x")
        assert f'data-theme="{theme}"' in local.get("/").text

    def test_another_is_ignored(self, local) -> None:
        response = local.submit("/set-theme", theme="pink", next="https://example.com/")
        assert response.location == "/"
        assert "Set-Cookie" not in response.headers or "theme" not in response.headers["Set-Cookie"]
        assert 'data-theme="auto"' in local.get("/").text


@pytest.mark.parametrize(
    "path",
    ["/", "/sign-in/me@outlook.com", "/gmail", "/gmail/msmtp", "/devices", "/devices/new", "/messages"],
)
def test_nothing_that_the_content_security_policy_forbids(local, path) -> None:
    page = local.get(path).text
    assert not re.search(r"\sstyle=|\son[a-z]+=|<style|<script(?! src=)|javascript:", page)
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)


@pytest.mark.parametrize("language", ["en", "de"])
def test_each_page_says_its_language(local, language) -> None:
    assert f'<html lang="{language}"' in local.get("/", Accept_Language=language).text
