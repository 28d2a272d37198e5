"""What Microsoft's token service refuses, in plain words, with what to do about it.

What kind of error it is follows from OAuth's `error` (RFC 6749 5.2, RFC 8628 3.5, OpenID Connect Core
3.1.2.6) and the HTTP status alone. The AADSTS number only chooses the words: Microsoft says that the numbers
may change.

Sources: learn.microsoft.com/entra/identity-platform/reference-error-codes and
learn.microsoft.com/entra/msal/python/advanced/msal-error-handling-python.
"""

import re
from collections.abc import Mapping
from typing import Any

from relay_app.errors import SignInNeeded, TokenError
from relay_app.settings import MailboxSettings

_TEMPORARY = frozenset({"temporarily_unavailable", "server_error", "slow_down"})
_SIGN_IN = frozenset(
    {
        "invalid_grant",
        "interaction_required",
        "consent_required",
        "login_required",
        "account_selection_required",
        "access_denied",
        "authorization_declined",
        "bad_verification_code",
        "expired_token",
    }
)

SIGN_IN = "Sign in at the console's Sign in page, or:  smtp-relay login {mailbox}"
"""What to do; with the mailbox's address to be filled in."""

_SIGN_IN_AGAIN = "Sign in again at the console's Sign in page, or:  smtp-relay login {mailbox}"
_ASK_ADMIN = "An administrator of the organisation must allow it. Then: " + SIGN_IN
_CREDENTIALS_PAGE = (
    "In the Entra admin centre open App registrations > the app > Certificates & secrets, make a new client "
    "secret, and put its Value into CLIENT_SECRET."
)
_TENANT = (
    "Set TENANT_ID to the organisation's directory (tenant) ID, or to consumers for a personal Outlook.com "
    "account."
)
_APP_ID = (
    "Compare CLIENT_ID with the Application (client) ID on the app's overview page in the Entra admin "
    "centre, and TENANT_ID with the directory that the app is in."
)
_CONSENT = (
    "Sign in again and accept what the app asks for: at the console's Sign in page, or:  "
    "smtp-relay login {mailbox}  "
    "(If the consent page wants an administrator's approval, an administrator must grant it.)"
)
_WAIT = "Nothing needs to be done: it is tried again by itself."
_SECURITY_INFO = (
    "Sign in again and complete what Microsoft asks for: at the console's Sign in page, or:  "
    "smtp-relay login {mailbox}"
)
_OWN_ACCOUNT = "Sign in with the account of {mailbox}. " + SIGN_IN
_CERTIFICATE_PAGE = (
    "Upload the certificate of RELAY_CLIENT_CERT in the Entra admin centre: App registrations > the app > "
    "Certificates & secrets > Certificates."
)
_REDIRECT = (
    "Add it on the app's Authentication page, exactly as the relay shows it: as Web if the app has a secret "
    "or a certificate, else as Mobile and desktop applications."
)
_REPORT = "Please report it as a bug of the relay."

