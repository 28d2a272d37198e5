"""`make demo`: a new user's first minutes, against the stand-in for Microsoft.

The relay runs as in real life: a process of its own, settings in its environment. Somebody signs the mailbox
in through the console and Microsoft's page. Then a mail program sends a message: it is smtplib and does what
Gmail does: STARTTLS with the certificate verified, AUTH PLAIN, one message.
"""

import base64
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
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import click
import trustme

from sandbox.client import SandboxError, SandboxProcess
from sandbox.visitor import Visitor

_START_SECONDS = 20.0
_RECIPIENT = "friend@example.org"


class DemoError(click.ClickException):
    """The demo cannot go on; the text says why."""


@click.command()
@click.option("--once", is_flag=True, help="Sign in without a browser, and stop after the message.")
@click.option("--port", default=0, help="The relay's port. Default: a free one.")
def main(once: bool, port: int) -> None:
    """Sign a mailbox in at the console, and show a message on its way from a mail program to Outlook."""
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
        console = f"http://localhost:{_free_port()}"
        environment = _settings(directory, microsoft, port, console)
        _step(2, "The relay starts; nobody has signed the mailbox in yet")
        with _Relay(environment) as relay:
            relay.wait_for("event=sign_in_needed", _START_SECONDS)
            _step(3, "Sign the mailbox in")
            _sign_in(environment, microsoft, console, once)
            relay.wait_for("event=tokens_ok", _START_SECONDS if once else None)
            _step(4, "A mail program sends a message, as Gmail does")
            _send(environment, directory / "clients-ca.pem", port)
            _step(5, "What Outlook got")
            _show_received(microsoft)
            click.secho("\nThe message arrived.", bold=True)
            if not once:
                _invite(environment, microsoft, directory, port, console)
                signal.pause()


def _settings(directory: Path, microsoft: SandboxProcess, port: int, console: str) -> dict[str, str]:
    """The relay's environment. Its certificate comes from a CA of the demo's own, which the client trusts."""
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(directory / "clients-ca.pem")
    leaf.cert_chain_pems[0].write_to_path(directory / "relay.crt")
    leaf.private_key_pem.write_to_path(directory / "relay.key")
    app = microsoft.control.add_app(name="SMTP relay", redirect_uris=(f"{console}/sign-in/callback",))
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("RELAY_", "CLIENT_"))},
        "CLIENT_ID": app.client_id,
        "CLIENT_SECRET": app.client_secret,
        "TENANT_ID": "consumers",
        "USER_EMAIL": microsoft.control.world().personal,
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
        "RELAY_WEB_LISTEN": f"127.0.0.1:{urlsplit(console).port}",
    }


def _sign_in(environment: dict[str, str], microsoft: SandboxProcess, console: str, once: bool) -> None:
    mailbox = environment["USER_EMAIL"]
    if once:
        _note("By itself this time, through the pages that a browser would open:")
        with Visitor(console, microsoft.ca, tell=_note) as visitor:
            visitor.sign_in(mailbox)
        return
    _note(f"Open      {console}")
    _note(f'Press     "Sign in", go on in this browser, choose {mailbox}, and accept.')
    _note("Password  none: without RELAY_WEB_PASSWORD the console answers on this machine only.")
    _note(f"Warning   your browser does not know who certified {microsoft.authority}:")
    _note(f"          the demo's own CA, {microsoft.ca}. Go on all the same.")
    _note("Waiting for you; the rest happens by itself. Ctrl-C stops.")


class _Relay:
    """The relay's process. Its log is shown as it comes."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._lines: list[str] = []
        self._ended = False
        self._grown = threading.Condition()

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "relay_app", "serve"]
        self._process = subprocess.Popen(command, env=self._environment, stderr=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()
        self._reader.join()

    def wait_for(self, text: str, seconds: float | None) -> None:
        """Wait until a line of the log has this in it; `None`: for as long as that takes.

        Raises:
            DemoError: it does not come.
        """

        def said() -> bool:
            return any(text in line for line in self._lines)

        with self._grown:
            self._grown.wait_for(lambda: said() or self._ended, seconds)
            if not said():
                what = "has ended" if self._ended else f"did not say {text} in time"
                raise DemoError(f"The relay {what}; what it said above tells why.")

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            _show("relay", "cyan", line.split(" ", 1)[-1].rstrip())  # without the time
            with self._grown:
                self._lines.append(line)
                self._grown.notify_all()
        with self._grown:
            self._ended = True
            self._grown.notify_all()


class _TalkativeClient(smtplib.SMTP):
    """Shows what is said in both directions, except credentials and content."""

    def putcmd(self, cmd: str, args: str = "") -> None:
        shown = f"{cmd} {args}".strip()
        if cmd.upper() == "AUTH":
            shown = "AUTH PLAIN (user name and relay password)"
        _show("client", "green", shown)
        super().putcmd(cmd, args)

    def getreply(self) -> tuple[int, bytes]:
        code, text = super().getreply()
        for line in text.decode("ascii", "replace").splitlines():
            _show("server", "yellow", f"{code} {line}")
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


def _invite(
    environment: dict[str, str], microsoft: SandboxProcess, directory: Path, port: int, console: str
) -> None:
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

The console:         {console}
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


def _show(who: str, colour: str, text: str) -> None:
    """Say who said what; at once, for two threads do."""
    click.echo(click.style(f"   {who:8}", fg=colour) + text)


def _note(text: str) -> None:
    for line in text.splitlines() or [""]:
        click.echo(f"   {line}")


if __name__ == "__main__":
    main()
