"""The search for secrets in logs finds what it must."""

import base64

import pytest
from harness import logfmt
from harness.planted import Planted


@pytest.mark.parametrize("before", ["", "\0", "\0u", "\0us"])
def test_a_secret_is_found_plain_and_in_base64(before: str) -> None:
    planted = Planted()
    secret = planted.make("password")
    encoded = base64.b64encode(f"{before}{secret} and more".encode()).decode()

    assert planted.found_in(f"... {before}{secret} ...") == ["password"]
    assert planted.found_in(f"... {encoded} ...") == ["password"]
    assert planted.found_in("nothing to see here") == []


def test_tokens_are_secrets_whoever_made_them() -> None:
    response = base64.b64encode(b"user=me@example.com\x01auth=Bearer abc\x01\x01").decode()
    assert Planted().found_in(f"reply={response}") == ["an XOAUTH2 response"]
    header = base64.urlsafe_b64encode(b'{"alg":"RS256","typ":"JWT"}').decode()
    assert Planted().found_in(f"token={header}.e30.c2ln") == ["a token"]


def test_what_is_no_event_is_a_stray() -> None:
    event = 'time=2026-11-22T10:00:00Z level=info event=message reply="250 2.0.0 said \\"OK\\"" id=1'
    assert logfmt.parse(event)["reply"] == '250 2.0.0 said "OK"'
    trace = ["Traceback (most recent call last):", "ResourceWarning: unclosed socket", "level=info only=this"]
    assert logfmt.strays([event, *trace]) == trace
