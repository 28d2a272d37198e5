"""A synchronous client for the demo, the scenario tests and the bench: starts a sandbox and steers it."""

import base64
import json
import select
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import requests

from sandbox.counts import Counters, EntraCounts, SmtpCounts
from sandbox.journal import Connection, Message
from sandbox.limits import Limits

_START_SECONDS = 20
_STOP_SECONDS = 10
_REQUEST_SECONDS = 30


class SandboxError(Exception):
    """The sandbox did not start, or refused what it was asked."""


@dataclass(frozen=True, slots=True)
class World:
    """What is there from the start. With the same directory it is the same after a restart."""

    authority: str
    """`https://localhost:PORT`, to which MSAL adds a tenant."""
    smtp: str
    """`localhost:PORT`"""
    ca_pem: str = field(repr=False)
    """The certificate of the CA that both are certified by."""
    tenant: str
    personal: str
    """`me@outlook.com`, with the alias `me.alias@outlook.com`."""
    work: str
    """`office@example.org`, with the alias `sales@example.org`."""
    client_id: str
    """The confidential app, which may also send as the work account by itself (SMTP.SendAsApp)."""
    client_secret: str = field(repr=False)
    public_client_id: str


@dataclass(frozen=True, slots=True)
class AppCredentials:
    """A new app. The secret is "" for a public one."""

    client_id: str
    client_secret: str = field(repr=False)


