"""The table of Outlook's replies, a test per row, and what the client hears."""

import pytest

from relay_app.delivery.replies import TABLE, Stage, answer, judge
from relay_app.delivery.verdict import Outcome, Verdict
from relay_app.mail.reply import Reply

REFUSED, DEFERRED = Outcome.REFUSED, Outcome.DEFERRED


def reply(line: str) -> Reply:
    return Reply.from_lines(int(line[:3]), [line[4:]])


# Replies as Outlook sends them (hosts shortened), and who else would.
LITERAL = [
    (
        "smtp-auth-disabled-tenant",
        Stage.AUTH,
        REFUSED,
        "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. Visit "
        "https://aka.ms/smtp_auth_disabled for more information. [FR4P281CA0123.DEUP281.PROD.OUTLOOK.COM]",
    ),
    (
        "smtp-auth-disabled-mailbox",
        Stage.AUTH,
        REFUSED,
        "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox. "
        "Visit https://aka.ms/smtp_auth_disabled for more information. [FR4P281CA0123.PROD.OUTLOOK.COM]",
    ),
    (
        "security-defaults",
        Stage.AUTH,
        REFUSED,
        "535 5.7.139 Authentication unsuccessful, user is locked by your organization's security defaults "
        "policy. Contact your administrator. [FR4P281CA0123.DEUP281.PROD.OUTLOOK.COM]",
    ),
    (
        "conditional-access",
        Stage.AUTH,
        REFUSED,
        "535 5.7.139 Authentication unsuccessful, the request did not meet the criteria to be authenticated "
        "successfully. Contact your administrator. [FR4P281CA0123.DEUP281.PROD.OUTLOOK.COM]",
    ),
    (
        "basic-auth-refused",
        Stage.AUTH,
        DEFERRED,
        "535 5.7.139 Authentication unsuccessful, basic authentication is disabled. [FR4P281CA0123]",
    ),
    (
        "basic-auth-refused",
        Stage.DATA,
        DEFERRED,
        "550 5.7.30 Basic authentication is not supported for Client Submission.",
    ),
    ("token-expired", Stage.AUTH, DEFERRED, "535 5.7.142 Access token is about to expire"),
    ("token-expired", Stage.AUTH, DEFERRED, "535 5.7.143 Access token has expired"),
    ("token-permissions", Stage.AUTH, DEFERRED, "535 5.7.144 Invalid API permissions"),
    ("token-permissions", Stage.AUTH, DEFERRED, "550 5.7.240 Not permitted"),
    ("xoauth2-malformed", Stage.AUTH, DEFERRED, "501 5.5.121 Malformed XOAUTH2"),
    ("xoauth2-malformed", Stage.AUTH, DEFERRED, "501 5.5.126 Malformed XOAUTH2"),
    (
        "token-refused",
        Stage.AUTH,
        DEFERRED,
        "535 5.7.3 Authentication unsuccessful [FR4P281CA0123.DEUP281.PROD.OUTLOOK.COM]",
    ),
    ("sign-in-refused", Stage.AUTH, DEFERRED, "535 5.7.8 Error: authentication failed"),
    ("sign-in-refused", Stage.AUTH, DEFERRED, "535 no"),
    ("sign-in-refused", Stage.AUTH, DEFERRED, "504 5.7.4 Unrecognized authentication type"),
    (
        "not-signed-in",
        Stage.MAIL,
        DEFERRED,
        "530 5.7.57 Client not authenticated to send mail. [FR4P281CA0123]",
    ),
    (
        "sender-blocked",
        Stage.DATA,
        REFUSED,
        "550 5.2.251 Sender throttled due to continuous mailbox full errors.",
    ),
    (
        "sender-blocked",
        Stage.MAIL,
        REFUSED,
        "550 5.2.252 Sender throttled due to continuous send as denied errors.",
    ),
    (
        "sender-blocked",
        Stage.AUTH,
        REFUSED,
        "550 5.2.255 Sender throttled due to continuous invalid recipients errors.",
    ),
    (
        "too-many-connections",
        Stage.DATA,
        DEFERRED,
        "432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending for more "
        "information. [Hostname=FR4P281MB0123.DEUP281.PROD.OUTLOOK.COM]",
    ),
    (
        "too-many-connections",
        Stage.DATA,
        DEFERRED,
        "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded [Hostname=FR4P281MB0123]",
    ),
    (
        "daily-limit",
        Stage.DATA,
        DEFERRED,
        "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException; Failed to process message "
        "due to a permanent exception with message The message can't be submitted because the sender's "
        "submission quota was exceeded.",
    ),
    ("too-many-recipients", Stage.RCPT, DEFERRED, "452 4.5.3 Too many recipients"),
    (
        "mailbox-full",
        Stage.DATA,
        REFUSED,
        "554 5.2.2 mailbox full; STOREDRV.Submission.Exception:QuotaExceededException",
    ),
    (
        "account-flagged",
        Stage.DATA,
        REFUSED,
        "554 5.2.0 STOREDRV.Submission.Exception:OutboundSpamException; Failed to process message due to a "
        "permanent exception with message WASCL UserAction verdict is not None.",
    ),
    (
        "send-as-denied",
        Stage.DATA,
        REFUSED,
        "554 5.2.252 SendAsDenied; user@example.org not allowed to send as boss@example.org; "
        "STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied",
    ),
    (
        "send-as-denied",
        Stage.DATA,
        REFUSED,
        "554 5.2.0 STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied; Failed to "
        "process message due to a permanent exception with message Cannot submit message.",
    ),
    (
        "send-as-denied",
        Stage.MAIL,
        REFUSED,
        "550 5.7.60 SMTP; Client does not have permissions to send as this sender",
    ),
    (
        "recipient-unknown",
        Stage.RCPT,
        REFUSED,
        "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found",
    ),
    ("recipient-unknown", Stage.RCPT, REFUSED, "501 5.1.3 Invalid address"),
    (
        "message-too-big",
        Stage.DATA,
        REFUSED,
        "552 5.3.4 Message size exceeds fixed maximum message size",
    ),
    ("message-too-big", Stage.MAIL, REFUSED, "552 too big"),
    ("upstream-unavailable", Stage.CONNECT, DEFERRED, "554 5.3.2 no service for you"),
    ("upstream-busy", Stage.CONNECT, DEFERRED, "421 4.3.2 Service not active"),
    ("upstream-busy", Stage.DATA, DEFERRED, "451 4.7.0 Temporary server error. Please try again later. PRX5"),
    ("upstream-busy", Stage.AUTH, DEFERRED, "454 4.7.0 Temporary authentication failure"),
    ("upstream-refused", Stage.DATA, REFUSED, "554 5.6.0 Corrupt message content"),
    ("upstream-refused", Stage.RCPT, REFUSED, "552 5.2.2 that recipient's mailbox is full"),
    ("upstream-refused", Stage.DATA, REFUSED, "554 no"),
]


