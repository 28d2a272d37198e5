"""Messages on their way into Outlook, octet by octet."""

import smtplib

import pytest

MESSAGE = b"From: me@outlook.com\r\nTo: you@example.org\r\nSubject: Hello\r\n\r\nHello.\r\n"


def test_a_message_arrives_as_it_was_sent(login, control, world):
    client = login()
    octets = MESSAGE + b".a dot\r\n..two\r\n\r\n.\x80\xff long: " + b"x" * 5000 + b"\r\n"
    client.mail(world.personal, ["SIZE=1", "BODY=8BITMIME", "RET=HDRS"])
    client.rcpt("you@example.org", ["NOTIFY=NEVER"])
    code, text = client.data(octets)
    assert code == 250
    assert text.startswith(b"2.0.0 OK <")
    assert b"[Hostname=" in text
    [message] = control.messages(wait_for=1)
    assert message.content == octets
    assert message.mail == "mail FROM:<me@outlook.com> SIZE=1 BODY=8BITMIME RET=HDRS"
    assert message.rcpt == ["rcpt TO:<you@example.org> NOTIFY=NEVER"]
    assert (message.sender, message.recipients) == (world.personal, ["you@example.org"])
    assert (message.user, message.ehlo, message.tls) == (world.personal, "client.example.org", "TLSv1.3")
    assert message.reply == f"250 {text.decode()}"


def test_needs_authentication(connect):
    assert connect().docmd("MAIL", "FROM:<me@outlook.com>")[0] == 530


def test_needs_ehlo(wire, sandbox, trust):
    client = smtplib.SMTP("localhost", sandbox.smtp_port, timeout=20)
    with client:
        assert client.docmd("MAIL", "FROM:<me@outlook.com>") == (503, b"5.5.2 Send hello first")


def test_order(login):
    client = login()
    assert client.docmd("RCPT", "TO:<a@example.org>") == (503, b"5.5.2 Need mail command")
    assert client.docmd("DATA") == (503, b"5.5.2 Need mail command")
    assert client.docmd("MAIL", "FROM:<me@outlook.com>")[0] == 250
    assert client.docmd("MAIL", "FROM:<me@outlook.com>") == (503, b"5.5.2 Sender already specified")
    assert client.docmd("DATA") == (503, b"5.5.2 Need rcpt command")
    assert client.docmd("RSET")[0] == 250
    assert client.docmd("RCPT", "TO:<a@example.org>")[0] == 503


@pytest.mark.parametrize(
    "arguments",
    [
        "me@outlook.com",
        "FROM:me@outlook.com",
        "FROM:<me@outlook.com> FROB=1",
        "FROM:<me@outlook.com> SIZE=x",
        "FROM:<me@outlook.com> BODY=EBCDIC",
    ],
)
def test_mail_syntax(login, arguments):
    assert login().docmd("MAIL", arguments) == (501, b"5.5.4 Invalid arguments")


@pytest.mark.parametrize("arguments", ["a@example.org", "TO:<>", "TO:<a@example.org> FROB=1"])
def test_rcpt_syntax(login, world, arguments):
    client = login()
    client.mail(world.personal)
    assert client.docmd("RCPT", arguments) == (501, b"5.5.4 Invalid arguments")


def test_quoted_local_part(login, control, world):
    client = login()
    client.docmd("MAIL", f"FROM:<{world.personal}>")
    assert client.docmd("RCPT", 'TO:<"a > b"@example.org>')[0] == 250


def test_smtputf8(wire, control, world, token, replies, auth_line):
    wire.sendall(auth_line(world.personal, token))
    replies(1)
    wire.sendall("MAIL FROM:<jürgen@example.org>\r\n".encode())
    assert replies(1).startswith(b"553 5.6.7")
    wire.sendall("MAIL FROM:<me@outlook.com>\r\nRCPT TO:<jürgen@example.org>\r\nRSET\r\n".encode())
    assert b"\r\n553 5.6.7" in replies(3)
    wire.sendall("MAIL FROM:<me@outlook.com> SMTPUTF8\r\nRCPT TO:<jürgen@example.org>\r\nDATA\r\n".encode())
    assert b"354" in replies(3)
    wire.sendall(MESSAGE + b".\r\n")
    assert replies(1).startswith(b"250 2.0.0 OK")
    [message] = control.messages(wait_for=1)
    assert message.recipients == ["jürgen@example.org"]


