"""`make demo`: a message travels from a mail program through the relay to the stand-in for Microsoft.

The relay runs as in real life: a process of its own, settings in its environment. The mail program is smtplib
and does what Gmail does: STARTTLS with the certificate verified, AUTH PLAIN, one message.
"""

import base64
import contextlib
import json
import os
import secrets
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path

import click
import trustme

from sandbox.client import SandboxError, SandboxProcess

_START_SECONDS = 20.0
_RECIPIENT = "friend@example.org"


class DemoError(click.ClickException):
    """The demo cannot go on; the text says why."""


@click.command()
@click.option("--once", is_flag=True, help="Stop after the message instead of waiting for Ctrl-C.")
@click.option("--port", default=0, help="The relay's port. Default: a free one.")
def main(once: bool, port: int) -> None:
    """Show a message on its way from a mail program to Outlook."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended either way, everything is stopped
    with tempfile.TemporaryDirectory(prefix="smtp-relay-demo-") as directory:
        try:
            _play(Path(directory), once, port or _free_port())
        except SandboxError as error:
            raise DemoError(str(error)) from error
        except KeyboardInterrupt:
            click.echo("\nStopped.")


def _play(directory: Path, once: bool, port: int) -> None:
    _check_port(port)
    _step(1, "A stand-in for Microsoft starts: Entra, which gives tokens, and Outlook's SMTP server")
    with SandboxProcess(directory / "sandbox") as microsoft:
        _note(f"Entra   {microsoft.authority}")
        _note(f"Outlook {microsoft.smtp}")
        environment = _settings(directory, microsoft, port)
        _step(2, "Somebody signs the mailbox in, once")
        _sign_in(environment, microsoft)
        _step(3, "The relay starts, and fetches a token before any mail needs it")
        with _relay(environment):
            _step(4, "A mail program sends a message, as Gmail does")
            _send(environment, directory / "clients-ca.pem", port)
            _step(5, "What Outlook got")
            _show_received(microsoft)
            click.secho("\nThe message arrived.", bold=True)
            if not once:
                _invite(environment, microsoft, directory, port)
                signal.pause()


def _settings(directory: Path, microsoft: SandboxProcess, port: int) -> dict[str, str]:
    """The relay's environment. Its certificate comes from a CA of the demo's own, which the client trusts."""
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(directory / "clients-ca.pem")
    leaf.cert_chain_pems[0].write_to_path(directory / "relay.crt")
    leaf.private_key_pem.write_to_path(directory / "relay.key")
    world = microsoft.control.world()
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("RELAY_")},
        "CLIENT_ID": world.client_id,
        "CLIENT_SECRET": world.client_secret,
        "TENANT_ID": "consumers",
        "USER_EMAIL": world.personal,
        "RELAY_PASSWORD": secrets.token_urlsafe(12),
        "RELAY_LISTEN": f"127.0.0.1:{port}",
        "RELAY_HOSTNAME": "localhost",
        "RELAY_TLS_CERT": str(directory / "relay.crt"),
        "RELAY_TLS_KEY": str(directory / "relay.key"),
        "RELAY_DATA_DIR": str(directory / "data"),
        "RELAY_VAULT_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "RELAY_UPSTREAM": microsoft.smtp,
        "RELAY_UPSTREAM_CA": microsoft.ca,
        "RELAY_AUTHORITY": microsoft.authority,
        "RELAY_WEB_LISTEN": "",
    }


def _sign_in(environment: dict[str, str], microsoft: SandboxProcess) -> None:
    refresh_token = microsoft.control.refresh_token(environment["USER_EMAIL"], environment["CLIENT_ID"])
    command = [sys.executable, "-m", "relay_app", "login", "--refresh-token", "-"]
    done = subprocess.run(
        command, env=environment, input=refresh_token, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise DemoError(done.stderr)
    _note(f"$ smtp-relay login --refresh-token -\n{done.stdout.strip()}")


@contextlib.contextmanager
def _relay(environment: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-m", "relay_app", "serve"], env=environment, stderr=subprocess.PIPE, text=True
    )
    lines: list[str] = []
    grown = threading.Condition()

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            click.secho("   relay   ", fg="cyan", nl=False)
            click.echo(line.split(" ", 1)[-1].rstrip())  # without the time
            with grown:
                lines.append(line)
                grown.notify_all()
        with grown:
            lines.append("")
            grown.notify_all()

    reader = threading.Thread(target=read)
    reader.start()

    def ready() -> bool:
        text = "".join(lines)
        return ("event=listening" in text and "tokens_ok" in text) or "" in lines

    try:
        with grown:
            grown.wait_for(ready, _START_SECONDS)
            if "" in lines or not ready():
                raise DemoError("The relay did not start; what it said above tells why.")
        yield
    finally:
        process.terminate()
        process.wait()
        reader.join()


class _TalkativeClient(smtplib.SMTP):
    """Shows what is said in both directions, except credentials and content."""

    def putcmd(self, cmd: str, args: str = "") -> None:
        shown = f"{cmd} {args}".strip()
        if cmd.upper() == "AUTH":
            shown = "AUTH PLAIN (user name and relay password)"
        click.secho("   client  ", fg="green", nl=False)
        click.echo(shown)
        super().putcmd(cmd, args)

    def getreply(self) -> tuple[int, bytes]:
        code, text = super().getreply()
        for line in text.decode("ascii", "replace").splitlines():
            click.secho("   server  ", fg="yellow", nl=False)
            click.echo(f"{code} {line}")
        return code, text


def _send(environment: dict[str, str], ca: Path, port: int) -> None:
    message = EmailMessage()
    message["From"] = f"Me <{environment['USER_EMAIL']}>"
    message["To"] = _RECIPIENT
    message["Subject"] = "Hello from Gmail"
    message["Date"] = formatdate(localtime=True)
    message["Message-ID"] = make_msgid(domain="mail.gmail.com")
    message.set_content("This message went from a mail program through the relay to Outlook.\n")
    started = time.monotonic()
    with _TalkativeClient("127.0.0.1", port, local_hostname="mail.gmail.com") as client:
        # The name that the certificate must be for; smtplib would ask for the address.
        client._host = "localhost"  # type: ignore[attr-defined]
        client.starttls(context=ssl.create_default_context(cafile=str(ca)))
        client.login(environment["USER_EMAIL"], environment["RELAY_PASSWORD"])
        client.send_message(message)
    _note(f"{1000 * (time.monotonic() - started):.0f} milliseconds, from connecting to the last reply")


def _show_received(microsoft: SandboxProcess) -> None:
    message = microsoft.control.messages(wait_for=1)[0]
    connection = microsoft.control.connections()[message.connection - 1]
    _note(f"signed in as  {message.user}, with XOAUTH2 over {message.tls}")
    _note(f"envelope      {message.mail}")
    for recipient in message.rcpt:
        _note(f"              {recipient}")
    _note(f"round trips   {connection.round_trips} on this connection, which stays open for the next message")
    assert message.content is not None
    header, _, body = message.content.decode("utf-8", "replace").partition("\r\n\r\n")
    for line in [*header.splitlines(), "", *body.splitlines()]:
        _note(f"  | {line}")
    _note(f"answered      {message.reply}")


def _invite(environment: dict[str, str], microsoft: SandboxProcess, directory: Path, port: int) -> None:
    user, password = environment["USER_EMAIL"], environment["RELAY_PASSWORD"]
    ca = directory / "clients-ca.pem"
    click.echo(f"""
Everything keeps running. Try it by hand:

   SMTP server   localhost
   Port          {port}
   Security      STARTTLS; the certificate's CA is {ca}
   User name     {user}
   Password      {password}

   swaks --server localhost:{port} --tls --auth PLAIN --auth-user {user} \\
         --auth-password {password} --from {user} --to {_RECIPIENT}

   curl --ssl-reqd --cacert {ca} --url smtp://localhost:{port} --user {user}:{password} \\
        --mail-from {user} --mail-rcpt {_RECIPIENT} --upload-file MESSAGE

What Outlook got:    curl {microsoft.control.url}/messages
Make Outlook refuse: curl {microsoft.control.url}/faults --json '{
        json.dumps({"stage": "eod", "reply": "554 5.2.2 mailbox full"})
    }'

Ctrl-C stops it all.""")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _check_port(port: int) -> None:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        raise DemoError(
            f"Port {port} cannot be used: {error.strerror}. Choose another one: make demo PORT=2525"
        ) from error


def _step(number: int, text: str) -> None:
    click.secho(f"\n{number}. {text}", bold=True)


def _note(text: str) -> None:
    for line in text.splitlines() or [""]:
        click.echo(f"   {line}")


if __name__ == "__main__":
    main()
