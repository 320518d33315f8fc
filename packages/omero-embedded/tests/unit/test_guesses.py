"""How long guesses of a password have to wait."""

from __future__ import annotations

from omero_embedded.people import guesses
from omero_embedded.people.guesses import FREE, FREE_OF_ADDRESS, FREE_OF_NAME, LONGEST_WAIT, MOST_KNOWN, Guesses


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def test_each_wrong_password_doubles_the_wait():
    clock, waits = Clock(), []
    watched = Guesses(clock)
    for _ in range(FREE + 9):
        waits.append(watched.wait("me", "here"))
        clock.now += waits[-1]
        assert watched.wait("me", "here") == 0
        watched.wrong("me", "here")
    assert waits == [0] * FREE + [1, 2, 4, 8, 16, 32, 60, 60, 60] and LONGEST_WAIT == 60
    assert watched.wait("me", "elsewhere") == watched.wait("you", "here") == 0


def test_a_right_password_or_time_ends_the_waiting():
    clock = Clock()
    watched = Guesses(clock)
    for _ in range(FREE):
        watched.wrong("me", "here")
    assert watched.wait("me", "here") == 1
    watched.right("me", "here")
    assert watched.wait("me", "here") == 0
    for _ in range(FREE - 1):
        watched.wrong("me", "here")
    clock.now += guesses.FORGOTTEN
    watched.wrong("me", "here")
    assert watched.wait("me", "here") == 0


def test_guesses_take_no_memory():
    watched = Guesses(Clock())
    for _ in range(FREE):
        watched.wrong("me", "here")
    for number in range(MOST_KNOWN - 1):
        watched.wrong(f"name {number}", "there")
    assert watched.wait("me", "here") > 0
    watched.wrong("one more", "there")
    assert watched.wait("me", "here") == 0 and len(watched._pairs.found) == MOST_KNOWN


def test_guesses_of_one_account_from_many_addresses():
    """Its owner, who logged in before, does not wait for the guesses of others."""
    clock = Clock()
    watched = Guesses(clock)
    watched.right("me", "home")
    for number in range(FREE_OF_NAME + 20):
        clock.now += watched.wait("me", f"there {number}")
        watched.wrong("me", f"there {number}")
    assert 0 < watched.wait("me", "one more") <= guesses.LONGEST_OF_ALL
    assert watched.wait("me", "home") == watched.wait("you", "one more") == 0
    for _ in range(FREE):
        watched.wrong("me", "home")
    assert watched.wait("me", "home") > 0


def test_guesses_of_many_accounts_from_one_address():
    """A right password for another account, which the attacker may have, does not end the waiting."""
    watched = Guesses(Clock())
    for number in range(FREE_OF_ADDRESS):
        watched.wrong(f"user {number}", "there")
    watched.right("mine", "there")
    assert watched.wait("root", "there") == 1
    assert watched.wait("root", "elsewhere") == watched.wait("mine", "there") == 0
