"""What Outlook's SMTP server offers, takes and enforces."""

import base64
import smtplib
import ssl

import pytest

MESSAGE = b"From: me@outlook.com\r\nTo: you@example.org\r\nSubject: Hello\r\n\r\nHello.\r\n"


def replies(wire, count):
    """Read until `count` final reply lines have come."""
    data = b""
    while sum(line[3:4] == b" " for line in data.split(b"\r\n")[:-1]) < count:
        more = wire.recv(65536)
        assert more, f"the server hung up after {data!r}"
        data += more
    return data


def auth_line(user, token):
    return (
        b"AUTH XOAUTH2 " + base64.b64encode(f"user={user}\x01auth=Bearer {token}\x01\x01".encode()) + b"\r\n"
    )


class TestOffers:
    def test_before_tls(self, connect):
        client = connect(tls=False)
        assert set(client.esmtp_features) == {
            "size", "pipelining", "dsn", "enhancedstatuscodes", "starttls", "8bitmime", "binarymime", "chunking",
            "smtputf8",
        }  # fmt: skip
        assert client.esmtp_features["size"] == "157286400"

    def test_under_tls(self, connect):
        client = connect()
        assert client.esmtp_features["auth"].split() == ["LOGIN", "XOAUTH2"]
        assert "starttls" not in client.esmtp_features

    def test_tls_1_1_is_refused(self, connect):
        client = connect(tls=False)
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname = False
        old.verify_mode = ssl.CERT_NONE
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning):
            old.minimum_version = ssl.TLSVersion.TLSv1
        with pytest.warns(DeprecationWarning):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            client.starttls(context=old)

    def test_commands_after_starttls_in_the_clear_are_thrown_away(self, connect, trust):
        client = connect(tls=False)
        client.sock.sendall(b"STARTTLS\r\nNOOP injected\r\n")
        assert client.getreply()[0] == 220
        client.sock = trust.wrap_socket(client.sock, server_hostname="localhost")
        client.file = None
        assert client.docmd("RSET") == (250, b"2.0.0 Resetting")

    def test_starttls_once(self, connect):
        assert connect().docmd("STARTTLS")[0] == 503

    def test_unknown_command(self, connect):
        code, text = connect().docmd("FROB")
        assert (code, text[:5]) == (500, b"5.3.3")

    def test_helo(self, connect):
        assert connect().helo("printer")[0] == 250

    def test_a_line_that_is_too_long(self, wire):
        wire.sendall(b"NOOP " + b"x" * 20_000 + b"\r\n")
        assert wire.recv(4096).startswith(b"500 5.3.3")
        assert wire.recv(4096) == b""


