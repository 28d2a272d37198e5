"""`python -m sandbox --dir DIR`: run the sandbox until SIGTERM or SIGINT.

When everything listens, one line of JSON is printed: where the authority, the SMTP server and the control API
are, and the file with the CA's certificate. Nothing else is printed without --verbose; never a token.

Started again with the same DIR, it is the same world: see `sandbox.archive`.
"""

import argparse
import asyncio
import ipaddress
import json
import logging
import re
import signal
import sys
from contextlib import suppress
from pathlib import Path

from aiohttp import web

from sandbox.archive import Archive, ArchiveError
from sandbox.control import ControlApi
from sandbox.entra import Entra
from sandbox.outlook import Outlook
from sandbox.ports import bind

_GRACE = 0.2  # seconds that a request still open at the end is given
_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", re.IGNORECASE)
_ANYWHERE = ("", "0.0.0.0", "::")


def main() -> None:
    arguments = _arguments()
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if arguments.verbose else logging.CRITICAL,
        format="%(asctime)s %(name)s %(message)s",
    )
    logging.getLogger("asyncio").setLevel(logging.WARNING if arguments.verbose else logging.CRITICAL)
    try:
        asyncio.run(_run(arguments))
    except ArchiveError as error:
        sys.exit(f"The sandbox cannot start: {error}.")
    except OSError as error:
        sys.exit(f"The sandbox cannot start: {error}. Is the port taken, or the directory not writable?")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--dir", type=Path, required=True, help="where ca.pem is put, and what outlives the process"
    )
    parser.add_argument(
        "--host",
        type=_address,
        help="the IP address that all three services listen on; default: localhost. The control API asks for "
        "no password and can do everything here: with 0.0.0.0 or ::, let nobody else reach its port",
    )
    parser.add_argument(
        "--name",
        type=_name,
        action="append",
        default=[],
        help="one more host name or IP address for the certificates; the first is the one in the addresses "
        "that are printed. Can be given many times",
    )
    parser.add_argument(
        "--redirect-uri",
        action="append",
        default=[],
        help="one more redirect address of the confidential app, such as "
        "http://localhost:8025/sign-in/callback for the relay's console. Can be given many times",
    )
    for service in ("entra", "smtp", "control"):
        parser.add_argument(f"--{service}-port", type=int, default=0, help="0, the default: a free one")
    parser.add_argument("--verbose", action="store_true", help="log to stderr what happens")
    return parser.parse_args()


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an IP address, such as 0.0.0.0") from None


def _name(text: str) -> str:
    with suppress(ValueError):
        return str(ipaddress.ip_address(text))
    if not _HOST_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a host name, such as sandbox or mail.example.org")
    return text


async def _run(arguments: argparse.Namespace) -> None:
    stopped = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stopped.set)

    archive = Archive(arguments.dir.resolve(), arguments.name)
    world = archive.world
    world.confidential_app.register(arguments.redirect_uri)
    archive.keep()
    outlook, entra, entra_tls = Outlook(world), Entra(world), world.certificates.listener()
    control = ControlApi(world, outlook, entra_tls, archive.keep)

    entra_runner, control_runner = (
        # A client that gives up waiting takes its request back with it.
        web.AppRunner(app, access_log=None, shutdown_timeout=_GRACE, handler_cancellation=True)
        for app in (entra.app(), control.app())
    )
    host, name = arguments.host or "", _in_url([*arguments.name, "localhost"][0])
    try:
        control.smtp = f"{name}:{await outlook.start(host, arguments.smtp_port)}"
        await entra_runner.setup()
        sockets = bind(host, arguments.entra_port)
        for listener in sockets:
            await web.SockSite(entra_runner, listener, ssl_context=entra_tls.context).start()
        control.authority = entra.base = f"https://{name}:{sockets[0].getsockname()[1]}"
        await control_runner.setup()
        await web.TCPSite(control_runner, host or "127.0.0.1", arguments.control_port).start()
        here = "127.0.0.1" if host in _ANYWHERE else _in_url(host)
        ready = {
            "authority": control.authority,
            "smtp": control.smtp,
            "control": f"http://{here}:{control_runner.addresses[0][1]}",
            "ca": str(archive.ca_file),
        }
        print(json.dumps(ready), flush=True)
        await stopped.wait()
    finally:
        await outlook.stop()
        await entra_runner.cleanup()
        await control_runner.cleanup()


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


if __name__ == "__main__":
    main()
