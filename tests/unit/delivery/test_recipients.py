"""When the upstream does not want all recipients."""

from relay_app.delivery.recipients import everybody_or_nobody
from relay_app.delivery.verdict import Outcome
from relay_app.mail.reply import Reply

UNKNOWN = Reply(550, "5.1.1", "no such user")
LATER = Reply(451, "4.2.0", "not now")


def test_everybody_is_welcome():
    assert everybody_or_nobody({}) is None


def test_one_refusal_refuses_the_message_whatever_else_is_deferred():
    verdict = everybody_or_nobody({"later@x": LATER, "bad@x": UNKNOWN})
    assert verdict.outcome is Outcome.REFUSED
    assert verdict.reply == UNKNOWN
    assert verdict.key == "recipient-unknown"
    assert verdict.recipients == {"later@x": LATER, "bad@x": UNKNOWN}
    assert verdict.sentence.endswith("Outlook refused bad@x; nobody got the message.")


def test_only_deferrals_defer_the_message():
    verdict = everybody_or_nobody({"later@x": LATER})
    assert verdict.outcome is Outcome.DEFERRED
    assert verdict.sentence.endswith("Outlook deferred later@x; nobody got the message.")


def test_many_are_not_all_named():
    verdict = everybody_or_nobody({f"{name}@x": UNKNOWN for name in "abcde"})
    assert "refused a@x, b@x, c@x and 2 more;" in verdict.sentence
