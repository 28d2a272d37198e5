"""`python -m sandbox.health http://127.0.0.1:PORT`: whether the sandbox whose control API is there is up.

Exit status 0: it is; 1: it is not. Needs nothing but Python, and little of it: containers ask often. One
event loop serves everything, and the control API begins last: when it answers, so do the others.
"""

import http.client
import json
import sys
import urllib.request

_SECONDS = 5
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m sandbox.health http://127.0.0.1:PORT")
    url = sys.argv[1].rstrip("/")
    try:
        with _DIRECT.open(f"{url}/world", timeout=_SECONDS) as answer:
            world = json.load(answer)
            print(f"up: {world['authority']}, {world['smtp']}")
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        sys.exit(f"The sandbox does not answer at {url}: {error}")


if __name__ == "__main__":
    main()
