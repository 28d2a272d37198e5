"""What an app proves itself with, and what is said about files that prove nothing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from relay_app.errors import TokenError
from relay_app.identity.credential import credential, read_certificate
from relay_app.settings import Flow, MailboxSettings

PUBLIC = MailboxSettings("me@outlook.com", Flow.AUTHORIZATION_CODE, "consumers", "app")


@pytest.fixture
def with_pair(key_pair: tuple[Path, Path], tmp_path: Path) -> MailboxSettings:
    """An app with a certificate; the files may be changed."""
    paths = []
    for source in key_pair:
        paths.append(tmp_path / source.name)
        paths[-1].write_bytes(source.read_bytes())
    return replace(PUBLIC, client_cert=paths[0], client_key=paths[1])


def refused(mailbox: MailboxSettings) -> str:
    with pytest.raises(TokenError) as caught:
        credential(mailbox)
    assert not caught.value.temporary
    assert "RELAY_CLIENT_CERT" in caught.value.action
    return caught.value.sentence


def test_a_public_client_has_none() -> None:
    assert credential(PUBLIC) is None


def test_a_secret() -> None:
    assert credential(replace(PUBLIC, client_secret="s" * 12)) == "s" * 12


def test_a_certificate_and_its_key(with_pair: Any) -> None:
    found = credential(with_pair)
    assert found == {
        "private_key": with_pair.client_key.read_text(),
        "public_certificate": with_pair.client_cert.read_text(),
    }


def test_a_renewed_certificate_is_another_credential(with_pair: Any, pair_for: Callable[..., Any]) -> None:
    before = credential(with_pair)
    pair_for(with_pair.client_cert.parent, rsa.generate_private_key(65537, 2048))
    assert credential(with_pair) != before


@pytest.mark.parametrize("which", ["client_cert", "client_key"])
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, r"cannot be read (No such file or directory)"),
        (b"\xff\xfe", "not a text file in PEM format"),
        (b"nothing", "in PEM format"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "in PEM format"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    with_pair: Any, which: str, content: bytes | None, why: str
) -> None:
    path = getattr(with_pair, which)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    sentence = refused(with_pair)
    assert str(path) in sentence
    assert why in sentence


def test_a_key_with_a_password(with_pair: Any) -> None:
    key = rsa.generate_private_key(65537, 2048)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    with_pair.client_key.write_bytes(locked)
    assert "protected by a password" in refused(with_pair)


def test_a_key_that_is_not_rsa(with_pair: Any, pair_for: Callable[..., Any]) -> None:
    pair_for(with_pair.client_cert.parent, ec.generate_private_key(ec.SECP256R1()))
    assert "not an RSA key" in refused(with_pair)


def test_a_key_of_another_certificate(with_pair: Any, pair_for: Callable[..., Any], tmp_path: Path) -> None:
    _, other = pair_for(tmp_path / "other", rsa.generate_private_key(65537, 2048))
    sentence = refused(replace(with_pair, client_key=other))
    assert f"does not belong to the certificate {with_pair.client_cert}" in sentence


def test_no_key_is_ever_quoted(with_pair: Any) -> None:
    text = with_pair.client_key.read_text()
    with_pair.client_key.write_text(text.replace("PRIVATE KEY", "SECRET KEY"))
    assert text.splitlines()[1] not in refused(with_pair)


def test_the_first_certificate_of_a_file(key_pair: tuple[Path, Path]) -> None:
    assert read_certificate(key_pair[0]).subject.rfc4514_string() == "CN=relay"
