"""What Outlook's replies mean: one table from reply to verdict, and from verdict to our own reply.

Sources: Microsoft's "SMTP submission improvements", "Continuous error throttling for SMTP AUTH submissions"
and "Non-delivery reports in Exchange Online" (learn.microsoft.com); users' reports, named beside the rows.

A refusal is final only when the mail itself, or a rule of its mailbox that no setting of this relay can mend,
is at fault. Trouble with the sign-in or the app registration defers: the mail waits for a person.
Permanent errors are never tried again by themselves: Microsoft blocks a mailbox that keeps causing them.
"""

import re
import textwrap
from dataclasses import dataclass
from enum import Enum

from relay_app.delivery.verdict import Outcome, Verdict
from relay_app.mail.reply import Reply


class Stage(Enum):
    """Where in the conversation a reply came."""

    CONNECT = "connect"
    """Greeting, EHLO, STARTTLS, NOOP: nothing to do with a message yet."""
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    """The DATA command, the content and its final reply."""


_ANY = frozenset(Stage)
_CONNECT = frozenset({Stage.CONNECT})
_AUTH = frozenset({Stage.AUTH})
_MESSAGE = frozenset({Stage.MAIL, Stage.RCPT, Stage.DATA})


@dataclass(frozen=True, slots=True)
class Row:
    """One known reply. `pattern` is matched with the start of "CODE ENHANCED TEXT", in any case."""

    key: str
    stages: frozenset[Stage]
    pattern: re.Pattern[str]
    outcome: Outcome
    sentence: str
    action: str

    def matches(self, reply: Reply, stage: Stage) -> bool:
        return stage in self.stages and self.pattern.match(str(reply)) is not None


def _row(
    key: str, stages: frozenset[Stage], pattern: str, outcome: Outcome, sentence: str, action: str
) -> Row:
    return Row(key, stages, re.compile(pattern, re.IGNORECASE | re.DOTALL), outcome, sentence, action)


