"""Entra's errors: OAuth error, AADSTS number, wording and HTTP status.

Source: `learn.microsoft.com/entra/identity-platform/reference-error-codes`, and what the service answers.
"""

import datetime as dt
import uuid
from typing import Any


class EntraError(Exception):
    """What a request is refused with: RFC 6749 5.2 with Entra's additions."""

    def __init__(self, error: str, code: int, text: str, *, status: int = 400, suberror: str = "") -> None:
        self.error = error
        self.code = code
        self.text = text
        self.status = status
        self.suberror = suberror
        super().__init__(f"AADSTS{code}: {text}")

    def body(self, now: float) -> dict[str, Any]:
        """The JSON that Entra sends. `now` is in seconds since the epoch."""
        stamp = dt.datetime.fromtimestamp(now, dt.UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        trace, correlation = str(uuid.uuid4()), str(uuid.uuid4())
        body: dict[str, Any] = {
            "error": self.error,
            "error_description": f"AADSTS{self.code}: {self.text} Trace ID: {trace} "
            f"Correlation ID: {correlation} Timestamp: {stamp}",
            "error_codes": [self.code],
            "timestamp": stamp,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": f"https://login.microsoftonline.com/error?code={self.code}",
        }
        if self.suberror:
            body["suberror"] = self.suberror
        return body


def wrong_secret(client_id: str) -> EntraError:
    return EntraError(
        "invalid_client",
        7000215,
        "Invalid client secret provided. Ensure the secret being sent in the request is the client secret "
        f"value, not the client secret ID, for a secret added to app '{client_id}'.",
        status=401,
    )


def expired_secret(client_id: str) -> EntraError:
    return EntraError(
        "invalid_client",
        7000222,
        f"The provided client secret keys for app '{client_id}' are expired. Visit the Azure portal to "
        "create new keys for your app: https://aka.ms/NewClientSecret, or consider using certificate "
        "credentials for added security: https://aka.ms/certCreds.",
        status=401,
    )


def missing_secret() -> EntraError:
    return EntraError(
        "invalid_client",
        7000218,
        "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
        status=401,
    )


def public_client_with_secret() -> EntraError:
    return EntraError(
        "invalid_client",
        700025,
        "Client is public so neither 'client_assertion' nor 'client_secret' should be presented.",
        status=401,
    )


def public_client_alone() -> EntraError:
    return EntraError(
        "invalid_client",
        7000216,
        "'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant "
        "type.",
        status=401,
    )


def unknown_app(client_id: str, tenant: str) -> EntraError:
    return EntraError(
        "unauthorized_client",
        700016,
        f"Application with identifier '{client_id}' was not found in the directory '{tenant}'. This can "
        "happen if the application has not been installed by the administrator of the tenant or consented "
        "to by any user in the tenant. You may have sent your authentication request to the wrong tenant.",
    )


def unknown_tenant(tenant: str) -> EntraError:
    return EntraError(
        "invalid_request",
        90002,
        f"Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing "
        "into the correct cloud. Check with your subscription administrator, this may happen if there are "
        "no active subscriptions for the tenant.",
    )


def single_tenant_app(client_id: str, name: str) -> EntraError:
    return EntraError(
        "invalid_request",
        50194,
        f"Application '{client_id}'({name}) is not configured as a multi-tenant application. Usage of the "
        "/common endpoint is not supported for such apps created after '10/15/2018'. Use a tenant-specific "
        "endpoint or configure the application to be multi-tenant.",
    )


def work_only_app(client_id: str, name: str) -> EntraError:
    return EntraError(
        "invalid_request",
        9002332,
        f"Application '{client_id}'({name}) is configured for use by Azure Active Directory users only. "
        "Please do not use the /consumers endpoint to serve this request.",
    )


def personal_only_app(client_id: str, name: str) -> EntraError:
    return EntraError(
        "invalid_request",
        9002331,
        f"Application '{client_id}'({name}) is configured for use by Microsoft Account users only. Please "
        "use the /consumers endpoint to serve this request.",
    )


def foreign_account(address: str, tenant: str) -> EntraError:
    return EntraError(
        "invalid_grant",
        50020,
        f"User account '{address}' from identity provider 'live.com' does not exist in tenant '{tenant}' and "
        "cannot access the application in that tenant. The account needs to be added as an external user in "
        "the tenant first. Sign out and sign in again with a different Azure Active Directory user account.",
    )


def app_only_on_shared_endpoint() -> EntraError:
    return EntraError(
        "invalid_request",
        9001023,
        "The grant type 'client_credentials' isn't supported over the /common or /consumers endpoints. "
        "Please use the /organizations or tenant-specific endpoint.",
    )


def bad_scope(scope: str) -> EntraError:
    return EntraError(
        "invalid_scope",
        70011,
        "The provided request must include a 'scope' input parameter. The provided value for the input "
        f"parameter 'scope' is not valid. The scope {scope} is not valid.",
    )


def bad_resource_for_personal() -> EntraError:
    return EntraError(
        "invalid_scope",
        70011,
        "The provided resource value for the input parameter 'scope' is not valid.",
    )


def several_resources(scope: str) -> EntraError:
    return EntraError(
        "invalid_request",
        28000,
        "Provided value for the input parameter scope is not valid because it contains more than one "
        f"resource. Scope {scope} is not valid.",
    )


def not_default_scope(scope: str) -> EntraError:
    return EntraError(
        "invalid_scope",
        1002012,
        f"The provided value for scope {scope} is not valid. Client credential flows must have a scope value "
        "with /.default suffixed to the resource identifier (application ID URI).",
    )


def unknown_resource(resource: str, tenant: str) -> EntraError:
    return EntraError(
        "invalid_resource",
        500011,
        f"The resource principal named {resource} was not found in the tenant named {tenant}. This can "
        "happen if the application has not been installed by the administrator of the tenant or consented "
        "to by any user in the tenant. You might have sent your authentication request to the wrong tenant.",
    )


def not_consented(client_id: str, name: str, *, personal: bool) -> EntraError:
    if personal:
        return EntraError(
            "invalid_grant",
            70000,
            "The request was denied because one or more scopes requested are unauthorized or expired. The "
            "user must first sign in and grant the client application access to the requested scope.",
        )
    return EntraError(
        "invalid_grant",
        65001,
        f"The user or administrator has not consented to use the application with ID '{client_id}' named "
        f"'{name}'. Send an interactive authorization request for this user and resource.",
        suberror="consent_required",
    )


def missing_parameter(name: str) -> EntraError:
    return EntraError(
        "invalid_request", 900144, f"The request body must contain the following parameter: '{name}'."
    )


def unknown_grant_type(grant: str) -> EntraError:
    return EntraError(
        "unsupported_grant_type", 70003, f"The app requested an unsupported grant type '{grant}'."
    )


def unknown_grant(parameter: str) -> EntraError:
    return EntraError(
        "invalid_grant",
        70000,
        f"The provided value for the input parameter '{parameter}' or 'assertion' is not valid.",
    )


def idle_refresh_token(issued: str, idle_seconds: int) -> EntraError:
    days, rest = divmod(idle_seconds, 86_400)
    idle = f"{days}.{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return EntraError(
        "invalid_grant",
        700082,
        f"The refresh token has expired due to inactivity. The token was issued on {issued} and was inactive "
        f"for {idle}.",
    )


