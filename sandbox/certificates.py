"""A certificate authority of our own, and the certificates that the servers show."""

import datetime as dt
import ipaddress
import ssl
from collections.abc import Sequence
from functools import cache

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

KINDS = ("good", "wrong_name", "self_signed", "expired")
_NAMES = ("localhost", "127.0.0.1", "::1")


class Certificates:
    """Server-side TLS contexts by kind: `good`, `wrong_name`, `self_signed`, `expired`.

    All but `self_signed` are issued by the CA. All but `wrong_name` are for localhost and `names`.
    """

    def __init__(self, ca: trustme.CA, names: Sequence[str] = ()) -> None:
        self._ca = ca
        self._names = (*_NAMES, *names)
        self.context = cache(self._make_context)

    @property
    def ca_pem(self) -> str:
        """The CA's certificate."""
        return self._ca.cert_pem.bytes().decode()

    def listener(self) -> "ListenerTls":
        """A context for a listener that speaks TLS from the first octet."""
        return ListenerTls(self)

    def _make_context(self, kind: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._leaf(kind).configure_cert(context)
        return context

    def _leaf(self, kind: str) -> trustme.LeafCert:
        match kind:
            case "good":
                return self._ca.issue_cert(*self._names)
            case "wrong_name":
                return self._ca.issue_cert("mail.example.org")
            case "self_signed":
                return _self_signed()
            case "expired":
                then = dt.datetime.now(dt.UTC).replace(tzinfo=None) - dt.timedelta(days=1)
                return self._ca.issue_cert(
                    *self._names, not_before=then - dt.timedelta(days=90), not_after=then
                )
        raise ValueError(f"There is no certificate {kind!r}.")


class ListenerTls:
    """A listener's TLS: `context` to listen with, `kind` to pick what the next handshake shows."""

    def __init__(self, certificates: Certificates) -> None:
        self.kind = "good"
        self._certificates = certificates
        self.context = certificates._make_context("good")
        self.context.sni_callback = self._pick

    def _pick(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        if self.kind != "good":
            connection.context = self._certificates.context(self.kind)


def _self_signed() -> trustme.LeafCert:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    addresses = [x509.IPAddress(ipaddress.ip_address(text)) for text in _NAMES[1:]]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=90))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost"), *addresses]), critical=False)
        .sign(key, hashes.SHA256())
    )
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return trustme.LeafCert(key_pem, certificate.public_bytes(serialization.Encoding.PEM), [])
