"""Takes note of what happens: in the journal, in the metrics, for the alerts."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from urllib.parse import quote

from relay_app.delivery.upstream import Upstream
from relay_app.identity.expiry import credential_expires
from relay_app.identity.tokens import MailboxTokens, Snapshot
from relay_app.inbound.report import Report
from relay_app.inbound.tls import Certificate
from relay_app.ops.alerts import Alerting, Alerts, NoAlerts
from relay_app.ops.metrics import Gauges, Metrics
from relay_app.ops.watch import CertificateFacts, Facts, MailboxFacts, Streak, Watch
from relay_app.settings import Settings
from relay_app.storage.blobs import StoredBlobs
from relay_app.storage.journal import Attempt, Entry
from relay_app.storage.journal_writer import JournalWriter
from relay_app.storage.store import Store

_INCIDENTS = "incidents"


class Observation:
    """One relay's. Belongs to the event loop; `metrics.render` may be called in any thread."""

    def __init__(
        self,
        settings: Settings,
        *,
        store: Store,
        writer: JournalWriter,
        tokens: Mapping[str, MailboxTokens],
        upstreams: Mapping[str, Upstream],
        certificate: Certificate,
        connections: Callable[[], int],
    ) -> None:
        """The mappings are the relay's own. `connections` counts the clients' of the moment."""
        self._settings = settings
        self._writer = writer
        self._tokens = tokens
        self._upstreams = upstreams
        self._certificate = certificate
        self._connections = connections
        self._streaks: defaultdict[str, Streak] = defaultdict(Streak)
        self._changed = asyncio.Event()
        self.metrics = Metrics(version("smtp-relay"), self._gauges)
        self._alerts: Alerting = NoAlerts()
        if settings.alert_urls:
            incidents = _IncidentBlob(StoredBlobs(store, "alerts"))
            self._alerts = Alerts(settings.alert_urls, store=incidents, origin=settings.hostname)

    def message(self, report: Report) -> None:
        """What became of a message."""
        verdict = report.verdict
        now = datetime.now(UTC)
        self.metrics.observe(verdict.outcome, report.seconds, report.size)
        if verdict.upstream:
            self._streaks[report.mailbox].observe(verdict, now.timestamp())
        attempt = Attempt(
            at=now,
            seconds=report.seconds,
            outcome=verdict.outcome.value,
            reply=str(verdict.reply),
            sentence=verdict.sentence,
            action=verdict.action,
            cause=verdict.key,
        )
        self._writer.put(
            Entry(
                id=report.id,
                received=report.received,
                device=report.device,
                mailbox=report.mailbox,
                client=report.client,
                sender=report.envelope.sender,
                recipients=report.envelope.recipients,
                size=report.size,
                message_id=report.message_id,
                attempts=(attempt,),
            )
        )

    def login(self, device: str) -> None:
        """A login; `device` is "" for one that was refused."""
        if device:
            self._writer.seen(device, datetime.now(UTC))
        else:
            self.metrics.login_refused()

    def tokens_changed(self, _: Snapshot) -> None:
        """A mailbox's state has changed: somebody may have to be told at once."""
        self._changed.set()

    async def run(self) -> None:
        """Watch, until cancelled."""
        await Watch(self._alerts, self._facts, self._settings.data_dir, sleep=self._pause).run()

    def close(self) -> None:
        """Let the alerts' threads go. Blocks for seconds at most."""
        self._alerts.close()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        self._changed.clear()

    def _facts(self) -> Facts:
        return Facts(
            mailboxes=[self._mailbox(address) for address in self._tokens],
            certificate=CertificateFacts(
                # A self-signed one is no news, and Gmail refuses it at any age.
                self._certificate.expires if self._settings.tls_cert else None,
                self._certificate.problem,
            ),
        )

    def _mailbox(self, address: str) -> MailboxFacts:
        now = self._tokens[address].snapshot()
        mailbox = self._upstreams[address].mailbox
        error = now.last_error
        return MailboxFacts(
            address=address,
            state=now.state,
            sentence=error.sentence if error else "",
            action=error.action if error else "",
            user=now.user,
            sign_in_url=self._sign_in_url(address),
            credential="certificate" if mailbox.client_cert else "client secret",
            credential_expires=credential_expires(mailbox),
            streak=self._streaks[address],
        )

    def _sign_in_url(self, address: str) -> str:
        return f"{self._settings.web_url}/sign-in/{quote(address)}" if self._settings.web_url else ""

    def _gauges(self) -> Gauges:
        upstreams, tokens = list(self._upstreams.values()), list(self._tokens.values())
        ends = [each.expires_at for each in tokens if each.expires_at is not None]
        expires = self._certificate.expires
        return Gauges(
            connections=self._connections(),
            upstream_connections={
                "idle": sum(each.pool.idle for each in upstreams),
                "busy": sum(each.pool.in_use for each in upstreams),
            },
            mailboxes=Counter(each.state for each in tokens),
            token_expiry=min(ends, default=None),
            certificate_expiry=expires.timestamp() if expires else None,
        )


class _IncidentBlob:
    """Keeps the alerts' incidents in the database, as `ops.incidents.IncidentStore`."""

    def __init__(self, blobs: StoredBlobs) -> None:
        self._blobs = blobs

    def load(self) -> bytes | None:
        return self._blobs.load(_INCIDENTS)

    def save(self, data: bytes) -> None:
        self._blobs.store(_INCIDENTS, data)
