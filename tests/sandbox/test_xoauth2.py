"""Who may sign in at Outlook's SMTP server, and what the others are told."""

import smtplib

import pytest


@pytest.mark.parametrize("one_line", [True, False])
def test_both_forms(connect, authenticate, world, token, one_line):
    code, text = authenticate(connect(), world.personal, token, one_line=one_line)
    assert (code, text) == (235, b"2.7.0 Authentication successful")


def test_app_only_token_opens_the_mailboxes_of_the_app(connect, authenticate, control, world):
    token = control.access_token("", world.client_id)
    assert authenticate(connect(), world.work, token)[0] == 235


def test_app_only_token_opens_no_other_mailbox(connect, authenticate, control, world):
    control.add_account("other@example.org")
    token = control.access_token("", world.client_id)
    with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
        authenticate(connect(), "other@example.org", token)
    assert refused.value.smtp_code == 535


def test_app_without_the_role(connect, authenticate, control, world):
    app = control.add_app(mailboxes=(world.work,))
    with pytest.raises(smtplib.SMTPAuthenticationError, match=r"5\.7\.3"):
        authenticate(connect(), world.work, control.access_token("", app.client_id))


def test_an_alias_is_no_user(connect, authenticate, token):
    with pytest.raises(smtplib.SMTPAuthenticationError, match=r"5\.7\.3 Authentication unsuccessful \["):
        authenticate(connect(), "me.alias@outlook.com", token)


def test_a_token_opens_no_other_mailbox(connect, authenticate, world, token):
    with pytest.raises(smtplib.SMTPAuthenticationError, match=r"5\.7\.3"):
        authenticate(connect(), world.work, token)


def test_expired_token(connect, authenticate, control, world, token):
    control.advance_clock(3600)
    with pytest.raises(smtplib.SMTPAuthenticationError, match=r"5\.7\.3"):
        authenticate(connect(), world.personal, token)


def test_account_that_was_deleted(connect, authenticate, control, world):
    control.add_account("brief@outlook.com", personal=True)
    token = control.access_token("brief@outlook.com", world.client_id)
    assert authenticate(connect(), "brief@outlook.com", token)[0] == 235
    control.delete_account("brief@outlook.com")
    with pytest.raises(smtplib.SMTPAuthenticationError, match=r"5\.7\.3"):
        authenticate(connect(), "brief@outlook.com", token)


def test_token_for_graph(connect, authenticate, control, world):
    token = control.access_token(
        world.personal, world.client_id, scopes="https://graph.microsoft.com/SMTP.Send"
    )
    with pytest.raises(smtplib.SMTPAuthenticationError, match=r"5\.7\.3"):
        authenticate(connect(), world.personal, token)


def test_token_that_was_tampered_with(connect, authenticate, world, token):
    head, claims, signature = token.split(".")
    with pytest.raises(smtplib.SMTPAuthenticationError, match=r"5\.7\.3"):
        authenticate(connect(), world.personal, f"{head}.{claims}.{signature[::-1]}")


def test_challenge_with_json_before_the_535(connect, authenticate, control, world):
    control.limits(auth_failure="challenge")
    client = connect()
    challenges = []
    answers = iter([f"user={world.personal}\x01auth=Bearer bad\x01\x01", ""])

    def answer(challenge=None):
        challenges.append(challenge)
        return next(answers)

    with pytest.raises(smtplib.SMTPAuthenticationError, match=r"5\.7\.3"):
        client.auth("XOAUTH2", answer)
    assert challenges[0] is None
    assert b'"schemes": "Bearer"' in challenges[1]


@pytest.mark.parametrize("response", ["%%%", "bm90IHhvYXV0aDI=", "*", "é"])
def test_malformed(wire, response):
    wire.sendall(b"AUTH XOAUTH2\r\n")
    assert wire.recv(4096) == b"334 \r\n"
    wire.sendall(response.encode() + b"\r\n")
    assert wire.recv(4096).startswith(b"535 5.7.3")


def test_token_of_12_kilobytes_fits(wire, world, auth_line):
    line = auth_line(world.personal, "x" * 9000)
    assert 12_000 < len(line) <= 12_288
    wire.sendall(line)
    assert wire.recv(4096).startswith(b"535 5.7.3")


def test_mailbox_with_smtp_auth_switched_off(connect, authenticate, control, world):
    control.add_account("off@outlook.com", personal=True, smtp_auth_disabled=True)
    token = control.access_token("off@outlook.com", world.client_id)
    with pytest.raises(
        smtplib.SMTPAuthenticationError,
        match=r"5\.7\.139 .*, SmtpClientAuthentication is disabled for the Mailbox",
    ):
        authenticate(connect(), "off@outlook.com", token)


def test_passwords_are_refused(connect, control, world):
    for mechanism in ("auth_login", "auth_plain"):
        client = connect()
        client.user, client.password = world.personal, "any"
        name = mechanism.removeprefix("auth_").upper()
        with pytest.raises(
            smtplib.SMTPAuthenticationError, match=r"5\.7\.139 .*basic authentication is disabled"
        ):
            client.auth(name, getattr(client, mechanism))
    assert control.counters().smtp.auth_failures == 2


def test_plain_without_initial_response(wire):
    wire.sendall(b"AUTH PLAIN\r\n")
    assert wire.recv(4096) == b"334 \r\n"
    wire.sendall(b"AGEAYg==\r\n")
    assert wire.recv(4096).startswith(b"535 5.7.139")


def test_login_with_initial_response(wire):
    wire.sendall(b"AUTH LOGIN bWU=\r\n")
    assert wire.recv(4096) == b"334 UGFzc3dvcmQ6\r\n"
    wire.sendall(b"AAAA\r\n")
    assert wire.recv(4096).startswith(b"535 5.7.139")


def test_unknown_mechanism_and_auth_in_the_clear(connect):
    assert connect().docmd("AUTH", "CRAM-MD5")[0] == 504
    assert connect(tls=False).docmd("AUTH", "XOAUTH2")[0] == 504


def test_twice(login):
    assert login().docmd("AUTH", "XOAUTH2")[0] == 503