@pytest.mark.parametrize(("key", "stage", "outcome", "line"), LITERAL)
def test_each_known_reply(key, stage, outcome, line):
    verdict = judge(reply(line), stage)
    assert (verdict.key, verdict.outcome) == (key, outcome)
    assert verdict.reply == reply(line)
    assert verdict.upstream
    assert verdict.sentence.endswith(".")
    assert verdict.action.endswith((".", ")."))


def test_no_row_is_unreachable_and_none_is_untested():
    assert {key for key, *_ in LITERAL} == {row.key for row in TABLE}
    assert len({row.key for row in TABLE}) == len(TABLE)


@pytest.mark.parametrize("stage", Stage)
def test_every_negative_reply_has_a_verdict_and_none_temporary_becomes_permanent(stage):
    for code in range(400, 600):
        about_us = code < 500 or stage in (Stage.AUTH, Stage.CONNECT) or 530 <= code < 540
        assert judge(Reply(code, "", ""), stage).outcome is (DEFERRED if about_us else REFUSED), code


def test_a_refusal_is_not_the_block_that_follows_many():
    refusal = judge(reply("554 5.2.252 SendAsDenied; a not allowed to send as b"), Stage.DATA)
    block = judge(reply("550 5.2.252 Sender throttled due to continuous send as denied errors."), Stage.DATA)
    assert (refusal.key, block.key) == ("send-as-denied", "sender-blocked")