class TestXoauth2:
    @pytest.mark.parametrize("one_line", [True, False])
    def test_both_forms(self, connect, authenticate, world, token, one_line):
        code, text = authenticate(connect(), world.personal, token, one_line=one_line)
        assert (code, text) == (235, b"2.7.0 Authentication successful")

    def test_app_only_token_opens_the_mailboxes_of_the_app(self, connect, authenticate, control, world):
        token = control.access_token("", world.client_id)
        assert authenticate(connect(), world.work, token)[0] == 235

    def test_app_only_token_opens_no_other_mailbox(self, connect, authenticate, control, world):
        control.add_account("other@example.org")
        token = control.access_token("", world.client_id)
        with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
            authenticate(connect(), "other@example.org", token)
        assert refused.value.smtp_code == 535

    def test_app_without_the_role(self, connect, authenticate, control, world):
        app = control.add_app(mailboxes=(world.work,))
        with pytest.raises(smtplib.SMTPAuthenticationError, match=r"5\.7\.3"):
            authenticate(connect(), world.work, control.access_token("", app.client_id))

    def test_an_alias_is_no_user(self, connect, authenticate, token):
        with pytest.raises(smtplib.SMTPAuthenticationError, match=r"5\.7\.3 Authentication unsuccessful \["):
            authenticate(connect(), "me.alias@outlook.com", token)

    def test_expired_token(self, connect, authenticate, control, world, token):
        control.advance_clock(3600)
        with pytest.raises(smtplib.SMTPAuthenticationError, match=r"5\.7\.3"):
            authenticate(connect(), world.personal, token)

    def test_token_for_graph(self, connect, authenticate, control, world):
        token = control.access_token(
            world.personal, world.client_id, scopes="https://graph.microsoft.com/SMTP.Send"
        )
        with pytest.raises(smtplib.SMTPAuthenticationError, match=r"5\.7\.3"):
            authenticate(connect(), world.personal, token)

    def test_token_that_was_tampered_with(self, connect, authenticate, world, token):
        head, claims, signature = token.split(".")
        with pytest.raises(smtplib.SMTPAuthenticationError, match=r"5\.7\.3"):
            authenticate(connect(), world.personal, f"{head}.{claims}.{signature[::-1]}")

    def test_challenge_with_json_before_the_535(self, connect, authenticate, control, world):
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
    def test_malformed(self, wire, response):
        wire.sendall(b"AUTH XOAUTH2\r\n")
        assert wire.recv(4096) == b"334 \r\n"
        wire.sendall(response.encode() + b"\r\n")
        assert wire.recv(4096).startswith(b"535 5.7.3")

    def test_token_of_12_kilobytes_fits(self, wire, world):
        line = auth_line(world.personal, "x" * 9000)
        assert 12_000 < len(line) <= 12_288
        wire.sendall(line)
        assert wire.recv(4096).startswith(b"535 5.7.3")

    def test_mailbox_with_smtp_auth_switched_off(self, connect, authenticate, control, world):
        control.add_account("off@outlook.com", personal=True, smtp_auth_disabled=True)
        token = control.access_token("off@outlook.com", world.client_id)
        with pytest.raises(
            smtplib.SMTPAuthenticationError,
            match=r"5\.7\.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox",
        ):
            authenticate(connect(), "off@outlook.com", token)

    def test_passwords_are_refused(self, connect, control, world):
        for mechanism in ("auth_login", "auth_plain"):
            client = connect()
            client.user, client.password = world.personal, "any"
            name = mechanism.removeprefix("auth_").upper()
            with pytest.raises(
                smtplib.SMTPAuthenticationError, match=r"5\.7\.139 .*basic authentication is disabled"
            ):
                client.auth(name, getattr(client, mechanism))
        assert control.counters().smtp.auth_failures == 2

    def test_plain_without_initial_response(self, wire):
        wire.sendall(b"AUTH PLAIN\r\n")
        assert wire.recv(4096) == b"334 \r\n"
        wire.sendall(b"AGEAYg==\r\n")
        assert wire.recv(4096).startswith(b"535 5.7.139")

    def test_login_with_initial_response(self, wire):
        wire.sendall(b"AUTH LOGIN bWU=\r\n")
        assert wire.recv(4096) == b"334 UGFzc3dvcmQ6\r\n"
        wire.sendall(b"AAAA\r\n")
        assert wire.recv(4096).startswith(b"535 5.7.139")

    def test_unknown_mechanism_and_auth_in_the_clear(self, connect):
        assert connect().docmd("AUTH", "CRAM-MD5")[0] == 504
        assert connect(tls=False).docmd("AUTH", "XOAUTH2")[0] == 504

    def test_twice(self, login):
        assert login().docmd("AUTH", "XOAUTH2")[0] == 503


