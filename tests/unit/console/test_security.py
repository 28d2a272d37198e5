"""Who gets in, who does not, and what every response carries."""

import re
from concurrent.futures import ThreadPoolExecutor
from secrets import token_urlsafe
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from flask import Flask
from structlog.testing import capture_logs

from relay_app.console import security
from relay_app.console.application import create_app
from relay_app.console.security import Access
from relay_app.settings import HASHER

PUBLIC = {"/login", "/healthz", "/readyz", "/set-language"}
LOGIN_MARK = 'name="password"'


def address(rule) -> str:
    """A path for a rule of the URL map, with something in each of its places."""
    return re.sub(r"<(?:any\((\w+)[^>]*|[^>]*)>", lambda found: found[1] or "some", rule.rule)


def rules(app: Flask) -> list[tuple[str, str]]:
    """Every path and method, besides the static files."""
    return [
        (method, address(rule))
        for rule in app.url_map.iter_rules()
        if rule.endpoint != "static"
        for method in sorted(rule.methods or ())
    ]


def bearer(access: Access) -> dict[str, str]:
    return {"Authorization": f"Bearer {access.token}"}


class TestEveryRoute:
    def test_nothing_but_the_login_is_open(self, app, browser, backend) -> None:
        checked = 0
        for method, path in rules(app):
            if path in PUBLIC:
                continue
            response = browser.request(method, path)
            if path.startswith("/api/") or path == "/metrics":
                assert response.status_code == 401, (method, path)
                assert response.headers["WWW-Authenticate"] == "Bearer realm=smtp-relay"
                assert response.json["status"] == 401 if method != "HEAD" else response.data == b""
            else:
                assert response.status_code == 303, (method, path)
                assert response.headers["Location"].split("?")[0] == "/login"
            checked += 1
        assert checked > 40
        assert backend.calls == []

    def test_unknown_paths_are_not_told_from_others(self, browser) -> None:
        assert browser.get("/no-such-page").status_code == 303
        assert browser.get("/api/v1/no-such-thing").status_code == 401

    def test_headers_are_on_every_response(self, app, owner) -> None:
        for method, path in [
            *rules(app),
            ("GET", "/no-such-page"),
            ("TRACE", "/"),
            ("GET", "/static/console.css"),
        ]:
            if path == "/logout":
                continue
            response = owner.request(method, path)
            csp = response.headers["Content-Security-Policy"]
            assert "default-src 'none'" in csp
            assert "frame-ancestors 'none'" in csp
            assert "unsafe" not in csp
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["Referrer-Policy"] == "same-origin"
            assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
            if not path.startswith("/static/"):
                assert response.headers["Cache-Control"] == "no-store", path
            assert "Server" not in response.headers
            assert "Access-Control-Allow-Origin" not in response.headers
            response.close()

    def test_refusals_have_them_too(self, browser) -> None:
        response = browser.get("/", Host="evil.example.com")
        assert response.status_code == 400
        assert response.headers["X-Content-Type-Options"] == "nosniff"

    @pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PUT", "PATCH", "PROPFIND", "BREW"])
    def test_other_methods(self, owner, method) -> None:
        response = owner.request(method, "/devices", {"csrf_token": owner.token()})
        assert response.status_code == 405
        assert set(response.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}

    def test_head_and_options(self, owner) -> None:
        head = owner.request("HEAD", "/devices")
        assert (head.status_code, head.data) == (200, b"")
        options = owner.request("OPTIONS", "/devices")
        assert set(options.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}

    def test_static_files_are_open(self, browser) -> None:
        with browser.get("/static/console.css") as response:
            assert response.status_code == 200
        with browser.get("/static/../application.py") as response:
            assert response.status_code in {303, 404}


class TestHost:
    @pytest.mark.parametrize("host", ["evil.example.com", "", "relay.example.org.evil.example.com", "a b"])
    def test_other_names_are_refused_everywhere(self, app, owner, backend, host) -> None:
        backend.calls.clear()
        for method, path in rules(app):
            response = owner.request(method, path, Host=host)
            assert response.status_code == 400
            assert "RELAY_WEB_URL" in response.text or method == "HEAD"
        assert backend.calls == []

    def test_the_answer_does_not_repeat_the_name(self, browser) -> None:
        assert "evil" not in browser.get("/", Host="evil.example.com").text

    def test_forwarded_hosts_are_ignored(self, browser) -> None:
        response = browser.get("/", X_Forwarded_Host="evil.example.com", Forwarded="host=evil.example.com")
        assert response.headers["Location"] == "/login?next=%2F"


