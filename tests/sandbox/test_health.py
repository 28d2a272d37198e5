"""The check that a container runs."""

import http.server
import socket
import subprocess
import sys
import threading

import pytest


def ask(*arguments):
    command = [sys.executable, "-m", "sandbox.health", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stdout, done.stderr


def test_up(sandbox):
    status, said, _ = ask(f"{sandbox.control.url}/")
    assert status == 0
    assert said == f"up: {sandbox.authority}, {sandbox.smtp}\n"


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    status, _, said = ask(f"http://127.0.0.1:{port}")
    assert status == 1
    assert f"The sandbox does not answer at http://127.0.0.1:{port}: " in said


@pytest.fixture
def stranger():
    """A web server that answers everything with an empty JSON object."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *arguments):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_somebody_else_there(stranger):
    status, _, said = ask(stranger)
    assert status == 1
    assert "does not answer" in said


def test_usage():
    status, _, said = ask()
    assert status == 1
    assert "usage:" in said
