"""The relay, as its users run it: `python -m relay_app serve` with settings in the environment."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import logfmt, programs
from harness.clients import Account
from harness.planted import Planted

# Apprise says with its first message that Python 3.13 will lack a module that it can do without.
COMMAND = (
    *(sys.executable, "-W", "default", "-W", "ignore::DeprecationWarning:apprise.utils.pgp"),
    *("-m", "relay_app"),
)


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The process environment: these settings, and nothing of the relay's from outside."""
    return {"PATH": os.environ["PATH"], **settings}


class Relay:
    """A running relay. Its log must be clean when it ends; `stop` sees to that."""

    def __init__(self, settings: Mapping[str, str], ca: Path, planted: Planted) -> None:
        """Start it and wait until it listens. `ca` is the PEM bundle that its clients trust."""
        self.settings = dict(settings)
        self._ca = ca
        self._planted = planted
        self._server = programs.Server([*COMMAND, "serve"], environment(settings))
        self._stopped = False
        with self._server.stopped_on_failure():
            self._server.wait_for_pattern(r"\bevent=started\b")  # comes after every `listening`

    @property
    def account(self) -> Account:
        """The device of USER_EMAIL, at RELAY_LISTEN."""
        return self.account_at("RELAY_LISTEN")

    def account_at(self, listener: str, *, implicit_tls: bool = False) -> Account:
        """The device of USER_EMAIL, at the address that a setting names."""
        host, _, port = self.settings[listener].rpartition(":")
        user, password = self.settings["USER_EMAIL"], self.settings["RELAY_PASSWORD"]
        return Account(host.strip("[]"), int(port), self._ca, user, password, implicit_tls)

    @property
    def log(self) -> str:
        """What it has logged until now."""
        return self._server.output

    def events(self, name: str) -> list[dict[str, str]]:
        """The events of one name that it has logged until now."""
        return [event for event in map(logfmt.parse, self._server.lines) if event["event"] == name]

    def wait_for_event(self, name: str, count: int = 1, **pairs: str) -> list[dict[str, str]]:
        """Wait for the first `count` events with this name and these pairs, and return them."""

        def wanted(line: str) -> bool:
            event = logfmt.parse(line)
            return event["event"] == name and pairs.items() <= event.items()

        return [logfmt.parse(line) for line in self._server.wait_for_lines(wanted, count)]

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._server.signal(number)

    def wait(self) -> None:
        """Wait until it has ended by itself or after a signal, and look at what it leaves."""
        self._stopped = True
        self._check(self._server.wait())

    def stop(self) -> None:
        """End it as Docker does, unless it has ended: SIGTERM, then exit status 0 and a clean log."""
        if not self._stopped:
            self._stopped = True
            self._check(self._server.stop())

    def _check(self, status: int) -> None:
        log = self.log
        assert status == 0, f"The relay ended with {status}. Its log:\n{log}"
        assert (found := self._planted.found_in(log)) == [], f"The log gives away: {found}\n{log}"
        assert (strays := logfmt.strays(self._server.lines)) == [], f"Not events: {strays}\nThe log:\n{log}"
        assert "Traceback" not in log, f"Something went wrong that nobody foresaw. The log:\n{log}"


@dataclass(frozen=True)
class Refusal:
    """What a relay said that did not start."""

    status: int
    stdout: str
    stderr: str


def refuse_to_start(settings: Mapping[str, str], planted: Planted, within: Sequence[str] = ()) -> Refusal:
    """Run the relay where it must not start, until it ends by itself. `within`: a command that runs it."""
    done = _run(settings, "serve", within=within)
    output = done.stdout + done.stderr
    assert (found := planted.found_in(output)) == [], f"The output gives away: {found}\n{output}"
    assert "Traceback" not in output, output
    return Refusal(done.returncode, done.stdout, done.stderr)


def sign_in(settings: Mapping[str, str], refresh_token: str) -> None:
    """Give the mailbox of these settings its sign-in, with `smtp-relay login`."""
    done = _run(settings, "login", "--refresh-token", "-", stdin=refresh_token)
    assert done.returncode == 0, done.stderr
    assert refresh_token not in done.stdout + done.stderr


def health(settings: Mapping[str, str]) -> int:
    """Ask with `smtp-relay health` whether the relay with these settings answers; return the exit status."""
    return _run(settings, "health").returncode


def _run(
    settings: Mapping[str, str], *command: str, stdin: str = "", within: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*within, *COMMAND, *command],
        env=environment(settings),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=programs.SECONDS_TO_RUN,
        check=False,
    )
