"""`smtp-relay login`: signing a mailbox in from a terminal, by device code or by pasting an address."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from relay_app.errors import SettingsError, SignInError
from relay_app.identity.flows import DelegatedFlow
from relay_app.identity.sign_in import PendingSignIn, SignIns, SignInState, kinds
from relay_app.identity.vault import Vault
from relay_app.resources import open_vault
from relay_app.settings import Flow, MailboxSettings, Settings

_CALLBACK = "/sign-in/callback"  # the console's; the app registration has it
_LOOK = 0.5  # seconds between two looks at a sign-in


def redeem(settings: Settings, address: str | None, refresh_token: str) -> str:
    """Sign a mailbox in with a refresh token obtained elsewhere, and return who has signed in.

    Raises:
        SettingsError: there is no such mailbox, or it needs no sign-in.
        TokenError: Microsoft does not take the refresh token.
        VaultError, StoreError: the sign-in cannot be stored.
    """
    mailbox = choose(settings, address)
    with _vault(settings) as vault:
        flow = DelegatedFlow(mailbox, authority=settings.authority, ca=settings.upstream_ca, vault=vault)
        return flow.redeem(refresh_token).user


def sign_in(settings: Settings, address: str | None, *, sleep: Callable[[float], None] = time.sleep) -> str:
    """Lead a person at the terminal through a sign-in, and return who has signed in.

    Raises:
        SettingsError: there is no such mailbox, or it needs no sign-in.
        SignInError: it failed; the text says why and what to do.
        TokenError: Microsoft cannot be asked.
        VaultError, StoreError: the sign-in cannot be stored.
    """
    mailbox = choose(settings, address)
    with _vault(settings) as vault:
        sign_ins = SignIns(
            lambda wanted: mailbox if wanted == mailbox.address else None,
            authority=settings.authority,
            ca=settings.upstream_ca,
            vault=vault,
        )
        if kinds(mailbox)[0] is Flow.DEVICE_CODE:
            ended = _by_device_code(sign_ins, mailbox, sleep)
        else:
            ended = _by_pasting(sign_ins, mailbox, settings)
        if ended.confirmable and click.confirm(f"{ended.sentence}\nUse it all the same?"):
            ended = sign_ins.confirm(ended.id)
    if ended.state is not SignInState.DONE:
        code = f"({ended.code})" if ended.code else ""
        raise SignInError(" ".join(part for part in (ended.sentence, ended.action, code) if part))
    return ended.user


def choose(settings: Settings, address: str | None) -> MailboxSettings:
    """Find the mailbox to sign in. `address` may be None if only one needs a sign-in.

    Raises:
        SettingsError: there is none, or it is not clear which.
    """
    delegated = {mailbox.address: mailbox for mailbox in settings.mailboxes if mailbox.flow.delegated}
    if not delegated:
        raise SettingsError(["No mailbox needs a sign-in: all of them use client_credentials"])
    if address is None and len(delegated) == 1:
        address = next(iter(delegated))
    mailbox = delegated.get((address or "").lower())
    if mailbox is None:
        problem = f"{address} is not one of them" if address else "It is not said which mailbox signs in"
        raise SettingsError([f"{problem}. Name one of {', '.join(delegated)}"])
    return mailbox


def _by_device_code(
    sign_ins: SignIns, mailbox: MailboxSettings, sleep: Callable[[float], None]
) -> PendingSignIn:
    import segno

    begun = sign_ins.begin_device(mailbox.address)
    click.echo(f"To sign in {mailbox.address}, open this page, on any device:\n\n    {begun.url}\n")
    segno.make(begun.url).terminal(compact=True)
    click.echo(f"\nand type this code:\n\n    {begun.user_code}\n")
    click.echo(f"Waiting until {begun.expires.astimezone():%H:%M}. Ctrl-C gives up.")
    while (view := sign_ins.status(begun.id)).state is SignInState.WAITING:
        sleep(_LOOK)
    return view


def _by_pasting(sign_ins: SignIns, mailbox: MailboxSettings, settings: Settings) -> PendingSignIn:
    view = sign_ins.begin_code(mailbox.address, redirect_uri(settings))
    click.echo(
        f"To sign in {mailbox.address}, open this address in a browser, on any device:\n\n{view.url}\n"
    )
    click.echo(
        f"At the end the browser goes to {view.redirect_uri}?code=... It may say that it cannot be reached: "
        "that does not matter.\nCopy the whole address from the browser's address line."
    )
    while view.state is SignInState.WAITING:
        try:
            view = sign_ins.pasted(view.id, click.prompt("\nPaste it here"))
        except SignInError as error:
            click.echo(str(error))
            view = sign_ins.status(view.id)  # which raises if there is no use in asking again
        else:
            if view.state is SignInState.WAITING and view.sentence:
                click.echo(f"{view.sentence} {view.action}")
    return view


def redirect_uri(settings: Settings) -> str:
    """Where Microsoft sends the browser: the console's address, or one that a person copies."""
    if settings.web_url.startswith("https://"):
        return settings.web_url + _CALLBACK
    port = settings.web_listen[0].port if settings.web_listen else 8025
    return f"http://localhost:{port}{_CALLBACK}"


@contextmanager
def _vault(settings: Settings) -> Iterator[Vault]:
    store, vault = open_vault(settings)
    try:
        yield vault
    finally:
        store.close()