_CODES: dict[int, tuple[str, str]] = {
    # The sign-in has ended.
    70000: ("The sign-in of {mailbox} is not valid, or SMTP.Send was never consented to.", _CONSENT),
    70008: ("The sign-in of {mailbox} has expired because it was not used for too long.", _SIGN_IN_AGAIN),
    700082: ("The sign-in of {mailbox} has expired: it was not used for 90 days.", _SIGN_IN_AGAIN),
    700084: (
        "The sign-in of {mailbox} has expired: the app's redirect address is registered as a single-page "
        "application, whose sign-ins last 24 hours.",
        "Register the redirect address as Web. Then: " + SIGN_IN,
    ),
    70043: (
        "The organisation's policy (sign-in frequency) has ended the sign-in of {mailbox}.",
        _SIGN_IN_AGAIN + "  An administrator can exempt the app from the policy.",
    ),
    50173: ("The sign-in of {mailbox} was revoked, for example by a change of password.", _SIGN_IN_AGAIN),
    50132: ("The sign-in of {mailbox} was revoked or its password has expired.", _SIGN_IN_AGAIN),
    50133: ("The sign-in of {mailbox} was ended by a change of password.", _SIGN_IN_AGAIN),
    70044: ("The session of {mailbox} has ended.", _SIGN_IN_AGAIN),
    50085: ("The sign-in of {mailbox} has expired.", _SIGN_IN_AGAIN),
    # A sign-in that is under way.
    50089: ("The sign-in took too long and has expired.", _SIGN_IN_AGAIN),
    54005: ("The sign-in's code has been used already.", _SIGN_IN_AGAIN),
    70016: ("Microsoft still waits for a person to enter the code and sign in.", _WAIT),
    70018: ("The sign-in was declined.", _CONSENT),
    70019: ("The code of the sign-in is not valid, or no longer.", _SIGN_IN_AGAIN),
    70020: ("The code of the sign-in has expired: it is good for 15 minutes.", _SIGN_IN_AGAIN),
    501481: ("The answer does not belong to this sign-in (PKCE).", _SIGN_IN_AGAIN),
    16000: ("Microsoft does not know which of several accounts is meant.", _OWN_ACCOUNT),
    50097: ("The organisation's policy wants a known device; the relay is none.", _ASK_ADMIN),
    50199: ("Microsoft wants a person to confirm the sign-in.", _SIGN_IN_AGAIN),
    500121: ("The second factor was not given in time, or was wrong.", _SECURITY_INFO),
    # The account or a policy wants something from a person.
    50055: (
        "The password of {mailbox} has expired.",
        "Change it at Microsoft. Then: " + SIGN_IN,
    ),
    50057: ("The account of {mailbox} is disabled.", "An administrator must enable it."),
    50053: (
        "The account of {mailbox} is locked.",
        "Unlock it at Microsoft. Then: " + SIGN_IN,
    ),
    50034: (
        "The account does not exist in this directory. It may have been deleted.",
        "Compare USER_EMAIL and TENANT_ID. " + _TENANT,
    ),
    51004: (
        "The account does not exist in this directory. It may have been deleted.",
        "Compare USER_EMAIL and TENANT_ID. " + _TENANT,
    ),
    50020: ("The account that signed in does not belong to this directory.", _TENANT),
    90072: ("The account that signed in does not belong to this directory.", _TENANT),
    50058: ("Microsoft wants a person to sign in.", _SIGN_IN_AGAIN),
    50074: ("Microsoft wants a second factor for {mailbox}.", _SECURITY_INFO),
    50076: ("Microsoft wants a second factor for {mailbox}.", _SECURITY_INFO),
    50078: ("The second factor of {mailbox} has expired.", _SECURITY_INFO),
    50079: ("The account {mailbox} must set up a second factor.", _SECURITY_INFO),
    50105: ("The account {mailbox} is not assigned to the app.", _ASK_ADMIN),
    50126: ("The user name or password was wrong.", _SIGN_IN_AGAIN),
    50158: ("A security check of the organisation was not passed.", _SECURITY_INFO),
    53000: ("The organisation's policy wants a compliant device; the relay is none.", _ASK_ADMIN),
    53001: ("The organisation's policy wants a domain-joined device; the relay is none.", _ASK_ADMIN),
    53002: ("The organisation's policy does not allow this app.", _ASK_ADMIN),
    53003: ("The organisation's Conditional Access policy blocks this sign-in.", _ASK_ADMIN),
    530035: ("The organisation's security defaults block this sign-in.", _ASK_ADMIN),
    # Consent and scopes.
    65001: ("Nobody has consented that the app may send mail as {mailbox}.", _CONSENT),
    65004: ("The consent was declined.", _CONSENT),
    90094: ("The organisation wants an administrator to approve the app.", _ASK_ADMIN),
    90095: ("The organisation wants an administrator to approve the app.", _ASK_ADMIN),
    70011: (
        "The app asked for a scope that this kind of account does not have.",
        "Personal Outlook.com accounts cannot use RELAY_FLOW=client_credentials. " + _TENANT,
    ),
    28000: ("The app asked for scopes of more than one service at once.", _REPORT),
    700022: ("The app asked for scopes of more than one service at once.", _REPORT),
    1002012: ("The app asked for a scope that client_credentials does not allow.", _REPORT),
    65005: (
        "The app asks for a permission that its registration does not list.",
        "Add Microsoft Graph > Delegated > SMTP.Send to the app's API permissions.",
    ),
    500011: (
        "The directory does not know the Exchange Online service.",
        "The organisation needs an Exchange Online licence. For a personal account set TENANT_ID to "
        "consumers.",
    ),
    650052: ("The organisation has no licence for the service the app asks for.", _ASK_ADMIN),
    # The app's registration or our settings.
    7000215: (
        "The client secret is wrong. Often it is the secret's ID that was copied instead of its Value.",
        _CREDENTIALS_PAGE,
    ),
    7000222: ("The client secret has expired.", _CREDENTIALS_PAGE),
    7000218: (
        "The app is a confidential client, and no client secret was sent.",
        "Set CLIENT_SECRET; or, to use no secret, turn on Allow public client flows on the app's "
        "Authentication page.",
    ),
    7000216: ("The app sent no client secret, which client_credentials needs.", _CREDENTIALS_PAGE),
    700025: (
        "The app is a public client, which must not send a client secret.",
        "Remove CLIENT_SECRET; or register the redirect address as Web and sign in again.",
    ),
    700027: (
        "Microsoft does not take the app's certificate: the app does not list it, or it has expired.",
        _CERTIFICATE_PAGE,
    ),
    700024: (
        "Microsoft does not take the app's certificate, because the clock of this machine is wrong.",
        "Set the clock; better, let it be set by NTP.",
    ),
    700030: ("The app's certificate is not valid.", _CERTIFICATE_PAGE),
    700021: ("The app's certificate was sent for another app.", _APP_ID),
    7000112: ("The app is disabled in its directory.", "An administrator must enable it."),
    7000229: (
        "The app has no service principal (enterprise application) in this directory.",
        "An administrator must grant it consent: App registrations > the app > API permissions > Grant admin "
        "consent.",
    ),
    700016: ("Microsoft does not find the app {app} in the directory {tenant}.", _APP_ID),
    70001: ("Microsoft does not find the app {app} in the directory {tenant}.", _APP_ID),
    70002: ("Microsoft did not accept the app's credentials.", _CREDENTIALS_PAGE),
    70021: (
        "No federated credential of the app matches.",
        "One that was just made takes some minutes to be known everywhere.",
    ),
    50194: (
        "The app is registered for one organisation only, but TENANT_ID is {tenant}.",
        "Set TENANT_ID to that organisation's directory (tenant) ID, or change the app's supported account "
        "types.",
    ),
    9002331: (
        "The app is registered for personal accounts only, but TENANT_ID is {tenant}.",
        "Set TENANT_ID to consumers.",
    ),
    9002332: (
        "The app is registered for organisations only, but TENANT_ID is {tenant}.",
        "Set TENANT_ID to the organisation, or make the app accept personal Microsoft accounts.",
    ),
    90002: ("Microsoft knows no directory {tenant}.", _TENANT),
    900023: ("TENANT_ID is not a directory: {tenant}.", _TENANT),
    50059: ("Microsoft cannot tell which directory is meant.", _TENANT),
    50128: ("Microsoft cannot tell which directory is meant.", _TENANT),
    50049: ("RELAY_AUTHORITY is not a sign-in service that Microsoft knows.", "Leave RELAY_AUTHORITY unset."),
    9001023: (
        "RELAY_FLOW=client_credentials does not work with TENANT_ID {tenant}.",
        "Set TENANT_ID to the organisation's directory (tenant) ID. Personal accounts need "
        "RELAY_FLOW=authorization_code or device_code.",
    ),
    90023: (
        "The app's registration was changed a moment ago, and Microsoft has not spread the change yet.",
        "Wait a minute or two.",
    ),
    50011: ("The redirect address is not one of the app's.", _REDIRECT),
    500113: ("The app has no redirect address.", _REDIRECT),
    500112: ("The redirect address has changed since the sign-in was begun.", _SIGN_IN_AGAIN),
    70003: (
        "The app does not allow this way of signing in.",
        "For device_code turn on Allow public client flows on the app's Authentication page.",
    ),
    700005: ("The sign-in was made in another directory than {tenant}.", _TENANT),
    900144: ("A request of the relay was incomplete.", _REPORT),
    # Microsoft itself.
    50196: ("Microsoft has stopped the relay because it asked too often.", _WAIT),
    90033: ("Microsoft's sign-in service has a fault for the moment.", _WAIT),
    90055: ("Microsoft's sign-in service asks the relay to slow down.", _WAIT),
}