class Control:
    """The control API. Every method raises SandboxError when the sandbox refuses."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = requests.Session()
        self._http.trust_env = False  # no proxy on the way to 127.0.0.1

    def close(self) -> None:
        self._http.close()

    # -- who there is ---------------------------------------------------------------------------------------

    def world(self) -> World:
        return World(**self._call("GET", "/world"))

    def add_account(
        self,
        address: str,
        *,
        personal: bool = False,
        aliases: tuple[str, ...] = (),
        smtp_auth_disabled: bool = False,
    ) -> None:
        """Add an account, or change one: aliases and `smtp_auth_disabled` become what is given here."""
        self._call(
            "POST",
            "/accounts",
            {
                "address": address,
                "personal": personal,
                "aliases": aliases,
                "smtp_auth_disabled": smtp_auth_disabled,
            },
        )

    def delete_account(self, address: str) -> None:
        """Remove an account: its sign-ins are refused (AADSTS50034), its access tokens open no mailbox."""
        self._call("DELETE", f"/accounts/{quote(address)}")

    def change_password(self, address: str) -> None:
        """End its sign-ins (AADSTS50173); but a work account's with confidential apps stay good."""
        self._call("POST", f"/accounts/{quote(address)}/password")

    def add_app(
        self,
        *,
        name: str = "relay",
        public: bool = False,
        audience: str = "AzureADandPersonalMicrosoftAccount",
        redirect_uris: tuple[str, ...] = ("http://localhost:8400/callback",),
        delegated: tuple[str, ...] = ("SMTP.Send", "Mail.Send"),
        roles: tuple[str, ...] = (),
        mailboxes: tuple[str, ...] = (),
        certificate: str = "",
    ) -> AppCredentials:
        """Register an app. `roles` are application permissions, `mailboxes` what an app-only token opens.

        With a `certificate` (PEM, RSA) it gets no secret.
        """
        body = {
            "name": name,
            "public": public,
            "audience": audience,
            "redirect_uris": redirect_uris,
            "delegated": delegated,
            "roles": roles,
            "mailboxes": mailboxes,
            "certificate": certificate,
        }
        return AppCredentials(**self._call("POST", "/apps", body))

    def add_secret(self, client_id: str) -> str:
        """Give an app one more secret; the others stay good."""
        return str(self._call("POST", f"/apps/{client_id}/secrets")["client_secret"])

    def add_certificate(self, client_id: str, certificate: str) -> None:
        """Let an app prove itself with this certificate (PEM, RSA) too. Makes a public app confidential."""
        self._call("POST", f"/apps/{client_id}/certificates", {"certificate": certificate})

    def expire_secrets(self, client_id: str) -> None:
        """All secrets that the app has now have run out (AADSTS7000222)."""
        self._call("DELETE", f"/apps/{client_id}/secrets")

    # -- sign-ins -------------------------------------------------------------------------------------------

    def refresh_token(self, account: str, client_id: str, scopes: str = "") -> str:
        """The refresh token of a fresh sign-in.

        Without `scopes` the person has agreed to SMTP.Send for Outlook, offline_access, openid and profile.
        """
        body = {"account": account, "client_id": client_id, "scopes": scopes}
        return str(self._call("POST", "/refresh_tokens", body)["refresh_token"])

    def access_token(
        self, account: str, client_id: str, *, scopes: str = "", expires_in: int = 3600, resource: str = ""
    ) -> str:
        """An access token without the token endpoint. `account` "": an app-only one for `resource`."""
        body: dict[str, Any] = {"account": account, "client_id": client_id, "expires_in": expires_in}
        body |= {"scopes": scopes} if scopes else {}
        body |= {"resource": resource} if resource else {}
        return str(self._call("POST", "/access_tokens", body)["access_token"])

    def authorize(self, account: str, url: str) -> dict[str, str]:
        """Agree as `account` at an authorization URL. Returns the redirect's parameters: code and state."""
        answer: dict[str, str] = self._call("POST", "/codes", {"account": account, "url": url})
        return answer

    def decline(self, url: str) -> dict[str, str]:
        """Press Cancel at an authorization URL. Returns the redirect's parameters, error=access_denied."""
        answer: dict[str, str] = self._call("POST", "/codes", {"account": "", "url": url})
        return answer

    def approve_device(self, user_code: str, account: str) -> None:
        """Type the user code and agree as `account`."""
        self._call("POST", f"/devices/{quote(user_code)}", {"account": account})

    def decline_device(self, user_code: str) -> None:
        self._call("POST", f"/devices/{quote(user_code)}", {})

    def revoke(self, account: str) -> None:
        """End all sign-ins of an account, as an administrator can (AADSTS50173)."""
        self._call("POST", "/revoke", {"account": account})

    def forget(self, refresh_token: str) -> None:
        """Make one refresh token unknown (AADSTS70000)."""
        self._call("POST", "/revoke", {"refresh_token": refresh_token})

    # -- what shall happen ----------------------------------------------------------------------------------

    def fail_smtp(
        self,
        stage: str,
        *,
        reply: str = "",
        drop: str = "",
        stall: float = 0,
        slow: int = 0,
        certificate: str = "",
        times: int = 1,
        skip: int = 0,
        user: str = "",
        address: str = "",
    ) -> int:
        """Script a failure of the SMTP server and return its id. See `sandbox.faults.Fault` for the meanings.

        Stages: connect, ehlo, starttls, auth, mail, rcpt, data, eod, noop, rset, quit.
        """
        return self._fault(
            stage=stage,
            reply=reply,
            drop=drop,
            stall=float(stall),
            slow=slow,
            certificate=certificate,
            times=times,
            skip=skip,
            user=user,
            address=address,
        )

    def fail_entra(
        self,
        stage: str = "token",
        *,
        aadsts: int = 0,
        error: str = "",
        status: int = 0,
        retry_after: int = 0,
        drop: bool = False,
        stall: float = 0,
        expires_in: int = 0,
        times: int = 1,
        skip: int = 0,
        client_id: str = "",
    ) -> int:
        """Script a failure of Entra and return its id.

        Stages: token, discovery, devicecode; authorize, deviceauth (the pages: only `aadsts` and `status`).
        """
        return self._fault(
            stage=stage,
            aadsts=aadsts,
            error=error,
            status=status,
            retry_after=retry_after,
            drop="now" if drop else "",
            stall=float(stall),
            expires_in=expires_in,
            times=times,
            skip=skip,
            user=client_id,
        )

    def faults(self) -> list[dict[str, Any]]:
        """The faults that can still strike."""
        found: list[dict[str, Any]] = self._call("GET", "/faults")
        return found

    def clear_faults(self) -> None:
        self._call("DELETE", "/faults")

    def limits(self, **changes: int | float | str | bool) -> Limits:
        """Change limits (`sandbox.limits.Limits` lists them; 0 turns one off) and return them all."""
        return Limits(**self._call("PATCH", "/limits", changes))

    def no_limits(self) -> Limits:
        """For measurements: nothing is counted or checked, and of a message only the size is kept."""
        return self.limits(
            connections_per_mailbox=0,
            messages_per_minute=0,
            recipients_per_message=0,
            recipients_per_day=0,
            idle_seconds=0,
            sender_check=False,
            keep="size",
        )

    def certificate(self, kind: str, *, service: str = "smtp") -> None:
        """What `smtp` or `entra` shows from now on: good, wrong_name, self_signed, expired."""
        self._call("POST", "/certificate", {"kind": kind, "service": service})

    def advance_clock(self, seconds: float) -> None:
        """Let time pass at once in the sandbox: tokens expire, rates recover."""
        self._call("POST", "/clock", {"advance": seconds})

    def close_idle(self, user: str = "", *, silent: bool = False) -> int:
        """Close the SMTP connections that wait for a command, and return how many."""
        return int(self._call("POST", "/close_idle", {"user": user, "silent": silent})["closed"])

    def disconnect(self) -> None:
        """Cut every SMTP connection, whatever it is doing."""
        self._call("POST", "/disconnect")

    def reset(self) -> None:
        """Forget messages, counters, faults, limits, certificates, clock and consents.

        Accounts, apps and sign-ins stay; consent pages are shown again.
        """
        self._call("POST", "/reset")

    # -- what happened --------------------------------------------------------------------------------------

    def messages(self, *, wait_for: int = 0, timeout: float = 10) -> list[Message]:
        """The messages taken since the last reset, oldest first.

        Args:
            wait_for: how many must have been taken before this returns.
            timeout: seconds to wait for them.

        Raises:
            SandboxError: there were fewer when the time was up.
        """
        query = f"/messages?count={wait_for}&seconds={timeout}"
        found = [_message(item) for item in self._call("GET", query, seconds=timeout + _REQUEST_SECONDS)]
        if len(found) < wait_for and (taken := self.counters().smtp.messages) < wait_for:
            raise SandboxError(f"{taken} messages arrived within {timeout} s; {wait_for} were expected.")
        return found

    def connections(self) -> list[Connection]:
        """The SMTP connections since the last reset, oldest first, with what was said in each round trip."""
        found = self._call("GET", "/connections")
        return [Connection(**item | {"exchanges": deque(item["exchanges"])}) for item in found]

    def counters(self) -> Counters:
        found = self._call("GET", "/counters")
        return Counters(SmtpCounts(**found["smtp"]), EntraCounts(**found["entra"]))

    # -- plumbing -------------------------------------------------------------------------------------------

    def _fault(self, **values: Any) -> int:
        return int(
            self._call("POST", "/faults", {name: value for name, value in values.items() if value != ""})[
                "id"
            ]
        )

    def _call(self, method: str, path: str, body: Any = None, *, seconds: float = _REQUEST_SECONDS) -> Any:
        response = self._http.request(method, self.url + path, json=body, timeout=seconds)
        if not response.ok:
            raise SandboxError(f"{method} {path}: {_reason(response)}")
        return response.json()


