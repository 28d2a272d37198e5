"""How much each mailbox uses Outlook at this moment: connections, messages a minute, recipients a day."""

from collections import defaultdict, deque

from sandbox.clock import Clock
from sandbox.limits import Limits

_MINUTE, _DAY = 60.0, 86_400.0


class Usage:
    """Mailboxes are named by their primary address in lower case."""

    def __init__(self, clock: Clock, limits: Limits) -> None:
        self._clock = clock
        self._limits = limits
        self._connections: defaultdict[str, list[int]] = defaultdict(list)
        self._messages: defaultdict[str, deque[float]] = defaultdict(deque)
        self._recipients: defaultdict[str, deque[tuple[float, int]]] = defaultdict(deque)

    def connect(self, mailbox: str, connection: int) -> int:
        """An authenticated connection begins. Returns how many the mailbox has now."""
        self._connections[mailbox].append(connection)
        return len(self._connections[mailbox])

    def disconnect(self, mailbox: str, connection: int) -> None:
        self._connections[mailbox].remove(connection)

    def connections(self, mailbox: str) -> int:
        return len(self._connections[mailbox])

    def authenticated(self) -> int:
        """Authenticated connections of all mailboxes."""
        return sum(map(len, self._connections.values()))

    def too_many_connections(self, mailbox: str, connection: int) -> bool:
        """Whether this connection is one more than allowed. The older ones may go on."""
        limit = self._limits.connections_per_mailbox
        return bool(limit) and self._connections[mailbox].index(connection) >= limit

    def begin_message(self, mailbox: str) -> bool:
        """Count one more message; False when the mailbox has had its messages for this minute."""
        limit = self._limits.messages_per_minute
        if not limit:
            return True
        now, times = self._clock.now(), self._messages[mailbox]
        while times and times[0] <= now - _MINUTE:
            times.popleft()
        if len(times) >= limit:
            return False
        times.append(now)
        return True

    def over_quota(self, mailbox: str, recipients: int) -> bool:
        """Whether so many more recipients are too many for these 24 hours."""
        limit = self._limits.recipients_per_day
        if not limit:
            return False
        used = self._recipients[mailbox]
        while used and used[0][0] <= self._clock.now() - _DAY:
            used.popleft()
        return sum(count for _, count in used) + recipients > limit

    def sent(self, mailbox: str, recipients: int) -> None:
        """A message to so many was taken."""
        if self._limits.recipients_per_day:
            self._recipients[mailbox].append((self._clock.now(), recipients))

    def reset(self) -> None:
        """Forget messages and recipients; connections are what they are."""
        self._messages.clear()
        self._recipients.clear()
