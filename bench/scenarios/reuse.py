"""(c): clients that keep their connection. 3 connections with 100 messages each, all at the same time."""

import smtplib
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

from bench.contestants import Contestant, ContestantError, check_delivered, direct, emailproxy, field
from bench.mail_program import describe
from bench.plan import Plan
from bench.result import Result, Row, median
from bench.upstream import Upstream

_CONNECTIONS = 3
_MESSAGES = 100
_SIZE = 4096
_ROUNDS = 3


def run(upstream: Upstream, plan: Plan) -> Result:
    """Measure time and CPU for each message."""
    result = Result("c", f"{_CONNECTIONS} connections, {_MESSAGES} messages each")
    upstream.lift_limits()
    messages = len(plan.rounds(_MESSAGES))
    with field(upstream, (plan.relay, emailproxy, direct)) as contestants:
        wall: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
        cpu: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
        for contestant in contestants:
            contestant.warm_up()
        taken = upstream.taken()
        for contestant in plan.interleaved(contestants, _ROUNDS):
            before = _cpu(contestant)
            seconds = _send(contestant, messages)
            wall[contestant.name].append(seconds * 1000 / (messages * _CONNECTIONS))
            cpu[contestant.name].append((_cpu(contestant) - before) * 1000 / (messages * _CONNECTIONS))
        check_delivered(sum(map(len, wall.values())) * messages * _CONNECTIONS, upstream.taken() - taken)
    for name in wall:
        result.samples[f"{name} ms per message"] = wall[name]
    result.rows += [
        Row("time per message", "ms", median(wall["relay"]), "direct", median(wall["direct"])),
        Row("time per message", "ms", median(wall["relay"]), "emailproxy", median(wall["emailproxy"])),
        Row("CPU per message", "ms", median(cpu["relay"]), "emailproxy", median(cpu["emailproxy"])),
    ]
    return result


def _cpu(contestant: Contestant) -> float:
    return contestant.server.cpu_seconds() if contestant.server is not None else 0.0


def _send(contestant: Contestant, messages: int) -> float:
    """Send over all connections at once; return the seconds until all is accepted."""
    letters = [[contestant.letter(_SIZE) for _ in range(messages)] for _ in range(_CONNECTIONS)]

    def one_connection(batch: list[bytes]) -> None:
        with contestant.program.connection() as smtp:
            for content in batch:
                contestant.program.submit(smtp, content)

    started = perf_counter()
    try:
        with ThreadPoolExecutor(_CONNECTIONS) as threads:
            for done in [threads.submit(one_connection, batch) for batch in letters]:
                done.result()
    except (smtplib.SMTPException, OSError) as failure:
        raise ContestantError(
            f"{contestant.name} failed on a reused connection: {describe(failure)}"
        ) from failure
    return perf_counter() - started