class TestTransaction:
    def test_a_message_arrives_as_it_was_sent(self, login, control, world):
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

    def test_needs_authentication(self, connect):
        assert connect().docmd("MAIL", "FROM:<me@outlook.com>")[0] == 530

    def test_needs_ehlo(self, wire, sandbox, trust):
        client = smtplib.SMTP("localhost", sandbox.smtp_port, timeout=20)
        with client:
            assert client.docmd("MAIL", "FROM:<me@outlook.com>") == (503, b"5.5.2 Send hello first")

    def test_order(self, login):
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
        ["me@outlook.com", "FROM:me@outlook.com", "FROM:<me@outlook.com> FROB=1", "FROM:<me@outlook.com> SIZE=x",
         "FROM:<me@outlook.com> BODY=EBCDIC"],
    )  # fmt: skip
    def test_mail_syntax(self, login, arguments):
        assert login().docmd("MAIL", arguments) == (501, b"5.5.4 Invalid arguments")

    @pytest.mark.parametrize("arguments", ["a@example.org", "TO:<>", "TO:<a@example.org> FROB=1"])
    def test_rcpt_syntax(self, login, world, arguments):
        client = login()
        client.mail(world.personal)
        assert client.docmd("RCPT", arguments) == (501, b"5.5.4 Invalid arguments")

    def test_quoted_local_part(self, login, control, world):
        client = login()
        client.docmd("MAIL", f"FROM:<{world.personal}>")
        assert client.docmd("RCPT", 'TO:<"a > b"@example.org>')[0] == 250

    def test_smtputf8(self, wire, control, world, token):
        wire.sendall(auth_line(world.personal, token))
        replies(wire, 1)
        wire.sendall("MAIL FROM:<jürgen@example.org>\r\n".encode())
        assert replies(wire, 1).startswith(b"553 5.6.7")
        wire.sendall("MAIL FROM:<me@outlook.com>\r\nRCPT TO:<jürgen@example.org>\r\nRSET\r\n".encode())
        assert b"\r\n553 5.6.7" in replies(wire, 3)
        wire.sendall(
            "MAIL FROM:<me@outlook.com> SMTPUTF8\r\nRCPT TO:<jürgen@example.org>\r\nDATA\r\n".encode()
        )
        assert b"354" in replies(wire, 3)
        wire.sendall(MESSAGE + b".\r\n")
        assert replies(wire, 1).startswith(b"250 2.0.0 OK")
        [message] = control.messages(wait_for=1)
        assert message.recipients == ["jürgen@example.org"]

    def test_only_crlf_dot_crlf_ends_the_content(self, wire, control, world, token):
        content = MESSAGE + b"a\n.\nb\n.\r\nc\r\n.\nd\r.\re\r\n"
        wire.sendall(auth_line(world.personal, token))
        wire.sendall(f"MAIL FROM:<{world.personal}>\r\nRCPT TO:<a@example.org>\r\nDATA\r\n".encode())
        replies(wire, 4)
        for octet in (
            content.replace(b"\r\n.", b"\r\n..") + b".\r\n"
        ):  # one octet at a time: any split will do
            wire.sendall(bytes([octet]))
        assert replies(wire, 1).startswith(b"250 2.0.0 OK")
        assert control.messages(wait_for=1)[0].content == content

    def test_empty_message(self, wire, control, world, token):
        wire.sendall(auth_line(world.personal, token))
        wire.sendall(b"MAIL FROM:<me@outlook.com>\r\nRCPT TO:<a@example.org>\r\nDATA\r\n.\r\n")
        assert replies(wire, 5).endswith(b"\r\n")
        assert control.messages(wait_for=1)[0].content == b""

    def test_pipelined_commands_are_answered_in_one_round_trip(self, wire, control, world, token):
        wire.sendall(auth_line(world.personal, token))
        replies(wire, 1)
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

    def test_no_credentials_in_the_journal(self, connect, authenticate, control, world, token):
        client = connect()
        authenticate(client, world.personal, token, one_line=False)
        assert token not in str(control.connections())
        assert list(control.connections()[-1].exchanges)[-2:] == [["AUTH XOAUTH2"], ["(response)"]]

    def test_bdat(self, wire, control, world, token):
        half = len(MESSAGE) // 2
        wire.sendall(auth_line(world.personal, token))
        wire.sendall(b"MAIL FROM:<me@outlook.com> BODY=BINARYMIME\r\nRCPT TO:<a@example.org>\r\nDATA\r\n")
        assert replies(wire, 4).endswith(b"503 5.5.1 Use BDAT\r\n")
        wire.sendall(b"BDAT %d\r\n" % half + MESSAGE[:half])
        assert replies(wire, 1).startswith(b"250 2.6.0")
        rest = MESSAGE[half:] + b"\r\n.\r\n\x00"
        wire.sendall(b"BDAT %d LAST\r\n" % len(rest) + rest)
        assert replies(wire, 1).startswith(b"250 2.0.0 OK")
        assert control.messages(wait_for=1)[0].content == MESSAGE[:half] + rest

    def test_bdat_out_of_order(self, wire):
        wire.sendall(b"BDAT 3 LAST\r\nabcBDAT x\r\nNOOP\r\n")
        lines = replies(wire, 3).split(b"\r\n")
        assert [line[:3] for line in lines[:-1]] == [b"503", b"501", b"250"]

    def test_content_of_25_megabytes(self, login, control, world):
        control.limits(keep="digest")
        client = login()
        client.sendmail(
            world.personal, ["a@example.org"], MESSAGE + b"x" * 998 + b"\r\n" + b"y" * 25_000_000 + b"\r\n"
        )
        [message] = control.messages(wait_for=1)
        assert message.size == len(MESSAGE) + 1000 + 25_000_002
        assert message.content is None
        assert len(message.sha256) == 64


