"""The relay as a whole: built from the settings, started, reloaded, drained, stopped."""

import asyncio
import errno
import os
import signal
import ssl
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import TypeVar

import structlog

from relay_app.delivery.courier import DirectCourier
from relay_app.delivery.outlook import tls_context
from relay_app.delivery.upstream import Upstream
from relay_app.errors import RelayError, SettingsError
from relay_app.identity.flows import DelegatedFlow, tokens_for
from relay_app.identity.keeper import Keeper
from relay_app.identity.tokens import AccessToken, MailboxTokens
from relay_app.identity.vault import Vault, create_key_file, key_from
from relay_app.inbound.devices import Devices
from relay_app.inbound.listener import Listener
from relay_app.inbound.session import Mode
from relay_app.inbound.throttle import Throttle
from relay_app.inbound.tls import Certificate, self_signed
from relay_app.settings import MailboxSettings, Settings

_log = structlog.get_logger()
_Opened = TypeVar("_Opened")

_CERTIFICATE_POLL = 5.0  # seconds between looks at the certificate's files
_GOODBYE = 6.0  # seconds for connections to be closed with QUIT; each waits 5 s for its reply
_RELOADABLE = {"mailboxes", "devices", "limits"}


class App:
    """One running relay. `load` parses the settings again when SIGHUP asks for it.

    Raises:
        SettingsError: the settings, or the files they name, cannot be used.
    """

    def __init__(self, settings: Settings, load: Callable[[], Settings]) -> None:
        self._settings = settings
        self._load = load
        self._tokens: dict[str, MailboxTokens] = {}
        self._upstreams: dict[str, Upstream] = {}
        self._keeper: asyncio.Task[None]
        self._stop = asyncio.Event()
        self._certificate, self._vault, self._upstream_tls = _open_files(settings)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then finish what is in flight.

        Raises:
            ListenError: an address cannot be listened on.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.add_signal_handler(signal.SIGINT, self._stop.set)
        reload = asyncio.Event()
        loop.add_signal_handler(signal.SIGHUP, reload.set)
        settings = self._settings
        devices = Devices(settings.devices, Throttle(monotonic), monotonic)
        courier = DirectCourier(self._upstreams)
        self._listener = Listener(
            hostname=settings.hostname,
            limits=settings.limits,
            certificate=self._certificate,
            devices=devices,
            courier=courier,
        )
        for mailbox in settings.mailboxes:
            self._add(mailbox)
        endpoints = {
            Mode.STARTTLS: settings.listen,
            Mode.IMPLICIT_TLS: settings.listen_tls,
            Mode.PROXY: settings.listen_proxy,
        }
        await self._listener.start(endpoints)
        background = [
            asyncio.create_task(self._watch_certificate()),
            asyncio.create_task(self._reloads(reload)),
        ]
        self._keeper = self._start_keeper()
        _log.info("started", mailboxes=[mailbox.address for mailbox in settings.mailboxes])
        try:
            await self._stop.wait()
            _log.info("stopping", patience=self._settings.limits.drain_timeout)
            await self._listener.stop(self._settings.limits.drain_timeout)
        finally:
            for task in (*background, self._keeper):
                task.cancel()
            await asyncio.wait(background)  # a reload must let go of what is closed now
            await _politely(courier.close())
            devices.close()
        _log.info("stopped")

    async def _watch_certificate(self) -> None:
        while True:
            await asyncio.sleep(_CERTIFICATE_POLL)
            self._certificate.refresh()

    async def _reloads(self, asked: asyncio.Event) -> None:
        while True:
            await asked.wait()
            asked.clear()
            try:
                await self._reload()
            except SettingsError as error:
                for problem in error.problems:
                    _log.error("reload_refused", reason=problem, consequence="the old settings stay in use")
            except Exception:  # the next SIGHUP must still find somebody here
                _log.exception(
                    "reload_failed", consequence="correct the settings and reload again, or restart"
                )

    async def _reload(self) -> None:
        self._certificate.refresh(force=True)
        wanted = await asyncio.to_thread(self._load)
        for name in (each.name for each in fields(Settings) if each.name not in _RELOADABLE):
            if getattr(wanted, name) != getattr(self._settings, name):
                _log.warning("reload_incomplete", setting=name, consequence="it takes effect after a restart")
        self._settings = replace(self._settings, **{name: getattr(wanted, name) for name in _RELOADABLE})
        self._listener.limits = wanted.limits
        self._listener.devices.replace(wanted.devices)
        await self._take_mailboxes()
        self._keeper.cancel()
        self._keeper = self._start_keeper()
        _log.info("reloaded", mailboxes=[mailbox.address for mailbox in wanted.mailboxes])

    async def _take_mailboxes(self) -> None:
        """Make what new and changed mailboxes need, keep what others have, close what nobody needs.

        What has to go serves until its idle connections are closed: no mail finds a changed mailbox missing,
        and its old connections do not add up with the new ones.
        """
        wanted = {mailbox.address: mailbox for mailbox in self._settings.mailboxes}
        for address in wanted.keys() - self._upstreams.keys():
            self._add(wanted[address])
        outdated = [
            each for each in self._upstreams.values() if wanted.get(each.mailbox.address) != each.mailbox
        ]
        await asyncio.gather(*(_politely(upstream.close()) for upstream in outdated))
        for upstream in outdated:
            address = upstream.mailbox.address
            del self._upstreams[address], self._tokens[address]
            if address in wanted:
                self._add(wanted[address])

    def _add(self, mailbox: MailboxSettings) -> None:
        settings = self._settings
        tokens = tokens_for(mailbox, authority=settings.authority, ca=settings.upstream_ca, vault=self._vault)
        self._tokens[mailbox.address] = tokens
        self._upstreams[mailbox.address] = Upstream(
            mailbox,
            settings.upstream,
            tls=self._upstream_tls,
            ehlo_name=settings.hostname,
            tokens=tokens,
        )

    def _start_keeper(self) -> asyncio.Task[None]:
        return asyncio.create_task(Keeper(self._tokens.values()).run())


