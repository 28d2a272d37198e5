"""What each operation answers, and what it makes of wrong input."""

import json
from collections import deque
from dataclasses import replace
from types import MappingProxyType

import pytest

from relay_app.console import api
from relay_app.console.backend import RequestError, SignInState


@pytest.fixture
def call(app, new_browser, access):
    """Make a request with the token; returns the response."""
    browser = new_browser(app)

    def send(method: str, path: str, body: object = None, **headers: str):
        headers.setdefault("Authorization", f"Bearer {access.token}")
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body)
            headers.setdefault("Content_Type", "application/json")
        return browser.request(method, f"/api/v1{path}", data, **headers)

    return send


def assert_problem(response, status: int, detail: str) -> None:
    assert response.status_code == status
    assert response.content_type == "application/problem+json"
    assert response.json["type"] == "about:blank"
    assert response.json["status"] == status
    assert response.json["title"]
    assert detail in response.json["detail"]


class TestReading:
    def test_relay(self, call) -> None:
        answer = call("GET", "/relay")
        assert answer.content_type == "application/json"
        assert answer.json["hostname"] == "relay.example.org"
        assert answer.json["certificate_expires"] == "2030-05-03T12:00:00Z"
        assert answer.json["notices"][0]["key"] == "no-alerts"

    def test_mailboxes(self, call) -> None:
        mailboxes = call("GET", "/mailboxes").json["mailboxes"]
        assert [each["address"] for each in mailboxes] == ["me@outlook.com", "office@example.org"]
        assert mailboxes[0]["state"] == "sign-in needed"
        assert mailboxes[0]["token_expires"] is None
        assert mailboxes[0]["sign_in_kinds"] == ["device_code", "authorization_code"]
        assert mailboxes[1]["secret_expires"] == "2030-12-24"

    def test_one_mailbox(self, call) -> None:
        assert call("GET", "/mailboxes/Office@Example.org").json["user"] == "office@example.org"
        assert_problem(call("GET", "/mailboxes/x@example.org"), 404, "no such mailbox")

    def test_devices(self, call) -> None:
        devices = call("GET", "/devices").json["devices"]
        assert [each["configured"] for each in devices] == [True, False]

    def test_hours(self, call) -> None:
        hours = call("GET", "/hours").json["hours"]
        assert len(hours) == 24
        assert hours[-1] == {"hour": "2030-03-04T12:00:00Z", "counts": {"accepted": 23, "refused": 2}}

    def test_messages(self, call, backend) -> None:
        messages = call("GET", "/messages").json["messages"]
        assert [each["id"] for each in messages] == ["3f9c2a7be1d04c58", "77aa01c4de995b32"]
        assert messages[0]["attempts"][1]["outcome"] == "accepted"
        assert len(call("GET", "/messages?limit=1").json["messages"]) == 1
        found = call("GET", "/messages?q=%20nobody@example.net%20").json["messages"]
        assert [each["id"] for each in found] == ["77aa01c4de995b32"]
        assert backend.calls == ["recent", "recent", "find"]

    def test_one_message(self, call) -> None:
        assert call("GET", "/messages/3f9c2a7be1d04c58").json["sender"] == "me@outlook.com"
        assert_problem(call("GET", "/messages/x"), 404, "There is no message x.")

    @pytest.mark.parametrize(
        "limit", ["0", "-1", "501", "x", "", "1.5", "1_0", "1e2", "٣", "9" * 5000, "+5", " 5"]
    )
    def test_wrong_limits(self, call, limit) -> None:
        answer = call("GET", f"/messages?limit={limit.replace(' ', '%20').replace('+', '%2B')}")
        assert_problem(answer, 422, "not as described")
        assert [each["pointer"] for each in answer.json["errors"]] == ["limit"]

    def test_wrong_searches(self, call) -> None:
        for text in ("%00", "%0d%0a", "x" * 301):
            answer = call("GET", f"/messages?q={text}&limit=0")
            assert [each["pointer"] for each in answer.json["errors"]] == ["q", "limit"]


