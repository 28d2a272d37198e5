"""The limits that Outlook enforces."""

import smtplib

import pytest

MESSAGE = b"From: me@outlook.com\r\nTo: you@example.org\r\nSubject: Hello\r\n\r\nHello.\r\n"


def test_fourth_connection_is_refused_at_the_end_of_data(login, control, world):
    clients = [login() for _ in range(4)]
    clients[3].mail(world.personal)
    assert clients[3].rcpt("a@example.org")[0] == 250
    code, text = clients[3].data(MESSAGE)
    assert (code, text[:43]) == (432, b"4.3.2 Concurrent connections limit exceeded")
    clients[0].sendmail(world.personal, ["a@example.org"], MESSAGE)  # the others are not troubled
    clients[1].quit()
    clients[3].sendmail(world.personal, ["a@example.org"], MESSAGE)
    counts = control.counters().smtp
    assert (counts.authenticated_peak, counts.mailbox_peak) == (4, {world.personal: 4})
    assert (counts.messages, counts.messages_refused) == (2, 1)


def test_connections_are_counted_by_mailbox(login, control, world):
    for _ in range(3):
        login(world.work)
    login().sendmail(world.personal, ["a@example.org"], MESSAGE)


def test_messages_per_minute(login, control, world):
    control.limits(messages_per_minute=2)
    client = login()
    for _ in range(2):
        client.sendmail(world.personal, ["a@example.org"], MESSAGE)
    code, text = client.docmd("MAIL", f"FROM:<{world.personal}>")
    assert (code, text) == (
        421,
        b"4.4.2 Message submission rate for this client has exceeded the configured limit",
    )
    control.advance_clock(60)
    login().sendmail(world.personal, ["a@example.org"], MESSAGE)


def test_recipients_per_message(login, control, world):
    client = login()
    wanted = [f"r{number}@example.org" for number in range(502)]
    refused = client.sendmail(world.personal, wanted, MESSAGE)
    assert sorted(refused) == ["r500@example.org", "r501@example.org"]
    assert refused["r500@example.org"][0] == 452
    assert refused["r500@example.org"][1].startswith(b"4.5.3")
    assert len(control.messages(wait_for=1)[0].recipients) == 500


def test_recipients_per_day(login, control, world):
    control.limits(recipients_per_day=2)
    client = login()
    client.sendmail(world.personal, ["a@example.org", "b@example.org"], MESSAGE)
    with pytest.raises(smtplib.SMTPDataError, match="SubmissionQuotaExceededException") as refused:
        client.sendmail(world.personal, ["a@example.org"], MESSAGE)
    assert refused.value.smtp_code == 554
    control.advance_clock(86_400)
    client.sendmail(world.personal, ["a@example.org"], MESSAGE)


def test_size_as_announced(login, control):
    control.limits(message_octets=1000)
    code, text = login().docmd("MAIL", "FROM:<me@outlook.com> SIZE=1001")
    assert (code, text[:5]) == (552, b"5.3.4")


@pytest.mark.parametrize(
    ("limit", "size"),
    [
        (1_000, 1_001),
        (1_000, 1_000_000),
        (1_000_000, 1_700_000),
    ],  # a little, and so much that it is thrown away
)
def test_size_as_sent(login, control, world, limit, size):
    control.limits(message_octets=limit)
    client = login()
    client.mail(world.personal)
    client.rcpt("a@example.org")
    code, text = client.data(MESSAGE.ljust(size - 2, b"x") + b"\r\n")
    assert (code, text[:5]) == (552, b"5.3.4")
    client.mail(world.personal)
    client.rcpt("a@example.org")
    assert client.data(MESSAGE.ljust(limit - 2, b"x") + b"\r\n")[0] == 250


def test_foreign_mail_from(login, world):
    with pytest.raises(
        smtplib.SMTPDataError,
        match=r"5\.2\.252 SendAsDenied; me@outlook\.com not allowed to send as boss@example\.org",
    ) as refused:
        login().sendmail("boss@example.org", ["a@example.org"], MESSAGE)
    assert refused.value.smtp_code == 554


def test_foreign_from(login, world):
    foreign = MESSAGE.replace(b"From: me@outlook.com", b"From: The Boss\r\n <Boss@example.org>")
    with pytest.raises(smtplib.SMTPDataError, match=r"not allowed to send as Boss@example\.org"):
        login().sendmail(world.personal, ["a@example.org"], foreign)


def test_aliases_and_the_null_sender_are_allowed(login, control, world):
    client = login()
    client.sendmail("ME.alias@outlook.com", ["a@example.org"], MESSAGE.replace(b"me@", b"me.alias@"))
    client.sendmail("", ["a@example.org"], MESSAGE)
    assert len(control.messages(wait_for=2)) == 2


def test_sender_check_can_be_switched_off(login, control):
    control.limits(sender_check=False)
    login().sendmail("boss@example.org", ["a@example.org"], MESSAGE)


def test_idle_connections_are_closed(login, control):
    client = login()
    control.limits(idle_seconds=0.05)
    assert client.noop()[0] == 250  # from here on the new limit counts
    code, text = client.getreply()
    assert (code, text[:42]) == (451, b"4.7.0 Timeout waiting for client input [AM")
    with pytest.raises(smtplib.SMTPServerDisconnected):
        client.getreply()


def test_no_limits(login, control, world):
    control.no_limits()
    clients = [login() for _ in range(5)]
    for client in clients:
        client.sendmail("boss@example.org", ["a@example.org"], MESSAGE)
    messages = control.messages(wait_for=5)
    assert {(message.content, message.sha256, message.size) for message in messages} == {
        (None, "", len(MESSAGE))
    }