class TestWithoutPassword:
    def test_this_machine_needs_none(self, local) -> None:
        assert local.get("/devices").status_code == 200
        assert local.get("/api/v1/relay").status_code == 200
        assert local.get("/metrics").status_code == 200

    def test_forms_still_need_their_token(self, local, backend) -> None:
        path = "/devices/scanner/revoke"
        assert local.request("POST", path).status_code == 400
        assert "scanner" in backend.device_views
        assert local.submit(path).status_code == 303
        assert "scanner" not in backend.device_views

    def test_there_is_nothing_to_log_in_to(self, local) -> None:
        assert local.get("/login").headers["Location"] == "/"
        assert local.submit("/login", password="").headers["Location"] == "/"
        assert local.submit("/logout").headers["Location"] == "/"

    @pytest.mark.parametrize("peer", ["192.0.2.9", "::ffff:192.0.2.9", "2001:db8::1", ""])
    def test_other_machines_are_refused(self, local, backend, peer) -> None:
        local.environ = {"REMOTE_ADDR": peer}
        for path in ("/", "/healthz", "/login", "/api/v1/relay"):
            response = local.get(path)
            assert response.status_code == 403
            assert "RELAY_WEB_PASSWORD" in response.text
        assert backend.calls == []

    @pytest.mark.parametrize("host", ["tower", "192.0.2.1:8025", "relay.example.org", "evil.example.com"])
    def test_other_names_are_refused(self, local, host) -> None:
        assert local.get("/", Host=host).status_code == 400

    @pytest.mark.parametrize(
        "name", ["Forwarded", "Via", "X_Forwarded_For", "X_Forwarded_Host", "X_Real_IP", "x_forwarded_for"]
    )
    def test_proxies_are_refused(self, local, name) -> None:
        assert local.get("/", **{name: "192.0.2.9"}).status_code == 403

    def test_no_token_is_right_when_there_is_none(self, local) -> None:
        for token in ("", "x", "None"):
            assert local.get("/api/v1/relay", Authorization=f"Bearer {token}").status_code == 401


class TestLogin:
    def test_the_right_password(self, browser, password) -> None:
        assert LOGIN_MARK in browser.get("/login").text
        with capture_logs() as logs:
            response = browser.log_in(password, next="/messages?q=x")
        assert (response.status_code, response.headers["Location"]) == (303, "/messages?q=x")
        assert browser.get("/devices").status_code == 200
        assert browser.get("/login?next=/devices").headers["Location"] == "/devices"
        assert [each["event"] for each in logs] == ["console_login"]
        assert password not in str(logs)

    @pytest.mark.parametrize("wrong", ["", "x", "ü" * 500, "\0", "\ud800", "nul\0byte"])
    def test_a_wrong_one(self, browser, password, wrong) -> None:
        with capture_logs() as logs:
            response = browser.submit("/login", password=wrong.encode("utf-8", "surrogatepass"))
        assert response.status_code == 403
        assert "wrong" in response.text
        assert browser.get("/devices").status_code == 303
        assert [each["event"] for each in logs] == ["console_login_failed"]
        assert logs[0]["client"] == "192.0.2.9"

    def test_almost_right_is_wrong(self, browser, password) -> None:
        for wrong in (password.swapcase(), password + " ", password[:-1]):
            assert browser.log_in(wrong).status_code in {403, 429}

    def test_a_page_that_needs_a_login_leads_back(self, browser, password) -> None:
        redirect = browser.get("/messages?q=a%26b").headers["Location"]
        target = parse_qs(urlsplit(redirect).query)["next"][0]
        assert target == "/messages?q=a%26b"
        assert f'value="{target}"' in browser.get(redirect).text
        assert browser.log_in(password, next=target).headers["Location"] == target

    def test_a_form_that_needs_a_login_does_not(self, browser) -> None:
        assert browser.request("POST", "/devices/new").headers["Location"] == "/login"

    def test_microsofts_redirect_survives_a_login(self, browser, password) -> None:
        code = token_urlsafe(16)
        redirect = browser.get(f"/sign-in/callback?code={code}&state=s").headers["Location"]
        target = parse_qs(urlsplit(redirect).query)["next"][0]
        with capture_logs() as logs:
            assert browser.log_in(password, next=target).headers["Location"] == target
        assert target == f"/sign-in/callback?code={code}&state=s"
        assert code not in str(logs)

    @pytest.mark.parametrize(
        "target",
        [
            "//evil.example.com",
            "///evil.example.com",
            "/\\evil.example.com",
            "\\\\evil.example.com",
            "https://evil.example.com",
            "https:evil.example.com",
            "javascript:alert(1)",
            "evil.example.com",
            "/\t/evil.example.com",
            "/\n/evil.example.com",
            "\t//evil.example.com",
            " //evil.example.com",
            "/ok\r\nSet-Cookie: a=b",
            "/a\\b",
            "",
        ],
    )
    def test_no_open_redirect(self, browser, password, target) -> None:
        response = browser.log_in(password, next=target)
        assert response.headers["Location"] == "/"
        assert "a=b" not in str(response.headers)
        assert browser.get(f"/login?next={quote(target)}").headers["Location"] == "/"
        assert browser.submit("/set-language", language="de", next=target).headers["Location"] == "/"

    @pytest.mark.parametrize(
        "target", ["/", "/messages?q=a%20b", "/a//b", "/%2F%2Fevil.example.com", "/x?u=//y"]
    )
    def test_paths_of_ours(self, target) -> None:
        assert security.local(target) == target


