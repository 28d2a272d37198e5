"""(f): memory when nothing happens, and the time from start to accepting."""

from bench.contestants import emailproxy, field
from bench.plan import Plan
from bench.result import Aim, Result, Row, median
from bench.upstream import Upstream

_MB = 2**20
_MEMORY_AIM = 64.0
"""MB."""
_START_AIM = 1.0
"""Seconds."""
_ROUNDS = 5


def run(upstream: Upstream, plan: Plan) -> Result:
    """Start each contestant several times; look at its memory after its first messages have gone out."""
    result = Result("f", "idle")
    upstream.lift_limits()
    memory: dict[str, list[float]] = {"relay": [], "emailproxy": []}
    start: dict[str, list[float]] = {"relay": [], "emailproxy": []}
    for entry in plan.interleaved((plan.relay, emailproxy), _ROUNDS):
        with field(upstream, (entry,)) as (contestant,):
            assert contestant.server is not None
            contestant.warm_up()  # by then the first token has been fetched
            start[contestant.name].append(contestant.server.seconds_to_start)
            memory[contestant.name].append(contestant.server.resident() / _MB)
    for name in start:
        result.samples[f"{name} start s"] = start[name]
        result.samples[f"{name} memory MB"] = memory[name]
    result.rows += [
        Row(
            "memory",
            "MB",
            median(memory["relay"]),
            "emailproxy",
            median(memory["emailproxy"]),
            aim=_MEMORY_AIM,
            aim_is=Aim.OURS,
        ),
        Row(
            "start to greeting",
            "s",
            median(start["relay"]),
            "emailproxy",
            median(start["emailproxy"]),
            aim=_START_AIM,
            aim_is=Aim.OURS,
        ),
    ]
    return result
