"""Who may log in, by what, and what for; and the brake on those who guess (draft-skardal-ndmpv4-04, 3.1.2).

NDMP itself knows no rights beyond the login (draft, 5): what an account may touch is this server's rule.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from appliance.ndmp import auth
from appliance.ndmp.enums import AuthType, ErrorCode
from appliance.ndmp.errors import RefusalError
from appliance.ndmp.networks import ANYWHERE, Networks
from appliance.ndmp.types import AuthData

LOGIN_DELAY_S = 0.5
"""Before the second attempt of a peer whose first one failed; doubled with each that fails."""

LOGIN_DELAY_MAX_S = 10.0
"""No attempt waits longer: a DMA gives up after minutes, and a person who mistyped should not."""

LOGIN_MEMORY_S = 900.0
"""A peer that failed is a new one after this time without another failure."""

PEERS_MAX = 1024
"""Peers remembered as having failed; the one that failed longest ago is forgotten for one more."""

_NOBODY = b"no account has this password"


@dataclass(frozen=True)
class Account:
    """One user of the DMA-facing port.  The clear password is needed: MD5 authentication is over it.

    Attributes:
        text: may prove itself by the password in clear text.
        subtrees: global paths it may back up or restore to; none given: all.
        restore: whether it may restore at all.
        networks: where it may come from.

    """

    password: str
    text: bool = False
    subtrees: tuple[bytes, ...] = ()
    restore: bool = True
    networks: Networks = ANYWHERE

    def covers(self, path: bytes) -> bool:
        """Whether `path`, absolute and without dots, is at or below one of the subtrees."""
        if not self.subtrees:
            return True
        slashed = path.rstrip(b"/") + b"/"
        return any(slashed.startswith(each.rstrip(b"/") + b"/") for each in self.subtrees)


class Backoff:
    """How long a peer's next attempt to log in has to wait, after attempts that failed.

    One attempt of a peer is looked at at a time, so that many connections at once guess no faster.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        # Peer → failures in a row, and when its next attempt may be looked at.
        self._peers: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._peers)

    def turn(self, peer: str) -> float | None:
        """Seconds to wait before the attempt may be looked at; None: too many wait, refuse it."""
        with self._lock:
            failures, free_at = self._peers.get(peer, (0, 0.0))
            now = self._clock()
            if not failures or now > free_at + LOGIN_MEMORY_S:
                self._peers.pop(peer, None)
                return 0.0
            wait = max(0.0, free_at - now)
            if wait > LOGIN_DELAY_MAX_S:
                return None
            # Whoever comes next waits for this one's turn and one delay more.
            self._peers[peer] = (failures, max(free_at, now) + _delay(failures))
            return wait

    def failed(self, peer: str) -> None:
        """The attempt failed."""
        with self._lock:
            failures, free_at = self._peers.pop(peer, (0, 0.0))
            failures += 1
            self._peers[peer] = (failures, max(free_at, self._clock() + _delay(failures)))
            if len(self._peers) > PEERS_MAX:
                self._peers.popitem(last=False)

    def succeeded(self, peer: str) -> None:
        """The attempt succeeded: what failed before is forgiven."""
        with self._lock:
            self._peers.pop(peer, None)


def _delay(failures: int) -> float:
    # The exponent is bounded too: 2.0 ** failures would overflow one day.
    return min(LOGIN_DELAY_MAX_S, LOGIN_DELAY_S * 2.0 ** min(failures - 1, 16))


class Accounts:
    """The accounts of one server, and its brake.  Safe to use from every session's thread."""

    def __init__(
        self,
        users: Mapping[str, Account | str],
        allow_text: bool = False,
        *,
        backoff: Backoff | None = None,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        """`users`: an account, or just its password; `allow_text`: all may use clear text."""
        self.users = {
            name: Account(given) if isinstance(given, str) else given for name, given in users.items()
        }
        self.failures = 0
        self._allow_text = allow_text
        self._backoff = Backoff() if backoff is None else backoff
        self._wait = wait

    @property
    def passwords(self) -> dict[str, str]:
        """User → password."""
        return {name: account.password for name, account in self.users.items()}

    def types(self) -> tuple[AuthType, ...]:
        """The kinds of authentication on offer."""
        text = self._allow_text or any(account.text for account in self.users.values())
        return (AuthType.MD5, AuthType.TEXT) if text else (AuthType.MD5,)

    def login(self, peer: str, data: AuthData, challenge: bytes) -> Account:
        """The account that `data` proves; blocks the caller, and nobody else, after failed attempts.

        `peer`: the address that the client comes from.  Raises RefusalError: ILLEGAL_ARGS for a kind of
        authentication that is not offered, NOT_AUTHORIZED, without saying more to the peer, for all else.
        """
        if data.type not in self.types():
            raise RefusalError(ErrorCode.ILLEGAL_ARGS, f"{data.type.name} is not offered")
        user = data.user.decode("utf-8", "replace")
        wait = self._backoff.turn(peer)
        if wait is None:
            raise self._refuse(f"too many attempts to log in from {peer}")
        if wait:
            self._wait(wait)
        why = self._reason_against(user, peer, data, challenge)
        if why:
            self._backoff.failed(peer)
            raise self._refuse(why)
        self._backoff.succeeded(peer)
        return self.users[user]

    def _refuse(self, why: str) -> RefusalError:
        self.failures += 1
        return RefusalError(ErrorCode.NOT_AUTHORIZED, why)

    def _reason_against(self, user: str, peer: str, data: AuthData, challenge: bytes) -> str:
        """Why not; empty for a good login.  What takes time is the same for users there are not."""
        account = self.users.get(user)
        password = account.password.encode() if account is not None else _NOBODY
        if data.type is AuthType.MD5:
            good = auth.verify(password, challenge, data.digest) and bool(challenge)
        else:
            good = _same(password, data.password) and bool(password)
        if account is None or not good:
            return f"wrong user or password for {user!r}"
        if data.type is AuthType.TEXT and not (self._allow_text or account.text):
            return f"{user!r} may not log in by clear text"
        if not account.networks.holds(_host(peer)):
            return f"{user!r} may not log in from {peer}"
        return ""


def _same(one: bytes, other: bytes) -> bool:
    """Compare in a time that tells neither content nor length."""
    return hmac.compare_digest(hashlib.sha256(one).digest(), hashlib.sha256(other).digest())


def _host(peer: str) -> str:
    """An address for the comparison with networks; a peer that has none is in none but `ANYWHERE`."""
    try:
        return str(ipaddress.IPv4Address(peer))
    except ValueError:
        return "0.0.0.0"  # noqa: S104 - compared, not listened on
