"""Certificates instead of secrets: MSAL's assertions, and assertions that prove nothing."""

import datetime as dt
import time

import jwt
import msal
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from sandbox.client import SandboxError

SCOPE = "https://outlook.office365.com/.default"
PEM = serialization.Encoding.PEM


def make_pair(*, days=90, key=None):
    """A key and a self-signed certificate, both PEM, and the certificate itself."""
    key = key or rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "relay")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=365))
        .not_valid_after(now + dt.timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private.decode(), certificate.public_bytes(PEM).decode(), certificate


@pytest.fixture(scope="module")
def pair():
    return make_pair()


@pytest.fixture
def app(control, pair):
    """An app that has a certificate and no secret."""
    return control.add_app(certificate=pair[1], roles=("SMTP.SendAsApp",))


@pytest.fixture
def send(sandbox, http, world, app, pair):
    """Ask for an app-only token with an assertion; claims, header and key can be changed."""

    def ask(*, key="", tenant="", header=None, kind=None, raw="", client_id="", **claims):
        url = f"{sandbox.authority}/{tenant or world.tenant}/oauth2/v2.0/token"
        now = time.time()
        good = {"aud": url, "iss": app.client_id, "sub": app.client_id, "nbf": now, "exp": now + 600}
        claims = {name: value for name, value in (good | claims).items() if value is not None}
        if header is None:
            header = {"x5t#S256": _thumbprint(pair[2], hashes.SHA256())}
        form = {
            "grant_type": "client_credentials",
            "client_id": client_id or app.client_id,
            "scope": SCOPE,
            "client_assertion_type": kind or "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": raw or jwt.encode(claims, key or pair[0], "PS256", header),
        }
        response = http.post(url, data=form, timeout=20)
        return response.status_code, response.json()

    return ask


def _thumbprint(certificate, algorithm):
    return jwt.utils.base64url_encode(certificate.fingerprint(algorithm)).decode()


def refusal(answer):
    status, body = answer
    return status, body["error"], *body["error_codes"]


def test_msal(sandbox, http, world, app, pair):
    assert app.client_secret == ""
    client = msal.ConfidentialClientApplication(
        app.client_id,
        client_credential={"private_key": pair[0], "public_certificate": pair[1]},
        authority=f"{sandbox.authority}/{world.tenant}",
        http_client=http,
        instance_discovery=False,
    )
    assert "access_token" in client.acquire_token_for_client([SCOPE])


def test_good_assertions(send, pair, sandbox, world):
    assert send()[0] == 200
    assert send(header={"x5t": _thumbprint(pair[2], hashes.SHA1())})[0] == 200
    assert send(aud=f"{sandbox.authority}/{world.tenant}/v2.0")[0] == 200
    assert send(exp=time.time() - 60)[0] == 200  # clocks differ a little


@pytest.mark.parametrize(
    ("changes", "number"),
    [
        ({"header": {}}, 700027),
        ({"header": {"x5t": "other"}}, 700027),
        ({"header": {"x5t#S256": "\u00e4"}}, 700027),
        ({"exp": None}, 700027),
        ({"exp": time.time() - 7200}, 700024),
        ({"nbf": time.time() + 7200}, 700024),
        ({"aud": "https://localhost/token"}, 700023),
        ({"iss": "somebody"}, 700021),
        ({"sub": "somebody"}, 700021),
        ({"raw": "not a token"}, 50027),
        ({"kind": "urn:other"}, 7000218),
    ],
)
def test_assertions_that_prove_nothing(send, changes, number):
    assert refusal(send(**changes)) == (401, "invalid_client", number)


def test_signed_with_another_key(send):
    assert refusal(send(key=make_pair()[0])) == (401, "invalid_client", 700027)


def test_public_client(send, world):
    assert refusal(send(client_id=world.public_client_id)) == (401, "invalid_client", 700025)


def test_expired_certificate(send, control):
    control.advance_clock(91 * 86_400)
    answer = send()
    assert refusal(answer) == (401, "invalid_client", 700027)
    assert "The key used is expired" in answer[1]["error_description"]


def test_a_second_certificate(send, control, app, pair):
    key, pem, certificate = make_pair()
    control.add_certificate(app.client_id, pem)
    assert send(key=key, header={"x5t#S256": _thumbprint(certificate, hashes.SHA256())})[0] == 200
    assert send()[0] == 200


def test_only_rsa(control, app):
    with pytest.raises(SandboxError, match="RSA key only"):
        control.add_certificate(app.client_id, make_pair(key=ec.generate_private_key(ec.SECP256R1()))[1])
