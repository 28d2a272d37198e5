"""(h): the container image: its size, the time until it accepts, what a health check costs."""

from uuid import uuid4

from bench.containers import Image, cpu_of_health_check, image, relay, seconds_for_nothing, volume
from bench.plan import Plan
from bench.result import Aim, Result, Row, median
from bench.upstream import Upstream

_MB = 2**20
_SIZE_AIM = 25.0
"""MB."""
_START_AIM = 1.5
"""Seconds."""
_ROUNDS = 5
_CHECKS = 20
_NEW, _AGAIN, _NOTHING = "first start", "start", "bare python"


def run(_upstream: Upstream, plan: Plan) -> Result:
    """Build the image, then start it beside a container of its base that does nothing."""
    result = Result("h", "the image")
    with image() as built:
        layers = built.layers()
        seconds, check = _starts(built, plan)
    result.samples |= {f"{name} s": values for name, values in seconds.items()}
    result.samples["layers MB"] = [size / _MB for size in layers]
    bare = median(seconds[_NOTHING])
    result.rows += [
        Row("size above its base", "MB", sum(layers) / _MB, aim=_SIZE_AIM, aim_is=Aim.OURS),
        Row("upgrade of the relay alone", "MB", layers[-1] / _MB),
        Row(
            "first start to greeting",
            "s",
            median(seconds[_NEW]),
            _NOTHING,
            bare,
            aim=_START_AIM,
            aim_is=Aim.OURS,
        ),
        Row("later start to greeting", "s", median(seconds[_AGAIN]), _NOTHING, bare),
        Row("CPU of a health check", "ms", check * 1000),
    ]
    return result


def _starts(built: Image, plan: Plan) -> tuple[dict[str, list[float]], float]:
    """The seconds of each kind of start, and the CPU seconds of one health check."""
    seconds: dict[str, list[float]] = {_NEW: [], _AGAIN: [], _NOTHING: []}
    checks: list[float] = []
    settings = {
        "CLIENT_ID": str(uuid4()),
        "TENANT_ID": "consumers",
        "USER_EMAIL": "me@outlook.com",
        "RELAY_PASSWORD": uuid4().hex,
        "RELAY_WEB_PASSWORD": uuid4().hex,
    }
    for _ in plan.rounds(_ROUNDS):
        seconds[_NOTHING].append(seconds_for_nothing(built))
        with volume(built) as data:
            with relay(built, data, settings) as (_container, taken):
                seconds[_NEW].append(taken)
            with relay(built, data, settings) as (container, taken):
                seconds[_AGAIN].append(taken)
                checks.append(cpu_of_health_check(container, len(plan.rounds(_CHECKS))))
    return seconds, min(checks)
