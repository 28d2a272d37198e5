"""What the owner is told of: from facts about the relay to findings, and from findings to alerts."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import structlog

from relay_app.delivery.verdict import Outcome, Verdict
from relay_app.identity.expiry import reminder
from relay_app.identity.tokens import State
from relay_app.ops.alerts import Alerting

_log = structlog.get_logger()

INTERVAL = 30.0
"""Seconds between two looks."""
_TOKENS_SETTLE = 900.0
"""Seconds: Microsoft being out of reach for a while is nothing to wake somebody for; mail waits."""
_FILES_SETTLE = 300.0
"""Seconds: a renewal replaces two files, one after the other."""
_DISK_SETTLE = 60.0
CERTIFICATE_DAYS = (1, 3, 7, 21)
REFUSALS = 10
"""So many messages in a row not taken,"""
REFUSALS_SECONDS = 1800.0
"""and none taken for so long: the mailbox refuses everything."""
DISK_OCTETS = 200_000_000
DISK_SHARE, DISK_SHARE_OCTETS = 0.05, 2_000_000_000
"""Low is less than 200 MB, or less than 5 %; but on a large disk 2 GB are enough."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong, or is all right: `title` and `body` say which. See `Incidents.begin`."""

    key: str
    wrong: bool
    title: str
    body: str
    settle: float = 0.0
    stage: str = ""
    remind: bool = True


@dataclass(slots=True)
class Streak:
    """The messages in a row that a mailbox has not taken."""

    count: int = 0
    accepted: bool = False
    """A message was taken before them, since the program started."""
    since: float = 0.0
    """When the first of them was handed in, in seconds since the epoch."""
    sentence: str = ""
    """The last one's reason, in plain words; and what to do."""
    action: str = ""

    def observe(self, verdict: Verdict, now: float) -> None:
        """One more delivery attempt. An uncertain one (it may have arrived) says nothing."""
        if verdict.outcome is Outcome.ACCEPTED:
            self.count, self.accepted, self.since, self.sentence, self.action = 0, True, 0.0, "", ""
        elif verdict.outcome is not Outcome.UNCERTAIN:
            self.count += 1
            self.since = self.since or now
            self.sentence, self.action = verdict.sentence, verdict.action


@dataclass(frozen=True, slots=True)
class MailboxFacts:
    """One mailbox."""

    address: str
    state: State
    sentence: str = ""
    """Why it is not OK, in plain words; and what to do."""
    action: str = ""
    user: str = ""
    """Who is signed in."""
    sign_in_url: str = ""
    """The console's page for it; "" if there is none."""
    credential: str = "client secret"
    """What the app proves itself with: `client secret` or `certificate`."""
    credential_expires: date | None = None
    streak: Streak | None = None


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """The certificate that clients of the relay see."""

    expires: datetime | None
    rejected: str = ""
    """Why the files as they are now cannot be served, if so; the previous ones are."""


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """The disk that the data dir is on, in octets."""

    path: Path
    free: int
    total: int


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that is looked at."""

    mailboxes: Sequence[MailboxFacts] = ()
    certificate: CertificateFacts | None = None
    disk: DiskFacts | None = None
    """`Watch` fills this in."""


def findings(facts: Facts, now: datetime) -> list[Finding]:
    """What is wrong and what is all right. `now` has a time zone."""
    found = [finding for mailbox in facts.mailboxes for finding in _of_mailbox(mailbox, now)]
    if facts.certificate:
        found += _of_certificate(facts.certificate, now)
    if facts.disk:
        found.append(_of_disk(facts.disk))
    return found


def disk(path: Path) -> DiskFacts | None:
    """Look at the disk; None if that fails (whoever writes there says why). May block."""
    try:
        usage = shutil.disk_usage(path)
    except OSError:
        return None
    return DiskFacts(path, usage.free, usage.total)


class Watch:
    """Looks again and again, and reports to the alerts what it finds."""

    def __init__(
        self,
        alerts: Alerting,
        facts: Callable[[], Facts],
        data_dir: Path,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`facts` is called in the event loop and must not block; the disk is looked at in a thread."""
        self._alerts = alerts
        self._facts = facts
        self._data_dir = data_dir
        self._clock = clock
        self._sleep = sleep
        self._works = True

    async def run(self) -> None:
        """Look every half minute, until cancelled."""
        while True:
            try:
                await self.look()
                self._works = True
            except Exception as error:  # a watch that stops watching would tell nobody
                if self._works:
                    _log.exception("watch_failed", error=type(error).__name__)
                self._works = False
            await self._sleep(INTERVAL)

    async def look(self) -> None:
        """Look once."""
        room = await asyncio.to_thread(disk, self._data_dir)
        for finding in findings(replace(self._facts(), disk=room), self._clock()):
            if finding.wrong:
                self._alerts.begin(
                    finding.key,
                    finding.title,
                    finding.body,
                    settle=finding.settle,
                    stage=finding.stage,
                    remind=finding.remind,
                )
            else:
                self._alerts.end(finding.key, finding.title, finding.body)


