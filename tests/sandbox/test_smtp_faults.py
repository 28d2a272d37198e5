"""Each way in which Outlook's SMTP server can be told to fail."""

import smtplib
import ssl
import time

import pytest

MESSAGE = b"From: me@outlook.com\r\nTo: you@example.org\r\nSubject: Hello\r\n\r\nHello.\r\n"
GONE = (smtplib.SMTPServerDisconnected, ConnectionError)


@pytest.fixture
def send(login, world):
    """Send MESSAGE to one recipient over a new connection."""

    def run(client=None):
        return (client or login()).sendmail(world.personal, ["you@example.org"], MESSAGE)

    return run


def test_reply_at_connect(control, connect):
    control.fail_smtp("connect", reply="554 5.3.2 Not today")
    with pytest.raises(smtplib.SMTPConnectError) as refused:
        connect()
    assert (refused.value.smtp_code, refused.value.smtp_error) == (554, b"5.3.2 Not today")
    connect()


def test_greeting_in_other_words(control, sandbox):
    control.fail_smtp("connect", reply="220-first\n220 second")
    with smtplib.SMTP() as client:
        assert client.connect("localhost", sandbox.smtp_port) == (220, b"first\nsecond")


def test_ehlo_without_pipelining(control, connect):
    control.fail_smtp("ehlo", reply="250-host\n250 STARTTLS", times=2)
    assert set(connect(tls=False).esmtp_features) == {"starttls"}


def test_reply_at_ehlo_and_helo(control, connect):
    control.fail_smtp("ehlo", reply="421 4.3.2 Busy", skip=2)
    client = connect()
    assert client.docmd("HELO", "x") == (421, b"4.3.2 Busy")
    with pytest.raises(GONE):
        client.noop()


def test_reply_at_starttls(control, connect):
    control.fail_smtp("starttls", reply="454 4.7.0 TLS not available")
    with pytest.raises(smtplib.SMTPResponseException, match="454"):
        connect()


def test_reply_at_auth(control, connect, authenticate, world, token):
    control.fail_smtp("auth", reply="454 4.7.0 Temporary authentication failure", user=world.personal)
    client = connect()
    with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
        authenticate(client, world.personal, token)
    assert refused.value.smtp_code == 454
    assert authenticate(client, world.personal, token)[0] == 235


def test_reply_at_mail_rcpt_and_data(control, login, world):
    control.fail_smtp("mail", reply="451 4.7.500 Server busy")
    control.fail_smtp("rcpt", reply="550-5.1.1 No\n550 5.1.1 such user", address="B@example.org")
    control.fail_smtp("data", reply="451 4.3.0 Later")
    client = login()
    assert client.mail(world.personal) == (451, b"4.7.500 Server busy")
    assert client.mail(world.personal)[0] == 250
    assert client.rcpt("a@example.org")[0] == 250
    assert client.rcpt("b@example.org") == (550, b"5.1.1 No\n5.1.1 such user")
    assert client.rcpt("b@example.org")[0] == 250
    assert client.docmd("DATA") == (451, b"4.3.0 Later")
    assert client.data(MESSAGE)[0] == 250
    assert control.messages(wait_for=1)[0].recipients == ["a@example.org", "b@example.org"]


def test_reply_at_the_end_of_data(control, send):
    control.fail_smtp("eod", reply="554 5.2.0 STOREDRV.Submission.Exception:OutboundSpamException")
    with pytest.raises(smtplib.SMTPDataError, match="OutboundSpam"):
        send()
    assert control.counters().smtp.messages_refused == 1
    assert control.messages() == []


def test_acceptance_in_other_words(control, login, world):
    control.fail_smtp("eod", reply="250 2.0.0 Fine")
    client = login()
    client.mail(world.personal)
    client.rcpt("a@example.org")
    assert client.data(MESSAGE) == (250, b"2.0.0 Fine")
    assert control.messages(wait_for=1)[0].reply == "250 2.0.0 Fine"


@pytest.mark.parametrize("command", ["noop", "rset", "quit"])
def test_reply_at_small_commands(control, login, command):
    control.fail_smtp(command, reply="452 4.3.1 No")
    client = login()
    assert client.docmd(command) == (452, b"4.3.1 No")
    assert client.docmd(command)[0] in (250, 221)


