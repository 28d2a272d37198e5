"""plugins/modules/smtp_submission.py against the real relay, and against servers that are no good."""

from __future__ import annotations

import contextlib
import datetime
import email
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.certificates import Authority, Pair
from harness.planted import Planted
from harness.ports import free_port
from harness.relay import Relay

from sandbox.client import Control, SandboxProcess


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def microsoft(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with SandboxProcess(tmp_path_factory.mktemp("sandbox")) as process:
        yield process


@pytest.fixture(scope="module")
def relay(
    microsoft: SandboxProcess, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Relay]:
    """A relay with one device, that of the work mailbox."""
    planted, pair, world = Planted(), authority.issue(), microsoft.control.world()
    settings = {
        "CLIENT_ID": world.client_id,
        "CLIENT_SECRET": planted.add("client secret", world.client_secret),
        "TENANT_ID": world.tenant,
        "USER_EMAIL": world.work,
        "RELAY_FLOW": "client_credentials",
        "RELAY_PASSWORD": planted.make("password"),
        "RELAY_LISTEN": f"127.0.0.1:{free_port()}",
        "RELAY_HOSTNAME": "relay.test",
        "RELAY_TLS_CERT": str(pair.cert),
        "RELAY_TLS_KEY": str(pair.key),
        "RELAY_DATA_DIR": str(tmp_path_factory.mktemp("data")),
        "RELAY_UPSTREAM": microsoft.smtp,
        "RELAY_UPSTREAM_CA": microsoft.ca,
        "RELAY_AUTHORITY": microsoft.authority,
        "RELAY_WEB_LISTEN": "",
    }
    relay = Relay(settings, authority.bundle, planted)
    yield relay
    relay.stop()


@pytest.fixture
def outlook(microsoft: SandboxProcess) -> Control:
    microsoft.control.reset()
    return microsoft.control


@pytest.fixture
def arguments(relay: Relay) -> dict[str, Any]:
    """What a task would say, and the rest as the module fills it in."""
    account = relay.account
    return {
        "host": account.host,
        "port": account.port,
        "hostname": "localhost",
        "ca_file": str(account.ca),
        "validate_certs": True,
        "username": account.user,
        "password": account.password,
        "sender": account.user,
        "recipient": "friend@example.net",
        "subject": "Grüße von nebenan",
        "body": ".\n..dots\nfrom the relay",
        "timeout": 20,
    }


@pytest.fixture
def submit(plugin: Any) -> Callable[..., dict[str, Any]]:
    return lambda **arguments: plugin("modules/smtp_submission").Submission(arguments).run()


@pytest.fixture
def impossible(plugin: Any) -> Callable[..., str]:
    """Fail to submit, and return why."""
    module = plugin("modules/smtp_submission")

    def why(**arguments: Any) -> str:
        with pytest.raises(module.Impossible) as caught:
            module.Submission(arguments).run()
        assert arguments["password"] not in str(caught.value)
        return str(caught.value)

    return why


def test_accepted(submit: Any, arguments: dict[str, Any], outlook: Control) -> None:
    result = submit(**arguments)
    assert (result["verdict"], result["stage"], result["code"]) == ("accepted", "data", 250), result
    assert result["enhanced_code"] == "2.0.0"
    assert result["relay_id"] in result["reply"]
    assert len(result["relay_id"]) > 4
    assert 0 < result["seconds"] < arguments["timeout"]
    assert result["certificate"]["issuer"] != ""
    assert ssl.cert_time_to_seconds(result["certificate"]["not_after"]) > time.time()
    [message] = outlook.messages()
    assert message.sender == arguments["sender"]
    assert list(message.recipients) == [arguments["recipient"]]
    mail = email.message_from_bytes(message.content, policy=email.policy.default)
    assert (mail["Subject"], mail["Message-ID"]) == (arguments["subject"], result["message_id"])
    assert mail.get_content().rstrip().replace("\r\n", "\n") == arguments["body"]


def test_refused_and_deferred(submit: Any, arguments: dict[str, Any], outlook: Control) -> None:
    result = submit(**{**arguments, "password": "wrong-password"})
    assert (result["verdict"], result["stage"], result["code"]) == ("refused", "auth", 535), result
    assert result["enhanced_code"].startswith("5.7.")
    assert result["relay_id"] == ""
    result = submit(**{**arguments, "sender": "somebody.else@example.net"})
    assert (result["verdict"], result["stage"], result["code"] // 100) == ("refused", "mail", 5), result
    assert outlook.messages() == []


def test_an_address_that_would_say_more(impossible: Any, arguments: dict[str, Any]) -> None:
    for wrong in ("a@b>\r\nRCPT TO:<c@d", "no address", "a@b@c d", "", "ä@example.org"):
        assert "Write an address" in impossible(**{**arguments, "sender": wrong})
        assert "Write an address" in impossible(**{**arguments, "recipient": wrong})
    assert "must be one line" in impossible(**{**arguments, "subject": "a\r\nBcc: b@c"})


def test_certificates(
    submit: Any, impossible: Any, arguments: dict[str, Any], tmp_path: Path, outlook: Control
) -> None:
    message = impossible(**{**arguments, "hostname": "smtp.example.org"})
    assert "(asked for smtp.example.org) is for another name" in message
    assert "is not for this address" in impossible(**{**arguments, "hostname": "127.0.0.9"})
    assert "give that as ca_file" in impossible(**{**arguments, "ca_file": None})
    assert "there is no such file" in impossible(**{**arguments, "ca_file": "/no/ca.pem"})
    (tmp_path / "empty.pem").write_text("nothing")
    assert "no certificate in PEM form" in impossible(**{**arguments, "ca_file": str(tmp_path / "empty.pem")})
    result = submit(**{**arguments, "hostname": "smtp.example.org", "validate_certs": False})
    assert result["verdict"] == "accepted"
    assert "certificate" not in result
    result = submit(**{**arguments, "host": "localhost", "hostname": None})
    assert result["verdict"] == "accepted"


class Server:
    """A server that says its lines, one after all that it hears, and then listens on, or closes.

    The line "TLS" starts TLS.
    """

    def __init__(self, lines: list[bytes], pair: Pair | None = None, *, closes: bool = False) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(20)
        self.port = self._socket.getsockname()[1]
        self._lines = lines
        self._pair = pair
        self._closes = closes
        self.heard: list[bytes] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with self._socket:
            connection = self._socket.accept()[0]
        connection.settimeout(20)
        # A client that leaves, or that does not like our certificate, ends it.
        with contextlib.suppress(ConnectionError, ssl.SSLError), contextlib.ExitStack() as closing:
            closing.enter_context(connection)
            for line in self._lines:
                if line == b"TLS":
                    connection = closing.enter_context(self._with_tls(connection))
                else:
                    if line != self._lines[0]:
                        self.heard.append(connection.recv(4096))
                    connection.sendall(line)
            while (octets := connection.recv(4096)) and not self._closes:
                self.heard.append(octets)

    def _with_tls(self, connection: socket.socket) -> socket.socket:
        assert self._pair is not None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._pair.cert, self._pair.key)
        return context.wrap_socket(connection, server_side=True)

    def stop(self) -> None:
        self._thread.join(20)
        assert not self._thread.is_alive()


EHLO = b"250-bad.test\r\n250 STARTTLS\r\n"
HELLO = b"220 bad.test\r\n"
GO_ON = b"220 go on\r\n"


@pytest.mark.parametrize(
    ("lines", "stage", "verdict"),
    [
        ([b"421 4.3.2 busy\r\n"], "connect", "deferred"),
        ([b"554 5.7.1 go away\r\n"], "connect", "refused"),
        ([HELLO, b"502 5.5.1 no\r\n"], "starttls", "refused"),
        ([HELLO, EHLO, b"454 4.7.0 no TLS today\r\n"], "starttls", "deferred"),
    ],
)
def test_a_server_that_says_no(
    submit: Any, arguments: dict[str, Any], lines: list[bytes], stage: str, verdict: str
) -> None:
    server = Server(lines)
    result = submit(**{**arguments, "port": server.port})
    server.stop()
    assert (result["stage"], result["verdict"]) == (stage, verdict), result


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([HELLO, b"250 bad.test\r\n"], "offers no STARTTLS, so it gets no password"),
        ([HELLO, EHLO, GO_ON], "did not answer at STARTTLS within 1 s"),
        ([HELLO, EHLO, GO_ON, b"what is this?\r\n"], "TLS with 127.0.0.1:"),
        ([b""], "did not answer at CONNECT within 1 s"),
        ([b"SSH-2.0-OpenSSH_9.2\r\n"], "does not speak SMTP"),
    ],
)
def test_a_server_that_is_none(
    impossible: Any, arguments: dict[str, Any], lines: list[bytes], why: str
) -> None:
    server = Server(lines)
    message = impossible(**{**arguments, "port": server.port, "timeout": 1})
    server.stop()
    assert why in message
    assert all(arguments["password"].encode() not in heard for heard in server.heard)