# -- mailboxes -----------------------------------------------------------------------------------------------


def _of_mailbox(mailbox: MailboxFacts, now: datetime) -> list[Finding]:
    found = _of_tokens(mailbox)
    if mailbox.credential_expires is not None:
        found.append(_of_credential(mailbox, mailbox.credential_expires, now))
    if mailbox.streak is not None and mailbox.state is State.OK:  # without a token there is a better reason
        found += _of_streak(mailbox.address, mailbox.streak, now)
    return found


def _of_tokens(mailbox: MailboxFacts) -> list[Finding]:
    """Sign-in and tokens. While it is not known how they do, nothing is said."""
    address = mailbox.address
    sign_in, tokens = f"sign-in:{address}", f"tokens:{address}"
    match mailbox.state:
        case State.OK:
            user = f" as {mailbox.user}" if mailbox.user else ""
            return [
                Finding(
                    sign_in, False, f"{address} is signed in again", f"Signed in{user}. Mail flows again."
                ),
                Finding(tokens, False, f"{address} gets tokens again", "Mail flows again."),
            ]
        case State.SIGN_IN_NEEDED:
            body = _paragraphs(
                mailbox.sentence,
                "Until somebody signs in, mail is answered with 451: programs keep it and try again.",
                mailbox.action,
                _sign_in_step(mailbox),
            )
            return [Finding(sign_in, True, f"Sign {address} in again", body)]
        case State.FAILING:
            body = _paragraphs(mailbox.sentence, mailbox.action)
            title = f"No access token for {address}"
            return [Finding(tokens, True, title, body, settle=_TOKENS_SETTLE)]
        case _:  # starting
            return []


def _sign_in_step(mailbox: MailboxFacts) -> str:
    if mailbox.sign_in_url:
        return f"Sign in with a browser: {mailbox.sign_in_url}"
    if "smtp-relay login" in mailbox.action:
        return ""
    return f"Where the relay runs (in its container): smtp-relay login {mailbox.address}"


def _of_credential(mailbox: MailboxFacts, expires: date, now: datetime) -> Finding:
    """The app's client secret or certificate: 30, 14, 7 and 1 days before its end, and then."""
    key, what = f"credential:{mailbox.address}", f"The app's {mailbox.credential} for {mailbox.address}"
    due = reminder(expires, now)
    if due is None:
        return Finding(key, False, f"{what} is replaced", f"The new one ends on {expires}.")
    left = (expires - now.astimezone(UTC).date()).days
    setting = (
        "CLIENT_SECRET" if mailbox.credential == "client secret" else "RELAY_CLIENT_CERT and RELAY_CLIENT_KEY"
    )
    step = (
        "In the Entra admin centre open App registrations > the app > Certificates & secrets, add a new "
        f"{mailbox.credential}, give it to the relay ({setting}), and restart the relay."
    )
    if due == 0:
        body = _paragraphs(f"It ended on {expires}: no new access tokens, and soon no mail.", step)
        return Finding(key, True, f"{what} has expired", body, stage="0")
    body = _paragraphs(f"It ends on {expires}. Then no mail can be sent.", step)
    return Finding(key, True, f"{what} expires {_in_days(left)}", body, stage=str(due), remind=False)


