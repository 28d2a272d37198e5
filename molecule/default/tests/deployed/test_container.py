"""The container that Ansible made, seen from outside."""

from __future__ import annotations

NAME = "molecule-relay"


def test_it_is_healthy_and_confined(host) -> None:
    relay = host.docker(NAME).inspect()
    assert relay["State"]["Health"]["Status"] == "healthy"
    assert relay["HostConfig"]["ReadonlyRootfs"]
    assert relay["HostConfig"]["CapDrop"] == ["ALL"]
    assert relay["HostConfig"]["SecurityOpt"] == ["no-new-privileges"]
    assert not relay["Config"]["User"].startswith(("0", "root"))
