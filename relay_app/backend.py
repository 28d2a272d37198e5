"""The console's backend: what the console shows and does, from the parts of a running relay.

Called from the console's threads. What belongs to the event loop is only read there, or done on the loop.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, TypeVar

from relay_app.console.backend import (
    AttemptView,
    DeviceView,
    HourCount,
    MailboxView,
    MessageView,
    NewDevice,
    Notice,
    RelayView,
    RequestError,
    SignInKind,
    SignInView,
)
from relay_app.delivery.upstream import Upstream
from relay_app.errors import RelayError, TokenError
from relay_app.identity.expiry import credential_expires
from relay_app.identity.sign_in import PendingSignIn, SignIns, kinds
from relay_app.identity.tokens import MailboxTokens, State
from relay_app.inbound.tls import Certificate
from relay_app.settings import (
    HASHER,
    DeviceSettings,
    ForeignFrom,
    Settings,
    generate_password,
    is_device_name,
    is_sender,
)
from relay_app.storage.devices import StoredDevices
from relay_app.storage.journal import Entry, Journal

_Result = TypeVar("_Result")

_PATIENCE = 60.0  # seconds for what is done on the event loop; a retry may wait twice for Microsoft
_MOST_HOURLY = 10_000  # messages


@dataclass(frozen=True, slots=True)
class Parts:
    """What the backend needs of the relay. The mappings are the relay's own and change with a reload."""

    settings: Callable[[], Settings]
    loop: asyncio.AbstractEventLoop
    tokens: Mapping[str, MailboxTokens]
    upstreams: Mapping[str, Upstream]
    certificate: Certificate
    sign_ins: SignIns
    journal: Journal
    devices: StoredDevices
    devices_changed: Callable[[str], Coroutine[Any, Any, None]]
    """Has the listener take the devices anew; run on the event loop. Its argument is the name of one that was
    removed, or ""."""
    metrics: Callable[[], bytes]
    ports: Callable[[], tuple[int, int]]
    """Of the STARTTLS and of the TLS listener; 0 where there is none."""