def _of_streak(address: str, streak: Streak, now: datetime) -> list[Finding]:
    """A few refusals neither begin nor end anything; nor does a start without any mail yet."""
    key = f"refusing:{address}"
    if streak.count == 0 and streak.accepted:
        return [Finding(key, False, f"Outlook takes mail from {address} again", "A message was accepted.")]
    if streak.count < REFUSALS or now.timestamp() - streak.since < REFUSALS_SECONDS:
        return []
    body = _paragraphs(
        f"The last {streak.count} messages were not accepted, and none has been for "
        f"{int((now.timestamp() - streak.since) // 60)} minutes.",
        streak.sentence and f"The last one: {streak.sentence}",
        streak.action,
    )
    return [Finding(key, True, f"Outlook takes no mail from {address}", body)]


# -- the relay -----------------------------------------------------------------------------------------------


def _of_certificate(certificate: CertificateFacts, now: datetime) -> list[Finding]:
    rejected = Finding(
        "certificate-rejected",
        bool(certificate.rejected),
        "The new TLS certificate cannot be used"
        if certificate.rejected
        else "The TLS certificate can be used again",
        _paragraphs(
            certificate.rejected,
            "The previous one stays in use until it expires. Mend RELAY_TLS_CERT and RELAY_TLS_KEY; the "
            "relay notices by itself.",
        )
        if certificate.rejected
        else "The certificate and key that are there now are in use.",
        settle=_FILES_SETTLE,
    )
    return [rejected] + ([_of_expiry(certificate.expires, now)] if certificate.expires else [])


def _of_expiry(expires: datetime, now: datetime) -> Finding:
    """21, 7, 3 and 1 days before the end, and then."""
    key, left = "certificate-expires", expires - now
    day = f"{expires:%Y-%m-%d %H:%M} UTC"
    step = "Renew it: see RELAY_TLS_CERT. The relay notices the new files by itself."
    if left <= timedelta(0):
        body = _paragraphs(f"It ended on {day}. Gmail and other clients refuse to connect.", step)
        return Finding(key, True, "The TLS certificate has expired", body, stage="0")
    stage = next((days for days in CERTIFICATE_DAYS if left <= timedelta(days=days)), None)
    if stage is None:
        return Finding(key, False, "The TLS certificate is renewed", f"The new one ends on {day}.")
    body = _paragraphs(
        f"It ends on {day}. Then Gmail and other clients refuse to connect.",
        "It should have been renewed by now.",
        step,
    )
    title = f"The TLS certificate expires {_in_days(left.days)}"
    return Finding(key, True, title, body, stage=str(stage), remind=False)


def _of_disk(room: DiskFacts) -> Finding:
    low = room.free < DISK_OCTETS or (room.free < DISK_SHARE * room.total and room.free < DISK_SHARE_OCTETS)
    left = f"{room.free / 1e6:.0f} MB of {room.total / 1e9:.1f} GB are free where {room.path} is."
    if not low:
        return Finding("disk", False, "The disk has room again", left)
    body = _paragraphs(
        left,
        "Without room the relay can keep neither new sign-ins nor its journal.",
        "Delete what is not needed there, or give it more room.",
    )
    return Finding("disk", True, "The relay's disk is almost full", body, settle=_DISK_SETTLE)


def _in_days(days: int) -> str:
    if days < 1:
        return "within a day"
    return f"in {days} day{'s' * (days != 1)}"


def _paragraphs(*texts: str) -> str:
    return "\n\n".join(text for text in texts if text)
