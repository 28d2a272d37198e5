"""(d): 50 clients at once, and Outlook's limit of 3 connections for a mailbox in force."""

from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Barrier
from time import perf_counter

from bench.contestants import Contestant, Entry, check_delivered, direct, emailproxy, field
from bench.mail_program import Session
from bench.plan import Plan
from bench.result import Aim, Result, Row, accepted
from bench.upstream import Upstream

_CLIENTS = 50
_SIZE = 4096
_CONNECTION_LIMIT = 3
_PATIENCE = 15.0
"""Seconds that a client waits for each reply."""
_BOUND = 40.0
"""Seconds after which clients that still wait are cut off."""


@dataclass(frozen=True, slots=True)
class _Crowd:
    sessions: list[Session]
    seconds: float
    peak: int
    """The most connections that the upstream had from the mailbox at one time."""

    @property
    def errors(self) -> int:
        return len(self.sessions) - accepted(self.sessions)


def run(upstream: Upstream, plan: Plan) -> Result:
    """Count errors and connections; one contestant after the other, each with the upstream to itself."""
    result = Result("d", f"{_CLIENTS} clients at once; the upstream allows {_CONNECTION_LIMIT} connections")
    crowds = {}
    for entry in (plan.relay, direct, emailproxy):
        name, crowd = _rush(upstream, entry)
        crowds[name] = crowd
        result.note_errors(name, crowd.sessions)
        result.samples[f"{name} session ms"] = [session.seconds * 1000 for session in crowd.sessions]
    ours = crowds["relay"]
    for peer in ("emailproxy", "direct"):
        theirs = crowds[peer]
        result.rows += [
            Row("clients with an error", "", ours.errors, peer, theirs.errors, aim=0, aim_is=Aim.OURS),
            Row(
                "upstream connections, peak",
                "",
                ours.peak,
                peer,
                theirs.peak,
                aim=_CONNECTION_LIMIT,
                aim_is=Aim.OURS,
            ),
            Row("until the last is done", "s", ours.seconds, peer, theirs.seconds),
        ]
    return result


def _rush(upstream: Upstream, entry: Entry) -> tuple[str, _Crowd]:
    upstream.lift_limits()
    upstream.enforce_connections(_CONNECTION_LIMIT)
    # The threads outlive the servers: a client that is stuck is freed when its server is stopped.
    with ThreadPoolExecutor(_CLIENTS) as threads, field(upstream, (entry,)) as (contestant,):
        contestant.warm_up()
        taken = upstream.taken()
        gate = Barrier(_CLIENTS + 1)
        clients = [threads.submit(_session, contestant, gate) for _ in range(_CLIENTS)]
        gate.wait()
        started = perf_counter()
        wait(clients, _BOUND)
        seconds = perf_counter() - started
        sessions = [_outcome(client) for client in clients]
        check_delivered(accepted(sessions), upstream.taken() - taken)
        peaks = upstream.control.counters().smtp.mailbox_peak
        return contestant.name, _Crowd(sessions, seconds, max(peaks.values(), default=0))


def _session(contestant: Contestant, gate: Barrier) -> Session:
    content = contestant.letter(_SIZE)
    gate.wait()
    return contestant.program.session(content, _PATIENCE)


def _outcome(client: Future[Session]) -> Session:
    return client.result() if client.done() else Session(_BOUND, f"not done after {_BOUND:g} s")
