"""From facts to findings, and from findings to alerts."""

import asyncio
import secrets
from datetime import UTC, date, datetime, timedelta

import pytest
import structlog

from relay_app.delivery.verdict import Outcome, Verdict
from relay_app.identity.tokens import State
from relay_app.mail.reply import Reply
from relay_app.ops import watch
from relay_app.ops.watch import (
    CertificateFacts,
    DiskFacts,
    Facts,
    MailboxFacts,
    Streak,
    Watch,
    disk,
    findings,
)

NOW = datetime(2027, 1, 15, 8, tzinfo=UTC)
ADDRESS = "me@outlook.com"
REFUSED = Verdict(
    Outcome.REFUSED, Reply(550, "5.7.60", ("No",)), sentence="Outlook forbids it.", action="Ask Outlook."
)
ACCEPTED = Verdict(Outcome.ACCEPTED, Reply(250, "2.0.0", ("OK",)))


def of_mailbox(now=NOW, **changes):
    """What is found about one mailbox, by key, the address left out."""
    mailbox = MailboxFacts(**{"address": ADDRESS, "state": State.OK} | changes)
    return {finding.key.partition(":")[0]: finding for finding in findings(Facts([mailbox]), now)}


# -- sign-in and tokens --------------------------------------------------------------------------------------


def test_all_is_well():
    found = of_mailbox(user="me.too@outlook.com")
    assert {key: finding.wrong for key, finding in found.items()} == {"sign-in": False, "tokens": False}
    assert "as me.too@outlook.com" in found["sign-in"].body
    assert of_mailbox()["sign-in"].body == "Signed in. Mail flows again."


def test_nothing_is_said_while_nothing_is_known():
    assert of_mailbox(state=State.STARTING) == {}


def test_sign_in_needed():
    found = of_mailbox(state=State.SIGN_IN_NEEDED, sentence="The sign-in has expired.")
    assert list(found) == ["sign-in"]
    finding = found["sign-in"]
    assert finding.wrong
    assert finding.settle == 0
    assert "The sign-in has expired." in finding.body
    assert finding.body.endswith(f"smtp-relay login {ADDRESS}")


def test_sign_in_needed_with_a_console():
    url = "https://relay.example.org/sign-in"
    action = f"Sign in again:  smtp-relay login {ADDRESS}"
    found = of_mailbox(state=State.SIGN_IN_NEEDED, action=action, sign_in_url=url)
    assert found["sign-in"].body.endswith(f"{action}\n\nSign in with a browser: {url}")
    found = of_mailbox(state=State.SIGN_IN_NEEDED, action=action)
    assert found["sign-in"].body.endswith(action)


def test_no_tokens_for_a_while():
    found = of_mailbox(state=State.FAILING, sentence="The client secret is wrong.", action="Make a new one.")
    assert list(found) == ["tokens"]
    assert found["tokens"].wrong
    assert found["tokens"].settle == 900
    assert found["tokens"].body == "The client secret is wrong.\n\nMake a new one."


# -- the app's credential ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "stage", "title"),
    [
        (30, "30", "expires in 30 days"),
        (14, "14", "expires in 14 days"),
        (5, "7", "expires in 5 days"),
        (1, "1", "expires in 1 day"),
        (0, "1", "expires within a day"),
    ],
)
def test_credential_that_expires(days, stage, title):
    finding = of_mailbox(credential_expires=NOW.date() + timedelta(days=days))["credential"]
    assert (finding.wrong, finding.stage, finding.remind) == (True, stage, False)
    assert finding.title == f"The app's client secret for {ADDRESS} {title}"
    assert "CLIENT_SECRET" in finding.body


def test_credential_that_has_expired():
    finding = of_mailbox(credential_expires=date(2027, 1, 14), credential="certificate")["credential"]
    assert (finding.wrong, finding.stage, finding.remind) == (True, "0", True)
    assert finding.title == f"The app's certificate for {ADDRESS} has expired"
    assert "It ended on 2027-01-14" in finding.body
    assert "RELAY_CLIENT_CERT and RELAY_CLIENT_KEY" in finding.body


