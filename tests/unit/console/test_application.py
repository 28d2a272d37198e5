"""The application as a whole: health, metrics, language, errors, and what it never shows."""

import io
import re
from secrets import token_urlsafe

import pytest
import structlog
from flask import Response
from structlog.testing import capture_logs
from werkzeug.exceptions import HTTPException, ImATeapot, ServiceUnavailable

from relay_app import log
from relay_app.console import application
from relay_app.console.application import create_app
from relay_app.console.backend import RequestError


class TestHealth:
    def test_healthz(self, browser, backend) -> None:
        response = browser.get("/healthz")
        assert (response.status_code, response.text) == (200, "ok\n")
        assert backend.calls == []

    def test_ready(self, browser) -> None:
        assert (browser.get("/readyz").status_code, browser.get("/readyz").text) == (200, "ok\n")

    def test_not_ready(self, browser, owner, access, backend) -> None:
        backend.reasons = ["me@outlook.com must sign in again.", "The disk is full."]
        everybody = browser.get("/readyz")
        assert everybody.status_code == 503
        assert everybody.text.startswith("not ready\n")
        assert "outlook" not in everybody.text
        assert "disk" not in everybody.text
        told = "not ready\nme@outlook.com must sign in again.\nThe disk is full.\n"
        assert owner.get("/readyz").text == told
        assert browser.get("/readyz", Authorization=f"Bearer {access.token}").text == told
        assert browser.get("/readyz", Authorization="Bearer x").status_code == 401

    def test_metrics(self, owner, backend) -> None:
        response = owner.get("/metrics")
        assert response.data == backend.metrics_text
        assert response.content_type == "text/plain; version=0.0.4; charset=utf-8"


class TestLanguage:
    @pytest.mark.parametrize(
        ("wanted", "language"),
        [
            ("de-DE,de;q=0.9", "de"),
            ("de-AT", "de"),
            ("en-GB", "en"),
            ("fr", "en"),
            ("fr,de;q=0.5", "de"),
            ("", "en"),
        ],
    )
    def test_the_browser_says_it(self, browser, wanted, language) -> None:
        assert f'<html lang="{language}"' in browser.get("/login", Accept_Language=wanted).text

    def test_a_person_chooses_it(self, browser) -> None:
        answer = browser.submit("/set-language", language="de", next="/login?next=/devices")
        assert (answer.status_code, answer.headers["Location"]) == (303, "/login?next=/devices")
        assert '<html lang="de"' in browser.get("/login", Accept_Language="en").text
        browser.submit("/set-language", language="xx")
        assert '<html lang="de"' in browser.get("/login").text

    def test_refusals_are_in_it(self, browser) -> None:
        page = browser.request("POST", "/login", Accept_Language="de")
        assert page.status_code == 400
        assert '<html lang="de"' in page.text


class TestErrors:
    def test_pages(self, owner) -> None:
        page = owner.get("/no-such-page")
        assert page.status_code == 404
        assert page.content_type == "text/html; charset=utf-8"
        assert "There is no such page" in page.text
        page = owner.request("PUT", "/devices", {"csrf_token": owner.token()})
        assert page.status_code == 405
        assert "Allow" in page.headers
        assert owner.request("POST", "/devices/new").status_code == 400

    def test_statuses_without_words_of_their_own(self, owner, backend) -> None:
        backend.failure = ImATeapot("a detail")
        page = owner.get("/devices")
        assert page.status_code == 418
        assert "cannot be used" in page.text
        backend.failure = ServiceUnavailable("a detail", retry_after=7)
        page = owner.get("/devices")
        assert (page.status_code, page.headers["Retry-After"]) == (503, "7")
        assert "Something went wrong here" in page.text
        assert "a detail" not in page.text
        backend.failure = HTTPException(response=Response("mine", 402))
        page = owner.get("/devices")
        assert (page.status_code, page.text) == (402, "mine")

    def test_what_cannot_be_done_is_said(self, owner, backend) -> None:
        backend.failure = RequestError("The <store> is being moved.")
        page = owner.get("/devices")
        assert page.status_code == 409
        assert "The &lt;store&gt; is being moved." in page.text

    def test_a_defect_is_logged_once_and_not_shown(self, owner, backend) -> None:
        backend.failure = RuntimeError("a detail")
        for path, endpoint in [
            ("/", "pages.overview"),
            ("/readyz", "readyz"),
            ("/api/v1/hours", "api.hours"),
        ]:
            with capture_logs() as logs:
                response = owner.get(f"{path}?code=abc")
            assert response.status_code == 500
            assert "a detail" not in response.text
            assert "RuntimeError" not in response.text
            assert [(each["event"], each["endpoint"]) for each in logs] == [("console_failed", endpoint)]
            assert logs[0]["exc_info"] is backend.failure
            assert "abc" not in str(logs)

    def test_even_the_error_page_may_fail(self, owner, monkeypatch) -> None:
        def render(*_: object, **__: object) -> str:
            raise RuntimeError("a detail")

        monkeypatch.setattr(application, "render_template", render)
        with capture_logs() as logs:
            page = owner.get("/no-such-page")
        assert page.status_code == 404
        assert page.text == "Not found. There is no such page. It may have been removed.\n"
        assert page.content_type == "text/plain; charset=utf-8"
        assert [each["event"] for each in logs] == ["console_error_page_failed"]

    def test_nothing_is_echoed(self, owner, browser) -> None:
        mark = "<script>alert(1)</script>"
        for visitor in (owner, browser):
            for path in (f"/{mark}", f"/messages/{mark}", f"/messages?q={mark}", f"/login?next=/{mark}"):
                assert mark not in visitor.get(path).text
                assert mark not in visitor.get(f"/api/v1{path}").text

    def test_headers_cannot_be_injected(self, owner) -> None:
        for path in ("/a%0d%0aSet-Cookie:%20x=y", "/login?next=/%0d%0aSet-Cookie:%20x=y"):
            assert "x=y" not in owner.get(path).headers.get("Set-Cookie", "")


