"""The commands. What they need is imported when they run: `health` runs twice a minute."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import click

from relay_app.errors import RelayError, SettingsError

_CANNOT_START = 2


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="smtp-relay", prog_name="smtp-relay")
def main() -> None:
    """An SMTP relay that hands mail to Outlook with OAuth 2.0."""


@main.command()
@click.option("--verbose", is_flag=True, help="Log each connection too.")
def serve(verbose: bool) -> None:
    """Run the relay. SIGTERM stops it, SIGHUP reloads certificates and RELAY_CONFIG."""
    import asyncio

    from relay_app import log, memory, settings

    memory.return_large_blocks()
    log.configure(verbose=verbose)
    with _explained("start"):
        from relay_app.app import App

        app = App(settings.load(os.environ), lambda: settings.load(os.environ))
        asyncio.run(app.run())


@main.command()
def check() -> None:
    """Read the settings and the files they name, and say what is wrong with them.

    Changes nothing, opens no database, asks nobody. Exit status 0: they can be used; 2: they cannot.
    """
    from relay_app import log, settings

    log.configure()
    with _explained("start"):
        from relay_app.resources import check_files

        loaded = settings.load(os.environ)
        check_files(loaded)
    click.echo(
        f"The settings can be used: {_counted(len(loaded.mailboxes), 'mailbox', 'mailboxes')}, "
        f"{_counted(len(loaded.devices), 'device', 'devices')}."
    )


@main.command()
@click.option("--timeout", default=5.0, show_default=True, help="Seconds to wait for the answer.")
def health(timeout: float) -> None:
    """Say EHLO to the running relay. Exit status 0: it answers; 1: it does not."""
    from relay_app import settings
    from relay_app.ops.health import greet

    with _explained("check the relay"):
        configured = settings.load(os.environ)
    try:
        click.echo(greet(configured, timeout))
    except (OSError, RelayError) as error:
        click.echo(f"The relay does not answer: {error}", err=True)
        sys.exit(1)


@main.group()
def device() -> None:
    """Clients that submit mail."""


@device.command()
@click.option("--stdin", is_flag=True, help="Hash the password on standard input instead of making one.")
def password(stdin: bool) -> None:
    """Make a device password and its hash, for RELAY_PASSWORD_HASH or password_hash in RELAY_CONFIG."""
    from relay_app.settings import HASHER, generate_password

    if stdin:
        chosen = sys.stdin.buffer.readline().rstrip(b"\r\n")
        if not chosen:
            raise click.UsageError("Nothing came on standard input.")
    else:
        chosen = generate_password().encode()
        click.echo(f"Password: {chosen.decode()}")
    click.echo(f"Hash:     {HASHER.hash(chosen)}")


@main.command()
@click.argument("mailbox", required=False)
@click.option(
    "--refresh-token",
    "file",
    type=click.File("r", errors="replace"),
    help="Do not ask anybody: use the refresh token in this file; - for standard input.",
)
def login(mailbox: str | None, file: TextIO | None) -> None:
    """Sign a mailbox in. The sign-in goes into the vault; a running relay takes it from there."""
    from relay_app import log, settings
    from relay_app.login import redeem, sign_in

    refresh_token = file.read().strip() if file is not None else ""
    if file is not None and not refresh_token:
        raise click.UsageError(f"There is no refresh token in {file.name}.")
    log.configure()
    with _explained("sign in"):
        loaded = settings.load(os.environ)
        user = redeem(loaded, mailbox, refresh_token) if refresh_token else sign_in(loaded, mailbox)
        click.echo(f"Signed in as {user}. The relay can send.")


@main.group()
def vault() -> None:
    """The mailboxes' sign-ins, encrypted."""


@vault.command()
@click.option(
    "--new-key-file",
    type=click.Path(path_type=Path),
    required=True,
    help="The file with the new key: openssl rand -base64 32 | tr '+/' '-_'",
)
def rekey(new_key_file: Path) -> None:
    """Encrypt the vault with another key: all of it at once, or nothing.

    Stop the relay first. One that keeps running with the old key cannot read its sign-ins any more, and would
    store a new sign-in under the old key.

    The settings are those of the relay, with the old key. Afterwards put the new key where RELAY_VAULT_KEY or
    RELAY_VAULT_KEY_FILE has the old one, and start the relay. If neither is set, the key is vault.key in the
    data directory, and is replaced there.

    If it was interrupted, run it again: what has the new key already is left alone.
    """
    from relay_app import log, settings

    log.configure()
    with _explained("change the vault's key"):
        from relay_app.resources import rekey_vault

        loaded = settings.load(os.environ)
        done = rekey_vault(loaded, new_key_file)
    click.echo(
        f"{_counted(done.changed, 'entry', 'entries')} encrypted with the new key"
        + (f", {done.kept} had it already." if done.kept else ".")
    )
    if loaded.vault_key:
        click.echo("Put the new key where RELAY_VAULT_KEY or RELAY_VAULT_KEY_FILE has the old one.")


@main.group()
def alert() -> None:
    """Messages to the relay's owner."""


@alert.command()
def test() -> None:
    """Send a test message to each channel of RELAY_ALERT_URLS. Exit status 1: one did not take it."""
    from relay_app import settings
    from relay_app.ops.alerts import send_test

    with _explained("send a test message"):
        loaded = settings.load(os.environ)
        if not loaded.alert_urls:
            raise SettingsError(["RELAY_ALERT_URLS is not set: nobody is told anything"])
    results = send_test(loaded.alert_urls, origin=loaded.hostname)
    for result in results:
        click.echo(f"{result.channel}: {result.failure or 'sent'}")
    sys.exit(1 if any(result.failure for result in results) else 0)


@main.command()
@click.argument("text", metavar="ID|MESSAGE-ID|ADDRESS")
@click.option("--limit", default=20, show_default=True, help="At most so many messages, the newest.")
def trace(text: str, limit: int) -> None:
    """Tell what became of a message: by the relay's id, the Message-ID, a recipient or a sender."""
    from relay_app import settings
    from relay_app.ops.trace import stories
    from relay_app.storage.journal import Journal
    from relay_app.storage.store import Store

    with _explained("look into the journal"):
        loaded = settings.load(os.environ)
        store = Store.open(loaded.store_url, loaded.data_dir)
        try:
            click.echo(stories(Journal(store).find(text, limit), text))
        finally:
            store.close()


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn our errors into plain text on standard error and exit status 2."""
    try:
        yield
    except RelayError as error:
        click.echo(f"smtp-relay cannot {what}:", err=True)
        for problem in str(error).splitlines():
            click.echo(f"  - {problem}", err=True)
        sys.exit(_CANNOT_START)
