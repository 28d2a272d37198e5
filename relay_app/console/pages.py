"""The console's pages. They ask the relay and fill templates; every page works without JavaScript."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar, cast
from urllib.parse import urlsplit

from flask import Blueprint, abort, current_app, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import get_locale, gettext
from markupsafe import Markup

from relay_app.console import chart, gmail, words
from relay_app.console.backend import (
    Backend,
    DeviceView,
    HourCount,
    MailboxView,
    NewDevice,
    RequestError,
    SignInKind,
    SignInState,
)
from relay_app.console.security import local
from relay_app.settings import ForeignFrom

RECENT = 8
"""Messages on the overview."""
FOUND = 50
"""Messages in a list."""
THEMES = ("auto", "light", "dark")
THEME_COOKIE = "theme"
PROGRAMS = ("gmail", "printers", "unraid", "msmtp", "programs")
"""The pages that say what to type where."""

_YEAR = 365 * 24 * 3600  # seconds
_View = TypeVar("_View")
_WHOLE = re.compile(r"[0-9]{1,9}")

blueprint = Blueprint("pages", __name__)


@blueprint.before_app_request
def _use_catalogue() -> None:
    words.CATALOGUE.as_default()


@blueprint.app_context_processor
def _for_every_template() -> dict[str, object]:
    theme = request.cookies.get(THEME_COOKIE)
    return {
        "words": words,
        "swatch": chart.swatch,
        "language": get_locale().language,
        "theme": theme if theme in THEMES else THEMES[0],
    }


def _relay() -> Backend:
    return cast(Backend, current_app.extensions["relay"])


def _mailbox(address: str) -> MailboxView:
    return _found(mailbox for mailbox in _relay().mailboxes() if mailbox.address == address)


def _device(name: str) -> DeviceView:
    return _found(device for device in _relay().devices() if device.name == name)


def _found(matching: Iterator[_View]) -> _View:
    view = next(matching, None)
    if view is None:
        abort(404)
    return view


# --- overview -------------------------------------------------------------------------------------------


@blueprint.get("/")
def overview() -> str:
    """Everything at a glance."""
    relay = _relay()
    hours = relay.hours()
    return render_template(
        "overview.html",
        relay=relay.relay(),
        reasons=relay.ready(),
        mailboxes=relay.mailboxes(),
        messages=relay.recent(RECENT),
        hours=hours,
        totals=_totals(hours),
        charts=_charts(hours),
    )


@blueprint.post("/mailboxes/<path:address>/retry")
def retry(address: str) -> ResponseReturnValue:
    """Ask Microsoft now instead of at the next round."""
    _relay().retry(address)
    return redirect(url_for(".overview"), 303)


def _totals(hours: Sequence[HourCount]) -> Mapping[str, int]:
    totals = dict.fromkeys(chart.OUTCOMES, 0)
    for hour in hours:
        for outcome, count in hour.counts.items():
            totals[outcome] = totals.get(outcome, 0) + count
    return totals


def _charts(hours: Sequence[HourCount]) -> tuple[Markup, Markup]:
    """The drawing for a desktop and the one for a phone: a scaled one would have unreadable labels."""
    texts = chart.Words(
        title=gettext("Messages in the last 24 hours, by hour"),
        description=words.counted(_totals(hours)),
        bar=words.hour,
        clock=words.clock,
    )
    wide = chart.draw(hours, texts, name="wide", width=900, every=3)
    narrow = chart.draw(hours, texts, name="narrow", width=360, every=6)
    return wide, narrow


# --- sign-in --------------------------------------------------------------------------------------------


@blueprint.get("/sign-in/<path:mailbox>")
def choose_sign_in(mailbox: str) -> str:
    """Which way to sign a mailbox in."""
    return render_template("sign_in_choose.html", mailbox=_mailbox(mailbox), kinds=SignInKind)


@blueprint.post("/sign-in/<path:mailbox>")
def begin_sign_in(mailbox: str) -> ResponseReturnValue:
    """Begin a sign-in; the page of this sign-in does the rest."""
    view = _mailbox(mailbox)
    try:
        kind = SignInKind(request.form.get("kind", ""))
    except ValueError:
        error = gettext("Choose one of the ways to sign in.")
        return render_template("sign_in_choose.html", mailbox=view, kinds=SignInKind, error=error), 400
    try:
        begun = _relay().begin_sign_in(mailbox, kind, redirect_uri())
    except RequestError as problem:
        page = render_template("sign_in_choose.html", mailbox=view, kinds=SignInKind, error=str(problem))
        return page, 409
    return redirect(url_for(".sign_in", id=begun.id), 303)


@blueprint.get("/sign-in/callback")
def sign_in_callback() -> ResponseReturnValue:
    """Where Microsoft sends the browser back to (the redirect URI of the app registration)."""
    done = _relay().redirected(request.args.to_dict())
    # On to an address without the code in it, which would stay in the browser's history.
    return redirect(url_for(".sign_in", id=done.id), 303)


@blueprint.get("/sign-ins/<id>")
def sign_in(id: str) -> str:
    """How a sign-in is doing, and what to do next."""
    return _sign_in_page(id)


@blueprint.post("/sign-ins/<id>")
def paste(id: str) -> ResponseReturnValue:
    """Take the address that the browser ended up on."""
    address = request.form.get("address", "").strip()
    if not address:
        return _sign_in_page(id, error=gettext("Paste the address first.")), 400
    try:
        _relay().pasted(id, address)
    except RequestError as problem:
        # An address with a code in it is a secret for some minutes: it is not shown again.
        return _sign_in_page(id, error=str(problem), address="" if "code=" in address else address), 409
    return redirect(url_for(".sign_in", id=id), 303)


@blueprint.post("/sign-ins/<id>/confirm")
def confirm_sign_in(id: str) -> ResponseReturnValue:
    """Keep a sign-in although another account than the mailbox's has signed in."""
    try:
        _relay().confirm(id)
    except RequestError as problem:
        return _sign_in_page(id, error=str(problem)), 409
    return redirect(url_for(".sign_in", id=id), 303)