# The first row that matches decides, so the special stands before the general.
TABLE: tuple[Row, ...] = (
    # --- the sign-in -------------------------------------------------------------------------------------
    _row(
        "smtp-auth-disabled-tenant",
        _AUTH,
        r"535 5\.7\.139 .*SmtpClientAuthentication is disabled for the Tenant",
        Outcome.REFUSED,
        "SMTP sending (SMTP AUTH) is switched off for the whole Microsoft 365 organization.",
        "An administrator can allow it for this mailbox: Set-CASMailbox <mailbox>"
        " -SmtpClientAuthenticationDisabled $false (https://aka.ms/smtp_auth_disabled).",
    ),
    _row(
        # Also new outlook.com mailboxes, with nothing to switch: thunderbird/thunderbird-android#10787.
        "smtp-auth-disabled-mailbox",
        _AUTH,
        r"535 5\.7\.139 .*SmtpClientAuthentication is disabled for the Mailbox",
        Outcome.REFUSED,
        "SMTP sending (SMTP AUTH) is switched off for this mailbox.",
        "Microsoft 365: an administrator runs Set-CASMailbox <mailbox> -SmtpClientAuthenticationDisabled"
        " $false. A new outlook.com mailbox may have no switch for it: use another mailbox.",
    ),
    _row(
        "security-defaults",
        _AUTH,
        r"535 5\.7\.139 .*security defaults policy",
        Outcome.REFUSED,
        "The organization's security defaults forbid this mailbox to send with SMTP.",
        "An administrator must replace security defaults by Conditional Access, or give the relay another"
        " mailbox.",
    ),
    _row(
        "conditional-access",
        _AUTH,
        r"535 5\.7\.139 .*did not meet the criteria",
        Outcome.REFUSED,
        "A Conditional Access or authentication policy of the organization forbids this sign-in.",
        "An administrator finds the policy in Entra, under Sign-in logs, and exempts the mailbox or the app.",
    ),
    _row(
        "basic-auth-refused",
        _ANY,
        r"535 5\.7\.139 .*basic authentication is disabled|550 5\.7\.30\b",
        Outcome.DEFERRED,
        "Outlook took the sign-in for a password, though the relay signs in with OAuth only.",
        "Check that RELAY_UPSTREAM names Microsoft's own server and not another relay.",
    ),
    _row(
        "token-expired",
        _AUTH,
        r"535 5\.7\.14[23]\b",
        Outcome.DEFERRED,
        "Outlook says that the access token has expired or is about to.",
        "Check this machine's clock: it must be right within a minute.",
    ),
    _row(
        "token-permissions",
        _AUTH,
        r"535 5\.7\.144\b|550 5\.7\.240\b",
        Outcome.DEFERRED,
        "The app registration lacks the permission to send with SMTP.",
        "Give the app SMTP.Send (a person signs in) or SMTP.SendAsApp (client credentials), then sign in"
        " again.",
    ),
    _row(
        "xoauth2-malformed",
        _AUTH,
        r"501 5\.5\.12[1-6]\b",
        Outcome.DEFERRED,
        "Outlook could not read the sign-in: the user name or the token is malformed.",
        "Check USER_EMAIL, then sign the mailbox in again.",
    ),
    _row(
        # Six causes, one reply: tarickb/sasl-xoauth2#43, MailKit#1126, thunderbird-android#8024 and more.
        "token-refused",
        _AUTH,
        r"535 5\.7\.3\b",
        Outcome.DEFERRED,
        "Outlook refused the access token.",
        "Check that USER_EMAIL is the account's primary sign-in name and not an alias, that this very account"
        " was signed in, and that the token is for outlook.office.com. With client credentials: that the"
        " service principal may use the mailbox (changes take up to two hours).",
    ),
    _row(
        "not-signed-in",
        _ANY - _AUTH,
        r"53\d\b",
        Outcome.DEFERRED,
        "Outlook no longer takes this connection as signed in.",
        "Send the message again. If it happens each time, sign the mailbox in again.",
    ),
    # --- the mailbox's limits ----------------------------------------------------------------------------
    _row(
        # 550, not 554: 554 5.2.252 is a single refusal, this one is the block that follows many.
        "sender-blocked",
        _ANY,
        r"550 5\.2\.25[1-5] .*throttled due to continuous",
        Outcome.REFUSED,
        "Microsoft has blocked this mailbox from sending, because the same error came again and again.",
        "Stop what keeps sending, mend the error that the reply names, and wait: the block ends by itself."
        " Microsoft's support cannot lift it.",
    ),
    _row(
        # Outlook may say so only at the end of DATA. jsdelfino/fastapi-mail#75, nodemailer#1613.
        "too-many-connections",
        _ANY,
        r"4\d\d 4\.3\.2 .*(Concurrent connections limit exceeded|sender thread limit exceeded)",
        Outcome.DEFERRED,
        "The mailbox has more than the three connections that Outlook allows.",
        "Send again later. If it happens often, another program sends through the same mailbox.",
    ),
    _row(
        "daily-limit",
        _ANY,
        r"5\d\d 5\.2\.0 .*SubmissionQuotaExceeded",
        Outcome.DEFERRED,
        "The mailbox has reached Outlook's limit of recipients for a day.",
        "Wait 24 hours before sending more.",
    ),
    _row(
        "too-many-recipients",
        _MESSAGE,
        r"452 4\.5\.3\b",
        Outcome.DEFERRED,
        "The message has more recipients than Outlook allows in one message.",
        "Send it to fewer recipients at a time.",
    ),
    _row(
        "mailbox-full",
        frozenset({Stage.MAIL, Stage.DATA}),
        r"5\d\d 5\.2\.2\b",
        Outcome.REFUSED,
        "The sending mailbox is full; Outlook keeps a copy of each message in Sent Items.",
        "Delete mail in Sent Items and Deleted Items of the mailbox, then send again.",
    ),
    _row(
        "account-flagged",
        _ANY,
        r"5\d\d 5\.2\.0 .*OutboundSpam",
        Outcome.REFUSED,
        "Microsoft suspects that this account sends spam and has suspended sending.",
        "Sign in to the account at https://outlook.com and follow the steps to unlock it.",
    ),
    # --- the message -------------------------------------------------------------------------------------
    _row(
        "send-as-denied",
        _MESSAGE,
        r"554 5\.2\.(252|0) .*(SendAsDenied|not allowed to send as)"
        r"|550 5\.7\.60 .*does not have permissions to send as",
        Outcome.REFUSED,
        "The mailbox may not send as the address in From: or in the envelope.",
        "Send from the mailbox's own address, or add the address to the mailbox as an alias, or give the"
        " mailbox the Send As right. Do not repeat it unchanged: Microsoft blocks mailboxes that do.",
    ),
    _row(
        "recipient-unknown",
        _MESSAGE,
        r"5\d\d 5\.1\.([13]|10)\b",
        Outcome.REFUSED,
        "The recipient's address does not exist or is not valid.",
        "Correct the address and send again.",
    ),
    _row(
        "message-too-big",
        _MESSAGE,
        r"5\d\d 5\.(3\.4|2\.3)\b|552 (?!\d)",
        Outcome.REFUSED,
        "The message is bigger than the mailbox may send.",
        "Send a smaller message or a link. Microsoft 365 takes 35 MB unless an administrator allows more;"
        " Outlook.com takes 25 MB of attachments.",
    ),
    # --- whatever else -----------------------------------------------------------------------------------
    _row(
        # The server as a whole turned us away; that says nothing about the message.
        "upstream-unavailable",
        _CONNECT,
        r"5",
        Outcome.DEFERRED,
        "Outlook's server does not want to talk to this relay.",
        "Check RELAY_UPSTREAM and RELAY_HOSTNAME; if both are right, try again later.",
    ),
    _row(
        "sign-in-refused",
        _AUTH,
        r"5",
        Outcome.DEFERRED,
        "Outlook refused the sign-in.",
        "Sign the mailbox in again; if that does not help, look the reply up in docs/errors.md.",
    ),
    _row(
        "upstream-busy",
        _ANY,
        r"4",
        Outcome.DEFERRED,
        "Outlook cannot take the message at the moment.",
        "Send it again in a few minutes.",
    ),
    _row(
        "upstream-refused",
        _MESSAGE,
        r"5",
        Outcome.REFUSED,
        "Outlook refused the message.",
        "The text above is Outlook's own reason; mend it before sending again.",
    ),
)


