"""What to do when the upstream does not want all recipients of a message."""

from collections.abc import Mapping

from relay_app.delivery.replies import Stage, judge
from relay_app.delivery.verdict import Outcome, Verdict
from relay_app.mail.reply import Reply


def everybody_or_nobody(unwanted: Mapping[str, Reply]) -> Verdict | None:
    """Decide whether the content is sent: None, if it is; else the verdict on the message that is not.

    `unwanted` has the replies of the recipients that the upstream refused or deferred. One is enough for
    nobody to get the message: the client hears a single reply, and without a bounce there is no way to tell
    it who got the message and who did not. This is decided here and nowhere else.
    """
    if not unwanted:
        return None
    verdicts = {recipient: judge(reply, Stage.RCPT) for recipient, reply in unwanted.items()}
    refused = [recipient for recipient, verdict in verdicts.items() if verdict.outcome is Outcome.REFUSED]
    outcome = Outcome.REFUSED if refused else Outcome.DEFERRED
    named = refused or list(verdicts)
    cause = verdicts[named[0]]
    return Verdict(
        outcome,
        cause.reply,
        f"{cause.sentence} Outlook {outcome.value} {_listed(named)}; nobody got the message.",
        cause.action,
        recipients=dict(unwanted),
        key=cause.key,
    )


def _listed(addresses: list[str]) -> str:
    shown = ", ".join(addresses[:3])
    return f"{shown} and {len(addresses) - 3} more" if len(addresses) > 3 else shown
