"""Which fault strikes when."""

import pytest

from sandbox.faults import Fault, FaultBook


def test_first_match_in_order_and_times() -> None:
    book = FaultBook()
    book.add(Fault("mail", reply="451 a", times=2))
    book.add(Fault("mail", reply="451 b"))
    struck = [book.take("mail") for _ in range(4)]
    assert [fault and fault.reply for fault in struck] == ["451 a", "451 a", "451 b", None]


def test_skip_counts_only_what_matches() -> None:
    book = FaultBook()
    book.add(Fault("rcpt", reply="550 no", skip=1, address="a@example.org"))
    assert book.take("rcpt", addresses=["b@example.org"]) is None
    assert book.take("rcpt", addresses=["A@example.org"]) is None
    assert book.take("rcpt", addresses=["b@example.org", "A@EXAMPLE.org"]) is not None


def test_before_dot_strikes_only_in_mid_content() -> None:
    book = FaultBook()
    book.add(Fault("eod", drop="before_dot"))
    book.add(Fault("eod", drop="after_dot"))
    after = book.take("eod")
    before = book.take("eod", mid_content=True)
    assert after is not None
    assert before is not None
    assert (after.drop, before.drop) == ("after_dot", "before_dot")
    assert book.pending() == []


def test_clear_one() -> None:
    book = FaultBook()
    first = book.add(Fault("mail"))
    book.add(Fault("noop"))
    book.clear(first)
    assert [fault.stage for fault in book.pending()] == ["noop"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"stage": "lunch"}, "There is no stage 'lunch'"),
        ({"stage": "mail", "frob": 1}, "A fault has no 'frob'"),
        ({"stage": "mail", "times": "1"}, "times cannot be '1'"),
        ({"stage": "mail", "times": -1}, "times cannot be -1"),
        ({"stage": "mail", "times": True}, "times cannot be True"),
        ({"stage": "mail", "strikes": 1}, "A fault has no 'strikes'"),
        ({"stage": "mail", "reply": 451}, "reply cannot be 451"),
        ({"stage": "mail", "reply": "no"}, "A reply starts with a code"),
        ({"stage": "mail", "drop": "after_dot"}, "can only be at eod"),
        ({"stage": "eod", "drop": "now"}, "At eod say which"),
        ({"stage": "eod", "drop": "later"}, "A drop is one of"),
        ({"stage": "starttls", "certificate": "golden"}, "There is no certificate"),
    ],
)
def test_mistakes(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Fault.parse(values)


def test_whole_seconds_are_fine() -> None:
    assert Fault.parse({"stage": "mail", "stall": 1}).stall == 1
