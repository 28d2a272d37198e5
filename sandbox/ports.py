"""Listening sockets."""

import errno
import socket

_ATTEMPTS = 20


def bind(host: str, port: int) -> list[socket.socket]:
    """Bind an IP address to a port (0: a free one). "" is 127.0.0.1 and, if the machine has IPv6, ::1 too.

    Raises:
        OSError: the port is taken, or the address is not this machine's.
    """
    if host:
        return [_bind(socket.AF_INET6 if ":" in host else socket.AF_INET, host, port)]
    return _bind_local(port)


def _bind_local(port: int) -> list[socket.socket]:
    for _ in range(_ATTEMPTS):
        first = _bind(socket.AF_INET, "127.0.0.1", port)
        try:
            return [first, _bind(socket.AF_INET6, "::1", first.getsockname()[1])]
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return [first]  # no IPv6 here
            first.close()
            if port:
                raise
    raise OSError(errno.EADDRINUSE, "no port is free for both 127.0.0.1 and ::1")


def _bind(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener
