"""The sandbox as a process: start, stop, trouble."""

import json
import signal
import socket
import ssl
import subprocess
import sys

import pytest
import requests

from sandbox.client import SandboxError, SandboxProcess


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_one_line_then_quiet_until_a_signal(tmp_path, signum):
    command = [sys.executable, "-m", "sandbox", "--dir", str(tmp_path / "new" / "dir")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        ready = json.loads(process.stdout.readline())
        with requests.Session() as session:
            session.trust_env = False
            assert session.get(f"{ready['control']}/world", timeout=20).ok
        host, _, port = ready["smtp"].partition(":")
        with socket.create_connection((host, int(port)), timeout=20) as waiting:
            assert waiting.recv(4) == b"220 "
            process.send_signal(signum)
            assert process.communicate(timeout=20) == (b"", b"")
    assert process.returncode == 0
    assert ready["ca"] == str(tmp_path / "new" / "dir" / "ca.pem")
    assert ssl.create_default_context(cafile=ready["ca"]).cert_store_stats()["x509_ca"] > 0


def test_ports_can_be_chosen(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with SandboxProcess(tmp_path, smtp_port=port) as sandbox:
        assert sandbox.smtp == f"localhost:{port}"


def test_port_in_use(tmp_path, capfd):
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(SandboxError, match="did not start"),
        SandboxProcess(tmp_path, smtp_port=taken.getsockname()[1]),
    ):
        raise AssertionError
    assert "Address already in use" in capfd.readouterr().err


def test_verbose_logs_no_secret(tmp_path, capfd):
    with SandboxProcess(tmp_path, verbose=True) as sandbox:
        control = sandbox.control
        world = control.world()
        refresh = control.refresh_token(world.personal, world.client_id)
        access = control.access_token(world.personal, world.client_id)
        control.fail_smtp("connect", drop="now")
        with socket.create_connection(("localhost", sandbox.smtp_port), timeout=20) as dropped:
            assert dropped.recv(1) == b""
        with requests.Session() as session:
            session.trust_env = False
            session.verify = sandbox.ca
            form = {"grant_type": "refresh_token", "client_id": world.client_id, "refresh_token": refresh}
            url = f"{sandbox.authority}/common/oauth2/v2.0/token"
            assert session.post(url, data=form, timeout=20).status_code == 401
            form["client_secret"] = world.client_secret
            granted = session.post(url, data=form, timeout=20).json()
    log = capfd.readouterr().err
    assert "AADSTS7000218" in log
    assert "fault 1 at connect" in log
    for secret in (refresh, access, world.client_secret, granted["access_token"], granted["refresh_token"]):
        assert secret not in log
