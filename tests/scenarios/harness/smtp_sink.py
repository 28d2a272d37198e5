"""Postfix's smtp-sink: an SMTP server that writes each message it gets into a file."""

import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from harness import programs
from harness.ports import free_port

# smtp-sink(1), "DUMP FILE FORMAT": its own fields come first, ended by a Received field of three lines.
_MAIL = re.compile(rb"X-Mail-Args: <([^>]*)>[^\n]*\n")
_RCPT = re.compile(rb"X-Rcpt-Args: <([^>]*)>[^\n]*\n")
_OWN_FIELDS = re.compile(rb"(?:X-[\w-]+: [^\n]*\n)+Received: [^\n]*\n\t[^\n]*\n\t[^\n]*\n")


@dataclass(frozen=True)
class SunkMessage:
    """One message as smtp-sink got it, with LF line ends: that is how it writes them down."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes

    @classmethod
    def parse(cls, dump: bytes) -> "SunkMessage":
        """Read one dump file."""
        own = _OWN_FIELDS.match(dump)
        assert own is not None, f"Not a dump of smtp-sink: {dump[:400]!r}"
        [sender] = _MAIL.findall(own[0])
        recipients = tuple(address.decode() for address in _RCPT.findall(own[0]))
        # smtp-sink(1): an empty line follows the message.
        return cls(sender.decode(), recipients, dump[own.end() :].removesuffix(b"\n"))


class SmtpSink:
    """smtp-sink on a free port. A message is there to be read as soon as its sender has the reply to it."""

    def __init__(self, directory: Path) -> None:
        self.host, self.port = "127.0.0.1", free_port()
        self._dumps = directory / "dumps"
        self._dumps.mkdir()
        command: list[str | Path] = [programs.find("smtp-sink")]
        if os.geteuid() == 0:
            # It insists on giving up root's rights, so the directory must be open to others.
            self._dumps.chmod(0o777)
            command += ["-u", "nobody"]
        command += ["-h", "sink.test", "-d", self._dumps / "message.", f"{self.host}:{self.port}", "128"]
        self._server = programs.Server(command)
        with self._server.stopped_on_failure():
            programs.wait_until(self._accepts, "smtp-sink accepts connections")

    def _accepts(self) -> bool:
        assert self._server.process.poll() is None, f"smtp-sink ended. It wrote:\n{self._server.output}"
        try:
            socket.create_connection((self.host, self.port), timeout=5).close()
        except ConnectionRefusedError:
            return False
        return True

    def messages(self) -> list[SunkMessage]:
        """What has arrived since the last `clear`, in no particular order."""
        return [SunkMessage.parse(path.read_bytes()) for path in self._dumps.iterdir() if path.stat().st_size]

    def clear(self) -> None:
        """Forget what has arrived."""
        for path in self._dumps.iterdir():
            path.unlink()

    def stop(self) -> None:
        """End it. It has no orderly end of its own, so the exit status says nothing."""
        self._server.stop()
