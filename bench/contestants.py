"""Who is measured: a server each (the direct client has none), and a mail program that uses it."""

import os
import smtplib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

from bench.letter import letter
from bench.mail_program import MailProgram
from bench.server import Server, free_port
from bench.upstream import Upstream
from relay_app.storage.store import Store

_WARM_UP = 3  # messages
_starts = count(1)


class ContestantError(Exception):
    """A contestant cannot do the work at all."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """A way for a mail program to get a message to the upstream."""

    name: str
    program: MailProgram
    server: Server | None
    """None: the mail program talks to the upstream."""
    console: str = ""
    """The address of its console, if it has one."""

    def letter(self, size: int) -> bytes:
        """Return a message that its mailbox may send."""
        return letter(size, self.program.sender)

    def warm_up(self) -> None:
        """Send a few messages: tokens are fetched, connections opened, code has run once.

        Raises:
            ContestantError: one was not accepted.
        """
        for _ in range(_WARM_UP):
            session = self.program.session(self.letter(4096))
            if session.error:
                log = self.server.log_tail() if self.server is not None else ""
                raise ContestantError(f"{self.name} does not accept a message: {session.error}\n{log}")


def check_delivered(accepted: int, taken: int) -> None:
    """Compare what clients were told with what the upstream has.

    Raises:
        ContestantError: somebody said 250 and did not deliver; its numbers are worth nothing then.
    """
    if taken < accepted:
        raise ContestantError(
            f"clients were told that {accepted} messages went out; the upstream has {taken}"
        )


Entry = Callable[[Upstream, int], Contestant]
"""Starts a contestant that sends to a port of 127.0.0.1, where the upstream is."""


@contextmanager
def field(upstream: Upstream, entries: Sequence[Entry], port: int = 0) -> Iterator[list[Contestant]]:
    """Start contestants. They send to `port` if given, else straight to the upstream."""
    with ExitStack() as stop:
        contestants = []
        for enter in entries:
            contestant = enter(upstream, port or upstream.port)
            contestants.append(contestant)
            if contestant.server is not None:
                stop.enter_context(contestant.server)
        yield contestants


def relay(upstream: Upstream, port: int, *, console: bool = False, profile: Path | None = None) -> Contestant:
    """This project's relay. `profile`: run it under cProfile and write that file; it is slower then.

    Its database is there already: only the very first start makes one, and loads Alembic for that.
    """
    name = f"relay{next(_starts)}"
    listen = free_port()
    data = upstream.directory / name
    data.mkdir()
    Store.open("", data).close()
    web = free_port() if console else 0
    settings = {
        "CLIENT_ID": upstream.world.client_id,
        "CLIENT_SECRET": upstream.world.client_secret,
        "TENANT_ID": upstream.world.tenant,
        "USER_EMAIL": upstream.world.work,
        "RELAY_FLOW": "client_credentials",
        "RELAY_PASSWORD": upstream.password,
        "RELAY_LISTEN": f"127.0.0.1:{listen}",
        "RELAY_HOSTNAME": "relay.example.org",
        "RELAY_TLS_CERT": str(upstream.cert),
        "RELAY_TLS_KEY": str(upstream.key),
        "RELAY_DATA_DIR": str(data),
        "RELAY_UPSTREAM": f"127.0.0.1:{port}",
        "RELAY_UPSTREAM_CA": str(upstream.ca),
        "RELAY_AUTHORITY": upstream.authority,
        "RELAY_WEB_LISTEN": f"127.0.0.1:{web}" if console else "",
    }
    profiler = ["-m", "cProfile", "-o", str(profile)] if profile else []
    command = [sys.executable, *profiler, "-m", "relay_app", "serve"]
    server = Server(command, _environment(settings), listen, data / "log")
    address = f"http://127.0.0.1:{web}" if console else ""
    return Contestant("relay", _password_program(upstream, listen), server, address)


def emailproxy(upstream: Upstream, port: int) -> Contestant:
    """The PyPI package `emailproxy`, with client credentials, STARTTLS on both sides."""
    name = f"emailproxy{next(_starts)}"
    listen = free_port()
    data = upstream.directory / name
    data.mkdir()
    config = data / "emailproxy.config"
    config.write_text(
        f"""\
[Server setup]

[SMTP-{listen}]
local_address = 127.0.0.1
local_starttls = True
local_certificate_path = {upstream.cert}
local_key_path = {upstream.key}
server_address = 127.0.0.1
server_port = {port}
server_starttls = True

[Account setup]

[{upstream.world.work}]
token_url = {upstream.authority}/{upstream.world.tenant}/oauth2/v2.0/token
oauth2_scope = https://outlook.office365.com/.default
oauth2_flow = client_credentials
redirect_uri = http://localhost
client_id = {upstream.world.client_id}
client_secret = {upstream.world.client_secret}
""",
        "utf-8",
    )
    command = [sys.executable, "-m", "emailproxy", "--no-gui", "--config-file", str(config)]
    command += ["--log-file", str(data / "emailproxy.log")]
    # It verifies the token endpoint and the upstream with OpenSSL's default trust.
    server = Server(command, _environment({"SSL_CERT_FILE": str(upstream.ca)}), listen, data / "log")
    return Contestant("emailproxy", _password_program(upstream, listen), server)


def direct(upstream: Upstream, port: int) -> Contestant:
    """A mail program that speaks XOAUTH2 itself and has a token at hand."""
    user, token = upstream.world.work, upstream.access_token()

    def respond(challenge: bytes | None = None) -> str:
        return f"user={user}\x01auth=Bearer {token}\x01\x01" if challenge is None else ""

    def log_in(smtp: smtplib.SMTP) -> None:
        smtp.auth("XOAUTH2", respond)

    return Contestant("direct", MailProgram("127.0.0.1", port, upstream.tls, user, log_in), None)


def stock_aiosmtpd(upstream: Upstream, _port: int) -> Contestant:
    """aiosmtpd as it comes, which accepts mail and forgets it."""
    listen = free_port()
    command = [sys.executable, "-m", "bench.accept_only", str(listen), str(upstream.cert), str(upstream.key)]
    log = upstream.directory / f"aiosmtpd{next(_starts)}.log"
    server = Server(command, _environment({}), listen, log)
    return Contestant("aiosmtpd", _password_program(upstream, listen), server)


def profiled(file: Path) -> Entry:
    """The relay under cProfile."""
    return partial(relay, profile=file)


def _password_program(upstream: Upstream, port: int) -> MailProgram:
    user, password = upstream.world.work, upstream.password
    return MailProgram("127.0.0.1", port, upstream.tls, user, lambda smtp: smtp.login(user, password))


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The process environment: these settings, and nothing else from outside that could change a server."""
    return {"PATH": os.environ["PATH"], **settings}
