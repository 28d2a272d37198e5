"""Stock aiosmtpd that accepts and forgets: `python -m bench.accept_only PORT CERT KEY`.

STARTTLS and AUTH as at the relay, any password. It has no upstream: it is what taking mail in costs with the
library as it comes.
"""

import asyncio
import ssl
import sys
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult

_MESSAGE_LIMIT = 64 * 2**20


class _Forget:
    async def handle_DATA(self, *_: Any) -> str:  # noqa: N802 - aiosmtpd finds hooks by this name
        return "250 2.0.0 OK"


async def _serve(port: int, cert: str, key: str) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(cert, key)

    def session() -> SMTP:
        return SMTP(
            _Forget(),
            hostname="accept.example.org",
            data_size_limit=_MESSAGE_LIMIT,
            tls_context=tls,
            require_starttls=True,
            authenticator=lambda *_: AuthResult(success=True),
            auth_required=True,
            loop=asyncio.get_running_loop(),
        )

    server = await asyncio.get_running_loop().create_server(session, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), *sys.argv[2:4]))