class TestCookies:
    def cookie(self, response, name: str) -> str:
        return next(each for each in response.headers.getlist("Set-Cookie") if each.startswith(name))

    def test_flags(self, browser, password) -> None:
        response = browser.log_in(password)
        for name in ("smtp_relay_session", "smtp_relay_browser"):
            cookie = self.cookie(response, name)
            assert "HttpOnly" in cookie
            assert "SameSite=Lax" in cookie
            assert "Secure" not in cookie
            assert "Domain" not in cookie
        assert "Expires" not in self.cookie(response, "smtp_relay_session")
        assert "Path=/login" in self.cookie(response, "smtp_relay_browser")

    def test_secure_behind_https(self, app, password, new_browser) -> None:
        """The proxy ends TLS and keeps the Host."""
        browser = new_browser(app, host="console.example.org", scheme="http")
        response = browser.submit("/login", password=password)
        assert "Secure" in self.cookie(response, "smtp_relay_session")
        assert "Secure" in self.cookie(response, "smtp_relay_browser")

    def test_secure_by_https_itself(self, app, password, new_browser) -> None:
        browser = new_browser(app, scheme="https")
        response = browser.log_in(password)
        assert "Secure" in self.cookie(response, "smtp_relay_session")
        assert browser.get("/devices").status_code == 200

    def test_an_https_address_does_not_lock_out_the_home_network(self, browser, password) -> None:
        assert browser.log_in(password).status_code == 303  # at http://192.0.2.1:8025
        assert browser.get("/devices").status_code == 200

    def test_a_planted_session_is_worth_nothing(self, app, browser, password) -> None:
        """Fixation: the victim logs in with cookies that the attacker knows."""
        token = browser.token()
        planted = browser.session
        assert (
            browser.request("POST", "/login", {"csrf_token": token, "password": password}).status_code == 303
        )
        fresh = browser.session
        assert fresh != planted
        browser.session = planted
        assert browser.get("/devices").status_code == 303
        browser.session = fresh
        path = "/devices/scanner/revoke"
        assert browser.request("POST", path, {"csrf_token": token}).status_code == 400  # renewed, too
        assert browser.get("/devices").status_code == 200

    def test_a_session_of_another_process_is_worth_nothing(self, owner, backend, access, new_browser) -> None:
        other = new_browser(create_app(backend, access))
        other.session = owner.session
        assert other.get("/devices").status_code == 303

    def test_logout_ends_the_session_on_the_server(self, owner) -> None:
        kept = owner.session
        assert owner.submit("/logout").headers["Location"] == "/login"
        owner.session = kept
        assert owner.get("/devices").status_code == 303

    def test_logout_needs_its_token(self, owner) -> None:
        assert owner.get("/logout").status_code == 405
        assert owner.request("POST", "/logout").status_code == 400
        assert owner.get("/devices").status_code == 200

    def test_sessions_end(self, owner, clock) -> None:
        clock.advance(7201)
        assert owner.get("/devices").status_code == 303

    def test_the_language_stays(self, browser, password) -> None:
        assert browser.submit("/set-language", language="de").status_code == 303
        assert 'lang="de"' in browser.get("/login").text
        browser.log_in(password)
        assert '<html lang="de"' in browser.get("/devices").text
        browser.submit("/logout")
        assert '<html lang="de"' in browser.get("/login").text


