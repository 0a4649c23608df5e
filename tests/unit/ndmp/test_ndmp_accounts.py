"""Who may log in, by what and from where, and how fast somebody may guess."""

from __future__ import annotations

import pytest

from appliance.ndmp import accounts as accounts_module
from appliance.ndmp import auth
from appliance.ndmp.accounts import LOGIN_DELAY_MAX_S, LOGIN_MEMORY_S, PEERS_MAX, Account, Accounts, Backoff
from appliance.ndmp.enums import AuthType, ErrorCode
from appliance.ndmp.errors import RefusalError
from appliance.ndmp.networks import Networks
from appliance.ndmp.types import AuthData

CHALLENGE = bytes(range(64))
PEER = "10.77.0.41"


def md5(password: str, user: str = "dma") -> AuthData:
    """A proof of a password."""
    return AuthData(AuthType.MD5, user.encode(), b"", auth.digest(password.encode(), CHALLENGE))


def text(password: str, user: str = "dma") -> AuthData:
    """A password in clear text."""
    return AuthData(AuthType.TEXT, user.encode(), password.encode())


class Clock:
    """A clock that waiting moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


def error_of(accounts: Accounts, data: AuthData, peer: str = PEER) -> ErrorCode:
    """How a login is answered."""
    try:
        accounts.login(peer, data, CHALLENGE)
    except RefusalError as refusal:
        return refusal.code
    return ErrorCode.NO_ERR


def test_an_account_decides_whether_it_may_use_clear_text() -> None:
    """TEXT is offered once one account may use it; another that may not is refused as a wrong password is."""
    accounts = Accounts({"old": Account("secret", text=True), "dma": "secret"})
    assert accounts.types() == (AuthType.MD5, AuthType.TEXT)
    assert error_of(accounts, text("secret", "old")) is ErrorCode.NO_ERR
    assert error_of(accounts, text("secret", "dma")) is ErrorCode.NOT_AUTHORIZED
    assert error_of(accounts, md5("secret", "dma")) is ErrorCode.NO_ERR


def test_clear_text_is_off_unless_somebody_says_so() -> None:
    """Without a word in configuration or accounts file only MD5 is offered."""
    accounts = Accounts({"dma": "secret"})
    assert accounts.types() == (AuthType.MD5,)
    assert error_of(accounts, text("secret")) is ErrorCode.ILLEGAL_ARGS
    assert error_of(Accounts({"dma": "secret"}, allow_text=True), text("secret")) is ErrorCode.NO_ERR


def test_an_account_is_good_in_its_networks_only() -> None:
    """The right password from the wrong place is refused."""
    accounts = Accounts({"dma": Account("secret", networks=Networks(["10.77.0.0/24"]))})
    assert error_of(accounts, md5("secret"), "10.77.0.41") is ErrorCode.NO_ERR
    assert error_of(accounts, md5("secret"), "10.78.0.41") is ErrorCode.NOT_AUTHORIZED


@pytest.mark.parametrize(
    ("path", "covered"),
    [
        (b"/projects", True),
        (b"/projects/a", True),
        (b"/projects2", False),
        (b"/", False),
        (b"/home/x/y", True),
        (b"/home", False),
    ],
)
def test_subtrees_are_compared_by_component(path: bytes, covered: bool) -> None:
    """A neighbour whose name begins alike is outside, and so is everything above."""
    assert Account("x", subtrees=(b"/projects", b"/home/x")).covers(path) is covered
    assert Account("x").covers(path)


def test_failures_make_the_next_attempts_wait_longer_up_to_a_bound() -> None:
    """The first attempt never waits; each failure doubles the delay, to ten seconds; success forgives all."""
    clock = Clock()
    accounts = Accounts({"dma": "secret"}, backoff=Backoff(clock), wait=clock.wait)
    for _ in range(8):
        assert error_of(accounts, md5("wrong")) is ErrorCode.NOT_AUTHORIZED
    assert clock.waits == [0.5, 1.0, 2.0, 4.0, 8.0, LOGIN_DELAY_MAX_S, LOGIN_DELAY_MAX_S]
    assert accounts.failures == 8
    assert error_of(accounts, md5("secret")) is ErrorCode.NO_ERR
    clock.waits.clear()
    assert error_of(accounts, md5("wrong")) is ErrorCode.NOT_AUTHORIZED
    assert clock.waits == []


def test_one_peer_does_not_slow_another() -> None:
    """Failures of one address leave the first attempt of every other one undelayed."""
    clock = Clock()
    accounts = Accounts({"dma": "secret"}, backoff=Backoff(clock), wait=clock.wait)
    for _ in range(3):
        error_of(accounts, md5("wrong"))
    clock.waits.clear()
    assert error_of(accounts, md5("secret"), "10.77.0.42") is ErrorCode.NO_ERR
    assert clock.waits == []


def test_many_connections_at_once_guess_no_faster() -> None:
    """Attempts at the same time wait one after the other; when too many wait, the rest are refused."""
    backoff = Backoff(Clock())
    for _ in range(4):
        backoff.failed(PEER)
    turns = [backoff.turn(PEER) for _ in range(6)]
    assert turns == [4.0, 8.0, None, None, None, None]


def test_failures_are_forgotten_and_their_number_is_bounded() -> None:
    """A peer that behaves for a while is new again; a flood of peers costs a fixed amount of memory."""
    clock = Clock()
    backoff = Backoff(clock)
    backoff.failed(PEER)
    clock.now += LOGIN_MEMORY_S + 10
    assert backoff.turn(PEER) == 0.0
    for number in range(PEERS_MAX + 50):
        backoff.failed(str(number))
    assert len(backoff) == PEERS_MAX
    assert backoff.turn(str(PEERS_MAX)) == 0.5


def test_a_thousand_failures_are_no_overflow() -> None:
    """The delay stays at its bound for ever."""
    clock = Clock()
    backoff = Backoff(clock)
    for _ in range(2000):
        backoff.failed(PEER)
        clock.now += 100
    backoff.failed(PEER)
    assert backoff.turn(PEER) == LOGIN_DELAY_MAX_S


@pytest.mark.parametrize(
    "given", [md5("", "nobody"), md5("", "dma"), text("", "nobody"), text("x", "nobody")]
)
def test_nobody_is_let_in_without_an_account(given: AuthData) -> None:
    """Unknown users and empty passwords prove nothing, not even by the stand-in that is compared with."""
    accounts = Accounts({"dma": "secret"}, allow_text=True)
    assert error_of(accounts, given) is ErrorCode.NOT_AUTHORIZED
    stand_in = accounts_module._NOBODY.decode()
    assert error_of(accounts, text(stand_in, "nobody"), "10.0.0.9") is ErrorCode.NOT_AUTHORIZED
