"""Is the relay answering? Asked from outside, as the container's health check."""

import socket
import ssl

from relay_app.errors import RelayError
from relay_app.settings import Endpoint, Settings

_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_MAX_REPLY = 8192


def greet(settings: Settings, timeout: float) -> str:
    """Say EHLO to the first listener and return its answer's first line.

    Raises:
        OSError: no connection, or no answer within `timeout` seconds.
        RelayError: it answered something else.
    """
    endpoint, tls, proxy = _listener(settings)
    host = _WILDCARDS.get(endpoint.host, endpoint.host)
    with socket.create_connection((host, endpoint.port), timeout) as plain:
        if proxy:
            plain.sendall(b"PROXY UNKNOWN\r\n")
        if not tls:
            return _hello(plain)
        context = ssl.create_default_context()
        context.check_hostname = False  # we ask whether it answers, not who it is
        context.verify_mode = ssl.CERT_NONE
        with context.wrap_socket(plain) as protected:
            return _hello(protected)


def _listener(settings: Settings) -> tuple[Endpoint, bool, bool]:
    """The listener to ask, whether TLS comes first, whether the PROXY protocol does."""
    if settings.listen:
        return settings.listen[0], False, False
    if settings.listen_tls:
        return settings.listen_tls[0], True, False
    return settings.listen_proxy[0], False, True


def _hello(connection: socket.socket) -> str:
    _expect(connection, b"220")
    connection.sendall(b"EHLO localhost\r\n")
    answer = _expect(connection, b"250")
    connection.sendall(b"QUIT\r\n")
    _expect(connection, b"221")
    return answer


def _expect(connection: socket.socket, code: bytes) -> str:
    received = b""
    while not (received.endswith(b"\r\n") and received.splitlines()[-1][3:4] == b" "):
        chunk = connection.recv(_MAX_REPLY)
        received += chunk
        if not chunk or len(received) > _MAX_REPLY:
            break
    if not received.startswith(code):
        raise RelayError(f"it said {received[:200]!r} where a {code.decode()} was due")
    return received.splitlines()[0].decode("ascii", "replace")