class TestSecrets:
    @pytest.fixture
    def logged(self):
        before = structlog.get_config()
        stream = io.StringIO()
        log.configure(stream, verbose=True)
        yield stream
        structlog.configure(**before)

    def visit(self, browser, app) -> str:
        """Everything that every page says, in headers and bodies, in both languages."""
        said = []
        for rule in app.url_map.iter_rules():
            path = re.sub(r"<(?:any\((\w+)[^>]*|[^>]*)>", lambda found: found[1] or "scanner", rule.rule)
            for method in sorted((rule.methods or set()) - {"POST", "DELETE"}):
                for language in ("en", "de"):
                    with browser.request(method, path, Accept_Language=language) as response:
                        said.append(f"{response.headers}{response.text}")
        return "\n".join(said)

    def test_they_are_never_shown(self, backend, password, access, clock, new_browser, logged) -> None:
        app = create_app(backend, access, clock=clock)
        owner, stranger = new_browser(app), new_browser(app)
        said = [owner.log_in(password).text, stranger.log_in(f"{password}x").text]
        api = {"Authorization": f"Bearer {access.token}", "Content_Type": "application/json"}
        body = '{"name": "one", "mailbox": "me@outlook.com"}'
        made = [
            owner.request("POST", "/api/v1/devices", body, **api).text,
            owner.submit("/devices/new", name="two", mailbox="me@outlook.com", foreign_from="refuse").text,
        ]
        begun = owner.request(
            "POST", "/api/v1/sign-ins", '{"mailbox": "me@outlook.com", "kind": "authorization_code"}', **api
        ).json["id"]
        code = token_urlsafe(16)
        said.append(owner.get(f"/sign-in/callback?code={code}&state={begun}").text)
        said.append(stranger.get("/api/v1/relay", Authorization=f"Bearer {access.token}x").text)
        said += [self.visit(owner, app), self.visit(stranger, app)]
        backend.failure = RuntimeError(planted := token_urlsafe(16))
        said += [self.visit(owner, app), self.visit(stranger, app)]
        everything = "\n".join([*said, logged.getvalue()])
        assert [backend.passwords[n] in made[n] for n in (0, 1)] == [True, True]
        for secret in [
            password,
            access.password_hash,
            access.token,
            code,
            *backend.passwords,
            *backend.hashes,
        ]:
            assert secret not in everything
        assert not any(hashed in text for hashed in backend.hashes for text in made)
        assert planted not in "\n".join(said)
        assert repr(app.config["SECRET_KEY"])[2:-1] not in everything
        assert "console_login" in logged.getvalue()

    def test_the_key_is_new_for_each_process(self, backend, access) -> None:
        first, second = create_app(backend, access), create_app(backend, access)
        assert first.config["SECRET_KEY"] != second.config["SECRET_KEY"]
        assert len(first.config["SECRET_KEY"]) == 32
