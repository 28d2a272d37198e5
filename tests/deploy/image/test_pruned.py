"""What was left out of the image is not missed, and the bytecode made for it is all that a start needs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
import requests
from babel.dates import format_date
from babel.numbers import format_decimal
from harness.clients import swaks
from harness.letters import letter
from harness.planted import Planted

from .conftest import Relay
from .containers import SECONDS_TO_BUILD

pytestmark = [pytest.mark.timeout(SECONDS_TO_BUILD), pytest.mark.xdist_group("engine")]

_TOKEN = re.compile(r'name="csrf_token" value="([^"]+)"')


def test_every_module_of_the_relay_can_be_imported(run_python: Callable[..., str]) -> None:
    program = """
import importlib, pkgutil, relay_app
names = [m.name for m in pkgutil.walk_packages(relay_app.__path__, "relay_app.")]
names = [name for name in names if not name.endswith(("__main__", "migrations.env"))]  # these run something
for name in names:
    importlib.import_module(name)
print(len(names))
"""
    assert int(run_python(program)) > 50


@pytest.mark.parametrize("language", ["en", "de"])
def test_dates_and_numbers_are_as_with_all_of_babel(run_python: Callable[..., str], language: str) -> None:
    program = """
import sys, datetime, json
from babel.dates import format_date, get_timezone
from babel.numbers import format_decimal
language = sys.argv[1]
print(json.dumps([
    *[format_date(datetime.date(2026, m, 5), "EEEE d. MMMM y", locale=language) for m in range(1, 13)],
    format_decimal(1234567.891, locale=language),
    datetime.datetime(2026, 7, 1, tzinfo=datetime.UTC).astimezone(get_timezone("Asia/Kathmandu")).isoformat(),
]))
"""
    assert json.loads(run_python(program, language)) == [
        *(format_date(date(2026, month, 5), "EEEE d. MMMM y", locale=language) for month in range(1, 13)),
        format_decimal(1234567.891, locale=language),
        datetime(2026, 7, 1, tzinfo=UTC).astimezone(ZoneInfo("Asia/Kathmandu")).isoformat(),
    ]


class TestConsole:
    @pytest.mark.parametrize(
        ("wanted", "language", "words"),
        [
            ("de-AT, de;q=0.9, en;q=0.5", "de", ["Nachrichten", "angenommen"]),
            ("en-GB", "en", ["Messages", "accepted"]),
            ("fr-FR, *;q=0.1", "en", ["Messages", "accepted"]),
        ],
    )
    def test_in_the_readers_language(
        self, relay: Relay, planted: Planted, wanted: str, language: str, words: list[str]
    ) -> None:
        mail = letter(planted, relay.settings["USER_EMAIL"])
        assert swaks(relay.account, mail).status == 0
        with requests.Session() as browser:
            browser.trust_env = False
            browser.headers["Accept-Language"] = wanted
            browser.cookies.set("zone", "Europe/Vienna")
            form = browser.get(f"{relay.console}/login", timeout=30).text
            found = _TOKEN.search(form)
            assert found is not None, form
            browser.post(
                f"{relay.console}/login",
                data={"csrf_token": found[1], "password": relay.settings["RELAY_WEB_PASSWORD"], "next": "/"},
                headers={"Referer": f"{relay.console}/login"},
                timeout=30,
            ).raise_for_status()
            for path in ("/", "/messages", "/devices", "/gmail"):
                answer = browser.get(relay.console + path, timeout=30)
                assert answer.status_code == 200
                assert f'<html lang="{language}"' in answer.text
            page = browser.get(f"{relay.console}/messages", timeout=30).text
        assert [word for word in words if word not in page] == []

    def test_gives_out_its_static_files(self, relay: Relay) -> None:
        for name in ("console.css", "console.js", "icon.svg"):
            assert requests.get(f"{relay.console}/static/{name}", timeout=30).content


def test_the_postgresql_driver_is_whole(run_python: Callable[..., str]) -> None:
    # libpq, with its TLS, is what says that nobody answers.
    program = """
import psycopg, sqlalchemy, sqlalchemy.exc
print(psycopg.pq.__impl__)
try:
    sqlalchemy.create_engine("postgresql+psycopg://nobody@127.0.0.1:9/none?sslmode=verify-full&sslrootcert=system").connect()
except sqlalchemy.exc.OperationalError as error:
    print(error.orig)
"""
    implementation, said = run_python(program).splitlines()[:2]
    assert implementation == "binary"
    assert "port 9 failed: Connection refused" in said


def test_alerts_can_be_sent(relay: Relay) -> None:
    program = """
import apprise
for url in ("ntfy://topic", "tgram://123456789:abcdefg_hijklmnop/12315544", "mailto://u:p@example.org", "json://localhost"):
    assert apprise.Apprise().add(url), url
print("all")
"""
    assert relay.container.run("python", "-c", program).strip() == "all"


def test_a_start_compiles_nothing(start: Callable[..., Relay], planted: Planted) -> None:
    first = start()  # makes the database, with Alembic, whose bytecode is not there
    first.container.wait_for_log("event=started")
    first.container.stop()
    second = start(PYTHONVERBOSE="1")
    second.container.wait_for_log("event=started")
    assert swaks(second.account, letter(planted, second.settings["USER_EMAIL"])).status == 0
    log = second.container.log
    assert ".pyc matches " in log, "Python did not tell what it loads"
    assert re.findall(r"(?m)^# code object from (/.*\.py)$", log) == []
