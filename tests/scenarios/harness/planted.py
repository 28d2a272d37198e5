"""Secrets that a test plants, and the search for them where they must not be."""

import base64
import re
import secrets

# What no log may hold, whoever made it: the beginnings of a JWT and, in base64, of an XOAUTH2 response.
_NEVER = {"eyJhbGciOi": "a token", "dXNlcj": "an XOAUTH2 response"}
# And what the sandbox's Entra hands out: these look like Microsoft's.
_NEVER_LIKE = {
    re.compile(r"\b0\.A[\w-]{100,}"): "a refresh token",
    re.compile(r"\bM\.C5_[\w-]{20,}"): "an authorization code",
}


class Planted:
    """Makes passwords and the like, and finds them again in a text, as they are or in base64."""

    def __init__(self) -> None:
        self._secrets = dict(_NEVER)

    def make(self, what: str) -> str:
        """Return a new secret. `what` names it when it is found where it should not be."""
        return self.add(what, f"{what.replace(' ', '-')}-{secrets.token_hex(12)}")

    def add(self, what: str, value: str) -> str:
        """Remember a secret that was made elsewhere."""
        assert len(value) >= 8, f"{what}: too short to be told from other text"
        self._secrets[value] = what
        return value

    def found_in(self, text: str) -> list[str]:
        """Name the secrets that a text gives away."""
        found = {
            what for secret, what in self._secrets.items() if any(form in text for form in _forms(secret))
        }
        return sorted(found | {what for pattern, what in _NEVER_LIKE.items() if pattern.search(text)})


def _forms(secret: str) -> set[str]:
    # A secret inside a longer base64 text begins at one of three bit offsets; its first and last
    # characters depend on the neighbours and are left out.
    forms = {secret}
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + secret.encode()).decode().rstrip("=")
        forms.add(encoded[4 if offset else 0 : -2])
    return forms
