"""What Outlook's SMTP server offers before and under TLS."""

import ssl

import pytest


def test_before_tls(connect):
    client = connect(tls=False)
    assert set(client.esmtp_features) == {
        "size", "pipelining", "dsn", "enhancedstatuscodes", "starttls", "8bitmime", "binarymime",
        "chunking", "smtputf8",
    }  # fmt: skip
    assert client.esmtp_features["size"] == "157286400"


def test_under_tls(connect):
    client = connect()
    assert client.esmtp_features["auth"].split() == ["LOGIN", "XOAUTH2"]
    assert "starttls" not in client.esmtp_features


def test_tls_1_1_is_refused(connect):
    client = connect(tls=False)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="deprecated"):
        old.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="deprecated"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        client.starttls(context=old)


def test_commands_after_starttls_in_the_clear_are_thrown_away(connect, trust):
    client = connect(tls=False)
    client.sock.sendall(b"STARTTLS\r\nNOOP injected\r\n")
    assert client.getreply()[0] == 220
    client.sock = trust.wrap_socket(client.sock, server_hostname="localhost")
    client.file = None
    assert client.docmd("RSET") == (250, b"2.0.0 Resetting")


def test_starttls_once(connect):
    assert connect().docmd("STARTTLS")[0] == 503


def test_unknown_command(connect):
    code, text = connect().docmd("FROB")
    assert (code, text[:5]) == (500, b"5.3.3")


def test_helo(connect):
    assert connect().helo("printer")[0] == 250


def test_a_line_that_is_too_long(wire):
    wire.sendall(b"NOOP " + b"x" * 20_000 + b"\r\n")
    assert wire.recv(4096).startswith(b"500 5.3.3")
    assert wire.recv(4096) == b""
