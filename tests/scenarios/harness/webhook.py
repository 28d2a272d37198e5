"""A web hook: where alerts arrive as JSON."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from harness.programs import SECONDS_TO_START


@dataclass(frozen=True)
class Alert:
    """What came in one request of Apprise's `json://`."""

    title: str
    message: str


class Webhook:
    """An HTTP server on the loopback interface that takes what is posted to it, until `stop`."""

    def __init__(self) -> None:
        self._alerts: list[Alert] = []
        self._bodies: list[str] = []
        self._changed = threading.Condition()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                hook._take(self.rfile.read(int(self.headers["Content-Length"])).decode())
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Nobody reads it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """HOST:PORT"""
        return f"127.0.0.1:{self._server.server_port}"

    @property
    def received(self) -> str:
        """All that was posted until now."""
        with self._changed:
            return "\n".join(self._bodies)

    @property
    def alerts(self) -> list[Alert]:
        """The alerts until now."""
        with self._changed:
            return list(self._alerts)

    def wait_for(self, wanted: Callable[[Alert], bool], timeout: float = SECONDS_TO_START) -> Alert:
        """Return the first alert, of all there were, for which `wanted` is true."""
        with self._changed:
            self._changed.wait_for(lambda: any(map(wanted, self._alerts)), timeout)
            found = [alert for alert in self._alerts if wanted(alert)]
            assert found, f"No such alert came. There were: {self._alerts}"
            return found[0]

    def stop(self) -> None:
        """Take nothing more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _take(self, body: str) -> None:
        content = json.loads(body)
        with self._changed:
            self._bodies.append(body)
            self._alerts.append(Alert(content["title"], content["message"]))
            self._changed.notify_all()
