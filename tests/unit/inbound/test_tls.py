import contextlib
import datetime
import os
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from relay_app.errors import CertificateError
from relay_app.inbound import tls
from relay_app.inbound.tls import Certificate, self_signed

HOSTNAME = "relay.example.org"
NOW = datetime.datetime.now(datetime.UTC)


@pytest.fixture
def issue(authority, tmp_path):
    """Issue a certificate and return its two PEMs."""

    def issue_one(**kwargs):
        issued = authority.issue_cert(HOSTNAME, **kwargs)
        return b"".join(pem.bytes() for pem in issued.cert_chain_pems), issued.private_key_pem.bytes()

    return issue_one


@pytest.fixture
def files(tmp_path):
    return tmp_path / "cert.pem", tmp_path / "key.pem"


@pytest.fixture
def put(files):
    def put_both(pems):
        for file, pem in zip(files, pems, strict=True):
            file.write_bytes(pem)

    return put_both


@pytest.fixture
def certificate(files, put, issue):
    put(issue())
    return Certificate(*files)


def served(context):
    """The certificate that a client gets: a handshake in memory."""
    client_side, server_side = (ssl.MemoryBIO(), ssl.MemoryBIO()), (ssl.MemoryBIO(), ssl.MemoryBIO())
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    client = trusting.wrap_bio(*client_side)
    server = context.wrap_bio(*server_side, server_side=True)
    for _ in range(5):
        for end in (client, server):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
            server_side[0].write(client_side[1].read())
            client_side[0].write(server_side[1].read())
    return client.getpeercert(binary_form=True)


def der(pem):
    return x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)


def test_tls_before_1_2_is_not_spoken(certificate):
    assert certificate.context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_renewed_pair_is_taken(certificate, files, put, issue, events):
    renewed = issue()
    put(renewed)
    certificate.refresh()
    assert served(certificate.context) == der(renewed[0])
    assert events("certificate_loaded") == [
        {"event": "certificate_loaded", "log_level": "info", "file": str(files[0])}
    ]


def test_an_unchanged_pair_is_left_alone(certificate, events):
    context = certificate.context
    certificate.refresh()
    assert certificate.context is context
    assert events("certificate_loaded") == []


def test_force_loads_an_unchanged_pair(certificate):
    context = certificate.context
    certificate.refresh(force=True)
    assert certificate.context is not context


def test_a_symlink_that_points_elsewhere_is_a_change(tmp_path, put, issue, files):
    for generation in ("one", "two"):
        directory = tmp_path / generation
        directory.mkdir()
        cert, key = issue()
        (directory / "cert.pem").write_bytes(cert)
        (directory / "key.pem").write_bytes(key)
    live = tmp_path / "live"
    live.symlink_to("one")
    certificate = Certificate(live / "cert.pem", live / "key.pem")
    new = tmp_path / "new"
    new.symlink_to("two")
    new.replace(live)
    certificate.refresh()
    assert served(certificate.context) == der((tmp_path / "two/cert.pem").read_bytes())


def truncated(pems):
    return pems[0][: len(pems[0]) // 3], pems[1]


def no_cert(pems):
    return b"", pems[1]


def garbage(pems):
    return b"\x00\xff garbage", b"garbage"


def swapped(pems):
    return pems[1], pems[0]


def half_a_key(pems):
    return pems[0], pems[1][: len(pems[1]) // 2]


@pytest.mark.parametrize("spoil", [truncated, no_cert, garbage, swapped, half_a_key])
def test_a_bad_pair_never_replaces_a_good_one(certificate, put, issue, events, spoil):
    good = served(certificate.context)
    put(spoil(issue()))
    certificate.refresh()
    assert served(certificate.context) == good
    [event] = events("certificate_rejected")
    assert event["log_level"] == "error"
    assert event["reason"].startswith("RELAY_TLS_CERT, RELAY_TLS_KEY: ")
    assert event["consequence"] == "the previous one stays in use"


def test_a_key_of_another_certificate(certificate, put, issue, events):
    good = served(certificate.context)
    put((issue()[0], issue()[1]))
    certificate.refresh()
    assert served(certificate.context) == good
    assert "does not belong to the certificate" in events("certificate_rejected")[0]["reason"]


def test_a_pair_written_one_file_after_the_other(certificate, files, issue, events):
    renewed = issue()
    good = served(certificate.context)
    files[0].write_bytes(renewed[0])
    certificate.refresh()
    assert served(certificate.context) == good
    files[1].write_bytes(renewed[1])
    certificate.refresh()
    assert served(certificate.context) == der(renewed[0])


def test_a_bad_pair_is_reported_once(certificate, put, events):
    put((b"", b""))
    certificate.refresh()
    certificate.refresh()
    assert len(events("certificate_rejected")) == 1


def test_a_file_that_is_gone(certificate, files, events):
    good = served(certificate.context)
    files[1].unlink()
    certificate.refresh()
    assert served(certificate.context) == good
    assert "RELAY_TLS_KEY: cannot read" in events("certificate_rejected")[0]["reason"]


def test_a_file_that_vanishes_between_two_looks(certificate, files, events, monkeypatch):
    """An exception here would end the watch for renewals."""
    read = Path.read_bytes

    def read_and_remove(path):
        content = read(path)
        path.unlink()
        return content

    monkeypatch.setattr(Path, "read_bytes", read_and_remove)
    context = certificate.context
    certificate.refresh(force=True)
    assert certificate.context is context
    assert "have just changed" in events("certificate_rejected")[0]["reason"]


@pytest.mark.parametrize(("missing", "setting"), [(0, "RELAY_TLS_CERT"), (1, "RELAY_TLS_KEY")])
def test_a_missing_file_at_the_start(files, put, issue, missing, setting):
    put(issue())
    files[missing].unlink()
    expected = rf"^{setting}: cannot read {files[missing]}: No such file .* user {os.getuid()} "
    with pytest.raises(CertificateError, match=expected):
        Certificate(*files)


def test_a_directory_instead_of_a_file(files, put, issue):
    put(issue())
    files[0].unlink()
    files[0].mkdir()
    with pytest.raises(CertificateError, match=r"RELAY_TLS_CERT: cannot read .*: Is a directory"):
        Certificate(*files)


def test_a_key_with_a_passphrase(files, put, issue):
    cert, key = issue()
    locked = serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(os.urandom(8).hex().encode()),
    )
    put((cert, locked))
    with pytest.raises(CertificateError, match=r"passphrase.*openssl pkey"):
        Certificate(*files)


def test_a_key_that_is_too_weak(files, put, authority):
    key = rsa.generate_private_key(65537, 1024)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOSTNAME)])
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + datetime.timedelta(days=90))
        .sign(key, hashes.SHA256())
    )
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    put((cert.public_bytes(pem), key.private_bytes(pem, pkcs8, serialization.NoEncryption())))
    with pytest.raises(CertificateError, match=r"is too weak for TLS today \(EE_KEY_TOO_SMALL\)"):
        Certificate(*files)