class TestCsrf:
    def test_every_changing_route_needs_the_token(self, app, owner, backend) -> None:
        token = owner.token()
        backend.calls.clear()
        checked = 0
        for method, path in rules(app):
            if method not in {"POST", "PUT", "PATCH", "DELETE"}:
                continue
            for wrong in ({}, {"csrf_token": "x"}, {"csrf_token": token[:-1]}, {"csrf_token": ""}):
                assert owner.request(method, path, wrong).status_code == 400, path
                checked += 1
            assert owner.request(method, f"{path}?csrf_token={token}").status_code == 400, path
        assert checked > 30
        assert backend.calls == []

    def test_another_sessions_token(self, app, owner, new_browser) -> None:
        foreign = new_browser(app).token()
        assert owner.request("POST", "/logout", {"csrf_token": foreign}).status_code == 400

    def test_login_is_covered(self, browser, password) -> None:
        assert browser.request("POST", "/login", {"password": password}).status_code == 400
        assert browser.get("/devices").status_code == 303

    def test_the_header_for_scripts(self, owner, backend) -> None:
        path = "/api/v1/devices/scanner"
        refused = owner.request("DELETE", path, X_CSRFToken="x")
        assert refused.status_code == 400
        assert refused.json["detail"] == "The CSRF session token is missing."
        assert owner.request("DELETE", path, X_CSRFToken=owner.token()).status_code == 204

    def test_another_sites_page_behind_https(self, app, password, new_browser) -> None:
        browser = new_browser(app, scheme="https")
        for referer in ("", "https://evil.example.com/"):
            browser.headers["Referer"] = referer
            assert browser.log_in(password).status_code == 400
        browser.headers["Referer"] = "https://192.0.2.1:8025/login"
        assert browser.log_in(password).status_code == 303


class TestToken:
    def test_the_right_one(self, browser, access) -> None:
        for scheme in ("Bearer", "bearer", "BEARER"):
            response = browser.get("/api/v1/relay", Authorization=f"{scheme} {access.token}")
            assert response.status_code == 200
        assert browser.get("/metrics", **bearer(access)).status_code == 200

    def test_it_needs_no_csrf_token(self, browser, access) -> None:
        response = browser.request("DELETE", "/api/v1/devices/scanner", **bearer(access))
        assert response.status_code == 204

    def test_it_is_for_programs_only(self, browser, access) -> None:
        assert browser.get("/devices", **bearer(access)).status_code == 303
        assert browser.request("POST", "/logout", **bearer(access)).status_code == 303

    def test_a_wrong_one(self, browser, owner, access) -> None:
        for token in ("", "x", access.token[:-1], f"{access.token}x", access.token.swapcase(), "é"):
            for client in (browser, owner):  # a session does not make up for it
                response = client.get(
                    "/api/v1/relay", Authorization=f"Bearer {token}".encode().decode("latin-1")
                )
                assert response.status_code == 401
                assert "error=invalid_token" in response.headers["WWW-Authenticate"]

    def test_other_schemes_are_not_ours(self, browser, owner) -> None:
        assert owner.get("/api/v1/relay", Authorization="Basic eDp5").status_code == 200
        assert browser.get("/api/v1/relay", Authorization="Basic eDp5").status_code == 401

    def test_without_a_configured_token_none_is_right(self, backend, password_hash, new_browser) -> None:
        other = new_browser(create_app(backend, Access(password_hash)))
        for token in ("", "None"):
            assert other.get("/api/v1/relay", Authorization=f"Bearer {token}").status_code == 401


