"""What things are called on the pages, in the reader's language, and how times and sizes are written."""

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, date, datetime, tzinfo

import flask_babel
from babel.dates import format_date, get_timezone
from babel.numbers import format_decimal
from flask import request
from flask_babel import get_locale
from markupsafe import Markup

from relay_app.console.backend import HourCount, MailboxView
from relay_app.console.catalogue import Catalogue
from relay_app.console.chart import OUTCOMES
from relay_app.identity.tokens import State

CATALOGUE = Catalogue()
ZONE_COOKIE = "zone"
"""The browser's time zone, set by console.js. Without it, times are in the relay's zone."""

_ZONE = re.compile(r"[A-Za-z0-9_+-]{1,32}(?:/[A-Za-z0-9_+-]{1,32}){0,2}")
_DAY = {"en": "d {}", "de": "d. {}"}  # babel's English is the American one


def gettext(text: str, **values: object) -> str:
    """A text of the console in the reader's language."""
    return str(flask_babel.gettext(text, **values))


def now() -> datetime:
    """The time, for what is today and what is not."""
    return datetime.now(UTC)


def sentence(text: str) -> str:
    """What another room of the relay says, in the reader's language."""
    return CATALOGUE.sentence(text)


def outcome(key: str) -> str:
    """What became of a message or an attempt."""
    return {
        "accepted": gettext("accepted"),
        "refused": gettext("refused"),
        "deferred": gettext("deferred"),
        "uncertain": gettext("uncertain"),
    }.get(key, key)


def outcome_meaning(key: str) -> str:
    """What an outcome means for the one who sent the message."""
    return {
        "accepted": gettext("Outlook has the message."),
        "refused": gettext(
            "The message will not go out like this. Sending it again unchanged does not help."
        ),
        "deferred": gettext("Nothing went out yet. It may work later."),
        "uncertain": gettext("The connection broke before Outlook confirmed. The message may have gone out."),
    }.get(key, "")


def state(mailbox: MailboxView) -> str:
    """A mailbox's state in a word or two."""
    return {
        State.OK: gettext("Ready"),
        State.STARTING: gettext("Starting"),
        State.SIGN_IN_NEEDED: gettext("Sign-in needed"),
        State.FAILING: gettext("Not working"),
    }[mailbox.state]


def state_sentence(mailbox: MailboxView) -> str:
    """The same in a sentence."""
    if mailbox.sentence:
        return sentence(mailbox.sentence)
    return {
        State.OK: gettext("Mail goes out through this mailbox."),
        State.STARTING: gettext("The relay is asking Microsoft for access. This takes a few seconds."),
        State.SIGN_IN_NEEDED: gettext("Somebody must sign in once before mail can go out."),
        State.FAILING: gettext("Microsoft gives no access at the moment."),
    }[mailbox.state]


def zone() -> tzinfo:
    """The reader's time zone."""
    name = request.cookies.get(ZONE_COOKIE, "")
    if _ZONE.fullmatch(name):
        with suppress(LookupError):
            return get_timezone(name)
    return datetime.now().astimezone().tzinfo or UTC


def zone_name() -> str:
    """What the zone calls itself: CET, or +03."""
    return now().astimezone(zone()).tzname() or "UTC"


def clock(moment: datetime) -> str:
    """The time of day, by 24 hours in every language."""
    return f"{moment.astimezone(zone()):%H:%M}"


def moment(value: datetime) -> Markup:
    """A time: of day if it is today, else with its date; all of it for whoever points at it."""
    local = value.astimezone(zone())
    today = now().astimezone(zone()).date()
    full = f"{day(local.date())}, {local:%H:%M:%S} {local.tzname()}"
    short = clock(value) if local.date() == today else f"{_short_day(local.date(), today)}, {clock(value)}"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(value.isoformat(), full, short)


def day(value: date) -> str:
    """A date in full: 4 March 2030."""
    return str(format_date(value, _DAY[get_locale().language].format("MMMM") + " y", locale=get_locale()))


def _short_day(value: date, today: date) -> str:
    """A date, with its year if that is another one."""
    year = "" if value.year == today.year else " y"
    return str(format_date(value, _DAY[get_locale().language].format("MMM") + year, locale=get_locale()))


def days_until(value: date | datetime) -> int:
    """Whole days from today on; negative for the past."""
    end = value.astimezone(zone()).date() if isinstance(value, datetime) else value
    return (end - now().astimezone(zone()).date()).days


def number(value: float, pattern: str = "#,##0.##") -> str:
    """A number with the language's own signs."""
    return str(format_decimal(value, pattern, locale=get_locale()))


def size(octets: int) -> str:
    """A size in the unit that fits."""
    if octets < 1000:
        return gettext("%(size)s bytes", size=octets)
    if octets < 1_000_000:
        return f"{number(octets / 1000, '#,##0')} kB"
    return f"{number(octets / 1_000_000, '#,##0.0')} MB"


def seconds(value: float) -> str:
    """How long something took."""
    return gettext("%(seconds)s s", seconds=number(value, "#,##0.0" if value >= 0.1 else "#,##0.00"))


def counted(counts: Mapping[str, int]) -> str:
    """How many messages, by outcome: "12 accepted, 1 refused"."""
    parts = [f"{number(counts[key])} {outcome(key)}" for key in OUTCOMES if counts.get(key)]
    return ", ".join(parts) or gettext("no messages")


def hour(value: HourCount) -> str:
    """What happened within one hour."""
    return f"{clock(value.hour)}: {counted(value.counts)}"
