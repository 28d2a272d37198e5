"""smtp_submission: one message, submitted as Gmail's "Send mail as" would. See DOCUMENTATION."""

from __future__ import annotations

import base64
import re
import smtplib
import socket
import ssl
import time
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import localtime, make_msgid
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: smtp_submission
short_description: Submit a test message as a mail program would, and hear the verdict
description:
  - Connects, insists on STARTTLS and on the certificate, logs in with AUTH PLAIN, and submits one message.
  - What the server says of the message is the result, whether it takes it or not. That nothing could be
    submitted at all (no connection, no TLS, no valid certificate) is a failure, and says what to do.
  - It needs nothing but Python. Run it where the message is to come from.
author: The smtp-relay project
options:
  host:
    description: The name or address to connect to.
    type: str
    required: true
  port:
    description: The port, which must speak STARTTLS.
    type: int
    default: 587
  hostname:
    description: The name that the certificate must be for, and that is asked for (SNI). O(host) if not given.
    type: str
  ca_file:
    description: A PEM file with the authorities to trust. The system's if not given.
    type: path
  validate_certs:
    description: If false, any certificate will do. Then the password may be told to anybody.
    type: bool
    default: true
  username:
    description: Who logs in.
    type: str
    required: true
  password:
    description: With which password.
    type: str
    required: true
  sender:
    description: The address that the message is from.
    type: str
    required: true
  recipient:
    description: The address that it goes to.
    type: str
    required: true
  subject:
    description: Its subject.
    type: str
    default: A test of the relay
  body:
    description: Its text.
    type: str
    default: This message has come through the relay. Nobody needs to answer it.
  timeout:
    description: For how many seconds to wait for each answer.
    type: int
    default: 60
  fail_on_refusal:
    description: Whether a message that is not accepted fails the task.
    type: bool
    default: false
attributes:
  check_mode:
    description: Sends nothing, and is skipped.
    support: none
  diff_mode:
    description: There is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Ensure a message is submitted as Gmail would
  smtp_submission:
    host: 192.168.1.10
    hostname: smtp.example.org
    username: gmail
    password: "{{ relay_password }}"
    sender: me@outlook.example
    recipient: me@outlook.example
  register: __verify_submission
  delegate_to: localhost
"""

RETURN = r"""
verdict:
  description: V(accepted) for a 2xx reply, V(deferred) for 4xx, V(refused) for 5xx.
  returned: when the server has answered
  type: str
stage:
  description: How far it went - V(connect), V(starttls), V(auth), V(mail), V(rcpt) or V(data).
  returned: always
  type: str
code:
  description: The last reply's code.
  returned: when the server has answered
  type: int
enhanced_code:
  description: Its enhanced status code (RFC 3463), or an empty text.
  returned: when the server has answered
  type: str
reply:
  description: Its text, without the codes. Lines are separated by line ends.
  returned: when the server has answered
  type: str
relay_id:
  description: The id that the relay gave the message, if its reply names one.
  returned: when the server has answered
  type: str
message_id:
  description: The Message-ID of the message, to look for in the mailbox.
  returned: when the server has answered
  type: str
seconds:
  description: How long it took, from the connection to the last reply.
  returned: when the server has answered
  type: float
certificate:
  description: The certificate's C(subject), C(issuer) and C(not_after).
  returned: when the certificate was validated
  type: dict