class TestBruteForce:
    def test_guessing_is_slowed(self, browser, password, clock) -> None:
        assert [browser.log_in("x").status_code for _ in range(4)] == [403, 403, 403, 429]
        response = browser.log_in(password)
        assert response.status_code == 429  # the right one is not looked at
        assert response.headers["Retry-After"] == "1"
        assert LOGIN_MARK in response.text
        assert browser.get("/devices").status_code == 303
        clock.advance(1)
        assert browser.log_in(password).status_code == 303

    def test_other_networks_are_not(self, app, browser, password, new_browser) -> None:
        for _ in range(5):
            browser.log_in("x")
        assert new_browser(app, address="192.0.2.10").log_in(password).status_code == 303

    def test_a_64_is_one_network(self, app, new_browser) -> None:
        answers = [
            new_browser(app, address=f"2001:db8::{number}").log_in("x").status_code for number in range(4)
        ]
        assert answers == [403, 403, 403, 429]

    def test_a_browser_that_is_known_gets_in_from_there(self, app, owner, password, new_browser) -> None:
        owner.submit("/logout")
        guesser = new_browser(app)
        assert [guesser.log_in("x").status_code for _ in range(4)] == [403, 403, 403, 429]
        assert owner.log_in(password).status_code == 303

    def test_a_browser_that_is_known_is_slowed_as_well(self, owner) -> None:
        owner.submit("/logout")
        assert [owner.log_in("x").status_code for _ in range(4)] == [403, 403, 403, 429]

    def test_a_made_up_browser_is_not_known(self, app, new_browser) -> None:
        for number in range(4):
            guesser = new_browser(app)
            guesser.client.set_cookie("smtp_relay_browser", f"x{number}", domain="192.0.2.1", path="/login")
            status = guesser.log_in("x").status_code
        assert status == 429

    def test_forwarding_headers_do_not_change_who_it_is(self, app, new_browser) -> None:
        statuses = []
        for number in range(4):
            guesser = new_browser(app)
            guesser.headers["X-Forwarded-For"] = f"198.51.100.{number}"
            statuses.append(guesser.log_in("x").status_code)
        assert statuses == [403, 403, 403, 429]

    def test_many_at_once_are_still_counted(self, app, monkeypatch, new_browser) -> None:
        looked_at = []

        def verify(hashed: str, password: bytes) -> bool:
            looked_at.append(password)
            return HASHER.verify(hashed, password)

        monkeypatch.setattr(security, "HASHER", type("Counting", (), {"verify": staticmethod(verify)}))
        guessers = [new_browser(app) for _ in range(12)]
        tokens = [guesser.token() for guesser in guessers]

        def guess(number: int) -> int:
            fields = {"csrf_token": tokens[number], "password": "x"}
            return guessers[number].request("POST", "/login", fields).status_code

        with ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(guess, range(12)))
        assert set(statuses) <= {403, 429}
        assert len(looked_at) <= 3

    def test_few_passwords_are_looked_at_at_once(self, app, monkeypatch, new_browser) -> None:
        answers = []

        def verify(hashed: str, password: bytes) -> bool:
            answers.append(new_browser(app, address="198.51.100.1").log_in("y"))  # meanwhile
            return HASHER.verify(hashed, password)

        monkeypatch.setattr(security, "HASHER", type("Slow", (), {"verify": staticmethod(verify)}))
        monkeypatch.setattr(security, "_VERIFICATIONS", 1)
        app = create_app(app.extensions["relay"], Access(HASHER.hash("z")))
        assert new_browser(app).log_in("x").status_code == 403
        assert answers[0].status_code == 429
        assert answers[0].headers["Retry-After"] == "1"
        assert "busy" in answers[0].text


class TestSize:
    @pytest.mark.parametrize("path", ["/login", "/devices/new", "/api/v1/devices"])
    def test_large_bodies_are_refused(self, owner, browser, path, backend) -> None:
        body = {"csrf_token": "x", "password": "x" * 70_000}
        assert owner.request("POST", path, body).status_code == 413
        assert browser.request("POST", path, body).status_code == 413

    def test_the_largest_body_is_read(self, browser) -> None:
        page = browser.submit("/login", password="x" * 60_000)
        assert page.status_code == 403


def test_access_comes_from_the_settings() -> None:
    settings = type("Some", (), {})()
    settings.web_password_hash, settings.web_token = "h" * 8, "t" * 8
    settings.hostname, settings.web_url = "relay.example.org", "https://console.example.org"
    access = Access.of(settings)
    assert access == Access("h" * 8, "t" * 8, "relay.example.org", "https://console.example.org")
    assert "hhh" not in repr(access)
    assert "ttt" not in repr(access)
