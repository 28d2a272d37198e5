"""Everything that can go wrong, as a tree.

RelayError
 ├── SettingsError        the settings cannot be used: all problems at once (exit 2)
 ├── ListenError          an address cannot be listened on
 ├── CertificateError     a certificate and key that must not be served
 ├── StoreError           the database cannot be used
 ├── VaultError           the vault cannot be read or written
 ├── TokenError           no access token for a mailbox
 │    └── SignInNeeded    ... until a person signs in again
 ├── SignInError          a step of a sign-in that cannot be taken: begin anew, or correct what was entered
 └── SmtpRefusal          we will not do what an SMTP client asked: carries the reply

What Outlook refuses is not an exception but a `delivery.verdict.Verdict`.
"""

from collections.abc import Iterable


class RelayError(Exception):
    """Base of every error this program raises on purpose; its text is for people."""


class SettingsError(RelayError):
    """The settings cannot be used. `problems` has one sentence for each thing to mend."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class ListenError(RelayError):
    """An address cannot be listened on: taken, forbidden, not ours."""


class CertificateError(RelayError):
    """A certificate and key that must not be served: unreadable, not a pair, not PEM."""


class StoreError(RelayError):
    """The database cannot be used: out of reach, full, read-only, damaged, not ours. What was in it still is.

    The text never holds the password that RELAY_STORE_URL may have.
    """


class VaultError(RelayError):
    """The vault cannot be read or written. The entry in question is left as it was."""


class TokenError(RelayError):
    """No access token could be had for a mailbox.

    `sentence` says what is wrong, `action` what to do, `code` is Microsoft's AADSTS code or "" - shown to
    people, never used to decide anything (Microsoft says the codes may change). `temporary` is True when
    trying again later may help without a person doing anything; `retry_after` is how many seconds Microsoft
    asked us to wait before that, or 0.
    """

    def __init__(
        self, sentence: str, *, action: str = "", code: str = "", temporary: bool, retry_after: float = 0.0
    ) -> None:
        self.sentence = sentence
        self.action = action
        self.code = code
        self.temporary = temporary
        self.retry_after = retry_after
        super().__init__(" ".join(part for part in (sentence, action, f"({code})" if code else "") if part))


class SignInNeeded(TokenError):
    """The mailbox's sign-in is missing or has ended: a person must sign in."""

    def __init__(self, sentence: str, *, action: str, code: str = "") -> None:
        super().__init__(sentence, action=action, code=code, temporary=False)


class SignInError(RelayError):
    """A step of a sign-in that cannot be taken; the text says why and what to do. Nothing has changed."""


class SmtpRefusal(RelayError):
    """We refuse an SMTP command or message, with this reply (RFC 5321 4.2, enhanced code RFC 3463)."""

    def __init__(self, code: int, enhanced: str, text: str) -> None:
        self.code = code
        self.enhanced = enhanced
        self.text = text
        super().__init__(f"{code} {enhanced} {text}")
