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


def malformed_assertion() -> EntraError:
    return EntraError("invalid_client", 50027, "JWT token is invalid or malformed.", status=401)


def bad_assertion(client_id: str, reason: str) -> EntraError:
    return EntraError(
        "invalid_client",
        700027,
        "The certificate with identifier used to sign the client assertion is not registered on application, "
        f"or the assertion contains an invalid signature. [Reason - {reason}] The application is "
        f"'{client_id}'.",
        status=401,
    )


def assertion_out_of_time(now: float) -> EntraError:
    stamp = dt.datetime.fromtimestamp(now, dt.UTC).isoformat(timespec="seconds")
    return EntraError(
        "invalid_client",
        700024,
        f"Client assertion is not within its valid time range. Current time: {stamp}.",
        status=401,
    )


def assertion_for_another() -> EntraError:
    return EntraError(
        "invalid_client", 700023, "Client assertion audience claim does not match Realm issuer.", status=401
    )


def assertion_of_another(client_id: str) -> EntraError:
    return EntraError(
        "invalid_client",
        700021,
        f"Client assertion application identifier doesn't match 'client_id' parameter '{client_id}'.",
        status=401,
    )


def unknown_account(address: str, tenant: str) -> EntraError:
    return EntraError(
        "invalid_grant",
        50034,
        f"The user account {address} does not exist in the {tenant} directory. To sign into this "
        "application, the account must be added to the directory.",
    )


def work_account_at_consumers(address: str) -> EntraError:
    return EntraError(
        "invalid_grant",
        50020,
        f"You can't sign in here with the work or school account '{address}'. Use your personal account "
        "instead.",
    )


def personal_account_not_allowed(address: str) -> EntraError:
    return EntraError(
        "invalid_grant",
        500200,
        f"User account '{address}' is a personal Microsoft account. Personal Microsoft accounts are not "
        "supported for this application unless explicitly invited to an organization. Try signing out and "
        "signing back in with an organizational account.",
    )


def consent_declined() -> EntraError:
    return EntraError(
        "access_denied", 65004, "User declined to consent to access the app.", suberror="cancel"
    )


def no_redirect() -> EntraError:
    return EntraError("invalid_request", 500113, "No reply address is registered for the application.")


def unknown_response_type(sent: str) -> EntraError:
    return EntraError(
        "unsupported_response_type",
        70005,
        f"The app returned an unsupported response type: response type '{sent}' is not enabled for it.",
    )


def unknown_response_mode(sent: str) -> EntraError:
    return EntraError(
        "invalid_request",
        70007,
        f"'{sent}' is not a supported value of 'response_mode' when requesting a token.",
    )


def unknown_prompt(sent: str) -> EntraError:
    return EntraError("invalid_request", 90023, f"Unsupported 'prompt' value: '{sent}'.")


def bad_challenge(text: str) -> EntraError:
    return EntraError("invalid_request", 50147, text)


def nobody_signed_in() -> EntraError:
    return EntraError(
        "login_required",
        50058,
        "A silent sign-in request was sent but no user is signed in.",
    )


def on_request(code: int, *, error: str = "", status: int = 0) -> EntraError:
    """The error with this number, as a fault asks for it: `error` and `status` when not the usual ones."""
    usual, suberror = _USUAL.get(code, ("invalid_request", ""))
    error = error or usual
    text = "As the sandbox was told to answer."
    return EntraError(
        error, code, text, status=status or (401 if error == "invalid_client" else 400), suberror=suberror
    )


_USUAL = {
    16000: ("interaction_required", ""),
    28000: ("invalid_request", ""),
    50011: ("invalid_request", ""),
    50020: ("invalid_grant", ""),
    50034: ("invalid_grant", ""),
    50053: ("invalid_grant", ""),
    50055: ("invalid_grant", ""),
    50057: ("invalid_grant", ""),
    50058: ("interaction_required", ""),
    50076: ("interaction_required", "basic_action"),
    50079: ("interaction_required", "basic_action"),
    50105: ("invalid_grant", ""),
    50126: ("invalid_grant", ""),
    50173: ("invalid_grant", "bad_token"),
    50194: ("invalid_request", ""),
    50196: ("invalid_grant", ""),
    53000: ("interaction_required", "message_only"),
    53003: ("access_denied", "message_only"),
    54005: ("invalid_grant", ""),
    65001: ("invalid_grant", "consent_required"),
    65004: ("access_denied", "cancel"),
    70000: ("invalid_grant", ""),
    70008: ("invalid_grant", ""),
    70011: ("invalid_scope", ""),
    70016: ("authorization_pending", ""),
    70018: ("authorization_declined", ""),
    70019: ("bad_verification_code", ""),
    70020: ("expired_token", ""),
    70021: ("invalid_client", ""),
    70043: ("invalid_grant", "token_expired"),
    90002: ("invalid_request", ""),
    90023: ("invalid_request", ""),
    90033: ("temporarily_unavailable", ""),
    90094: ("access_denied", ""),
    530035: ("access_denied", ""),
    700016: ("unauthorized_client", ""),
    700022: ("invalid_request", ""),
    700024: ("invalid_client", ""),
    700025: ("invalid_client", ""),
    700027: ("invalid_client", ""),
    700082: ("invalid_grant", ""),
    9001023: ("invalid_request", ""),
    9002331: ("invalid_request", ""),
    9002332: ("invalid_request", ""),
    7000215: ("invalid_client", ""),
    7000218: ("invalid_client", ""),
    7000222: ("invalid_client", ""),
}
"""AADSTS number -> OAuth error and suberror, for errors that a fault asks for by number."""