class TestLimits:
    def test_fourth_connection_is_refused_at_the_end_of_data(self, login, control, world):
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

    def test_connections_are_counted_by_mailbox(self, login, control, world):
        for _ in range(3):
            login(world.work)
        login().sendmail(world.personal, ["a@example.org"], MESSAGE)

    def test_messages_per_minute(self, login, control, world):
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

    def test_recipients_per_message(self, login, control, world):
        client = login()
        wanted = [f"r{number}@example.org" for number in range(502)]
        refused = client.sendmail(world.personal, wanted, MESSAGE)
        assert sorted(refused) == ["r500@example.org", "r501@example.org"]
        assert refused["r500@example.org"][0] == 452
        assert refused["r500@example.org"][1].startswith(b"4.5.3")
        assert len(control.messages(wait_for=1)[0].recipients) == 500

    def test_recipients_per_day(self, login, control, world):
        control.limits(recipients_per_day=2)
        client = login()
        client.sendmail(world.personal, ["a@example.org", "b@example.org"], MESSAGE)
        with pytest.raises(smtplib.SMTPDataError, match="SubmissionQuotaExceededException") as refused:
            client.sendmail(world.personal, ["a@example.org"], MESSAGE)
        assert refused.value.smtp_code == 554
        control.advance_clock(86_400)
        client.sendmail(world.personal, ["a@example.org"], MESSAGE)

    def test_size_as_announced(self, login, control):
        control.limits(message_octets=1000)
        code, text = login().docmd("MAIL", "FROM:<me@outlook.com> SIZE=1001")
        assert (code, text[:5]) == (552, b"5.3.4")

    @pytest.mark.parametrize("extra", [1, 1_000_000])
    def test_size_as_sent(self, login, control, world, extra):
        control.limits(message_octets=len(MESSAGE))
        client = login()
        client.mail(world.personal)
        client.rcpt("a@example.org")
        assert client.data(MESSAGE[:-2] + b"x" * extra + b"\r\n")[0] == 552
        client.mail(world.personal)
        client.rcpt("a@example.org")
        assert client.data(MESSAGE)[0] == 250

    def test_foreign_mail_from(self, login, world):
        with pytest.raises(
            smtplib.SMTPDataError,
            match=r"5\.2\.252 SendAsDenied; me@outlook\.com not allowed to send as boss@example\.org",
        ) as refused:
            login().sendmail("boss@example.org", ["a@example.org"], MESSAGE)
        assert refused.value.smtp_code == 554

    def test_foreign_from(self, login, world):
        foreign = MESSAGE.replace(b"From: me@outlook.com", b"From: The Boss\r\n <Boss@example.org>")
        with pytest.raises(smtplib.SMTPDataError, match="not allowed to send as Boss@example.org"):
            login().sendmail(world.personal, ["a@example.org"], foreign)

    def test_aliases_and_the_null_sender_are_allowed(self, login, control, world):
        client = login()
        client.sendmail("ME.alias@outlook.com", ["a@example.org"], MESSAGE.replace(b"me@", b"me.alias@"))
        client.sendmail("", ["a@example.org"], MESSAGE)
        assert len(control.messages(wait_for=2)) == 2

    def test_sender_check_can_be_switched_off(self, login, control):
        control.limits(sender_check=False)
        login().sendmail("boss@example.org", ["a@example.org"], MESSAGE)

    def test_idle_connections_are_closed(self, login, control):
        client = login()
        control.limits(idle_seconds=0.05)
        assert client.noop()[0] == 250  # from here on the new limit counts
        code, text = client.getreply()
        assert (code, text[:42]) == (451, b"4.7.0 Timeout waiting for client input [AM")
        with pytest.raises(smtplib.SMTPServerDisconnected):
            client.getreply()

    def test_no_limits(self, login, control, world):
        control.no_limits()
        clients = [login() for _ in range(5)]
        for client in clients:
            client.sendmail("boss@example.org", ["a@example.org"], MESSAGE)
        messages = control.messages(wait_for=5)
        assert {(message.content, message.sha256, message.size) for message in messages} == {
            (None, "", len(MESSAGE))
        }
