"""(g): the console. What it costs when nobody looks, what a page costs, and whether mail notices."""

from functools import partial

import requests

from bench.contestants import Contestant, field, relay
from bench.mail_program import Session
from bench.plan import Plan
from bench.result import Aim, Result, Row, median, milliseconds
from bench.upstream import Upstream

_MB = 2**20
_MEMORY_AIM = 64.0
"""MB."""
_PAGE_AIM = 50.0
"""Milliseconds of CPU."""
_SIZE = 4096
_ROUNDS = 60
_REQUESTS = 20
"""For each page, after the first."""
_PAGES = (
    "/",
    "/messages",
    "/messages?q=example.org",
    "/devices",
    "/gmail",
    "/gmail/printers",
    "/api/v1/hours",
)


def run(upstream: Upstream, plan: Plan) -> Result:
    """Compare a relay whose console is looked at again and again with one that has none."""
    result = Result("g", "the console")
    upstream.lift_limits()
    with field(upstream, (partial(relay, console=True), relay)) as (with_console, without):
        assert with_console.server is not None
        for contestant in (with_console, without):
            contestant.warm_up()
        memory = with_console.server.resident() / _MB
        pages = _pages(with_console)
        mail = _mail(with_console, without, plan, result)
    result.samples |= {f"CPU ms {page}": [cost] for page, cost in pages.items()}
    result.rows += [
        Row("memory, console on", "MB", memory, aim=_MEMORY_AIM, aim_is=Aim.OURS),
        Row("CPU of the dearest page", "ms", max(pages.values()), aim=_PAGE_AIM, aim_is=Aim.OURS),
        Row("session, median", "ms", median(mail[0]), "no console", median(mail[1])),
    ]
    return result


def _pages(contestant: Contestant) -> dict[str, float]:
    """Return the milliseconds of CPU that each page takes."""
    assert contestant.server is not None
    costs = {}
    with requests.Session() as http:
        http.trust_env = False
        for page in _PAGES:
            _get(http, contestant.console + page)  # the first one builds the application, fills caches
            before = contestant.server.cpu_seconds()
            for _ in range(_REQUESTS):
                _get(http, contestant.console + page)
            costs[page] = (contestant.server.cpu_seconds() - before) * 1000 / _REQUESTS
    return costs


def _mail(
    with_console: Contestant, without: Contestant, plan: Plan, result: Result
) -> tuple[list[float], list[float]]:
    """Return the session times of both; the one's overview is fetched before each message."""
    sessions: dict[bool, list[Session]] = {True: [], False: []}
    with requests.Session() as http:
        http.trust_env = False
        for contestant in plan.interleaved((with_console, without), _ROUNDS):
            if contestant is with_console:
                _get(http, contestant.console + "/")
            sessions[contestant is with_console].append(contestant.program.session(contestant.letter(_SIZE)))
    result.note_errors("console", sessions[True])
    result.note_errors("no console", sessions[False])
    return milliseconds(sessions[True]), milliseconds(sessions[False])


def _get(http: requests.Session, url: str) -> None:
    http.get(url, timeout=30).raise_for_status()