def test_credential_with_time_left():
    finding = of_mailbox(credential_expires=date(2027, 2, 15))["credential"]
    assert not finding.wrong
    assert "2027-02-15" in finding.body


# -- refusals ------------------------------------------------------------------------------------------------


def streak(*verdicts):
    found = Streak()
    for second, verdict in enumerate(verdicts):
        found.observe(verdict, NOW.timestamp() + second)
    return found


def later(**difference):
    return NOW + timedelta(**difference)


def test_everything_is_refused():
    finding = of_mailbox(later(minutes=30), streak=streak(*[REFUSED] * 10))["refusing"]
    assert finding.wrong
    assert finding.title == f"Outlook takes no mail from {ADDRESS}"
    assert "The last 10 messages were not accepted, and none has been for 30 minutes." in finding.body
    assert finding.body.endswith("The last one: Outlook forbids it.\n\nAsk Outlook.")


def test_deferred_counts_uncertain_does_not():
    deferred = Verdict(Outcome.DEFERRED, Reply(451, "4.3.2", ("Later",)))
    uncertain = Verdict(Outcome.UNCERTAIN, Reply(451, "4.4.2", ("Lost",)))
    found = streak(*[REFUSED] * 9, uncertain)
    assert "refusing" not in of_mailbox(later(hours=1), streak=found)
    found.observe(deferred, NOW.timestamp())
    finding = of_mailbox(later(hours=1), streak=found)["refusing"]
    assert "The last one" not in finding.body


@pytest.mark.parametrize(
    ("verdicts", "minutes"),
    [([], 60), ([REFUSED] * 9, 60), ([REFUSED] * 10, 29), ([ACCEPTED, REFUSED], 60)],
)
def test_a_few_refusals_begin_and_end_nothing(verdicts, minutes):
    assert "refusing" not in of_mailbox(later(minutes=minutes), streak=streak(*verdicts))


def test_an_acceptance_ends_it():
    found = streak(*[REFUSED] * 10, ACCEPTED)
    assert not of_mailbox(later(hours=1), streak=found)["refusing"].wrong
    assert (found.count, found.since, found.sentence, found.action) == (0, 0, "", "")


def test_without_a_token_there_is_a_better_reason():
    found = of_mailbox(later(hours=1), state=State.SIGN_IN_NEEDED, streak=streak(*[REFUSED] * 10))
    assert list(found) == ["sign-in"]


# -- the TLS certificate -------------------------------------------------------------------------------------


def of_certificate(**changes):
    return {
        finding.key: finding
        for finding in findings(Facts(certificate=CertificateFacts(**{"expires": None} | changes)), NOW)
    }


@pytest.mark.parametrize(
    ("left", "stage", "title"),
    [
        (timedelta(days=21), "21", "in 21 days"),
        (timedelta(days=7), "7", "in 7 days"),
        (timedelta(days=2, hours=23), "3", "in 2 days"),
        (timedelta(days=1), "1", "in 1 day"),
        (timedelta(minutes=1), "1", "within a day"),
    ],
)
def test_certificate_that_expires(left, stage, title):
    finding = of_certificate(expires=NOW + left)["certificate-expires"]
    assert (finding.wrong, finding.stage, finding.remind) == (True, stage, False)
    assert finding.title == f"The TLS certificate expires {title}"
    assert "RELAY_TLS_CERT" in finding.body


def test_certificate_that_has_expired():
    finding = of_certificate(expires=NOW)["certificate-expires"]
    assert (finding.wrong, finding.stage, finding.remind) == (True, "0", True)
    assert "2027-01-15 08:00 UTC" in finding.body


def test_certificate_with_time_left():
    found = of_certificate(expires=NOW + timedelta(days=21, seconds=1))
    assert {key: finding.wrong for key, finding in found.items()} == {
        "certificate-rejected": False,
        "certificate-expires": False,
    }


