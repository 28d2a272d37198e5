"""What outlives the process: killed, and started again in the same directory."""

import base64
import contextlib
import json
import os
import signal
import smtplib
import ssl

import pytest
import requests

from sandbox.client import SandboxError, SandboxProcess


@contextlib.contextmanager
def killed(directory, **how):
    """A sandbox that ends with SIGKILL: nothing is written on the way out."""
    with SandboxProcess(directory, **how) as sandbox:
        yield sandbox
        os.kill(sandbox.pid, signal.SIGKILL)


def redeem(sandbox, world, refresh_token):
    """What Entra answers to a refresh token of the confidential app."""
    form = {
        "grant_type": "refresh_token",
        "client_id": world.client_id,
        "client_secret": world.client_secret,
        "refresh_token": refresh_token,
    }
    with requests.Session() as http:
        http.trust_env, http.verify = False, sandbox.ca
        return http.post(f"{sandbox.authority}/common/oauth2/v2.0/token", data=form, timeout=20).json()


def may_log_in(sandbox, user, token):
    with smtplib.SMTP("localhost", sandbox.smtp_port, "client.example.org", timeout=20) as client:
        client.starttls(context=ssl.create_default_context(cafile=sandbox.ca))
        client.ehlo()
        response = base64.b64encode(f"user={user}\x01auth=Bearer {token}\x01\x01".encode())
        return client.docmd("AUTH XOAUTH2", response.decode())[0] == 235


def world_of(sandbox):
    """All of it but the addresses, whose ports are new."""
    world = sandbox.control.world()
    return {name: getattr(world, name) for name in world.__slots__ if name not in ("authority", "smtp")}


def test_the_same_world_after_a_kill(tmp_path):
    with killed(tmp_path) as sandbox:
        first = world_of(sandbox)
        assert first["ca_pem"] == (tmp_path / "ca.pem").read_text()
    with SandboxProcess(tmp_path) as sandbox:
        assert world_of(sandbox) == first
        assert sandbox.control.world().authority == sandbox.authority
        assert sandbox.control.world().smtp == sandbox.smtp


def test_sign_ins_stay_good(tmp_path):
    with killed(tmp_path) as sandbox:
        world = sandbox.control.world()
        refresh = sandbox.control.refresh_token(world.personal, world.client_id)
        first = redeem(sandbox, world, refresh)
        access = first["access_token"]
    with SandboxProcess(tmp_path) as sandbox:
        assert may_log_in(sandbox, world.personal, access)
        for token in (refresh, first["refresh_token"]):
            again = redeem(sandbox, world, token)
            assert may_log_in(sandbox, world.personal, again["access_token"])


def test_sign_ins_that_ended_stay_ended(tmp_path):
    with killed(tmp_path) as sandbox:
        control, world = sandbox.control, sandbox.control.world()
        forgotten = control.refresh_token(world.personal, world.client_id)
        control.forget(forgotten)
        revoked = control.refresh_token(world.work, world.client_id)
        control.revoke(world.work)
        control.add_account("gone@outlook.com", personal=True)
        orphaned = control.refresh_token("gone@outlook.com", world.client_id)
        control.delete_account("gone@outlook.com")
    for _ in range(2):  # read, and read what that has written anew
        with killed(tmp_path) as sandbox:
            assert "AADSTS70000" in redeem(sandbox, world, forgotten)["error_description"]
            assert "AADSTS50173" in redeem(sandbox, world, revoked)["error_description"]
            assert "AADSTS70000" in redeem(sandbox, world, orphaned)["error_description"]


def test_accounts_and_apps_that_were_added(tmp_path):
    with killed(tmp_path) as sandbox:
        control = sandbox.control
        control.add_account("new@example.org", aliases=("newer@example.org",))
        app = control.add_app(roles=("SMTP.SendAsApp",), mailboxes=("new@example.org",))
        second = control.add_secret(app.client_id)
    with SandboxProcess(tmp_path) as sandbox:
        token = sandbox.control.access_token("", app.client_id)
        assert may_log_in(sandbox, "new@example.org", token)
        form = {"grant_type": "client_credentials", "client_id": app.client_id, "client_secret": second}
        form["scope"] = "https://outlook.office365.com/.default"
        with requests.Session() as http:
            http.trust_env, http.verify = False, sandbox.ca
            url = f"{sandbox.authority}/example.org/oauth2/v2.0/token"
            assert http.post(url, data=form, timeout=20).ok


def test_nobody_else_can_read_the_secrets(tmp_path):
    with SandboxProcess(tmp_path) as sandbox:
        world = sandbox.control.world()
        sandbox.control.refresh_token(world.personal, world.client_id)
    modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    assert modes["world.json"] == modes["sign-ins.jsonl"] == 0o600
    assert modes.keys() == {"world.json", "sign-ins.jsonl", "ca.pem"}
    assert "KEY" not in (tmp_path / "ca.pem").read_text()


def test_a_line_cut_short_is_nobodys_sign_in(tmp_path):
    with killed(tmp_path) as sandbox:
        world = sandbox.control.world()
        refresh = sandbox.control.refresh_token(world.personal, world.client_id)
    with (tmp_path / "sign-ins.jsonl").open("a") as file:
        file.write('{"token": "0.A')
    with SandboxProcess(tmp_path) as sandbox:
        assert "access_token" in redeem(sandbox, world, refresh)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("world.json", "not JSON"),
        ("world.json", json.dumps({"ca": {}})),
        ("sign-ins.jsonl", "not JSON\n"),
        ("sign-ins.jsonl", "{}\n"),
    ],
)
def test_damaged_files_are_named_and_left_alone(tmp_path, capfd, file, content):
    (tmp_path / file).write_text(content)
    with pytest.raises(SandboxError, match="did not start"), SandboxProcess(tmp_path):
        raise AssertionError
    said = capfd.readouterr().err
    assert f"{tmp_path / file} is damaged" in said
    assert "delete the directory" in said
    assert (tmp_path / file).read_text() == content


def test_an_elliptic_signing_key_is_not_taken(tmp_path, capfd):
    with SandboxProcess(tmp_path):
        pass
    found = json.loads((tmp_path / "world.json").read_text())
    found["signing_key"]["key"] = found["ca"]["key"]
    (tmp_path / "world.json").write_text(json.dumps(found))
    with pytest.raises(SandboxError), SandboxProcess(tmp_path):
        raise AssertionError
    assert "the signing key is not an RSA key" in capfd.readouterr().err
