"""A certificate is renewed: the relay shows the new one, and goes on running."""

from __future__ import annotations

from harness.certificates import Authority
from harness.programs import wait_until


def test_a_renewed_certificate_is_shown_without_a_restart(relay, deploy, goes_out, tmp_path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue(directory=tmp_path / "pair")
    files = {"relay_tls_certificate": str(pair.cert), "relay_tls_private_key": str(pair.key)}
    assert deploy(**files).refusal() == ""
    assert relay.certificate() in pair.cert.read_text()
    goes_out(issuer=authority.bundle)

    before = relay.started
    authority.issue(directory=tmp_path / "pair")
    assert deploy(**files).changed == ["relay : Files | Write the certificate"]
    wait_until(lambda: relay.certificate() in pair.cert.read_text(), "it shows the new certificate")
    assert relay.started == before
    goes_out(issuer=authority.bundle)

    assert deploy().refusal() == ""
    assert relay.certificate() not in pair.cert.read_text()
