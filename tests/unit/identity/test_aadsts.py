"""Microsoft's refusals: what kind they are follows from `error`, the words from the AADSTS number."""

import re
import secrets
from typing import Any

import pytest

from relay_app.errors import SignInNeeded, TokenError
from relay_app.identity import aadsts
from relay_app.identity.aadsts import aadsts_code, token_error
from relay_app.settings import Flow, MailboxSettings

MAILBOX = MailboxSettings(
    address="me@outlook.com",
    flow=Flow.AUTHORIZATION_CODE,
    tenant="consumers",
    client_id="6f1d0f0e-0000-4000-8000-000000000001",
    client_secret="s" * 12,
)
APP_ONLY = MailboxSettings(
    "box@example.com", Flow.CLIENT_CREDENTIALS, "example.com", MAILBOX.client_id, "s" * 12
)


def answer(error: str, code: int | None = None, text: str = "Words.", **more: Any) -> dict[str, Any]:
    """An error answer as Entra gives it."""
    prefix = f"AADSTS{code}: " if code else ""
    return {
        "error": error,
        "error_description": f"{prefix}{text} Trace ID: 00000000-0000-0000-0000-00000000f00d "
        "Correlation ID: 00000000-0000-0000-0000-00000000beef Timestamp: 2026-01-01 00:00:00Z",
        **({"error_codes": [code]} if code else {}),
        **more,
    }


@pytest.mark.parametrize(
    "error",
    [
        "invalid_grant",
        "interaction_required",
        "consent_required",
        "login_required",
        "account_selection_required",
        "access_denied",
        "authorization_declined",
        "bad_verification_code",
        "expired_token",
    ],
)
def test_what_a_person_must_do_is_a_sign_in(error: str) -> None:
    assert isinstance(token_error(answer(error), MAILBOX, status=400), SignInNeeded)


@pytest.mark.parametrize(
    "error",
    [
        "invalid_client",
        "unauthorized_client",
        "invalid_request",
        "invalid_scope",
        "invalid_resource",
        "new_error",
        "",
    ],
)
def test_what_the_app_or_the_settings_do_wrong_is_permanent(error: str) -> None:
    got = token_error(answer(error), MAILBOX, status=400)
    assert type(got) is TokenError
    assert not got.temporary
    assert got.action


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("temporarily_unavailable", 400),
        ("server_error", 400),
        ("slow_down", 400),
        ("invalid_grant", 429),
        ("invalid_client", 500),
        ("invalid_request", 503),
    ],
)
def test_what_passes_is_temporary(error: str, status: int) -> None:
    got = token_error(answer(error, 90033), MAILBOX, status=status, retry_after=7)
    assert type(got) is TokenError
    assert got.temporary
    assert got.retry_after == 7


@pytest.mark.parametrize("error", ["invalid_grant", "interaction_required", "access_denied"])
def test_an_app_that_signs_in_as_itself_never_needs_a_person_to_sign_in(error: str) -> None:
    got = token_error(answer(error, 53003), APP_ONLY, status=400)
    assert type(got) is TokenError
    assert not got.temporary


@pytest.mark.parametrize("number", [7000215, 700082, 65001])
def test_the_number_does_not_decide(number: int) -> None:
    assert isinstance(token_error(answer("invalid_grant", number), MAILBOX, status=400), SignInNeeded)
    assert type(token_error(answer("invalid_client", number), MAILBOX, status=401)) is TokenError


@pytest.mark.parametrize(
    ("error", "code", "words", "action"),
    [
        ("invalid_grant", 70000, "not valid", "smtp-relay login me@outlook.com"),
        ("invalid_grant", 70008, "not used for too long", "smtp-relay login me@outlook.com"),
        ("invalid_grant", 700082, "90 days", "smtp-relay login me@outlook.com"),
        ("invalid_grant", 70043, "sign-in frequency", "smtp-relay login me@outlook.com"),
        ("invalid_grant", 50173, "revoked", "smtp-relay login me@outlook.com"),
        ("interaction_required", 50076, "second factor", "smtp-relay login me@outlook.com"),
        ("interaction_required", 50079, "set up a second factor", "smtp-relay login me@outlook.com"),
        ("invalid_grant", 65001, "consented", "accept what the app asks for"),
        ("access_denied", 53003, "Conditional Access", "administrator"),
        ("interaction_required", 53000, "compliant device", "administrator"),
        ("access_denied", 530035, "security defaults", "administrator"),
        ("invalid_grant", 50126, "password was wrong", "smtp-relay login"),
        ("invalid_client", 7000215, "ID that was copied instead of its Value", "CLIENT_SECRET"),
        ("invalid_client", 7000222, "has expired", "Certificates & secrets"),
        ("invalid_client", 7000218, "no client secret was sent", "Allow public client flows"),
        ("invalid_client", 700025, "must not send a client secret", "Remove CLIENT_SECRET"),
        ("unauthorized_client", 700016, f"app {MAILBOX.client_id} in the directory consumers", "CLIENT_ID"),
        ("invalid_request", 50194, "one organisation only, but TENANT_ID is consumers", "TENANT_ID"),
        ("invalid_request", 9002332, "organisations only", "TENANT_ID"),
        ("invalid_request", 90023, "a moment ago", "Wait a minute"),
        ("invalid_request", 9001023, "client_credentials does not work", "authorization_code"),
        ("invalid_request", 90002, "no directory consumers", "TENANT_ID"),
        ("invalid_scope", 70011, "scope", "client_credentials"),
        ("invalid_request", 28000, "more than one service", "report"),
        ("invalid_request", 700022, "more than one service", "report"),
        ("invalid_client", 70021, "federated credential", "minutes"),
        ("invalid_client", 700027, "certificate", "RELAY_CLIENT_CERT"),
        ("invalid_client", 700024, "clock", "NTP"),
        ("invalid_client", 500112, "has changed", "console's Sign in page"),
        ("invalid_request", 50011, "redirect address", "Authentication page"),
        ("invalid_grant", 50034, "deleted", "USER_EMAIL"),
        ("access_denied", 65004, "declined", "accept"),
        ("expired_token", 70020, "15 minutes", "console's Sign in page"),
    ],
)
def test_known_numbers_have_words_and_a_next_step(error: str, code: int, words: str, action: str) -> None:
    got = token_error(answer(error, code, "Microsoft's own."), MAILBOX, status=400)
    assert words in got.sentence
    assert action in got.action
    assert got.code == f"AADSTS{code}"
    assert "Microsoft's own" not in str(got)