class TestRetry:
    def test_it_asks_now(self, call, backend) -> None:
        assert call("POST", "/mailboxes/me@outlook.com/retry").json["state"] == "ok"
        assert "retry" in backend.calls
        assert_problem(call("POST", "/mailboxes/x@example.org/retry"), 404, "no such mailbox")

    def test_what_cannot_be_done_is_said(self, call, backend, monkeypatch) -> None:
        def retry(mailbox: str):
            raise RequestError("Wait a minute.")

        monkeypatch.setattr(backend, "retry", retry)
        assert_problem(call("POST", "/mailboxes/me@outlook.com/retry"), 409, "Wait a minute.")


DEVICE = {
    "name": "printer",
    "mailbox": "Office@Example.org",
    "senders": ["P@Example.org"],
    "hourly_messages": 7.0,
}


class TestDevices:
    def test_create(self, call, backend) -> None:
        answer = call("POST", "/devices", DEVICE)
        assert answer.status_code == 201
        assert answer.headers["Location"] == "/api/v1/devices/printer"
        assert answer.json["password"] == backend.passwords[0]
        device = answer.json["device"]
        assert (device["mailbox"], device["senders"]) == ("office@example.org", ["p@example.org"])
        assert (device["foreign_from"], device["hourly_messages"]) == ("refuse", 7)
        assert backend.hashes[0] not in answer.text

    def test_the_password_is_told_once(self, call, backend) -> None:
        call("POST", "/devices", DEVICE)
        for path in ("/devices", "/relay", "/mailboxes", "/messages", "/openapi.json"):
            text = call("GET", path).text
            assert backend.passwords[0] not in text
            assert backend.hashes[0] not in text

    def test_names_differ(self, call) -> None:
        assert_problem(call("POST", "/devices", DEVICE | {"name": "Scanner"}), 409, "Choose another name")
        assert_problem(call("POST", "/devices", DEVICE | {"mailbox": "x@y"}), 409, "no mailbox x@y")

    def test_wrong_input(self, call, backend) -> None:
        answer = call("POST", "/devices", {"name": "a b ", "extra": 1})
        assert_problem(answer, 422, "/api/v1/openapi.json")
        assert {each["pointer"] for each in answer.json["errors"]} == {"/name", "/mailbox", ""}
        assert backend.calls == []

    def test_problems_are_not_endless(self, call) -> None:
        answer = call("POST", "/devices", {str(number): 0 for number in range(1000)})
        assert len(answer.json["errors"]) == 20

    @pytest.mark.parametrize(
        "body",
        [b"", b"{", b"\xff", b"[" * 60_000, b'"\\ud800"', b'{"name": "\\udfff"}', b"1" * 5000, b"\0"],
    )
    def test_no_json(self, call, body) -> None:
        assert_problem(call("POST", "/devices", body), 400, "not JSON")

    @pytest.mark.parametrize("body", [b"null", b"NaN", b"1e999", b"[]", b"0.5", b'"x"'])
    def test_no_object(self, call, body) -> None:
        assert_problem(call("POST", "/devices", body), 422, "not as described")

    @pytest.mark.parametrize(
        "kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"]
    )
    def test_other_types(self, call, kind) -> None:
        assert_problem(call("POST", "/devices", DEVICE, Content_Type=kind), 415, "application/json")

    def test_too_large(self, call) -> None:
        assert_problem(call("POST", "/devices", b" " * 65_537), 413, "")

    def test_revoke(self, call, backend) -> None:
        answer = call("DELETE", "/devices/scanner")
        assert (answer.status_code, answer.data) == (204, b"")
        assert "scanner" not in backend.device_views
        assert_problem(call("DELETE", "/devices/scanner"), 404, "no such device")

    def test_configured_devices_stay(self, call, backend) -> None:
        assert_problem(call("DELETE", "/devices/me@outlook.com"), 409, "configuration")
        assert "me@outlook.com" in backend.device_views


