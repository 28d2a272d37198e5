"""The certificate that clients see, and its renewal while the relay runs."""

import contextlib
import datetime
import os
import ssl
import tempfile
from pathlib import Path

import structlog

from relay_app.errors import CertificateError

_log = structlog.get_logger()

_SELF_SIGNED_DAYS = 3650
_SOON = datetime.timedelta(days=14)


class Certificate:
    """A certificate chain and key, as files, and the TLS context made of them.

    `context` is replaced as a whole, and only by one that has loaded: a bad pair loaded into a live context
    breaks it, and the next handshakes fail.

    Raises:
        CertificateError: the files cannot be served, at the first load.
    """

    def __init__(self, cert: Path, key: Path) -> None:
        self._cert = cert
        self._key = key
        self._seen = self._stamp()
        self.expires: datetime.datetime | None = None
        """When the certificate in use ends; None if that cannot be read."""
        self.problem = ""
        """Why the files as they are now cannot be used; "" if they can."""
        self.context = self._load()

    def refresh(self, *, force: bool = False) -> None:
        """Load the files again if they have changed, or if `force`. A bad pair is reported, not used."""
        stamp = self._stamp()
        if stamp == self._seen and not force:
            return
        self._seen = stamp
        try:
            self.context = self._load()
        except CertificateError as error:
            self.problem = str(error)
            _log.error("certificate_rejected", reason=str(error), consequence="the previous one stays in use")
        else:
            self.problem = ""
            _log.info("certificate_loaded", file=str(self._cert))

    def _stamp(self) -> tuple[object, ...]:
        stamps: list[object] = []
        for path in (self._cert, self._key):
            try:
                status = path.stat()
            except OSError as error:
                stamps.append(error.errno)
            else:
                stamps.append((status.st_ino, status.st_size, status.st_mtime_ns))
        return tuple(stamps)

    def _load(self) -> ssl.SSLContext:
        pem = _read("RELAY_TLS_CERT", self._cert)
        _read("RELAY_TLS_KEY", self._key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self._cert, self._key, password=_refuse_passphrase)
        except ssl.SSLError as error:
            raise CertificateError(_explain(error, self._cert, self._key)) from error
        except OSError as error:  # one of them is being replaced at this moment
            raise CertificateError(f"{self._cert} and {self._key} have just changed: {error}") from error
        self.expires = _check_dates(self._cert, pem)
        return context


def _read(setting: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(
            f"{setting}: cannot read {path}: {error.strerror}. Check the path, and that user "
            f"{os.getuid()} may read the file"
        ) from error


def self_signed(directory: Path, hostname: str, now: datetime.datetime) -> tuple[Path, Path]:
    """Return a self-signed certificate and key in `directory`, made there unless they exist.

    Raises:
        CertificateError: the directory cannot be written.
    """
    cert, key = directory / "self-signed.crt", directory / "self-signed.key"
    try:
        if not (cert.exists() and key.exists()):
            cert_pem, key_pem = _make_self_signed(hostname, now)
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(key, key_pem)
            _write(cert, cert_pem)
    except OSError as error:
        raise CertificateError(f"cannot write a certificate to {directory}: {error.strerror}") from error
    return cert, key


def _make_self_signed(hostname: str, now: datetime.datetime) -> tuple[bytes, bytes]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, hostname[:64])])
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=_SELF_SIGNED_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(hostname)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return (
        cert.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def _write(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise


def _refuse_passphrase() -> str:
    raise CertificateError(
        "RELAY_TLS_KEY: the key is protected by a passphrase, and nobody is here to type it. Remove the "
        "passphrase: openssl pkey -in encrypted.key -out plain.key"
    )


def _explain(error: ssl.SSLError, cert: Path, key: Path) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return (
            f"RELAY_TLS_KEY: {key} does not belong to the certificate {cert}. Give the key that the "
            "certificate was issued for"
        )
    if error.reason in {"EE_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"}:
        return f"RELAY_TLS_CERT: {cert} is too weak for TLS today ({error.reason}). Issue a new certificate"
    reason = error.reason or "no PEM data"
    return (
        f"RELAY_TLS_CERT, RELAY_TLS_KEY: {cert} and {key} cannot be loaded ({reason}). Both must be PEM "
        "files: the certificate with its chain, and its private key"
    )


def _check_dates(path: Path, pem: bytes) -> datetime.datetime | None:
    """Log what is wrong with a certificate's dates, and return when it ends."""
    from cryptography import x509

    try:
        cert = x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        _log.warning("certificate_unparsed", file=str(path), reason=str(error))
        return None
    now = datetime.datetime.now(datetime.UTC)
    ends = cert.not_valid_after_utc
    if ends < now:
        _log.error(
            "certificate_expired",
            file=str(path),
            since=ends.isoformat(),
            consequence="Gmail and others will refuse to connect. Renew it",
        )
    elif ends - now < _SOON and cert.issuer != cert.subject:
        _log.warning("certificate_expires_soon", file=str(path), expires=ends.isoformat())
    if cert.not_valid_before_utc > now:
        _log.error(
            "certificate_not_yet_valid",
            file=str(path),
            starts=cert.not_valid_before_utc.isoformat(),
            consequence="clients will refuse to connect. Check this machine's clock",
        )
    return ends
