"""Sockets, threads, limits: the web server without the application, and the lazy import."""

import errno
import http.client
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs
from waitress import wasyncore

from relay_app.console import server
from relay_app.console.server import Console, Lazy
from relay_app.errors import ListenError
from relay_app.settings import Endpoint

ANY_PORT = Endpoint("127.0.0.1", 0)


def echo(environ, start_response):
    """Answers with the client's address, the path, and how much it got."""
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{environ['REMOTE_ADDR']} {environ['PATH_INFO']} {len(body)}".encode()]


@pytest.fixture
def serve():
    """Start a console; it is stopped in the end."""
    started = []

    def start(application=echo, endpoints=(ANY_PORT,), *, loopback_only: bool = False) -> Console:
        console = Console(application, endpoints, loopback_only=loopback_only)
        console.start()
        started.append(console)
        return console

    yield start
    for console in started:
        console.stop()


def ask(endpoint: Endpoint, path: str = "/", body: bytes = b"", **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=10)
    try:
        connection.request("POST" if body else "GET", path, body or None, headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def threads() -> set[str]:
    return {each.name for each in threading.enumerate() if each.name.startswith(("console", "waitress"))}


class TestListening:
    def test_on_several_addresses(self, serve) -> None:
        with capture_logs() as logs:
            console = serve(endpoints=[ANY_PORT, Endpoint("::1", 0), ANY_PORT])
        assert [each.host for each in console.addresses] == ["127.0.0.1", "::1", "127.0.0.1"]
        for address in console.addresses:
            assert ask(address, "/x") == (200, f"{address.host} /x 0")
        assert [each["address"] for each in logs] == [str(each) for each in console.addresses]

    def test_ipv4_and_ipv6_on_one_port(self, serve) -> None:
        first = serve(endpoints=[Endpoint("0.0.0.0", 0)]).addresses[0]
        second = serve(endpoints=[Endpoint("::", first.port)]).addresses[0]
        assert ask(Endpoint("127.0.0.1", first.port)) == (200, "127.0.0.1 / 0")
        assert ask(Endpoint("::1", second.port)) == (200, "::1 / 0")

    def test_on_nothing(self, serve) -> None:
        console = serve(endpoints=[])
        assert console.addresses == ()
        assert not threads()

    def test_all_or_none(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                first = Endpoint("127.0.0.1", free.getsockname()[1])
            console = Console(echo, [first, Endpoint("127.0.0.1", port)], loopback_only=False)
            with pytest.raises(ListenError) as caught:
                console.start()
        text = str(caught.value)
        assert text.startswith(f"cannot listen on 127.0.0.1:{port} for the console (RELAY_WEB_LISTEN): ")
        assert "another program listens there" in text
        assert not threads()
        with socket.create_server((first.host, first.port)):
            pass  # it was given back

    def test_an_address_of_another_machine(self) -> None:
        console = Console(echo, [Endpoint("192.0.2.1", 0)], loopback_only=False)
        with pytest.raises(ListenError, match="does not have that address"):
            console.start()

    @pytest.mark.parametrize(
        ("error", "words"),
        [
            (OSError(errno.EACCES, "Permission denied"), "choose a port above 1023"),
            (OSError(errno.EMFILE, "Too many open files"), "too many open files"),
            (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "there is no such host"),
            (OSError("odd"), "odd"),
        ],
    )
    def test_other_reasons(self, monkeypatch, error, words) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(server.socket, "getaddrinfo", refuse)
        with pytest.raises(ListenError) as caught:
            Console(echo, [ANY_PORT], loopback_only=False).start()
        assert words in str(caught.value).lower()
        assert caught.value.__cause__ is error


class TestLoopbackOnly:
    @pytest.mark.parametrize(
        ("asked", "given"),
        [
            ("0.0.0.0", "127.0.0.1"),
            ("", "127.0.0.1"),
            ("192.0.2.1", "127.0.0.1"),
            ("::", "::1"),
            ("2001:db8::1", "::1"),
        ],
    )
    def test_addresses_are_narrowed(self, serve, asked, given) -> None:
        with capture_logs() as logs:
            console = serve(endpoints=[Endpoint(asked, 0)], loopback_only=True)
        assert console.addresses[0].host == given
        assert logs[0]["event"] == "console_loopback_only"
        assert logs[0]["log_level"] == "warning"
        assert logs[0]["address"] == [str(Endpoint(given, 0))]
        assert "RELAY_WEB_PASSWORD_FILE" in logs[0]["consequence"]

    @pytest.mark.parametrize("asked", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
    def test_loopback_stays(self, serve, asked) -> None:
        with capture_logs() as logs:
            console = serve(endpoints=[Endpoint(asked, 0)], loopback_only=True)
        assert console.addresses
        assert {each["event"] for each in logs} == {"console_listening"}

    def test_two_that_become_one(self, serve) -> None:
        endpoints = [Endpoint("0.0.0.0", 0), Endpoint("127.0.0.1", 0)]
        assert len(serve(endpoints=endpoints, loopback_only=True).addresses) == 1


class TestLimits:
    def test_a_large_body(self, serve) -> None:
        address = serve().addresses[0]
        assert ask(address, body=b"x" * 100_000) == (200, "127.0.0.1 / 100000")
        assert ask(address, body=b"x" * 200_000)[0] == 413

    def test_a_large_header(self, serve) -> None:
        assert ask(serve().addresses[0], Large="x" * 20_000)[0] == 431

    def test_who_answers_is_not_said(self, serve) -> None:
        address = serve().addresses[0]
        connection = http.client.HTTPConnection(address.host, address.port, timeout=10)
        connection.request("GET", "/")
        assert connection.getresponse().getheader("Server") is None
        connection.close()

    def test_forwarding_headers_reach_the_application(self, serve) -> None:
        """It refuses them when there is no password."""
        seen = {}

        def application(environ, start_response):
            seen.update(environ)
            return echo(environ, start_response)

        address = serve(application).addresses[0]
        assert ask(address, X_Forwarded_For="192.0.2.9", **{"X-Forwarded-For": "192.0.2.9"})[0] == 200
        assert seen["HTTP_X_FORWARDED_FOR"] == "192.0.2.9"
        assert seen["REMOTE_ADDR"] == "127.0.0.1"


class TestStopping:
    def test_it_ends_cleanly(self, serve) -> None:
        console = serve(endpoints=[ANY_PORT, Endpoint("::1", 0)])
        address = console.addresses[0]
        idle = socket.create_connection((address.host, address.port), 10)
        ask(address)
        console.stop()
        assert not threads()
        assert idle.recv(1) == b""
        idle.close()
        with pytest.raises(OSError, match="refused"):
            socket.create_connection((address.host, address.port), 10)
        console.stop()  # once more does no harm

    def test_before_it_began(self) -> None:
        Console(echo, [ANY_PORT], loopback_only=False).stop()

    def test_a_request_under_way_is_finished(self, serve) -> None:
        begun, finish = threading.Event(), threading.Event()

        def slow(environ, start_response):
            begun.set()
            finish.wait(10)
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"x" * 3_000_000]

        console = serve(slow)
        with ThreadPoolExecutor(2) as pool:
            answer = pool.submit(ask, console.addresses[0])
            assert begun.wait(10)
            stopped = pool.submit(console.stop)
            until(lambda: refused(console.addresses[0]))
            assert not stopped.done()
            finish.set()
            assert answer.result(10) == (200, "x" * 3_000_000)
            stopped.result(10)
        assert not threads()

    def test_it_does_not_wait_forever(self, serve, monkeypatch) -> None:
        monkeypatch.setattr(server, "_PATIENCE", 0.0)
        monkeypatch.setattr(server, "_LAST_PATIENCE", 0.0)
        begun, finish = threading.Event(), threading.Event()

        def stuck(environ, start_response):
            begun.set()
            finish.wait(10)
            return echo(environ, start_response)

        console = serve(stuck)
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(ask, console.addresses[0])
            assert begun.wait(10)
            console.stop()
            assert isinstance(answer.exception(10), OSError | http.client.HTTPException)
            finish.set()

    def test_a_defect_of_the_server_is_said(self, monkeypatch) -> None:
        def broken(*_: object, **__: object) -> None:
            raise RuntimeError("odd")

        monkeypatch.setattr(wasyncore, "loop", broken)
        console = Console(echo, [ANY_PORT], loopback_only=False)
        with capture_logs() as logs:
            console.start()
            until(lambda: not threads())
            console.stop()
        assert "console_died" in {each["event"] for each in logs}
        assert refused(console.addresses[0])


def until(condition) -> None:
    deadline = monotonic() + 20
    while not condition():
        assert monotonic() < deadline


def refused(address: Endpoint) -> bool:
    try:
        socket.create_connection((address.host, address.port), 10).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        return False  # it was waiting to be accepted in the very moment of the closing
    return False


class TestLazy:
    def test_it_is_built_once_however_many_ask(self) -> None:
        built = []
        begun = threading.Barrier(4)

        def build():
            built.append(None)
            return echo

        lazy = Lazy(build)
        assert built == []
        environ = {"wsgi.input": SimpleNamespace(read=lambda: b""), "REMOTE_ADDR": "a", "PATH_INFO": "/"}

        def call(_: int) -> bytes:
            begun.wait(10)
            return b"".join(lazy(environ, lambda *_: None))

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(call, range(4))) == [b"a / 0"] * 4
        assert len(built) == 1

    def test_the_console_of_the_settings(self, backend, access, password) -> None:
        settings = SimpleNamespace(
            web_listen=(ANY_PORT,),
            web_password_hash=access.password_hash,
            web_token=access.token,
            hostname=access.hostname,
            web_url=access.url,
        )
        console = Console.of(settings, backend)
        console.start()
        try:
            assert ask(console.addresses[0], "/healthz") == (200, "ok\n")
            token = {"Authorization": f"Bearer {access.token}"}
            assert ask(console.addresses[0], "/api/v1/relay", **token)[0] == 200
            assert ask(console.addresses[0], "/devices")[0] == 303
        finally:
            console.stop()

    def test_without_a_password_it_is_for_this_machine(self, backend) -> None:
        settings = SimpleNamespace(
            web_listen=(Endpoint("0.0.0.0", 0),), web_password_hash="", web_token="", hostname="", web_url=""
        )
        console = Console.of(settings, backend)
        console.start()
        try:
            assert console.addresses[0].host == "127.0.0.1"
            assert ask(console.addresses[0], "/devices")[0] == 200
        finally:
            console.stop()

    def test_nothing_heavy_is_imported_before_a_request(self) -> None:
        code = (
            "import sys; from relay_app.console.server import Console, Endpoint\n"
            "console = Console(print, [Endpoint('127.0.0.1', 0)], loopback_only=True)\n"
            "console.start(); console.stop()\n"
            "heavy = {'flask', 'werkzeug', 'jinja2', 'babel', 'flask_wtf', 'wtforms', 'sqlalchemy', 'msal'}\n"
            "print(sorted(heavy & set(sys.modules)))"
        )
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
        assert run.stdout.splitlines()[-1] == "[]", run.stdout + run.stderr