def redeem(settings: Settings, address: str | None, refresh_token: str) -> AccessToken:
    """Sign a mailbox in with a refresh token obtained elsewhere. `address` may be None if there is only one.

    Raises:
        SettingsError: there is no such mailbox, or it needs no sign-in.
        TokenError: Microsoft does not take the refresh token.
        VaultError: the sign-in cannot be stored.
    """
    delegated = {mailbox.address: mailbox for mailbox in settings.mailboxes if mailbox.flow.delegated}
    if address is None and len(delegated) == 1:
        address = next(iter(delegated))
    if not delegated:
        raise SettingsError(["No mailbox needs a sign-in: all of them use client_credentials"])
    mailbox = delegated.get((address or "").lower())
    if mailbox is None:
        problem = f"{address} is not one of them" if address else "It is not said which mailbox signs in"
        raise SettingsError([f"{problem}. Name one of {', '.join(delegated)}"])
    _check_data_dir(settings)
    flow = DelegatedFlow(
        mailbox, authority=settings.authority, ca=settings.upstream_ca, vault=_vault(settings)
    )
    return flow.redeem(refresh_token)


def _open_files(settings: Settings) -> tuple[Certificate, Vault, ssl.SSLContext]:
    """Open what the settings name; report every problem at once."""
    problems: list[str] = []

    def attempt(open_one: Callable[[Settings], _Opened]) -> _Opened | None:
        try:
            return open_one(settings)
        except RelayError as error:
            problems.extend(str(error).splitlines())
        return None

    data_dir = attempt(_check_data_dir)
    tls = attempt(_upstream_tls)
    # What would only say once more that the data directory cannot be used is not tried.
    certificate = attempt(_certificate) if data_dir or settings.tls_cert else None
    vault = attempt(_vault) if data_dir else None
    if certificate is None or vault is None or tls is None:
        raise SettingsError(problems)
    return certificate, vault, tls


def _check_data_dir(settings: Settings) -> Path:
    path = settings.data_dir
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"\0" * 4096)
    except OSError as error:
        raise SettingsError(
            [
                f"RELAY_DATA_DIR: cannot write in {path}: {error.strerror}. {_remedy(error, path)}, "
                "or choose another directory"
            ]
        ) from error
    return path


def _remedy(error: OSError, path: Path) -> str:
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return "Make room on that disk"
        case errno.EROFS:
            return "It is mounted read-only: mount it for writing"
        case _:
            return f"Give it to user {os.getuid()}: chown {os.getuid()} {path}"


def _certificate(settings: Settings) -> Certificate:
    cert, key = settings.tls_cert, settings.tls_key
    if cert is None or key is None:
        cert, key = self_signed(settings.data_dir / "tls", settings.hostname, datetime.now(UTC))
        _log.warning(
            "certificate_self_signed",
            file=str(cert),
            consequence="Gmail will refuse to connect. Set RELAY_TLS_CERT and RELAY_TLS_KEY to a certificate "
            f"for {settings.hostname} from a public authority",
        )
    return Certificate(cert, key)


def _vault(settings: Settings) -> Vault:
    if settings.vault_key:
        key = key_from(settings.vault_key)
    else:
        file = settings.data_dir / "vault.key"
        key = create_key_file(file)
        _log.warning(
            "vault_key_beside_vault",
            file=str(file),
            consequence="whoever can read the data directory can read the tokens. Set RELAY_VAULT_KEY_FILE "
            "to a copy of this file that is kept elsewhere",
        )
    vault = Vault(settings.data_dir / "vault", key)
    vault.check()
    return vault


def _upstream_tls(settings: Settings) -> ssl.SSLContext:
    try:
        return tls_context(settings.upstream_ca)
    except OSError as error:  # ssl.SSLError is one
        raise SettingsError(
            [f"RELAY_UPSTREAM_CA: {settings.upstream_ca} has no PEM certificates: {error}"]
        ) from error


async def _politely(closing: Awaitable[None]) -> None:
    """Let connections be closed with QUIT, but not for long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_GOODBYE):
            await closing