def test_certificate_that_cannot_be_loaded():
    finding = of_certificate(rejected="The key belongs to another certificate.")["certificate-rejected"]
    assert finding.wrong
    assert finding.settle == 300
    assert finding.body.startswith("The key belongs to another certificate.")
    assert "certificate-expires" not in of_certificate()


# -- the disk ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("free", "total", "low"),
    [
        (199e6, 1e9, True),
        (201e6, 1e9, False),
        (499e6, 10e9, True),
        (501e6, 10e9, False),
        (2.1e9, 20e12, False),
        (1.9e9, 20e12, True),
    ],
)
def test_disk(tmp_path, free, total, low):
    [finding] = findings(Facts(disk=DiskFacts(tmp_path, int(free), int(total))), NOW)
    assert (finding.key, finding.wrong) == ("disk", low)
    assert finding.body.startswith(
        f"{free / 1e6:.0f} MB of {total / 1e9:.1f} GB are free where {tmp_path} is."
    )


def test_looking_at_the_disk(tmp_path):
    found = disk(tmp_path)
    assert found.path == tmp_path
    assert 0 <= found.free <= found.total
    assert disk(tmp_path / "missing") is None


# -- the watch -----------------------------------------------------------------------------------------------


class Ledger:
    """Alerts that are only written down."""

    configured = True

    def __init__(self):
        self.begun, self.ended = {}, {}

    def begin(self, key, title, body, **options):
        self.begun[key] = (title, options)

    def end(self, key, title, body):
        self.ended[key] = title

    def close(self, timeout=1.0):
        raise AssertionError


@pytest.fixture
def alerts():
    return Ledger()


async def test_look(alerts, tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "disk", lambda path: DiskFacts(path, 1, 1000))
    facts = Facts([MailboxFacts(ADDRESS, State.OK)], CertificateFacts(NOW))
    await Watch(alerts, lambda: facts, tmp_path, clock=lambda: NOW).look()
    assert alerts.begun == {
        "certificate-expires": (
            "The TLS certificate has expired",
            {"settle": 0.0, "stage": "0", "remind": True},
        ),
        "disk": ("The relay's disk is almost full", {"settle": 60.0, "stage": "", "remind": True}),
    }
    assert alerts.ended.keys() == {f"sign-in:{ADDRESS}", f"tokens:{ADDRESS}", "certificate-rejected"}


async def test_a_disk_that_cannot_be_looked_at(alerts, tmp_path):
    await Watch(alerts, Facts, tmp_path / "missing").look()
    assert (alerts.begun, alerts.ended) == ({}, {})


async def test_runs_on_when_it_fails(alerts, tmp_path):
    looks = iter([ValueError("1"), ValueError("2"), Facts(), ValueError("3"), asyncio.CancelledError()])
    naps = []

    def facts():
        one = next(looks)
        if isinstance(one, BaseException):
            raise one
        return one

    async def sleep(seconds):
        naps.append(seconds)

    with structlog.testing.capture_logs() as logs, pytest.raises(asyncio.CancelledError):
        await Watch(alerts, facts, tmp_path, sleep=sleep).run()
    assert naps == [30.0] * 4
    assert [entry["event"] for entry in logs] == ["watch_failed"] * 2  # once for each time it begins to fail
    assert alerts.ended.keys() | alerts.begun.keys() == {"disk"}


def test_the_real_clock_has_a_time_zone(alerts, tmp_path):
    assert Watch(alerts, Facts, tmp_path)._clock().tzinfo is UTC


def test_facts_with_secrets_in_their_place_only():
    """What alerts say comes from sentences made for people; an error's own text is not asked for."""
    secret = secrets.token_hex(8)
    verdict = Verdict(Outcome.REFUSED, Reply(550, "5.0.0", (secret,)), sentence="It was refused.")
    found = of_mailbox(later(hours=1), streak=streak(*[verdict] * 10))
    assert secret not in str(found)
