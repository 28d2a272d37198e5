"""`python -m sandbox --dir DIR`: run the sandbox until SIGTERM or SIGINT.

When everything listens, one line of JSON is printed: where the authority, the SMTP server and the control API
are, and the file with the CA's certificate. Nothing else is printed without --verbose; never a token.
"""

import argparse
import asyncio
import json
import logging
import signal
import sys
from pathlib import Path

from aiohttp import web

from sandbox.certificates import Certificates
from sandbox.control import ControlApi
from sandbox.entra import Entra
from sandbox.outlook import Outlook
from sandbox.ports import bind_local
from sandbox.world import World

_GRACE = 0.2  # seconds that a request still open at the end is given


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
    except OSError as error:
        sys.exit(f"The sandbox cannot start: {error}. Is the port taken, or the directory not writable?")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__.partition("\n")[0])
    parser.add_argument("--dir", type=Path, required=True, help="where ca.pem is put; made if missing")
    for service in ("entra", "smtp", "control"):
        parser.add_argument(f"--{service}-port", type=int, default=0, help="0, the default: a free one")
    parser.add_argument("--verbose", action="store_true", help="log to stderr what happens")
    return parser.parse_args()


async def _run(arguments: argparse.Namespace) -> None:
    stopped = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stopped.set)

    certificates = Certificates()
    arguments.dir.mkdir(parents=True, exist_ok=True)
    ca = arguments.dir.resolve() / "ca.pem"
    certificates.write_ca(ca)
    world = World(certificates)
    outlook, entra, entra_tls = Outlook(world), Entra(world), certificates.listener()
    control = ControlApi(world, outlook, entra_tls)

    entra_runner, control_runner = (
        # A client that gives up waiting takes its request back with it.
        web.AppRunner(app, access_log=None, shutdown_timeout=_GRACE, handler_cancellation=True)
        for app in (entra.app(), control.app())
    )
    try:
        smtp_port = await outlook.start(arguments.smtp_port)
        await entra_runner.setup()
        sockets = bind_local(arguments.entra_port)
        for listener in sockets:
            await web.SockSite(entra_runner, listener, ssl_context=entra_tls.context).start()
        entra.base = f"https://localhost:{sockets[0].getsockname()[1]}"
        await control_runner.setup()
        await web.TCPSite(control_runner, "127.0.0.1", arguments.control_port).start()
        control_port = control_runner.addresses[0][1]
        ready = {
            "authority": entra.base,
            "smtp": f"localhost:{smtp_port}",
            "control": f"http://127.0.0.1:{control_port}",
            "ca": str(ca),
        }
        print(json.dumps(ready), flush=True)
        await stopped.wait()
    finally:
        await outlook.stop()
        await entra_runner.cleanup()
        await control_runner.cleanup()


if __name__ == "__main__":
    main()
