"""(e): large messages. CPU for each MB, and memory."""

from bench.contestants import Contestant, check_delivered, direct, emailproxy, field, stock_aiosmtpd
from bench.mail_program import Session
from bench.plan import Plan
from bench.result import Aim, Result, Row, accepted, median, milliseconds
from bench.server import Server
from bench.upstream import Upstream

_MB = 2**20
_CPU_AIM = 15.0
"""ms for each MB."""
_STOCK_AIM = 0.5
_MEMORY_AIM = 3.0
"""Times the message."""
_ROUNDS = {1: 15, 25: 5}


def run(upstream: Upstream, plan: Plan) -> Result:
    """Measure messages of 1 MB, then of 25 MB, in fresh processes."""
    result = Result("e", "large messages")
    upstream.lift_limits()
    with field(upstream, (plan.relay, stock_aiosmtpd, emailproxy, direct)) as contestants:
        for contestant in contestants:
            contestant.warm_up()
        servers = {each.name: each.server for each in contestants if each.server is not None}
        idle = {name: server.resident() for name, server in servers.items()}
        for megabytes, rounds in _ROUNDS.items():
            taken = upstream.taken()
            sessions = _measure(megabytes, rounds, contestants, servers, idle, plan, result)
            delivered = sum(accepted(each) for name, each in sessions.items() if name != "aiosmtpd")
            check_delivered(delivered, upstream.taken() - taken)
    return result


def _measure(
    megabytes: int,
    rounds: int,
    contestants: list[Contestant],
    servers: dict[str, Server],
    idle: dict[str, int],
    plan: Plan,
    result: Result,
) -> dict[str, list[Session]]:
    before = {name: server.cpu_seconds() for name, server in servers.items()}
    for server in servers.values():
        server.reset_peak()
    sessions: dict[str, list[Session]] = {contestant.name: [] for contestant in contestants}
    for contestant in plan.interleaved(contestants, rounds):
        sessions[contestant.name].append(contestant.program.session(contestant.letter(megabytes * _MB)))
    sent = len(plan.rounds(rounds)) * megabytes
    cpu = {name: (server.cpu_seconds() - before[name]) * 1000 / sent for name, server in servers.items()}
    memory = {name: (server.peak() - idle[name]) / _MB for name, server in servers.items()}
    for name, each in sessions.items():
        result.note_errors(f"{name}, {megabytes} MB", each)
        result.samples[f"{name} {megabytes} MB session ms"] = milliseconds(each)
    size = f"{megabytes} MB"
    ours, straight = median(milliseconds(sessions["relay"])), median(milliseconds(sessions["direct"]))
    result.rows += [
        Row(f"{size}: CPU per MB", "ms", cpu["relay"], aim=_CPU_AIM, aim_is=Aim.OURS),
        Row(f"{size}: CPU per MB", "ms", cpu["relay"], "aiosmtpd", cpu["aiosmtpd"], aim=_STOCK_AIM),
        Row(f"{size}: CPU per MB", "ms", cpu["relay"], "emailproxy", cpu["emailproxy"]),
        Row(f"{size}: session, median", "ms", ours, "direct", straight),
    ]
    if megabytes > 1:  # a small message drowns in what the allocator rounds up to
        for peer in ("aiosmtpd", "emailproxy"):
            measure = f"{size}: memory above idle"
            result.rows.append(
                Row(
                    measure,
                    "MB",
                    memory["relay"],
                    peer,
                    memory[peer],
                    aim=_MEMORY_AIM * megabytes if peer == "aiosmtpd" else None,
                    aim_is=Aim.OURS,
                )
            )
    return sessions