def test_only_crlf_dot_crlf_ends_the_content(wire, control, world, token, replies, auth_line):
    content = MESSAGE + b"a\n.\nb\n.\r\nc\r\n.\nd\r.\re\r\n"
    wire.sendall(auth_line(world.personal, token))
    wire.sendall(f"MAIL FROM:<{world.personal}>\r\nRCPT TO:<a@example.org>\r\nDATA\r\n".encode())
    replies(4)
    for octet in content.replace(b"\r\n.", b"\r\n..") + b".\r\n":  # one octet at a time: any split will do
        wire.sendall(bytes([octet]))
    assert replies(1).startswith(b"250 2.0.0 OK")
    assert control.messages(wait_for=1)[0].content == content


def test_empty_message_sent_together_with_its_commands(wire, control, world, token, replies, auth_line):
    commands = ["MAIL FROM:<me@outlook.com>", "RCPT TO:<a@example.org>", "DATA"]
    wire.sendall(auth_line(world.personal, token))
    replies(1)
    wire.sendall("\r\n".join([*commands, ".", ""]).encode())
    assert [line[:3] for line in replies(4).split(b"\r\n")[:-1]] == [b"250", b"250", b"354", b"250"]
    assert control.messages(wait_for=1)[0].content == b""
    assert list(control.connections()[-1].exchanges)[-2:] == [commands, ["(0 octets)"]]  # RFC 2920 3.1


def test_pipelined_commands_are_answered_in_one_round_trip(wire, control, world, token, replies, auth_line):
    wire.sendall(auth_line(world.personal, token))
    replies(1)
    commands = [
        "MAIL FROM:<me@outlook.com>",
        "RCPT TO:<a@example.org>",
        "RCPT TO:<b@example.org>",
        "DATA",
    ]
    wire.sendall("".join(f"{command}\r\n" for command in commands).encode())
    answer = wire.recv(65536)
    assert [line[:3] for line in answer.split(b"\r\n")[:-1]] == [b"250", b"250", b"250", b"354"]
    wire.sendall(MESSAGE + b".\r\nMAIL FROM:<me@outlook.com>\r\n")
    assert len(wire.recv(65536).split(b"\r\n")) == 3
    connection = control.connections()[-1]
    size = f"({len(MESSAGE)} octets)"
    assert list(connection.exchanges)[-2:] == [commands, [size, "MAIL FROM:<me@outlook.com>"]]
    assert connection.round_trips == 6


@pytest.mark.parametrize(
    ("one_line", "shown"),
    [(True, [["AUTH XOAUTH2 (initial response)"]]), (False, [["AUTH XOAUTH2"], ["(response)"]])],
)
def test_no_credentials_in_the_journal(connect, authenticate, control, world, token, one_line, shown):
    authenticate(connect(), world.personal, token, one_line=one_line)
    assert list(control.connections()[-1].exchanges)[3:] == shown


def test_bdat(wire, control, world, token, replies, auth_line):
    half = len(MESSAGE) // 2
    wire.sendall(auth_line(world.personal, token))
    wire.sendall(b"MAIL FROM:<me@outlook.com> BODY=BINARYMIME\r\nRCPT TO:<a@example.org>\r\nDATA\r\n")
    assert replies(4).endswith(b"503 5.5.1 Use BDAT\r\n")
    wire.sendall(b"BDAT %d\r\n" % half + MESSAGE[:half])
    assert replies(1).startswith(b"250 2.6.0")
    rest = MESSAGE[half:] + b"\r\n.\r\n\x00"
    wire.sendall(b"BDAT %d LAST\r\n" % len(rest) + rest)
    assert replies(1).startswith(b"250 2.0.0 OK")
    assert control.messages(wait_for=1)[0].content == MESSAGE[:half] + rest


def test_bdat_out_of_order(wire, replies):
    wire.sendall(b"BDAT 3 LAST\r\nabcBDAT x\r\nNOOP\r\n")
    lines = replies(3).split(b"\r\n")
    assert [line[:3] for line in lines[:-1]] == [b"503", b"501", b"250"]


def test_content_of_25_megabytes(login, control, world):
    control.limits(keep="digest")
    client = login()
    client.sendmail(
        world.personal, ["a@example.org"], MESSAGE + b"x" * 998 + b"\r\n" + b"y" * 25_000_000 + b"\r\n"
    )
    [message] = control.messages(wait_for=1)
    assert message.size == len(MESSAGE) + 1000 + 25_000_002
    assert message.content is None
    assert len(message.sha256) == 64
