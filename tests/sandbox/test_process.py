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


def test_other_names(tmp_path):
    names = ("sandbox", "mail.example.org", "192.0.2.7")
    with SandboxProcess(tmp_path, names=names) as sandbox:
        assert sandbox.smtp == f"sandbox:{sandbox.smtp_port}"
        assert sandbox.authority.startswith("https://sandbox:")
        port = int(sandbox.authority.rpartition(":")[2])
        trust = ssl.create_default_context(cafile=sandbox.ca)
        for name in (*names, "localhost", "127.0.0.1"):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:
                trust.wrap_socket(raw, server_hostname=name).close()
        with requests.Session() as session:
            session.trust_env = False
            session.verify = sandbox.ca
            url = f"https://localhost:{port}/common/v2.0/.well-known/openid-configuration"
            metadata = session.get(url, timeout=20).json()
        assert metadata["token_endpoint"] == f"{sandbox.authority}/common/oauth2/v2.0/token"


def test_all_services_listen_on_the_host(tmp_path):
    # All of 127.0.0.0/8 is this machine; only what listens on every address, or on this one, answers here.
    for host, elsewhere in (("0.0.0.0", "127.0.0.9"), ("127.0.0.9", "127.0.0.9")):
        with SandboxProcess(tmp_path, host=host) as sandbox:
            for address in (sandbox.smtp, sandbox.authority, sandbox.control.url):
                socket.create_connection((elsewhere, int(address.rpartition(":")[2])), timeout=20).close()
            assert sandbox.control.world().smtp == sandbox.smtp


def test_localhost_only_by_default(tmp_path):
    with SandboxProcess(tmp_path) as sandbox:
        for address in (sandbox.smtp, sandbox.authority, sandbox.control.url):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.9", int(address.rpartition(":")[2])), timeout=20)


def test_ipv6(tmp_path):
    with SandboxProcess(tmp_path, host="::1", names=["2001:db8::1"]) as sandbox:
        assert sandbox.control.url.startswith("http://[::1]:")
        assert sandbox.smtp.startswith("[2001:db8::1]:")
        assert sandbox.control.world().authority == sandbox.authority


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--host", "sandbox", "'sandbox' is not an IP address"),
        ("--name", "smtp_relay", "'smtp_relay' is not a host name"),
        ("--name", "", "'' is not a host name"),
    ],
)
def test_bad_options(tmp_path, option, value, sentence):
    command = [sys.executable, "-m", "sandbox", "--dir", str(tmp_path), option, value]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2
    assert sentence in done.stderr


def test_redirect_uri_of_the_confidential_app(tmp_path):
    console = "http://localhost:8025/sign-in/callback"
    command = [sys.executable, "-m", "sandbox", "--dir", str(tmp_path), "--redirect-uri", console]
    for _ in range(2):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            process.terminate()
        [confidential, public] = json.loads((tmp_path / "world.json").read_text())["apps"]
        assert confidential["redirect_uris"] == ["http://localhost:8400/callback", console]
        assert public["redirect_uris"] == ["http://localhost:8400/callback"]


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
