import contextlib
import socket
import ssl
import threading

import pytest
import trustme

from relay_app.errors import RelayError
from relay_app.ops import health
from relay_app.settings import Endpoint, Limits, Settings

GOOD = (b"220 relay ESMTP\r\n", b"250-relay\r\n250 SIZE 1000\r\n", b"221 2.0.0 Goodbye\r\n")


class Server:
    """Answers one connection: `replies[0]` at once, then one for each line that it hears."""

    def __init__(self, host="127.0.0.1"):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, 0), family=family)
        self.endpoint = Endpoint(*self._socket.getsockname()[:2])
        self.heard = []
        self.tls = None
        self.preamble = False

    def start(self, *replies):
        self._thread = threading.Thread(target=self._serve, args=(replies,))
        self._thread.start()

    def _serve(self, replies):
        connection, _ = self._socket.accept()
        with contextlib.suppress(OSError), connection:
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
            with connection, connection.makefile("rb") as lines:
                if self.preamble:
                    self.heard.append(lines.readline())
                for number, reply in enumerate(replies):
                    if number:
                        self.heard.append(lines.readline())
                    connection.sendall(reply)

    def close(self):
        self._thread.join()
        self._socket.close()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def make_settings(tmp_path):
    def make(**listeners):
        endpoints = {"listen": (), "listen_tls": (), "listen_proxy": (), **listeners}
        return Settings(
            mailboxes=(),
            devices=(),
            hostname="relay",
            tls_cert=None,
            tls_key=None,
            data_dir=tmp_path,
            store_url="",
            vault_key="",
            upstream=Endpoint("localhost", 587),
            upstream_ca=None,
            authority="https://localhost",
            web_listen=(),
            limits=Limits(),
            **endpoints,
        )

    return make


def test_a_relay_that_answers(server, make_settings):
    server.start(*GOOD)
    assert health.greet(make_settings(listen=(server.endpoint,)), 10) == "250-relay"
    assert server.heard == [b"EHLO localhost\r\n", b"QUIT\r\n"]


def test_implicit_tls(server, make_settings):
    server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("relay.example.org").configure_cert(server.tls)  # of no authority we know
    server.start(*GOOD)
    assert health.greet(make_settings(listen_tls=(server.endpoint,)), 10) == "250-relay"


def test_the_proxy_protocol(server, make_settings):
    server.preamble = True
    server.start(*GOOD)
    assert health.greet(make_settings(listen_proxy=(server.endpoint,)), 10) == "250-relay"
    assert server.heard[0] == b"PROXY UNKNOWN\r\n"


def test_the_first_listener_is_asked(server, make_settings):
    server.start(*GOOD)
    nobody = Endpoint("127.0.0.1", 1)
    settings = make_settings(listen=(server.endpoint, nobody), listen_tls=(nobody,), listen_proxy=(nobody,))
    assert health.greet(settings, 10) == "250-relay"


@pytest.mark.parametrize(("wildcard", "loopback"), [("0.0.0.0", "127.0.0.1"), ("::", "::1")])
def test_all_addresses_means_this_machine(make_settings, wildcard, loopback):
    server = Server(loopback)
    server.start(*GOOD)
    settings = make_settings(listen=(Endpoint(wildcard, server.endpoint.port),))
    assert health.greet(settings, 10) == "250-relay"
    server.close()


@pytest.mark.parametrize(
    ("replies", "said", "due"),
    [
        ([b"421 4.7.0 Too many connections\r\n"], "421 4.7.0", "220"),
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], "HTTP/1.1", "220"),
        ([b""], "b''", "220"),
        ([GOOD[0], b"421 4.3.2 Shutting down\r\n"], "421 4.3.2", "250"),
        ([GOOD[0], GOOD[1], b"500 5.5.2 What?\r\n"], "500 5.5.2", "221"),
        ([b"x" * 100_000], "xxx", "220"),
    ],
)
def test_an_answer_that_is_none(server, make_settings, replies, said, due):
    server.start(*replies)
    with pytest.raises(RelayError, match=rf"^it said .*{said}.* where a {due} was due$"):
        health.greet(make_settings(listen=(server.endpoint,)), 10)


def test_a_reply_in_pieces(make_settings):
    """TCP keeps octets in order, not together."""
    here, there = socket.socketpair()
    with here, there:
        thread = threading.Thread(target=lambda: [there.sendall(bytes([octet])) for octet in GOOD[1]])
        thread.start()
        assert health._expect(here, b"250") == "250-relay"
        thread.join()


def test_nobody_listens(make_settings):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            health.greet(make_settings(listen=(Endpoint(*bound.getsockname()),)), 10)


def test_an_answer_that_does_not_come(make_settings):
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TimeoutError):
        health.greet(make_settings(listen=(Endpoint(*silent.getsockname()),)), 0.05)
