"""What the engine says of the relay, half a minute after its start."""

from __future__ import annotations

from harness.programs import wait_until

SECONDS = 60  # an older engine looks for the first time after the interval of 30 s


def test_it_is_healthy(relay) -> None:
    assert relay.inspect(relay.name)["Config"]["Healthcheck"]["Test"] == ["CMD", "smtp-relay", "health"]

    def status() -> str:
        return str(relay.inspect(relay.name)["State"]["Health"]["Status"])

    wait_until(lambda: status() != "starting", "the engine has looked at it", timeout=SECONDS)
    assert status() == "healthy"
    assert relay.inspect(relay.name)["RestartCount"] == 0


def test_it_runs_as_the_user_of_its_files(relay) -> None:
    assert relay.inside.check_output('echo "$(id -u):$(id -g)"') == relay.user