def test_every_row_is_a_sentence_with_a_next_step_and_known_names() -> None:
    for sentence, action in [*aadsts._CODES.values(), *aadsts._SUBERRORS.values()]:
        assert sentence[0].isupper(), sentence
        assert sentence.endswith(".")
        assert action
        assert set(re.findall(r"\{.*?\}", sentence + action)) <= {"{mailbox}", "{app}", "{tenant}"}


def test_an_unknown_number_uses_the_suberror() -> None:
    got = token_error(answer("invalid_grant", 999999, suberror="token_expired"), MAILBOX, status=400)
    assert got.sentence == "The sign-in of me@outlook.com has expired."
    assert got.code == "AADSTS999999"


def test_an_unknown_error_is_quoted_without_ids() -> None:
    text = "Something {mailbox} new\nand more."
    got = token_error(answer("invalid_grant", 999999, text), MAILBOX, status=400)
    assert got.sentence == "Microsoft refuses a token for me@outlook.com: Something {mailbox} new"
    assert got.code == "AADSTS999999"
    assert "Trace" not in str(got)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("access_denied", "cancelled, or the consent was declined"),
        ("authorization_declined", "declined"),
        ("expired_token", "15 minutes"),
        ("bad_verification_code", "not valid"),
        ("login_required", "wants a person to sign in"),
        ("interaction_required", "wants a person to sign in"),
        ("account_selection_required", "which of several accounts"),
        ("consent_required", "Nobody has consented"),
    ],
)
def test_an_error_without_a_number_is_known_by_its_name(error: str, words: str) -> None:
    got = token_error({"error": error, "error_description": "Microsoft's own."}, MAILBOX, status=400)
    assert words in got.sentence
    assert MAILBOX.address in got.action
    assert (got.code, isinstance(got, SignInNeeded)) == ("", True)


def test_an_unknown_number_says_more_than_the_errors_name() -> None:
    got = token_error(answer("access_denied", 999999, "Microsoft's own."), MAILBOX, status=400)
    assert got.sentence.endswith("Microsoft's own.")


def test_who_must_sign_in_learns_of_the_console_and_the_command() -> None:
    for sentence, action in [*aadsts._CODES.values(), *aadsts._SUBERRORS.values()]:
        if "smtp-relay login" in action:
            assert "the console's Sign in page" in action, sentence


def test_an_error_without_description_is_quoted() -> None:
    assert token_error({"error": "odd"}, MAILBOX, status=400).sentence.endswith(": odd")
    assert token_error({}, MAILBOX, status=400).sentence.endswith("no reason given.")


def test_the_number_may_be_only_in_error_codes() -> None:
    got = token_error({"error": "invalid_grant", "error_codes": [700082]}, MAILBOX, status=400)
    assert "90 days" in got.sentence
    assert token_error({"error": "x", "error_codes": []}, MAILBOX, status=400).code == ""
    assert token_error({"error": "x", "error_codes": ["?"]}, MAILBOX, status=400).sentence.endswith(": x")


def test_nothing_secret_is_quoted() -> None:
    token = secrets.token_urlsafe(60)
    text = f"You sent {token} and {MAILBOX.client_secret}\u2028 and {'x' * 20 + ' ' + 'long words ' * 80}"
    got = token_error(answer("invalid_grant", 999999, text), MAILBOX, status=400)
    assert token not in str(got)
    assert MAILBOX.client_secret not in str(got)
    assert str(got).isascii()
    assert len(got.sentence) < 400


def test_the_app_without_a_secret_is_quoted_too() -> None:
    public = MailboxSettings("me@outlook.com", Flow.DEVICE_CODE, "consumers", MAILBOX.client_id)
    assert token_error(answer("odd", 1234, "Plain."), public, status=400).sentence.endswith(": Plain.")


def test_aadsts_code() -> None:
    assert aadsts_code("x AADSTS90002: y AADSTS1234: z") == "AADSTS90002"
    assert aadsts_code("nothing") == ""