class RelayBackend:
    """Implements `console.backend.Backend`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def relay(self) -> RelayView:
        parts, settings = self._parts, self._parts.settings()
        starttls, tls = parts.ports()
        return RelayView(
            version=version("smtp-relay"),
            hostname=settings.hostname,
            submission_port=starttls,
            tls_port=tls,
            certificate_expires=parts.certificate.expires,
            alerts=bool(settings.alert_urls),
            notices=tuple(self._notices(settings)),
        )

    def mailboxes(self) -> Sequence[MailboxView]:
        views = map(self._mailbox, list(self._parts.tokens))
        return [view for view in views if view is not None]

    def ready(self) -> Sequence[str]:
        now = datetime.now(UTC)
        return [
            f"{view.address}: {view.sentence or view.state.value}"
            for view in self.mailboxes()
            # A token that is still valid is used when Microsoft is out of reach. But a lost sign-in will not
            # come back by itself.
            if view.state is State.SIGN_IN_NEEDED
            or (view.state is not State.OK and (view.token_expires is None or view.token_expires <= now))
        ]

    # Devices.

    def devices(self) -> Sequence[DeviceView]:
        configured = [_device(each, configured=True) for each in self._parts.settings().devices]
        with _asked():
            stored = self._parts.devices.list()
        return configured + [
            _device(each.settings, configured=False, created=each.created, last_seen=each.last_seen)
            for each in stored
        ]

    def create_device(
        self, *, name: str, mailbox: str, senders: Sequence[str], foreign_from: str, hourly_messages: int
    ) -> NewDevice:
        name = name.strip()
        self._check_device(name, mailbox, senders, hourly_messages)
        try:
            policy = ForeignFrom(foreign_from)
        except ValueError:
            choices = " or ".join(each.value for each in ForeignFrom)
            raise RequestError(f"The policy for a foreign From: must be {choices}.") from None
        password = generate_password()
        device = DeviceSettings(
            name,
            HASHER.hash(password),
            mailbox,
            tuple(sender.strip().lower() for sender in senders),
            policy,
            hourly_messages,
        )
        with _asked():
            added = self._parts.devices.add(device, datetime.now(UTC))
        if not added:
            raise RequestError(f"There is a device named {name!r} already. Choose another name.")
        self._do(self._parts.devices_changed(""))
        return NewDevice(device, password)

    def revoke_device(self, name: str) -> None:
        if any(each.name.lower() == name.lower() for each in self._parts.settings().devices):
            raise RequestError(
                f"The device {name!r} is in the relay's settings. Remove it there, then reload."
            )
        with _asked():
            removed = self._parts.devices.remove(name)
        if not removed:
            raise RequestError(f"There is no device named {name!r}. It may have been revoked already.")
        self._do(self._parts.devices_changed(name))

    def _check_device(self, name: str, mailbox: str, senders: Sequence[str], hourly_messages: int) -> None:
        if not is_device_name(name):
            raise RequestError("The name must have 1 to 255 printable characters.")
        if any(each.name.lower() == name.lower() for each in self._parts.settings().devices):
            raise RequestError(
                f"There is a device named {name!r} in the relay's settings. Choose another name."
            )
        if mailbox not in self._parts.tokens:
            raise RequestError(f"There is no mailbox {mailbox!r}. Choose one of the list.")
        for sender in senders:
            if not is_sender(sender.strip()):
                raise RequestError(f"{sender!r} is neither an address nor *@domain. Correct it.")
        if not 0 <= hourly_messages <= _MOST_HOURLY:
            raise RequestError("Messages per hour must be a number from 0 (no limit) to 10000.")

    # Messages.

    def recent(self, limit: int) -> Sequence[MessageView]:
        with _asked():
            return [_message(entry) for entry in self._parts.journal.recent(limit)]

    def find(self, text: str, limit: int) -> Sequence[MessageView]:
        with _asked():
            return [_message(entry) for entry in self._parts.journal.find(text, limit)]

    def message(self, id: str) -> MessageView:
        with _asked():
            entry = self._parts.journal.message(id)
        if entry is None:
            raise RequestError(f"There is no message {id!r}. Messages are forgotten after 30 days.")
        return _message(entry)

    def hours(self) -> Sequence[HourCount]:
        with _asked():
            return [
                HourCount(each.hour, each.counts) for each in self._parts.journal.hours(datetime.now(UTC))
            ]

    # Sign-ins.

    def begin_sign_in(self, mailbox: str, kind: SignInKind, redirect_uri: str) -> SignInView:
        with _asked():
            if kind is SignInKind.DEVICE_CODE:
                return _sign_in(self._parts.sign_ins.begin_device(mailbox))
            return _sign_in(self._parts.sign_ins.begin_code(mailbox, redirect_uri))

    def sign_in(self, id: str) -> SignInView:
        with _asked():
            return _sign_in(self._parts.sign_ins.status(id))

    def redirected(self, parameters: Mapping[str, str]) -> SignInView:
        with _asked():
            return _sign_in(self._parts.sign_ins.redirected(parameters))

    def pasted(self, id: str, address: str) -> SignInView:
        with _asked():
            return _sign_in(self._parts.sign_ins.pasted(id, address))

    def confirm(self, id: str) -> SignInView:
        with _asked():
            return _sign_in(self._parts.sign_ins.confirm(id))

    def retry(self, mailbox: str) -> MailboxView:
        tokens = self._parts.tokens.get(mailbox)
        if tokens is not None:
            with suppress(TokenError):  # the view tells it
                self._do(tokens.retry())
        view = self._mailbox(mailbox)
        if view is None:
            raise RequestError(f"There is no mailbox {mailbox!r}.")
        return view

    def metrics(self) -> bytes:
        return self._parts.metrics()

    # Views.

    def _mailbox(self, address: str) -> MailboxView | None:
        """None: there is no such mailbox; a reload may have taken it away a moment ago."""
        tokens, upstream = self._parts.tokens.get(address), self._parts.upstreams.get(address)
        if tokens is None or upstream is None:
            return None
        now = tokens.snapshot()
        error = now.last_error
        return MailboxView(
            address=address,
            flow=upstream.mailbox.flow,
            state=now.state,
            sentence=error.sentence if error else "",
            action=error.action if error else "",
            code=error.code if error else "",
            user=now.user,
            token_expires=_time(now.expires_at),
            next_refresh=_time(now.next_refresh_at),
            secret_expires=credential_expires(upstream.mailbox),
            connections_open=upstream.pool.in_use + upstream.pool.idle,
            connections_busy=upstream.pool.in_use,
            sign_in_kinds=tuple(SignInKind(kind.value) for kind in kinds(upstream.mailbox)),
        )

    def _notices(self, settings: Settings) -> Iterator[Notice]:
        if settings.tls_cert is None:
            yield Notice(
                "certificate-self-signed",
                "The certificate is self-signed: Gmail will refuse to connect. "
                "Set RELAY_TLS_CERT and RELAY_TLS_KEY.",
            )
        if self._parts.certificate.problem:
            yield Notice("certificate-rejected", self._parts.certificate.problem)
        if not settings.alert_urls:
            yield Notice("no-alerts", "Nobody is told when something is wrong. Set RELAY_ALERT_URLS.")
        if not settings.vault_key:
            yield Notice(
                "vault-key-beside-vault",
                "The vault's key lies beside the vault. Keep it elsewhere and set RELAY_VAULT_KEY_FILE.",
            )
        if not settings.web_password_hash:
            yield Notice(
                "no-console-password",
                "The console has no password, so it answers on this machine only. "
                "Set RELAY_WEB_PASSWORD_FILE.",
            )

    def _do(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        return asyncio.run_coroutine_threadsafe(work, self._parts.loop).result(_PATIENCE)


@contextmanager
def _asked() -> Iterator[None]:
    """What the relay's parts refuse, the console can show."""
    try:
        yield
    except RequestError:
        raise
    except RelayError as error:
        raise RequestError(str(error)) from error


def _device(
    settings: DeviceSettings,
    *,
    configured: bool,
    created: datetime | None = None,
    last_seen: datetime | None = None,
) -> DeviceView:
    return DeviceView(
        name=settings.name,
        mailbox=settings.mailbox,
        senders=settings.senders,
        foreign_from=settings.foreign_from.value,
        hourly_messages=settings.hourly_messages,
        configured=configured,
        created=created,
        last_seen=last_seen,
    )


def _message(entry: Entry) -> MessageView:
    values = {each.name: getattr(entry, each.name) for each in fields(Entry)}
    attempts = tuple(
        AttemptView(**{each.name: getattr(attempt, each.name) for each in fields(AttemptView)})
        for attempt in entry.attempts
    )
    return MessageView(**values | {"attempts": attempts})


def _sign_in(pending: PendingSignIn) -> SignInView:
    return SignInView(
        id=pending.id,
        mailbox=pending.mailbox,
        kind=SignInKind(pending.kind.value),
        state=pending.state,
        url=pending.url,
        user_code=pending.user_code,
        redirect_uri=pending.redirect_uri,
        expires=pending.expires,
        user=pending.user,
        sentence=pending.sentence,
        action=pending.action,
        code=pending.code,
        confirmable=pending.confirmable,
    )


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