@pytest.mark.parametrize(
    ("lines", "stage"),
    [([HELLO], "STARTTLS"), ([HELLO, EHLO, GO_ON], "STARTTLS"), ([HELLO, EHLO, GO_ON, b"TLS"], "STARTTLS")],
)
def test_a_server_that_goes_away(
    impossible: Any, arguments: dict[str, Any], authority: Authority, lines: list[bytes], stage: str
) -> None:
    server = Server(lines, authority.issue(), closes=True)
    assert f"closed the connection at {stage}" in impossible(**{**arguments, "port": server.port})
    server.stop()


def test_nobody_there(impossible: Any, arguments: dict[str, Any]) -> None:
    assert "(connection refused)" in impossible(**{**arguments, "port": free_port()})
    assert "no.such.host.invalid has no address" in impossible(
        **{**arguments, "host": "no.such.host.invalid"}
    )


def test_certificates_that_are_not_good(
    impossible: Any, arguments: dict[str, Any], authority: Authority, tmp_path: Path
) -> None:
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    day = datetime.timedelta(days=1)
    for ends, why in ((now - day, "has run out. Renew it."), (now + 100 * day, "is not valid yet")):
        server = Server([HELLO, EHLO, GO_ON, b"TLS"], authority.issue(ends=ends))
        assert why in impossible(**{**arguments, "port": server.port})
        server.stop()
    other = Authority(tmp_path)
    server = Server([HELLO, EHLO, GO_ON, b"TLS"], other.issue())
    assert "ca_file" in impossible(**{**arguments, "port": server.port})
    server.stop()


