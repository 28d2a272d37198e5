"""`python -m bench`: measure, print a table, write JSON."""

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

from docker.errors import DockerException

from bench import report
from bench.contestants import ContestantError, profiled, relay
from bench.plan import Plan
from bench.result import Result
from bench.scenarios import console, crowd, deploy, idle, image, large, reuse, sessions
from bench.server import ServerError
from bench.upstream import Upstream, upstream
from sandbox.client import SandboxError

_SCENARIOS: dict[str, Callable[[Upstream, Plan], Result]] = {
    "a": sessions.near,
    "b": sessions.far,
    "c": reuse.run,
    "d": crowd.run,
    "e": large.run,
    "f": idle.run,
    "g": console.run,
    "h": image.run,
    "i": deploy.run,
}
_RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Run the scenarios asked for; 0 when all could be measured, whatever the numbers are."""
    arguments = _arguments()
    if sys.platform != "linux":
        print("The bench reads memory and CPU from /proc: it runs on Linux only.", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped
    plan = Plan(profiled(arguments.profile) if arguments.profile else relay, arguments.quick)
    facts = {"when": datetime.now(UTC).isoformat(timespec="seconds"), **report.machine()}
    facts |= {"quick": arguments.quick, "profiled": bool(arguments.profile)}
    results: list[Result] = []
    failure = ""
    started = perf_counter()
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as directory, upstream(Path(directory)) as shared:
            for name in arguments.only:
                print(f"({name}) ...", file=sys.stderr, flush=True)
                results.append(_SCENARIOS[name](shared, plan))
    except (ContestantError, DockerException, ServerError, SandboxError) as error:
        failure = f"The bench cannot go on: {error}"
    if results:
        print(report.table(results))
        print(f"\n{_circumstances(facts)}; {perf_counter() - started:.0f} s in all")
        print(f"Written to {_write(report.document(results, facts))}")
    if failure:
        print(failure, file=sys.stderr)
    return 1 if failure else 0


def _write(document: str) -> Path:
    _RESULTS.mkdir(exist_ok=True)
    file = _RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    file.write_text(document, "utf-8")
    return file


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--only", metavar="a,e", type=_names, default=list(_SCENARIOS), help="scenarios to run"
    )
    parser.add_argument("--quick", action="store_true", help="fewer messages, rough numbers")
    parser.add_argument(
        "--profile", metavar="FILE", type=Path, help="run the relay under cProfile: slower, not comparable"
    )
    return parser.parse_args()


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - _SCENARIOS.keys():
        raise argparse.ArgumentTypeError(f"no scenario {', '.join(sorted(unknown))}; there are a to i")
    return names


def _circumstances(facts: dict[str, object]) -> str:
    text = f"Python {facts['python']}, {facts['openssl']}, {facts['cpus']} CPUs ({facts['cpu']})"
    if facts["quick"]:
        text += "; QUICK: rough numbers"
    if facts["profiled"]:
        text += "; PROFILED: the relay is slower than it is"
    return text


if __name__ == "__main__":
    sys.exit(main())
