"""Each way in which Entra can be told to fail."""

import time

import pytest
import requests

SCOPES = ["https://outlook.office365.com/.default"]


@pytest.fixture
def ask(sandbox, http, world):
    """Ask for an app-only token."""

    def send(timeout=20):
        return http.post(
            f"{sandbox.authority}/{world.tenant}/oauth2/v2.0/token",
            data={
                "grant_type": "client_credentials",
                "client_id": world.client_id,
                "client_secret": world.client_secret,
                "scope": SCOPES[0],
            },
            timeout=timeout,
        )

    return send


@pytest.mark.parametrize(
    ("number", "status", "error"),
    [
        (50076, 400, "interaction_required"),
        (7000222, 401, "invalid_client"),
        (70000, 400, "invalid_grant"),
        (70008, 400, "invalid_grant"),
        (70043, 400, "invalid_grant"),
        (700082, 400, "invalid_grant"),
        (50173, 400, "invalid_grant"),
        (50079, 400, "interaction_required"),
        (65001, 400, "invalid_grant"),
        (53003, 400, "access_denied"),
        (50126, 400, "invalid_grant"),
        (7000215, 401, "invalid_client"),
        (7000218, 401, "invalid_client"),
        (700025, 401, "invalid_client"),
        (700016, 400, "unauthorized_client"),
        (50194, 400, "invalid_request"),
        (9002332, 400, "invalid_request"),
        (90023, 400, "invalid_request"),
        (9001023, 400, "invalid_request"),
        (12345, 400, "invalid_request"),
    ],
)
def test_any_error_by_number(control, ask, number, status, error):
    control.fail_entra(aadsts=number)
    response = ask()
    assert (response.status_code, response.json()["error"], response.json()["error_codes"]) == (
        status,
        error,
        [number],
    )
    assert ask().status_code == 200


def test_error_and_status_of_ones_own(control, ask):
    control.fail_entra(aadsts=90033, error="server_error", status=500)
    response = ask()
    assert (response.status_code, response.json()["error"]) == (500, "server_error")


def test_too_many_requests(control, ask):
    control.fail_entra(status=429, retry_after=7, times=2)
    for _ in range(2):
        response = ask()
        assert (response.status_code, response.headers["Retry-After"]) == (429, "7")
    assert ask().status_code == 200


def test_service_unavailable_is_not_json(control, ask):
    control.fail_entra(status=503)
    response = ask()
    assert (response.status_code, response.headers["Content-Type"]) == (503, "text/html; charset=utf-8")


def test_times_zero_lasts_until_cleared(control, ask):
    control.fail_entra(status=503, times=0)
    assert [ask().status_code for _ in range(3)] == [503] * 3
    control.clear_faults()
    assert ask().status_code == 200


def test_stall(control, ask):
    control.fail_entra(stall=60)
    with pytest.raises(requests.ReadTimeout):
        ask(timeout=0.1)


def test_short_stall_then_the_answer(control, ask):
    control.fail_entra(stall=0.05)
    begun = time.monotonic()
    assert ask().status_code == 200
    assert time.monotonic() - begun >= 0.05  # a slow machine only makes it longer


def test_drop(control, ask):
    control.fail_entra(drop=True)
    with pytest.raises(requests.ConnectionError):
        ask()


def test_expires_in(control, confidential, world):
    control.fail_entra(expires_in=2)
    assert confidential(world.tenant).acquire_token_for_client(SCOPES)["expires_in"] == 2
    control.limits(expires_in=77)
    assert confidential(world.tenant).acquire_token_for_client(SCOPES)["expires_in"] == 77


def test_only_for_one_app(control, ask, world):
    control.fail_entra(status=503, client_id=world.public_client_id)
    assert ask().status_code == 200
    control.fail_entra(status=503, client_id=world.client_id)
    assert ask().status_code == 503


def test_skip(control, ask):
    control.fail_entra(status=503, skip=1)
    assert [ask().status_code for _ in range(3)] == [200, 503, 200]


def test_discovery_and_device_authorization(sandbox, http, control):
    control.fail_entra("discovery", status=503)
    control.fail_entra("devicecode", aadsts=50058)
    url = f"{sandbox.authority}/common/v2.0/.well-known/openid-configuration"
    assert [http.get(url, timeout=20).status_code for _ in range(2)] == [503, 200]
    answer = http.post(f"{sandbox.authority}/common/oauth2/v2.0/devicecode", timeout=20)
    assert answer.json()["error"] == "interaction_required"


@pytest.mark.parametrize("kind", ["wrong_name", "self_signed", "expired"])
def test_certificates(sandbox, control, kind):
    control.certificate(kind, service="entra")
    url = f"{sandbox.authority}/common/v2.0/.well-known/openid-configuration"
    with requests.Session() as session:
        session.trust_env = False
        session.verify = sandbox.ca
        with pytest.raises(requests.exceptions.SSLError):
            session.get(url, timeout=20)
        control.certificate("good", service="entra")
        assert session.get(url, timeout=20).status_code == 200


def test_counters(control, ask):
    control.fail_entra(status=503)
    ask()
    ask()
    counts = control.counters().entra
    assert (counts.token_requests, counts.tokens_granted) == (2, 1)
    assert counts.by_grant == {"client_credentials": 2}
    assert (counts.in_flight, counts.in_flight_peak) == (0, 1)