def test_an_expired_certificate_is_served_with_an_error_in_the_log(files, put, issue, events):
    ended = NOW - datetime.timedelta(days=1)
    pems = issue(not_after=ended)
    put(pems)
    assert served(Certificate(*files).context) == der(pems[0])
    [event] = events("certificate_expired")
    assert event["log_level"] == "error"
    assert event["since"] == ended.replace(microsecond=0).isoformat()


def test_a_certificate_that_ends_soon(files, put, issue, events):
    put(issue(not_after=NOW + datetime.timedelta(days=13)))
    Certificate(*files)
    assert [event["log_level"] for event in events("certificate_expires_soon")] == ["warning"]


def test_a_certificate_of_tomorrow(files, put, issue, events):
    put(issue(not_before=NOW + datetime.timedelta(days=1), not_after=NOW + datetime.timedelta(days=90)))
    Certificate(*files)
    [event] = events("certificate_not_yet_valid")
    assert "clock" in event["consequence"]


def test_a_good_certificate_is_nothing_to_log(certificate, log):
    assert log.entries == []


def test_a_certificate_that_only_openssl_understands_is_served(files, put, issue, events, monkeypatch):
    put(issue())

    def refuse(_pem):
        raise ValueError("odd")

    monkeypatch.setattr(x509, "load_pem_x509_certificate", refuse)
    assert served(Certificate(*files).context)
    assert [event["reason"] for event in events("certificate_unparsed")] == ["odd"]


async def test_a_certificate_is_renewed_between_two_connections(start, files, put, issue):
    first, second = issue(), issue()
    put(first)
    certificate = Certificate(*files)
    relay = await start(certificate=certificate)

    async def seen():
        client = await relay.connect()
        await client.ehlo()
        await client.start_tls()
        return client, client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)

    client, one = await seen()
    put((b"garbage", second[1]))
    certificate.refresh()
    _, still_one = await seen()
    put(second)
    certificate.refresh()
    _, two = await seen()
    assert (one, still_one, two) == (der(first[0]), der(first[0]), der(second[0]))
    assert (await client.ask("NOOP"))[0] == 250  # the connections of before go on


def test_self_signed(tmp_path, events):
    directory = tmp_path / "data" / "tls"
    cert, key = self_signed(directory, HOSTNAME, NOW)
    parsed = x509.load_pem_x509_certificate(cert.read_bytes())
    names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [HOSTNAME]
    assert key.stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == 0o700
    assert served(Certificate(cert, key).context) == der(cert.read_bytes())
    assert events("certificate_expires_soon") == []


def test_self_signed_is_made_once(tmp_path):
    cert, key = self_signed(tmp_path, HOSTNAME, NOW)
    before = cert.read_bytes(), key.read_bytes()
    assert self_signed(tmp_path, HOSTNAME, NOW) == (cert, key)
    assert (cert.read_bytes(), key.read_bytes()) == before


def test_self_signed_is_made_again_when_half_of_it_is_gone(tmp_path):
    cert, key = self_signed(tmp_path, HOSTNAME, NOW)
    key.unlink()
    self_signed(tmp_path, HOSTNAME, NOW)
    Certificate(cert, key)


def test_self_signed_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CertificateError, match=rf"cannot write a certificate to {tmp_path}/file/tls"):
        self_signed(tmp_path / "file" / "tls", HOSTNAME, NOW)


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tls.os, "fsync", full)
    with pytest.raises(CertificateError, match="No space left on device"):
        self_signed(tmp_path, HOSTNAME, NOW)
    assert list(tmp_path.iterdir()) == []
