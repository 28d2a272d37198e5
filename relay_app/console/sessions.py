"""Who is logged in to the console: in memory, so a restart logs everybody out."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from secrets import token_urlsafe

_IDLE = 2 * 3600.0  # seconds without a request
_LONGEST = 24 * 3600.0  # seconds since the login
_MOST = 100  # sessions; the one not used for longest is ended


@dataclass(slots=True)
class _Session:
    begun: float
    used: float


class Sessions:
    """The sessions that are alive. `clock` gives seconds and never goes back. Any thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self) -> str:
        """Begin a session. Returns its id, which cannot be guessed."""
        id = token_urlsafe(32)
        now = self._clock()
        with self._lock:
            self._sessions[id] = _Session(now, now)
            if len(self._sessions) > _MOST:
                self._sessions.popitem(last=False)
        return id

    def touch(self, id: str) -> bool:
        """Note that a session is used. Returns whether it is alive."""
        now = self._clock()
        with self._lock:
            session = self._sessions.get(id)
            if session is None:
                return False
            if now - session.used > _IDLE or now - session.begun > _LONGEST:
                del self._sessions[id]
                return False
            session.used = now
            self._sessions.move_to_end(id)
            return True

    def end(self, id: str) -> None:
        """End a session, if it is one."""
        with self._lock:
            self._sessions.pop(id, None)
