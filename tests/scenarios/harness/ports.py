"""Free TCP ports on the loopback interface."""

import socket

_given: set[int] = set()


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port of `host` that nobody listens on and that was not given out before in this run."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((host, 0))
            port: int = probe.getsockname()[1]
        if port not in _given:
            _given.add(port)
            return port
