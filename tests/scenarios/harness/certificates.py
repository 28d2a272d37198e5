"""Certificates from an authority that exists for one test run."""

import datetime
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Pair:
    """A certificate chain and its private key, as PEM files."""

    cert: Path
    key: Path


class Authority:
    """A certificate authority; `bundle` is the PEM file that trusts it."""

    def __init__(self, directory: Path) -> None:
        self._ca = trustme.CA()
        self._directory = directory
        self._issued = 0
        self.bundle = directory / "authority.pem"
        self._ca.cert_pem.write_to_path(self.bundle)

    def issue(self, *, directory: Path | None = None, ends: datetime.datetime | None = None) -> Pair:
        """Issue a certificate for this machine, over the pair in `directory` if that is given.

        `ends`: when it runs out (UTC, without a time zone); far away if not given.
        """
        starts = ends - datetime.timedelta(days=90) if ends is not None else None
        issued = self._ca.issue_cert("localhost", "127.0.0.1", "::1", not_before=starts, not_after=ends)
        if directory is None:
            self._issued += 1
            directory = self._directory / f"pair{self._issued}"
        directory.mkdir(exist_ok=True)
        pair = Pair(directory / "cert.pem", directory / "key.pem")
        pair.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        pair.key.write_bytes(issued.private_key_pem.bytes())
        return pair