def test_in_a_playbook(ansible: Any, arguments: dict[str, Any], outlook: Control) -> None:
    arguments["recipient"] = "other@example.net"
    tasks = [
        {"smtp_submission": arguments},
        {"smtp_submission": {**arguments, "password": "wrong-password"}},
        {"smtp_submission": {**arguments, "password": "wrong-password", "fail_on_refusal": True}},
        {"smtp_submission": {**arguments, "port": free_port()}},
    ]
    run = ansible.run(tasks, "-vvv")
    accepted, refused, failed, impossible = run.results
    assert (accepted["verdict"], accepted["changed"], accepted["failed"]) == ("accepted", False, False)
    assert accepted["msg"].startswith("The message was accepted at DATA: 250 2.0.0 ")
    assert (refused["verdict"], refused["failed"]) == ("refused", False)
    assert (failed["verdict"], failed["failed"]) == ("refused", True)
    assert failed["msg"].startswith("The message was refused at AUTH: 535 5.7.")
    assert (impossible["stage"], impossible["failed"]) == ("connect", True)
    assert "connection refused" in impossible["msg"]
    assert arguments["password"] not in run.output
    assert len(outlook.messages()) == 1
    run = ansible.run(tasks[:1], "--check").succeeded()
    assert run.results[0]["skipped"]
    assert len(outlook.messages()) == 1
