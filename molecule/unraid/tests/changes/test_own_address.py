"""A network such as Unraid's br0, where the relay is a machine of its own."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator

from docker import DockerClient

from tests.deploy.dockerman import command, differences, read_template, server_of

NETWORK, SUBNET = "tower-br0", "198.18.50.0/24"
OURS, RELAYS = "198.18.50.1", "198.18.50.5"
CABLE, OTHER_END = "tower-br0", "tower-lan"


@contextlib.contextmanager
def br0(engine: DockerClient, microsoft: str) -> Iterator[str]:
    """A network on a cable of its own, with this machine and the stand-in for Microsoft at its other end.

    As long as it is there, the stand-in may not be reached at its published port.
    """
    subprocess.run(["ip", "link", "add", CABLE, "type", "veth", "peer", "name", OTHER_END], check=True)
    try:
        subprocess.run(["ip", "address", "add", f"{OURS}/24", "dev", OTHER_END], check=True)
        for end in (CABLE, OTHER_END):
            subprocess.run(["ip", "link", "set", end, "up"], check=True)
        pool = [{"Subnet": SUBNET}]
        network = engine.networks.create(
            NETWORK, driver="macvlan", options={"parent": CABLE}, ipam={"Config": pool}
        )
        try:
            network.connect(microsoft, aliases=["sandbox"])
            yield NETWORK
        finally:
            network.reload()
            for container in network.containers:
                network.disconnect(container, force=True)
            network.remove()
    finally:
        subprocess.run(["ip", "link", "delete", CABLE], check=True)


def test_it_has_that_address_and_the_web_interface_makes_it_just_so(
    engine, places, relay, tower, at_tower, deploy, goes_out
) -> None:
    before = relay.inspect(relay.name)
    with br0(engine, f"{places['sandbox_name']}-microsoft") as network:
        there = {"relay_network": network, "relay_ip": RELAYS}
        assert deploy("site.yml", "--limit=all", **there).refusal() == "", (
            "a message was sent to that address"
        )
        ansibles = relay.inspect(relay.name)
        assert ansibles["NetworkSettings"]["Networks"][network]["IPAddress"] == RELAYS
        assert not ansibles["HostConfig"]["PortBindings"]

        server = server_of(
            at_tower("cat", "/var/local/emhttp/var.ini"),
            at_tower("cat", "/boot/config/docker.cfg"),
            at_tower("docker", "network", "ls", "--format", "{{.Name}}={{.Driver}}"),
        )
        xml = at_tower("cat", f"/boot/config/plugins/dockerMan/templates-user/my-{relay.name}.xml")
        at_tower("docker", "rm", "--force", relay.name)
        tower.check_output(command(read_template(xml, server), server, start=True))
        assert differences(ansibles, relay.inspect(relay.name)) == {}
        assert deploy(**there).changed == []

        assert deploy().refusal() == ""
        assert differences(before, relay.inspect(relay.name)) == {}
    goes_out()
