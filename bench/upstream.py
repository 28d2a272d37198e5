"""What all contestants share: the sandbox that stands for Microsoft, and the certificate that they show."""

import secrets
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE, Popen

import trustme

from sandbox.client import Control, SandboxProcess, World

_RESOURCE = "https://outlook.office365.com"


@dataclass(frozen=True, slots=True)
class Upstream:
    """One upstream for the whole run. Addresses are 127.0.0.1: nobody has to resolve a name."""

    directory: Path
    control: Control
    world: World
    port: int
    authority: str
    ca: Path
    """The CA of the upstream."""
    cert: Path
    key: Path
    """What the contestants' own listeners show: a P-256 pair, as Let's Encrypt issues by default."""
    tls: ssl.SSLContext
    """For the mail programs: trusts both CAs."""
    password: str = field(repr=False)
    """What mail programs log in with at a relay or proxy."""

    def access_token(self) -> str:
        """A token for the direct client, valid for the whole run."""
        return self.control.access_token("", self.world.client_id, resource=_RESOURCE)

    def lift_limits(self) -> None:
        """Count and enforce nothing, and start the counters anew."""
        self.control.reset()
        self.control.no_limits()

    def taken(self) -> int:
        """How many messages it has taken since `lift_limits`."""
        return self.control.counters().smtp.messages

    def enforce_connections(self, limit: int) -> None:
        """Answer messages over more than `limit` connections of a mailbox with 432, as Outlook does."""
        self.control.limits(connections_per_mailbox=limit)


@contextmanager
def upstream(directory: Path) -> Iterator[Upstream]:
    """Start the sandbox; it keeps of a message its size only."""
    ours = trustme.CA()
    leaf = ours.issue_cert("localhost", "127.0.0.1")
    cert, key = directory / "cert.pem", directory / "key.pem"
    cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    key.write_bytes(leaf.private_key_pem.bytes())
    with SandboxProcess(directory) as sandbox:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.load_verify_locations(sandbox.ca)
        ours.configure_trust(tls)
        yield Upstream(
            directory=directory,
            control=sandbox.control,
            world=sandbox.control.world(),
            port=sandbox.smtp_port,
            authority=sandbox.authority,
            ca=Path(sandbox.ca),
            cert=cert,
            key=key,
            tls=tls,
            password=secrets.token_urlsafe(16),
        )


@contextmanager
def distant(port: int, rtt: float) -> Iterator[int]:
    """Put `rtt` seconds of round-trip time before a port; the port to use instead is returned."""
    command = [sys.executable, "-m", "bench.distance", str(port), str(rtt)]
    with Popen(command, stdout=PIPE) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.terminate()