_SUBERRORS: dict[str, tuple[str, str]] = {
    "bad_token": ("The sign-in of {mailbox} is no longer valid.", _SIGN_IN_AGAIN),
    "token_expired": ("The sign-in of {mailbox} has expired.", _SIGN_IN_AGAIN),
    "consent_required": ("Nobody has consented that the app may send mail as {mailbox}.", _CONSENT),
    "user_password_expired": ("The password of {mailbox} has expired.", _SIGN_IN_AGAIN),
    "basic_action": ("Microsoft wants something from the person who owns {mailbox}.", _SECURITY_INFO),
    "additional_action": ("Microsoft wants something from the person who owns {mailbox}.", _SECURITY_INFO),
    "message_only": ("The organisation's policy blocks this sign-in.", _ASK_ADMIN),
    "protection_policy_required": (
        "The organisation's app protection policy blocks this sign-in.",
        _ASK_ADMIN,
    ),
    "device_authentication_failed": ("The organisation's policy wants a known device.", _ASK_ADMIN),
    "client_mismatch": ("The sign-in of {mailbox} was made for another app.", _SIGN_IN_AGAIN),
    "access_denied": ("The sign-in was cancelled, or the consent was declined.", _CONSENT),
    "authorization_declined": ("The sign-in was declined.", _CONSENT),
    "expired_token": ("The code of the sign-in has expired: it is good for 15 minutes.", _SIGN_IN_AGAIN),
    "bad_verification_code": ("The code of the sign-in is not valid, or no longer.", _SIGN_IN_AGAIN),
    "login_required": ("Microsoft wants a person to sign in.", _SIGN_IN_AGAIN),
    "interaction_required": ("Microsoft wants a person to sign in.", _SIGN_IN_AGAIN),
    "account_selection_required": (
        "Microsoft does not know which of several accounts is meant.",
        _OWN_ACCOUNT,
    ),
}
"""For numbers that the table above does not have: by `suberror`, or else by `error`."""

