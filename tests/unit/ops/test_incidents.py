"""When something is said about an incident, and when not."""

import json

import pytest

from relay_app.ops.incidents import Incidents, Message

MINUTE, HOUR, DAY = 60, 3600, 86_400
START = 1_800_000_000.0


def begin(incidents, now, key="k", **options):
    incidents.begin(key, "It broke", "Mend it.", now=now, **options)


def end(incidents, now, key="k"):
    incidents.end(key, "It works", "Well done.", now=now)


def titles(incidents, now):
    return [message.title for message in incidents.due(now)]


def told_at(incidents, until, *, step=30 * MINUTE, **options):
    """Report it at every step, and return when (after the start) something was said about it."""
    moments = []
    for now in range(0, int(until) + 1, step):
        begin(incidents, START + now, **options)
        moments += [now] * len(incidents.due(START + now))
    return moments


def test_begins_and_ends():
    incidents = Incidents()
    begin(incidents, START)
    assert incidents.due(START) == [Message("k", "It broke", "Mend it.")]
    assert incidents.open() == ["k"]
    end(incidents, START + 2 * HOUR + 5)
    assert incidents.due(START + 2 * HOUR + 5) == [
        Message("k", "It works", "Well done.\n\nIt lasted 2 hours.")
    ]
    assert incidents.open() == []
    end(incidents, START + 3 * HOUR)
    assert incidents.due(START + 3 * HOUR) == []
    assert incidents.next_due() == float("inf")


def test_what_never_was_wrong_does_not_end():
    incidents = Incidents()
    end(incidents, START)
    assert incidents.due(START) == []


def test_reminders_at_growing_intervals():
    moments = told_at(Incidents(), 20 * DAY)
    assert moments == [0, HOUR, 6 * HOUR, DAY, 3 * DAY, 10 * DAY, 17 * DAY]


def test_a_reminder_says_since_when():
    incidents = Incidents()
    begin(incidents, START)
    incidents.due(START)
    [reminder] = incidents.due(START + 7 * HOUR)
    assert reminder.title == "Still: It broke"
    assert reminder.body == "Mend it.\n\nIt has been so since 2027-01-15 08:00 UTC, for 7 hours."
    assert incidents.next_due() == START + DAY  # what was missed is not made up for


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(59, "less than a minute"), (60, "1 minute"), (3599, "59 minutes"), (DAY, "1 day"), (3 * DAY, "3 days")],
)
def test_durations(seconds, text):
    incidents = Incidents()
    begin(incidents, START)
    incidents.due(START)
    end(incidents, START + seconds)
    [message] = incidents.due(START + seconds)
    assert message.body.endswith(f"It lasted {text}.")


def test_no_reminders_where_stages_remind():
    incidents = Incidents()
    assert told_at(incidents, 5 * DAY, stage="21", remind=False) == [0]
    begin(incidents, START + 6 * DAY, stage="7", remind=False)
    assert titles(incidents, START + 6 * DAY) == ["It broke"]
    begin(incidents, START + 6 * DAY, stage="0")
    assert titles(incidents, START + 6 * DAY) == ["It broke"]
    begin(incidents, START + 6 * DAY + HOUR, stage="0")
    assert titles(incidents, START + 6 * DAY + HOUR) == ["Still: It broke"]


def test_the_latest_words_count():
    incidents = Incidents()
    begin(incidents, START, settle=HOUR)
    incidents.begin("k", "Worse", "Hurry.", now=START + MINUTE, settle=HOUR)
    assert incidents.due(START + HOUR) == [Message("k", "Worse", "Hurry.")]


def test_what_settles_in_time_is_not_told():
    incidents = Incidents()
    begin(incidents, START, settle=10 * MINUTE)
    assert incidents.next_due() == START + 10 * MINUTE
    assert titles(incidents, START + 10 * MINUTE - 1) == []
    end(incidents, START + 10 * MINUTE - 1)
    assert titles(incidents, START + HOUR) == []
    assert incidents.open() == []


def test_flapping_does_not_flood():
    incidents = Incidents()
    said = []
    for now in range(0, DAY, 6 * MINUTE):  # three minutes bad, three minutes good
        begin(incidents, START + now)
        said += titles(incidents, START + now)
        end(incidents, START + now + 3 * MINUTE)
        said += titles(incidents, START + now + 3 * MINUTE)
    assert said == ["It broke", "It works"] * 2


def test_what_comes_back_is_told_later_each_time():
    incidents = Incidents()
    delays = []
    now = START
    for _ in range(6):
        begin(incidents, now)
        delays.append(incidents.next_due() - now)
        now = incidents.next_due()
        assert titles(incidents, now) == ["It broke"]
        end(incidents, now)
        assert titles(incidents, now) == ["It works"]
        now += MINUTE
    assert delays == [0, 0, 10 * MINUTE, HOUR, 6 * HOUR, 6 * HOUR]
    begin(incidents, now + DAY)
    assert titles(incidents, now + DAY) == ["It broke"]


def test_restart():
    before = Incidents()
    begin(before, START)
    [message] = before.due(START)
    before.heard(message)
    after = Incidents(before.dump())
    assert after.open() == ["k"]
    begin(after, START + MINUTE)
    assert after.due(START + MINUTE) == []
    assert titles(after, START + HOUR) == ["Still: It broke"]


def test_restart_before_anybody_heard():
    before = Incidents()
    begin(before, START)
    before.due(START)
    after = Incidents(before.dump())
    assert after.due(START + MINUTE) == []  # is it still so?
    assert after.next_due() == float("inf")
    begin(after, START + MINUTE)
    assert titles(after, START + MINUTE) == ["Still: It broke"]


def test_restart_before_anybody_heard_the_end():
    before = Incidents()
    begin(before, START)
    [message] = before.due(START)
    end(before, START + MINUTE)
    [over] = before.due(START + MINUTE)
    before.heard(message)  # late: it is not the last word any more
    after = Incidents(before.dump())
    assert [one.title for one in after.due(START + HOUR)] == ["It works"]
    after.heard(over)
    assert Incidents(after.dump()).due(START + HOUR) == []


def test_heard_of_something_unknown():
    Incidents().heard(Message("k", "It broke", ""))


def test_nobody_is_reminded_of_what_nobody_reports_any_more():
    before = Incidents()
    begin(before, START)
    before.heard(before.due(START)[0])
    after = Incidents(before.dump())  # that mailbox is no longer in the settings
    assert after.due(START + 29 * DAY) == []
    assert json.loads(after.dump())["incidents"]
    assert after.due(START + 30 * DAY) == []
    assert json.loads(after.dump()) == {"incidents": []}


def test_what_is_over_is_forgotten_after_a_day():
    incidents = Incidents()
    begin(incidents, START)
    incidents.due(START)
    end(incidents, START)
    [message] = incidents.due(START)
    incidents.due(START + DAY)
    assert json.loads(incidents.dump())["incidents"]  # nobody has heard of it yet
    incidents.heard(message)
    incidents.due(START + DAY)
    assert json.loads(incidents.dump()) == {"incidents": []}


@pytest.mark.parametrize(
    "saved", [b"\xff", b"{}", b"[]", b'{"incidents": [{"key": "k"}]}', b'{"incidents": [1]}']
)
def test_saved_rubbish(saved):
    with pytest.raises(ValueError, match="cannot be read"):
        Incidents(saved)