def judge(reply: Reply, stage: Stage) -> Verdict:
    """Say what `reply`, received at `stage`, means for the message. A 2xx is the final one: accepted."""
    if reply.positive:
        return Verdict(Outcome.ACCEPTED, reply)
    row = next(row for row in TABLE if row.matches(reply, stage))
    return Verdict(row.outcome, reply, row.sentence, row.action, key=row.key)


# What a server may say after the content (RFC 5321 4.3.2), and what it says of recipients, who are refused
# there too, as the client's own RCPT is long answered.
_SENSIBLE_AFTER_DATA = frozenset({550, 551, 552, 553, 554, 556})
_WIDTH = 480  # what Reply.wire() sends of a line


def answer(verdict: Verdict, submission_id: str) -> Reply:
    """Return what the client hears after DATA: the outcome, Outlook's words, ours, and our id."""
    if verdict.outcome is Outcome.ACCEPTED:
        enhanced = verdict.reply.enhanced or "2.0.0"
        return Reply(250, enhanced, _wrapped(f"{verdict.reply.text or 'OK'} (relay id {submission_id})"))
    if verdict.outcome is Outcome.REFUSED:
        code = verdict.reply.code if verdict.reply.code in _SENSIBLE_AFTER_DATA else 554
        enhanced = verdict.reply.enhanced if verdict.reply.enhanced.startswith("5") else "5.0.0"
    else:
        code = 451
        enhanced = _temporary(verdict.reply)
    lines = (_heard(verdict, code), verdict.sentence, verdict.action, f"Relay id {submission_id}")
    return Reply(code, enhanced, _wrapped("\n".join(line for line in lines if line)))


def _temporary(reply: Reply) -> str:
    """Return the enhanced code of a deferral; what is deferred in spite of a 5xx is policy: 4.7.0."""
    if reply.enhanced.startswith("4"):
        return reply.enhanced
    return "4.0.0" if reply.temporary else "4.7.0"


def _heard(verdict: Verdict, code: int) -> str:
    """Return the upstream's words, with its own code in front when ours is another."""
    if not verdict.upstream or verdict.reply.code == code:
        return verdict.reply.text
    return f"Outlook: {verdict.reply}"


def _wrapped(text: str) -> str:
    """Break lines that are too long for a reply line; nothing is cut."""
    return "\n".join(part for line in text.split("\n") for part in textwrap.wrap(line, _WIDTH) or [""])