class SandboxProcess:
    """A sandbox in a process of its own, for as long as the `with` block lasts.

    Args:
        directory: where ca.pem is put, and what outlives the process.
        host: the address to listen on; "" is localhost.
        names: further names in the certificates; the first is the one in the addresses.
        entra_port, smtp_port, control_port: 0 takes a free one.
        verbose: the sandbox logs to our stderr.
    """

    def __init__(
        self,
        directory: Path,
        *,
        host: str = "",
        names: Sequence[str] = (),
        entra_port: int = 0,
        smtp_port: int = 0,
        control_port: int = 0,
        verbose: bool = False,
    ) -> None:
        self._command = [sys.executable, "-m", "sandbox", "--dir", str(directory)]
        ports = {"entra": entra_port, "smtp": smtp_port, "control": control_port}
        for service, port in ports.items():
            self._command += [f"--{service}-port", str(port)]
        self._command += ["--host", host] if host else []
        for name in names:
            self._command += ["--name", name]
        self._command += ["--verbose"] if verbose else []
        self.authority = ""
        """`https://localhost:PORT`, to which MSAL adds a tenant."""
        self.smtp = ""
        """`localhost:PORT`"""
        self.ca = ""
        """The CA's certificate, a PEM file."""
        self.control: Control

    @property
    def smtp_port(self) -> int:
        return int(self.smtp.rpartition(":")[2])

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        """Start it and wait until everything listens.

        Raises:
            SandboxError: it did not come up.
        """
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        assert self._process.stdout is not None
        if select.select([self._process.stdout], [], [], _START_SECONDS)[0]:
            line = self._process.stdout.readline()
        else:
            line = b""
        if not line:
            self._stop()
            raise SandboxError("The sandbox did not start; what it printed above says why.")
        ready = json.loads(line)
        self.authority, self.smtp, self.ca = ready["authority"], ready["smtp"], ready["ca"]
        self.control = Control(ready["control"])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.control.close()
        self._stop()

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def _message(item: dict[str, Any]) -> Message:
    content = item["content"]
    return Message(**item | {"content": None if content is None else base64.b64decode(content)})


def _reason(response: requests.Response) -> str:
    try:
        return str(response.json()["error"])
    except (ValueError, KeyError):
        return f"HTTP {response.status_code}"