"""

ARGUMENTS: dict[str, Any] = {
    "host": {"type": "str", "required": True},
    "port": {"type": "int", "default": 587},
    "hostname": {"type": "str"},
    "ca_file": {"type": "path"},
    "validate_certs": {"type": "bool", "default": True},
    "username": {"type": "str", "required": True},
    "password": {"type": "str", "required": True, "no_log": True},
    "sender": {"type": "str", "required": True},
    "recipient": {"type": "str", "required": True},
    "subject": {"type": "str", "default": "A test of the relay"},
    "body": {
        "type": "str",
        "default": "This message has come through the relay. Nobody needs to answer it.",
    },
    "timeout": {"type": "int", "default": 60},
    "fail_on_refusal": {"type": "bool", "default": False},
}

_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?:[ \t]+|\Z)")
_RELAY_ID = re.compile(r"\(relay id (\w+)\)")
_VERDICTS = {2: "accepted", 3: "accepted", 4: "deferred", 5: "refused"}
# OpenSSL's X509_V_ERR_...
_CERTIFICATE = {
    9: "is not valid yet. Is the clock right?",
    10: "has run out. Renew it.",
    18: "is self-signed. If that is meant, give it as ca_file. Gmail takes none but of a public authority.",
    19: "is of an authority that is not trusted here. If that is meant, give its certificate as ca_file.",
    20: "does not lead to an authority that is trusted here. Does its file hold the whole chain "
    "(fullchain.pem)? If its authority is your own, give that as ca_file.",
    62: "is for another name. Is hostname the name that it was issued for?",
    64: "is not for this address. Say with hostname for which name it was issued.",
}


class Impossible(Exception):
    """Nothing could be submitted; the text says why, and what to do."""


class NotAccepted(Exception):
    """The server has said so."""


class Submission:
    """One conversation with the server, as far as it goes."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._arguments = arguments
        self._where = f"{arguments['host']}:{arguments['port']}"
        self._name = arguments["hostname"] or arguments["host"]
        self._message = message(arguments)
        self._begun = time.monotonic()
        # It says EHLO localhost: the machine's own name is nobody's business, and slow to find out.
        self._client = smtplib.SMTP(local_hostname="localhost", timeout=arguments["timeout"])
        self._client._host = self._name  # type: ignore[attr-defined]  # what starttls verifies and asks for
        self.stage = "connect"
        self.result: dict[str, Any] = {"message_id": self._message["Message-ID"], "relay_id": ""}

    def run(self) -> dict[str, Any]:
        """Go through all stages, or to where the server says no."""
        try:
            for stage in (self._connect, self._starttls, self._auth, self._mail, self._rcpt, self._data):
                self.stage = stage.__name__[1:]
                stage()
        except NotAccepted:
            pass
        except smtplib.SMTPServerDisconnected as error:
            raise Impossible(self._disconnected(error)) from error
        finally:
            self._client.close()
        return {**self.result, "stage": self.stage, "seconds": round(time.monotonic() - self._begun, 3)}

    def _connect(self) -> None:
        arguments = self._arguments
        try:
            self._hear(*self._client.connect(arguments["host"], arguments["port"]))
        except smtplib.SMTPServerDisconnected:
            raise
        except socket.gaierror as error:
            name, why = arguments["host"], error.strerror
            raise Impossible(f"{name} has no address: {why}. Is the name right?") from error
        except ConnectionRefusedError as error:
            raise Impossible(
                f"Nothing listens at {self._where} (connection refused). Is the relay running, and its port "
                "published?"
            ) from error
        except TimeoutError as error:
            raise Impossible(
                f"{self._where} did not answer within {arguments['timeout']} s. Does a firewall keep it "
                "away, or is the port not forwarded?"
            ) from error
        except OSError as error:
            why = error.strerror or str(error)
            raise Impossible(f"Cannot connect to {self._where}: {why}. Is the address right?") from error

    def _starttls(self) -> None:
        self._hear(*self._client.ehlo())
        if not self._client.has_extn("starttls"):
            raise Impossible(
                f"{self._where} offers no STARTTLS, so it gets no password. Is that the relay's port 587?"
            )
        try:
            self._hear(*self._client.starttls(context=self._context()))
        except smtplib.SMTPResponseException as error:
            self._hear(error.smtp_code, _octets(error.smtp_error))
        except ssl.SSLCertVerificationError as error:
            why = _CERTIFICATE.get(
                error.verify_code, f"is not valid: {error.verify_message}. Get another one."
            )
            raise Impossible(f"The certificate of {self._where} (asked for {self._name}) {why}") from error
        except ssl.SSLEOFError as error:
            raise smtplib.SMTPServerDisconnected(str(error)) from error
        except ssl.SSLError as error:
            raise Impossible(
                f"TLS with {self._where} failed: {error.reason or error}. Is a proxy in between?"
            ) from error
        except OSError as error:
            raise smtplib.SMTPServerDisconnected(str(error)) from error
        self._look_at_certificate()
        self._hear(*self._client.ehlo())

    def _auth(self) -> None:
        if "PLAIN" not in self._client.esmtp_features.get("auth", "").split():
            raise Impossible(f"{self._where} offers no AUTH PLAIN after STARTTLS. Is that the relay?")
        identity = f"\0{self._arguments['username']}\0{self._arguments['password']}".encode()
        self._hear(*self._client.docmd("AUTH", f"PLAIN {base64.b64encode(identity).decode()}"))

    def _mail(self) -> None:
        self._hear(*self._client.docmd("MAIL", f"FROM:<{self._arguments['sender']}>"))

    def _rcpt(self) -> None:
        self._hear(*self._client.docmd("RCPT", f"TO:<{self._arguments['recipient']}>"))

    def _data(self) -> None:
        self._hear(*self._client.docmd("DATA"))
        content = self._message.as_bytes(policy=SMTP)
        self._client.send(re.sub(rb"(?m)^\.", b"..", content) + b".\r\n")  # RFC 5321 4.5.2
        self._hear(*self._client.getreply())

    def _context(self) -> ssl.SSLContext:
        file = self._arguments["ca_file"]
        if file is not None and not Path(file).is_file():
            raise Impossible(
                f"ca_file is {file}, and there is no such file. Give a PEM file with authorities."
            )
        try:
            context = ssl.create_default_context(cafile=file)
        except ssl.SSLError as error:
            raise Impossible(
                f"ca_file {file} holds no certificate in PEM form. Give one that does."
            ) from error
        if not self._arguments["validate_certs"]:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def _look_at_certificate(self) -> None:
        assert isinstance(self._client.sock, ssl.SSLSocket)
        certificate: Any = self._client.sock.getpeercert()
        if certificate:  # it is empty where it was not validated
            self.result["certificate"] = {
                "subject": _name(certificate["subject"]),
                "issuer": _name(certificate["issuer"]),
                "not_after": certificate["notAfter"],
            }

    def _hear(self, code: int, said: bytes) -> None:
        lines = said.decode("utf-8", "replace").split("\n")
        if code // 100 not in _VERDICTS:
            raise Impossible(f"{self._where} does not speak SMTP. Is that the relay's port 587?")
        enhanced = [match for match in map(_ENHANCED.match, lines) if match is not None]
        reply = "\n".join(_ENHANCED.sub("", line, count=1) if enhanced else line for line in lines)
        relay_id = _RELAY_ID.search(reply.replace("\n", " "))
        self.result |= {
            "code": code,
            "enhanced_code": enhanced[0][1] if enhanced else "",
            "reply": reply,
            "relay_id": relay_id[1] if relay_id else "",
            "verdict": _VERDICTS[code // 100],
        }
        if self.result["verdict"] != "accepted":
            raise NotAccepted

    def _disconnected(self, error: Exception) -> str:
        stage = self.stage.upper()
        if any(isinstance(cause, TimeoutError) for cause in (error.__cause__, error.__context__)):
            seconds = self._arguments["timeout"]
            return f"{self._where} did not answer at {stage} within {seconds} s. Look at its log."
        return f"{self._where} closed the connection at {stage}. Look at its log."


def message(arguments: dict[str, Any]) -> EmailMessage:
    """Compose the message."""
    for name in ("sender", "recipient"):
        if re.fullmatch(r"[!-;=?-~]+@[!-;=?-~]+", arguments[name]) is None:
            raise Impossible(f"{name} is {arguments[name]!r}. Write an address, such as me@example.org.")
    if not arguments["subject"].isprintable():
        raise Impossible(f"subject is {arguments['subject']!r}. It must be one line.")
    mail = EmailMessage(policy=SMTP)
    mail["From"] = Address(addr_spec=arguments["sender"])
    mail["To"] = Address(addr_spec=arguments["recipient"])
    mail["Subject"] = arguments["subject"]
    mail["Date"] = localtime()
    mail["Message-ID"] = make_msgid(domain=arguments["sender"].rpartition("@")[2])
    mail.set_content(arguments["body"] + "\n")
    return mail


def _octets(said: bytes | str) -> bytes:
    return said if isinstance(said, bytes) else said.encode()


def _name(names: Any) -> str:
    return ", ".join(f"{key}={value}" for relative in names for key, value in relative)


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    if module.check_mode:
        module.exit_json(skipped=True, changed=False, msg="A check sends no message.")
    stage = "connect"
    try:
        submission = Submission(module.params)
        try:
            result = submission.run()
        finally:
            stage = submission.stage
    except Impossible as error:
        module.fail_json(msg=str(error), stage=stage)
    said = " ".join(str(part) for part in (result["code"], result["enhanced_code"], result["reply"]) if part)
    result["msg"] = f"The message was {result['verdict']} at {result['stage'].upper()}: {said}"
    if module.params["fail_on_refusal"] and result["verdict"] != "accepted":
        module.fail_json(**result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