class TestSignIns:
    def test_device_code(self, call) -> None:
        answer = call("POST", "/sign-ins", {"mailbox": "ME@outlook.com", "kind": "device_code"})
        assert answer.status_code == 201
        assert answer.json["user_code"] == "ABCD1234"
        path = answer.headers["Location"].removeprefix("/api/v1")
        assert call("GET", path).json == answer.json

    def test_redirect_uri(self, call) -> None:
        body = {"mailbox": "me@outlook.com", "kind": "authorization_code"}
        made = call("POST", "/sign-ins", body).json
        assert made["redirect_uri"] == "https://console.example.org/sign-in/callback"
        made = call("POST", "/sign-ins", body | {"redirect_uri": "http://localhost:9/x"}).json
        assert made["redirect_uri"] == "http://localhost:9/x"

    def test_redirect_uri_without_a_public_address(self, local) -> None:
        body = json.dumps({"mailbox": "me@outlook.com", "kind": "authorization_code"})
        made = local.request(
            "POST", "/api/v1/sign-ins", body, Content_Type="application/json", X_CSRFToken=local.token()
        )
        assert made.json["redirect_uri"] == "http://localhost:8025/sign-in/callback"

    def test_what_cannot_be_done_is_said(self, call) -> None:
        body = {"mailbox": "office@example.org", "kind": "device_code"}
        assert_problem(call("POST", "/sign-ins", body), 409, "cannot be signed in this way")
        assert_problem(call("POST", "/sign-ins", body | {"kind": "password"}), 422, "")

    def test_paste(self, call, backend) -> None:
        made = call("POST", "/sign-ins", {"mailbox": "me@outlook.com", "kind": "authorization_code"}).json
        path = f"/sign-ins/{made['id']}/paste"
        assert_problem(call("POST", path, {"address": "http://localhost:8025/x"}), 409, "has no code")
        address = "http://localhost:8025/sign-in/callback?code=abc&state=x"
        done = call("POST", path, {"address": address})
        assert (done.status_code, done.json["state"]) == (200, SignInState.DONE.value)
        assert backend.answers[-1] == address
        assert "code=abc" not in done.text

    def test_confirm(self, call, backend) -> None:
        made = call("POST", "/sign-ins", {"mailbox": "me@outlook.com", "kind": "authorization_code"}).json
        path = f"/sign-ins/{made['id']}/confirm"
        assert_problem(call("POST", path), 409, "nothing to confirm")
        backend.sign_ins[made["id"]] = replace(
            backend.sign_ins[made["id"]], state=SignInState.FAILED, confirmable=True
        )
        assert call("POST", path).json["state"] == SignInState.DONE.value

    def test_unknown_ones(self, call) -> None:
        assert_problem(call("GET", "/sign-ins/x"), 404, "no such sign-in")
        assert_problem(call("POST", "/sign-ins/x/confirm"), 404, "no such sign-in")
        answer = call("POST", "/sign-ins/x/paste", {"address": "http://localhost/?code=1"})
        assert_problem(answer, 404, "no such sign-in")


class TestErrors:
    def test_unknown_paths_and_methods(self, call) -> None:
        assert_problem(call("GET", "/nothing"), 404, "")
        answer = call("PUT", "/devices")
        assert_problem(answer, 405, "")
        assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}

    def test_defects_say_nothing(self, call, backend) -> None:
        backend.failure = RuntimeError("a secret")
        for method, path in [("GET", "/relay"), ("GET", "/messages/x"), ("DELETE", "/devices/x")]:
            answer = call(method, path)
            assert_problem(answer, 500, "")
            assert "secret" not in answer.text

    def test_views_of_other_kinds(self, call, backend) -> None:
        """A backend may answer with any sequence and mapping."""
        hour = replace(backend.hour_counts[0], counts=MappingProxyType({"accepted": 1}))
        backend.hours = lambda: deque([hour])
        assert call("GET", "/hours").json["hours"][0]["counts"] == {"accepted": 1}

    def test_what_has_no_json_is_a_defect(self) -> None:
        with pytest.raises(TypeError, match="no JSON for object"):
            api._plain(object())
