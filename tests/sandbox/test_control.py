"""The control API's own behaviour: waiting, bookkeeping, mistakes."""

import smtplib

import pytest

from sandbox.client import SandboxError

MESSAGE = b"From: me@outlook.com\r\n\r\nHello.\r\n"


def test_mistakes_are_explained(control, world):
    with pytest.raises(SandboxError, match="There is no stage 'lunch'"):
        control.fail_smtp("lunch", drop="now")
    with pytest.raises(SandboxError, match="There is no limit called 'height'"):
        control.limits(height=3)
    with pytest.raises(SandboxError, match=r"There is no account me\.alias@outlook\.com"):
        control.refresh_token("me.alias@outlook.com", world.client_id)
    with pytest.raises(SandboxError, match="There is no app nobody"):
        control.refresh_token(world.personal, "nobody")
    with pytest.raises(SandboxError, match="AADSTS70011"):
        control.refresh_token(world.personal, world.client_id, "https://outlook.office.com/Fly")
    with pytest.raises(SandboxError, match="A certificate is one of"):
        control.certificate("golden")
    with pytest.raises(SandboxError, match="A service is smtp or entra"):
        control.certificate("good", service="graph")
    with pytest.raises(SandboxError, match="An audience is one of"):
        control.add_app(audience="Everybody")
    with pytest.raises(SandboxError, match="is a personal account"):
        control.add_account(world.personal)
    with pytest.raises(SandboxError, match=r"There is no account nobody@example\.org"):
        control.delete_account("nobody@example.org")
    with pytest.raises(SandboxError, match="Unable to load PEM"):
        control.add_certificate(world.client_id, "no certificate")
    with pytest.raises(SandboxError, match="No device waits"):
        control.decline_device("ABC")


def test_authorization_urls_that_are_refused(sandbox, control, world):
    url = (
        f"{sandbox.authority}/common/oauth2/v2.0/authorize?client_id={world.client_id}"
        "&scope=openid&response_type=code"
    )
    with pytest.raises(SandboxError, match="AADSTS50011"):
        control.authorize(world.personal, f"{url}&redirect_uri=http://evil.example.org/")
    with pytest.raises(SandboxError, match="Only S256"):
        control.authorize(
            world.personal,
            f"{url}&redirect_uri=http://localhost:8400/callback&code_challenge=x&code_challenge_method=plain",
        )
    with pytest.raises(SandboxError, match="AADSTS50034"):
        control.authorize("me.alias@outlook.com", url)


def test_waiting_in_vain(control):
    with pytest.raises(SandboxError, match=r"0 messages arrived within 0\.01 s; 1 were expected"):
        control.messages(wait_for=1, timeout=0.01)


def test_only_the_last_messages_are_kept(control, login, world):
    control.limits(keep_messages=2)
    client = login()
    for number in range(3):
        client.sendmail(world.personal, [f"r{number}@example.org"], MESSAGE)
    kept = control.messages(wait_for=3)
    assert [message.recipients for message in kept] == [["r1@example.org"], ["r2@example.org"]]


def test_contents_beyond_the_memory_bound_become_digests(control, login, world):
    control.limits(keep_octets=2 * len(MESSAGE))
    client = login()
    for _ in range(3):
        client.sendmail(world.personal, ["a@example.org"], MESSAGE)
    kept = control.messages(wait_for=3)
    assert [message.content for message in kept] == [None, MESSAGE, MESSAGE]
    assert len({message.sha256 for message in kept}) == 1
    assert len(kept[0].sha256) == 64


def test_pending_faults(control, connect):
    control.fail_smtp("noop", reply="451 4.0.0 No", times=2)
    control.fail_entra(status=503)
    client = connect()
    client.noop()
    smtp, entra = control.faults()
    assert (smtp["stage"], smtp["strikes"], entra["stage"]) == ("noop", 1, "token")
    client.noop()
    assert [fault["stage"] for fault in control.faults()] == ["token"]


def test_reset(control, login, world):
    control.add_account("new@example.org", aliases=("newer@example.org",))
    client = login("new@example.org")
    client.sendmail(
        "newer@example.org", ["a@example.org"], MESSAGE.replace(b"me@outlook.com", b"new@example.org")
    )
    control.limits(expires_in=1, keep="size")
    control.fail_smtp("noop", drop="now", times=0)
    control.advance_clock(1e6)
    control.certificate("expired")
    control.reset()
    assert control.messages() == []
    assert control.faults() == []
    assert (control.limits().expires_in, control.limits().keep) == (3600, "content")
    [still_open] = control.connections()
    assert still_open.user == "new@example.org"
    counts = control.counters().smtp
    assert (counts.connections_now, counts.connections, counts.messages) == (1, 0, 0)
    assert client.noop()[0] == 250
    login("new@example.org")


def test_connections_are_cut(control, login):
    client = login()
    control.fail_smtp("noop", stall=60)
    client.putcmd("NOOP")
    control.disconnect()
    with pytest.raises(smtplib.SMTPServerDisconnected):
        client.getreply()
    assert control.counters().smtp.connections_now == 0


def test_connections_are_closed_in_the_books(control, login):
    client = login()
    assert control.counters().smtp.connections_now == 1
    client.quit()
    assert control.counters().smtp.connections_now == 0
    [connection] = control.connections()
    assert connection.closed_at >= connection.opened_at
    assert list(connection.exchanges)[-1] == ["quit"]
