"""Dovecot's submission service with XOAUTH2: an upstream that nobody here wrote.

It validates tokens itself (JWT, with keys in files), and relays what it accepts to an SMTP server
behind it. Compared with Outlook: EHLO says CHUNKING and BURL, and SIZE without a number; MAIL carries
`AUTH=<user>` on to the server behind; a refused token gets a 334 with JSON first and then `535 5.7.8`,
where Outlook says `535 5.7.3` at once; there is no limit of connections or rate, and no check of the sender.
"""

import base64
import grp
import os
import pwd
import secrets
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from harness import programs
from harness.certificates import Pair
from harness.ports import free_port

_CONFIG = """\
protocols = submission
base_dir = {directory}/run
state_dir = {directory}/state
listen = 127.0.0.1
log_path = /dev/stderr
hostname = dovecot.test
ssl = required
ssl_cert = <{pair.cert}
ssl_key = <{pair.key}
mail_location = maildir:{directory}/mail
first_valid_uid = 1
first_valid_gid = 1
default_internal_user = {internal_user}
default_internal_group = {internal_group}
default_login_user = {login_user}
{rootless}
auth_mechanisms = xoauth2
auth_verbose = yes
# Its slowing down of guessing would only slow down the tests.
auth_failure_delay = 0
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
passdb {{
  driver = oauth2
  mechanisms = xoauth2
  args = {directory}/oauth2.conf
}}
userdb {{
  driver = static
  args = uid={internal_user} gid={internal_group} home={directory}/mail
}}
submission_relay_host = {relay_host}
submission_relay_port = {relay_port}
service submission-login {{
  inet_listener submission {{
    port = {port}
  }}
}}
"""

_OAUTH2 = """\
introspection_mode = local
local_validation_key_dict = fs:posix:prefix={directory}/keys/
username_attribute = {user_claim}
"""

# Without root there is no other user to become and no chroot to enter (Dovecot's HowTo/Rootless).
_CHROOTED = ("anvil", "submission-login", "stats", "ipc", "dns-client")
_ROOTLESS = "\n".join(f"service {name} {{\n  chroot =\n}}" for name in _CHROOTED)


class Dovecot:
    """Dovecot in the foreground on a free port, relaying to `relay_host:relay_port`.

    `directory` must be short (it holds Unix sockets, whose paths end at 107 octets) and open to other users,
    for Dovecot gives up root's rights when it has them.
    """

    USER_CLAIM = "preferred_username"

    def __init__(self, directory: Path, pair: Pair, relay_host: str, relay_port: int) -> None:
        self.host, self.port = "127.0.0.1", free_port()
        self._key = secrets.token_bytes(32)
        self._directory = directory
        self._write_key("HS256", "default", base64.b64encode(self._key))
        config = directory / "dovecot.conf"
        config.write_text(
            _CONFIG.format(
                directory=directory,
                pair=pair,
                port=self.port,
                relay_host=relay_host,
                relay_port=relay_port,
                **_users(),
            )
        )
        oauth2 = _OAUTH2.format(directory=directory, user_claim=self.USER_CLAIM)
        (directory / "oauth2.conf").write_text(oauth2)
        program = programs.find("dovecot")
        version = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
        assert version.startswith("2.3."), (
            f"This is Dovecot {version.strip()}. The scenarios have a configuration for 2.3 only, which "
            "Debian 12 and Ubuntu 24.04 have; 2.4 changed its language."
        )
        self._server = programs.Server([program, "-F", "-c", config])
        with self._server.stopped_on_failure():
            self._server.wait_for_pattern("starting up for submission")

    def _write_key(self, algorithm: str, kid: str, key: bytes) -> None:
        # Dovecot looks in <the token's azp>/<alg>/<kid>, where azp and kid are "default" when missing.
        path = self._directory / "keys" / "default" / algorithm / kid
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(key)

    def trust(self, jwks: Mapping[str, Any]) -> None:
        """Take tokens that are signed with a key of this set (RFC 7517), too."""
        for key in jwt.PyJWKSet.from_dict(dict(jwks)).keys:
            pem = key.key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            assert key.key_id is not None
            self._write_key("RS256", key.key_id, pem)

    @property
    def address(self) -> str:
        """`host:port`, as RELAY_UPSTREAM wants it."""
        return f"{self.host}:{self.port}"

    def token(self, user: str, lifetime: int = 3600, key: bytes | None = None) -> str:
        """Make an access token that is good for `user` during `lifetime` seconds, unless `key` is another."""
        now = int(time.time())
        claims = {self.USER_CLAIM: user, "sub": user, "iat": now - 60, "nbf": now - 60, "exp": now + lifetime}
        return jwt.encode(claims, key or self._key, algorithm="HS256")

    def stop(self) -> None:
        """End it in good order."""
        status = self._server.stop()
        assert status == 0, f"Dovecot ended with {status}. It wrote:\n{self._server.output}"


def _users() -> dict[str, str]:
    if os.geteuid() == 0:
        return {
            "internal_user": "dovecot",
            "internal_group": "dovecot",
            "login_user": "dovenull",
            "rootless": "",
        }
    user = pwd.getpwuid(os.geteuid()).pw_name
    group = grp.getgrgid(os.getegid()).gr_name
    return {"internal_user": user, "internal_group": group, "login_user": user, "rootless": _ROOTLESS}