def revoked_grant(issued: str, valid_from: str) -> EntraError:
    return EntraError(
        "invalid_grant",
        50173,
        "The provided grant has expired due to it being revoked, a fresh auth token is needed. The user "
        f"might have changed or reset their password. The grant was issued on '{issued}' and the "
        f"TokensValidFrom date (before which tokens are not valid) for this user is '{valid_from}'.",
        suberror="bad_token",
    )


def code_redeemed() -> EntraError:
    return EntraError(
        "invalid_grant",
        54005,
        "OAuth2 Authorization code was already redeemed, please retry with a new valid code or use an "
        "existing refresh token.",
    )


def code_expired() -> EntraError:
    return EntraError(
        "invalid_grant",
        70008,
        "The provided authorization code or refresh token has expired due to inactivity. Send a new "
        "interactive authorization request for this user and resource.",
    )


def wrong_redirect(sent: str, expected: str) -> EntraError:
    return EntraError(
        "invalid_client",
        500112,
        f"The reply address '{sent}' does not match the reply address '{expected}' provided when requesting "
        "Authorization code.",
    )


def unregistered_redirect(sent: str, client_id: str) -> EntraError:
    return EntraError(
        "invalid_request",
        50011,
        f"The redirect URI '{sent}' specified in the request does not match the redirect URIs configured for "
        f"the application '{client_id}'. Make sure the redirect URI sent in the request matches one added to "
        "your application in the Azure portal. Navigate to https://aka.ms/redirectUriMismatchError to learn "
        "more about how to troubleshoot this error.",
    )


def wrong_verifier() -> EntraError:
    return EntraError(
        "invalid_grant",
        501481,
        "The Code_Verifier does not match the code_challenge supplied in the authorization request.",
    )


def authorization_pending() -> EntraError:
    return EntraError(
        "authorization_pending",
        70016,
        "OAuth 2.0 device flow error. Authorization is pending. Continue polling.",
    )


def authorization_declined() -> EntraError:
    return EntraError("authorization_declined", 70018, "User declined to grant the device access.")


def device_code_expired() -> EntraError:
    return EntraError(
        "expired_token", 70020, "The provided value for the input parameter 'device_code' expired."
    )


def bad_device_code() -> EntraError:
    return EntraError(
        "bad_verification_code",
        70019,
        "The provided value for the input parameter 'device_code' is not valid. This device code has "
        "expired.",
    )


OAUTH_ERRORS = {
    70000: "invalid_grant",
    70008: "invalid_grant",
    70011: "invalid_scope",
    70043: "invalid_grant",
    700082: "invalid_grant",
    50173: "invalid_grant",
    50076: "interaction_required",
    50079: "interaction_required",
    50126: "invalid_grant",
    50194: "invalid_request",
    53000: "interaction_required",
    53003: "access_denied",
    530035: "access_denied",
    65001: "invalid_grant",
    7000215: "invalid_client",
    7000218: "invalid_client",
    7000222: "invalid_client",
    700016: "unauthorized_client",
    700025: "invalid_client",
    90002: "invalid_request",
    9001023: "invalid_request",
    9002332: "invalid_request",
    50196: "invalid_grant",
    90033: "temporarily_unavailable",
    50058: "interaction_required",
}
"""AADSTS number -> OAuth error, for errors that a fault asks for by number."""