def _sign_in_page(id: str, error: str = "", address: str = "") -> str:
    view = _relay().sign_in(id)
    return render_template(
        "sign_in.html",
        view=view,
        kinds=SignInKind,
        states=SignInState,
        local=urlsplit(view.redirect_uri).scheme == "http",
        error=error,
        address=address,
    )


def redirect_uri() -> str:
    """The redirect URI: at the console's https address, if it has one, else on localhost.

    Microsoft allows http for localhost only. The port is the one that this browser uses: a container's own
    may be another.
    """
    public = str(current_app.config["CONSOLE_URL"])
    if public.startswith("https://"):
        return public.rstrip("/") + url_for("pages.sign_in_callback")
    port = urlsplit(f"//{request.host}").port or (443 if request.is_secure else 80)
    return f"http://localhost:{port}{url_for('pages.sign_in_callback')}"


# --- what to type where ---------------------------------------------------------------------------------


@blueprint.get("/gmail", defaults={"program": "gmail"})
@blueprint.get("/gmail/<any(printers, unraid, msmtp, programs):program>")
def settings(program: str) -> str:
    """The values for Gmail's dialog, and for other programs, ready to be copied."""
    devices = _relay().devices()
    chosen = request.args.get("device", "")
    device = next((each for each in devices if each.name == chosen), devices[0] if devices else None)
    return _settings_page(program, devices, device)


def _settings_page(program: str, devices: Sequence[DeviceView], device: DeviceView | None) -> str:
    relay = _relay().relay()
    values = gmail.account(relay, device) if device else None
    return render_template(
        f"settings_{program}.html",
        program=program,
        programs=PROGRAMS,
        relay=relay,
        devices=devices,
        device=device,
        values=values,
        starttls=values is not None and values.security is gmail.Security.STARTTLS,
        obstacles=[each.value for each in gmail.obstacles(relay)],
        gmail_ports=gmail.GMAIL_PORTS,
        msmtp=gmail.msmtp(values) if values else "",
    )


# --- devices --------------------------------------------------------------------------------------------


@blueprint.get("/devices")
def devices() -> str:
    """Who may hand in mail."""
    return render_template("devices.html", devices=_relay().devices())


@blueprint.get("/devices/new")
def new_device() -> str:
    """The form for a device."""
    return _device_form({})


@blueprint.post("/devices/new")
def create_device() -> ResponseReturnValue:
    """Make a device and show its password, this once."""
    form = request.form
    hourly = form.get("hourly_messages", "").strip() or "0"
    if not _WHOLE.fullmatch(hourly):
        return _device_form(form, gettext("Messages per hour must be a whole number. 0 means no limit.")), 400
    if form.get("foreign_from") not in {each.value for each in ForeignFrom}:
        return _device_form(form, gettext("Choose what happens to a foreign sender in the From field.")), 400
    try:
        new = _relay().create_device(
            name=form.get("name", "").strip(),
            mailbox=form.get("mailbox", ""),
            senders=form.get("senders", "").replace(",", " ").split(),
            foreign_from=form["foreign_from"],
            hourly_messages=int(hourly),
        )
    except RequestError as problem:
        return _device_form(form, str(problem)), 409
    return _created_page(new), 201


def _device_form(form: Mapping[str, str], error: str = "") -> str:
    return render_template("device_new.html", form=form, error=error, mailboxes=_relay().mailboxes())


def _created_page(new: NewDevice) -> str:
    relay = _relay().relay()
    device = _device(new.device.name)
    return render_template(
        "device_created.html",
        device=device,
        password=new.password,
        values=gmail.account(relay, device),
        starttls=gmail.account(relay, device).security is gmail.Security.STARTTLS,
    )


@blueprint.get("/devices/<path:name>/revoke")
def confirm_revoke(name: str) -> str:
    """Ask once more."""
    return render_template("device_revoke.html", device=_device(name))


@blueprint.post("/devices/<path:name>/revoke")
def revoke(name: str) -> ResponseReturnValue:
    """Refuse a device from now on."""
    try:
        _relay().revoke_device(name)
    except RequestError as problem:
        return render_template("device_revoke.html", device=_device(name), error=str(problem)), 409
    return redirect(url_for(".devices"), 303)


# --- messages -------------------------------------------------------------------------------------------


@blueprint.get("/messages")
def messages() -> str:
    """Where is my mail?"""
    query = request.args.get("q", "").strip()
    found = _relay().find(query, FOUND) if query else _relay().recent(FOUND)
    return render_template("messages.html", query=query, messages=found, most=FOUND)


@blueprint.get("/messages/<path:id>")
def message(id: str) -> str:
    """One message's story."""
    return render_template("message.html", message=_relay().message(id))


# --- how pages look -------------------------------------------------------------------------------------


@blueprint.post("/set-theme")
def set_theme() -> ResponseReturnValue:
    """Remember light or dark; "auto" is whatever the system says."""
    theme = request.form.get("theme", "")
    response = redirect(local(request.form.get("next", "")), 303)
    if theme in THEMES:
        response.set_cookie(
            THEME_COOKIE, theme, max_age=_YEAR, httponly=True, samesite="Lax", secure=request.is_secure
        )
    return response
