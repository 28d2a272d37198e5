"""(a), (b): the Gmail pattern. One connection for each message, 4 KB, STARTTLS and AUTH PLAIN."""

from bench.contestants import Contestant, check_delivered, direct, emailproxy, field
from bench.mail_program import Session
from bench.plan import Plan
from bench.result import Result, Row, accepted, median, milliseconds, p95
from bench.upstream import Upstream, distant

_SIZE = 4096
_RTT = 0.040


def near(upstream: Upstream, plan: Plan) -> Result:
    """(a) The upstream is on the same machine."""
    result = Result("a", "one connection per message, 4 KB")
    upstream.lift_limits()
    with field(upstream, (plan.relay, emailproxy, direct)) as contestants:
        sessions, cpu = _measure(upstream, contestants, plan, 100, result)
    ours, theirs, straight = (milliseconds(sessions[contestant.name]) for contestant in contestants)
    result.rows += [
        Row("CPU per message", "ms", cpu["relay"], "emailproxy", cpu["emailproxy"], aim=1 / 40),
        Row("session, median", "ms", median(ours), "direct", median(straight), aim=1),
        Row("session, p95", "ms", p95(ours), "direct", p95(straight)),
        Row("session, median", "ms", median(ours), "emailproxy", median(theirs)),
        Row("session, p95", "ms", p95(ours), "emailproxy", p95(theirs)),
    ]
    return result


def far(upstream: Upstream, plan: Plan) -> Result:
    """(b) The upstream is 40 ms away."""
    result = Result("b", "the same, 40 ms round trip to the upstream")
    upstream.lift_limits()
    with (
        distant(upstream.port, _RTT) as port,
        field(upstream, (plan.relay, emailproxy, direct), port) as contestants,
    ):
        sessions, _ = _measure(upstream, contestants, plan, 25, result)
    ours, theirs, straight = (milliseconds(sessions[contestant.name]) for contestant in contestants)
    result.rows += [
        Row("session, median", "ms", median(ours), "direct", median(straight), aim=0.3),
        Row("session, p95", "ms", p95(ours), "direct", p95(straight)),
        Row("session, median", "ms", median(ours), "emailproxy", median(theirs)),
    ]
    return result


def _measure(
    upstream: Upstream, contestants: list[Contestant], plan: Plan, rounds: int, result: Result
) -> tuple[dict[str, list[Session]], dict[str, float]]:
    """Return each contestant's sessions, and its server's CPU milliseconds per message."""
    for contestant in contestants:
        contestant.warm_up()
    servers = {each.name: each.server for each in contestants if each.server is not None}
    taken = upstream.taken()
    before = {name: server.cpu_seconds() for name, server in servers.items()}
    sessions: dict[str, list[Session]] = {contestant.name: [] for contestant in contestants}
    for contestant in plan.interleaved(contestants, rounds):
        sessions[contestant.name].append(contestant.program.session(contestant.letter(_SIZE)))
    messages = len(plan.rounds(rounds))
    cpu = {name: (server.cpu_seconds() - before[name]) * 1000 / messages for name, server in servers.items()}
    check_delivered(sum(map(accepted, sessions.values())), upstream.taken() - taken)
    for name, each in sessions.items():
        result.note_errors(name, each)
        result.samples[f"{name} session ms"] = milliseconds(each)
    return sessions, cpu
