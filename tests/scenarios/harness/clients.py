"""The real clients that submit a message: swaks, msmtp, curl and Python's smtplib."""

import contextlib
import io
import re
import smtplib
import ssl
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness import programs

SECONDS = 60
# What a server's reply looks like in each client's transcript.
_REPLY = re.compile(r"^(?:<--|<~\*|<\*\*|<~|<-|<)\s+(\d{3}[ -].*?)\r?$", re.MULTILINE)

_SMTPLIB_REPLY = re.compile(r"^reply: b(['\"])(\d{3}.*?)(?:\\r)?(?:\\n)?\1$", re.MULTILINE)


@dataclass(frozen=True)
class Account:
    """Where a client submits, and as whom. `ca` is the PEM bundle that it trusts."""

    host: str
    port: int
    ca: Path
    user: str
    password: str = field(repr=False)
    implicit_tls: bool = False


@dataclass(frozen=True)
class Mail:
    """What a client submits: envelope and content (CRLF line ends)."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class Sent:
    """What came of it: the client's exit status (0 is success) and all that it saw and said."""

    client: str
    status: int
    transcript: str

    @property
    def replies(self) -> list[str]:
        """The server's replies, line by line, in order."""
        return _REPLY.findall(self.transcript)

    def replied(self, pattern: str) -> bool:
        """Tell whether a line of a reply matches a regular expression from its start."""
        return any(re.match(pattern, reply) for reply in self.replies)


def swaks(account: Account, mail: Mail, mechanism: str = "PLAIN") -> Sent:
    """Submit with swaks, which checks the certificate's chain."""
    with tempfile.NamedTemporaryFile(suffix=".eml") as message:
        # swaks ends the data that it is given with a line end of its own.
        message.write(mail.content.removesuffix(b"\r\n"))
        message.flush()
        return _run(
            "swaks",
            ["--server", account.host, "--port", str(account.port)],
            ["--tls-on-connect" if account.implicit_tls else "--tls"],
            ["--tls-verify", "--tls-ca-path", str(account.ca)],
            ["--auth", mechanism, "--auth-user", account.user, "--auth-password", account.password],
            ["--from", mail.sender, "--to", ",".join(mail.recipients)],
            ["--data", f"@{message.name}", "--timeout", f"{SECONDS}s"],
        )


def msmtp(account: Account, mail: Mail, mechanism: str = "PLAIN") -> Sent:
    """Submit with msmtp, which checks the certificate's chain and name."""
    with tempfile.NamedTemporaryFile("w", suffix=".msmtprc") as config:  # 0600, as msmtp insists
        config.write(
            f"account default\nhost {account.host}\nport {account.port}\n"
            f"tls on\ntls_starttls {'off' if account.implicit_tls else 'on'}\ntls_trust_file {account.ca}\n"
            f"auth {mechanism.lower()}\nuser {account.user}\npassword {account.password}\n"
            f"from {mail.sender}\ntimeout {SECONDS}\n"
        )
        config.flush()
        # msmtp reads a mail as Unix programs write it, with bare LF.
        content = mail.content.replace(b"\r\n", b"\n")
        return _run("msmtp", ["--debug", f"--file={config.name}", "--", *mail.recipients], stdin=content)


def curl(account: Account, mail: Mail, mechanism: str = "PLAIN") -> Sent:
    """Submit with curl, which checks the certificate's chain and name."""
    scheme = "smtps" if account.implicit_tls else "smtp"
    host = f"[{account.host}]" if ":" in account.host else account.host
    return _run(
        "curl",
        ["--disable", "--verbose", "--silent", "--show-error", "--noproxy", "*", "--max-time", str(SECONDS)],
        ["--ssl-reqd", "--cacert", str(account.ca), "--url", f"{scheme}://{host}:{account.port}/client.test"],
        ["--user", f"{account.user}:{account.password}", "--login-options", f"AUTH={mechanism}"],
        ["--mail-from", mail.sender],
        *(["--mail-rcpt", recipient] for recipient in mail.recipients),
        ["--upload-file", "-"],
        stdin=mail.content,
    )


def python_smtplib(account: Account, mail: Mail, mechanism: str = "PLAIN") -> Sent:
    """Submit with Python's smtplib, which checks the certificate's chain and name."""
    transcript = io.StringIO()
    status = 0
    with contextlib.redirect_stderr(transcript):
        try:
            with connected(account) as client:
                client.set_debuglevel(1)
                client.user, client.password = account.user, account.password
                client.auth(mechanism, getattr(client, f"auth_{mechanism.lower()}"))
                client.sendmail(mail.sender, mail.recipients, mail.content)
                client.quit()
        except (smtplib.SMTPException, OSError) as error:
            status = 1
            transcript.write(f"{type(error).__name__}: {error}\n")
    # smtplib prints what it reads as `reply: b'250 ...\r\n'`.
    return Sent("smtplib", status, _SMTPLIB_REPLY.sub(r"< \2", transcript.getvalue()))


Client = Callable[[Account, Mail, str], Sent]
CLIENTS: dict[str, Client] = {"swaks": swaks, "msmtp": msmtp, "curl": curl, "smtplib": python_smtplib}


@contextlib.contextmanager
def signed_in(account: Account) -> Iterator[smtplib.SMTP]:
    """A session of smtplib that has started TLS and logged in, for what the other clients cannot do."""
    with connected(account) as client:
        client.login(account.user, account.password)
        yield client


@contextlib.contextmanager
def connected(account: Account) -> Iterator[smtplib.SMTP]:
    """A session of smtplib that has started TLS. It is closed without QUIT, in whatever state it is."""
    context = ssl.create_default_context(cafile=str(account.ca))
    if account.implicit_tls:
        client: smtplib.SMTP = smtplib.SMTP_SSL(account.host, account.port, timeout=SECONDS, context=context)
    else:
        client = smtplib.SMTP(account.host, account.port, timeout=SECONDS)
    with contextlib.closing(client):
        if not account.implicit_tls:
            client.starttls(context=context)
        client.ehlo()
        yield client


def _run(program: str, *arguments: Sequence[str], stdin: bytes = b"") -> Sent:
    done = programs.run(program, *(part for group in arguments for part in group), stdin=stdin)
    return Sent(program, done.status, done.output)