def test_accepted_gives_outlooks_text_and_our_id():
    verdict = judge(reply("250 2.6.0 <1@x> Queued mail for delivery"), Stage.DATA)
    assert answer(verdict, "ID7") == Reply(250, "2.6.0", "<1@x> Queued mail for delivery (relay id ID7)")
    assert answer(judge(Reply(250, "", ""), Stage.DATA), "ID7") == Reply(250, "2.0.0", "OK (relay id ID7)")


def test_refused_gives_outlooks_words_then_ours():
    verdict = Verdict(REFUSED, Reply(554, "5.2.2", "mailbox full"), "It is full.", "Empty it.")
    assert answer(verdict, "ID7").wire() == (
        b"554-5.2.2 mailbox full\r\n554-5.2.2 It is full.\r\n"
        b"554-5.2.2 Empty it.\r\n554 5.2.2 Relay id ID7\r\n"
    )


@pytest.mark.parametrize("code", [500, 501, 503, 504, 530, 534, 535, 555, 421])
def test_a_code_that_makes_no_sense_after_data_becomes_554(code):
    verdict = Verdict(REFUSED, Reply(code, "5.7.139", "disabled"), "Off.")
    assert answer(verdict, "ID7") == Reply(
        554, "5.7.139", f"Outlook: {code} 5.7.139 disabled\nOff.\nRelay id ID7"
    )


@pytest.mark.parametrize("code", [550, 551, 552, 553, 554, 556])
def test_a_sensible_code_is_kept(code):
    assert answer(Verdict(REFUSED, Reply(code, "", "no")), "ID7") == Reply(code, "5.0.0", "no\nRelay id ID7")


@pytest.mark.parametrize("outcome", [Outcome.DEFERRED, Outcome.UNCERTAIN])
@pytest.mark.parametrize(
    ("upstream", "enhanced"),
    [
        ("432 4.3.2 too many", "4.3.2"),
        ("451 no enhanced code", "4.0.0"),
        ("535 5.7.3 no", "4.7.0"),
        ("535 no", "4.7.0"),
    ],
)
def test_deferred_and_uncertain_are_451(outcome, upstream, enhanced):
    heard = answer(Verdict(outcome, reply(upstream), "Why.", "What to do."), "ID7")
    words = reply(upstream).text if upstream.startswith("451") else f"Outlook: {upstream}"
    assert heard == Reply(451, enhanced, f"{words}\nWhy.\nWhat to do.\nRelay id ID7")


def test_what_outlook_did_not_say_is_not_ascribed_to_it():
    verdict = Verdict(REFUSED, Reply(501, "5.1.3", "bad address"), upstream=False)
    assert answer(verdict, "ID7") == Reply(554, "5.1.3", "bad address\nRelay id ID7")


def test_long_lines_are_wrapped_and_nothing_is_cut():
    words = " ".join(f"word{number}" for number in range(300))
    verdict = Verdict(REFUSED, Reply(554, "5.2.0", f"first\n\n{words}"), "Why.")
    heard = answer(verdict, "ID7")
    assert heard.text.split("\n")[:2] == ["first", ""]
    assert " ".join(heard.text.split("\n")[2:]) == f"{words} Why. Relay id ID7"
    lines = heard.wire().decode().splitlines()
    assert all(len(line) <= 510 for line in lines)
    assert all(line[:10] in ("554-5.2.0 ", "554 5.2.0 ") for line in lines)
    assert "word299" in heard.wire().decode()