_AADSTS = re.compile(r"AADSTS(\d{4,8})")
_DIAGNOSTICS = re.compile(r"\s*(Trace ID|Correlation ID|Timestamp):.*", re.DOTALL)
_LIKE_A_SECRET = re.compile(r"[A-Za-z0-9_.~+/=-]{38,}")  # a GUID has 36, a client secret 40, a token hundreds
_LONGEST = 300


def token_error(
    answer: Mapping[str, Any], mailbox: MailboxSettings, *, status: int, retry_after: float = 0.0
) -> TokenError:
    """Turn an error answer of the token endpoint into an exception to raise.

    `answer` is its JSON; `status` the HTTP status; `retry_after` the seconds that its Retry-After asks for.
    """
    error = str(answer.get("error", ""))
    description = str(answer.get("error_description") or "")
    code = aadsts_code(description) or _first_code(answer)
    sentence, action = _words(code, str(answer.get("suberror", "")), error)
    names = {"mailbox": mailbox.address, "app": mailbox.client_id, "tenant": mailbox.tenant}
    if sentence:
        sentence = sentence.format_map(names)
    else:
        sentence = (
            f"Microsoft refuses a token for {mailbox.address}: {_quotable(description or error, mailbox)}"
        )
    if status == 429 or status >= 500 or error in _TEMPORARY:
        return TokenError(sentence, action=_WAIT, code=code, temporary=True, retry_after=retry_after)
    # With client_credentials nobody signs in, whatever the error is called.
    if error in _SIGN_IN and mailbox.flow.delegated:
        return SignInNeeded(sentence, action=(action or _SIGN_IN_AGAIN).format_map(names), code=code)
    return TokenError(sentence, action=(action or _APP_ID).format_map(names), code=code, temporary=False)


def aadsts_code(text: str) -> str:
    """The first AADSTS code in a text, as `AADSTS70008`; "" if there is none."""
    match = _AADSTS.search(text)
    return match[0] if match else ""


def _first_code(answer: Mapping[str, Any]) -> str:
    codes = answer.get("error_codes")
    return f"AADSTS{codes[0]}" if isinstance(codes, list) and codes else ""


def _words(code: str, suberror: str, error: str) -> tuple[str, str]:
    number = int(code.removeprefix("AADSTS")) if code.removeprefix("AADSTS").isdigit() else 0
    known = _CODES.get(number) or _SUBERRORS.get(suberror)
    # With a number that we do not know, Microsoft's own words say more than the error's name does.
    return known or ("", "") if code else known or _SUBERRORS.get(error, ("", ""))


def _quotable(text: str, mailbox: MailboxSettings) -> str:
    """Microsoft's own words: the first line, without ids for its support, and without anything secret."""
    line = _DIAGNOSTICS.sub("", text).strip().partition("\n")[0]
    line = re.sub(r"^AADSTS\d+:\s*", "", line.strip())
    if mailbox.client_secret:
        line = line.replace(mailbox.client_secret, "[...]")
    line = _LIKE_A_SECRET.sub("[...]", line)
    line = re.sub(r"[^ -~]", "?", line)[:_LONGEST]
    return line or "no reason given."