@pytest.mark.parametrize("stage", ["connect", "ehlo", "starttls", "auth", "mail", "rcpt", "data"])
def test_drop(control, send, stage):
    control.fail_smtp(stage, drop="now")
    with pytest.raises(GONE):
        send()
    send()
    assert len(control.messages(wait_for=1)) == 1


@pytest.mark.parametrize("stage", ["noop", "rset", "quit"])
def test_drop_at_small_commands(control, login, stage):
    control.fail_smtp(stage, drop="now")
    with pytest.raises(GONE):
        login().docmd(stage)


@pytest.mark.parametrize(("drop", "taken"), [("after_dot", 0), ("after_accept", 1)])
def test_drop_after_the_final_dot(control, send, drop, taken):
    control.fail_smtp("eod", drop=drop)
    with pytest.raises(GONE):
        send()
    assert len(control.messages(wait_for=taken)) == taken
    [connection] = control.connections()
    assert connection.messages == taken
    assert connection.exchanges[-1] == ["data"]  # nothing was answered after it


def test_drop_in_mid_content(control, login, world):
    control.fail_smtp("eod", drop="before_dot")
    client = login()
    client.mail(world.personal)
    client.rcpt("a@example.org")
    assert client.docmd("DATA")[0] == 354
    client.send(MESSAGE)
    with pytest.raises(GONE):
        client.getreply()
    assert control.messages() == []


def test_stall(control, login):
    client = login()
    control.fail_smtp("noop", stall=60)
    client.sock.settimeout(0.1)
    with pytest.raises(smtplib.SMTPServerDisconnected, match="timed out"):
        client.noop()


def test_stall_then_the_usual_reply(control, send):
    control.fail_smtp("eod", stall=0.05)
    begun = time.monotonic()
    send()
    assert time.monotonic() - begun >= 0.05  # a slow machine only makes it longer


def test_a_message_that_the_client_gave_up_on_is_taken_all_the_same(control, login, world):
    control.fail_smtp("eod", stall=0.2)
    client = login()
    client.mail(world.personal)
    client.rcpt("a@example.org")
    client.sock.settimeout(0.05)
    with pytest.raises(GONE):
        client.data(MESSAGE)
    assert len(control.messages(wait_for=1)) == 1


def test_slow_reader(control, send, login, world):
    control.fail_smtp("data", slow=len(MESSAGE) * 10)
    client = login()
    begun = time.monotonic()
    send(client)
    assert time.monotonic() - begun >= 0.1
    assert control.messages(wait_for=1)[0].content == MESSAGE
    send(client)  # at full speed again, over the same connection


def test_slow_reader_fills_the_network(control, login, world):
    control.fail_smtp("connect", slow=1000)
    client = login()
    client.mail(world.personal)
    client.rcpt("a@example.org")
    assert client.docmd("DATA")[0] == 354
    client.sock.settimeout(0.2)

    def fill(octets=32_000_000, chunk=b"x" * 65_536):  # far more than all buffers between us take
        for _ in range(0, octets, len(chunk)):
            client.sock.sendall(chunk)

    with pytest.raises(TimeoutError):
        fill()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("wrong_name", "[Hh]ostname mismatch"),
        ("self_signed", "self-signed certificate"),
        ("expired", "certificate has expired"),
    ],
)
def test_certificates(control, connect, kind, words):
    control.fail_smtp("starttls", certificate=kind)
    with pytest.raises(ssl.SSLCertVerificationError, match=words):
        connect()
    connect()
    control.certificate(kind)
    for _ in range(2):
        with pytest.raises(ssl.SSLCertVerificationError, match=words):
            connect()
    control.certificate("good")
    connect()


def test_only_for_one_user(control, login, world):
    control.fail_smtp("mail", reply="451 4.0.0 No", user=world.work)
    assert login().mail(world.personal)[0] == 250
    assert login(world.work).mail(world.work)[0] == 451


def test_only_for_one_address(control, send):
    control.fail_smtp("eod", reply="451 4.0.0 No", address="other@example.org")
    send()
    control.fail_smtp("data", reply="451 4.0.0 No", address="you@example.org")
    with pytest.raises(smtplib.SMTPDataError):
        send()


def test_close_idle(control, login, world):
    mine, theirs = login(), login(world.work)
    assert control.close_idle(world.personal) == 1
    assert mine.getreply()[0] == 451
    with pytest.raises(GONE):
        mine.noop()
    assert theirs.noop()[0] == 250
    assert control.close_idle(silent=True) == 1
    with pytest.raises(GONE):
        theirs.getreply()
