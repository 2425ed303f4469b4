import contextlib
import threading

import pytest

from studio.engine.interrupt import Interrupted, interruptible


def test_a_block_is_broken_off_soon_after_it_is_wanted():
    wanted = threading.Event()
    rounds = []

    def work():
        for number in range(3000):
            rounds.append(number)
            with contextlib.suppress(Exception):  # as a library would
                threading.Event().wait(0.01)
            if number == 5:
                wanted.set()

    with pytest.raises(Interrupted), interruptible(wanted.is_set):
        work()
    assert 5 < len(rounds) < 3000


def test_a_block_that_nobody_wants_to_end_ends_by_itself_and_leaves_no_thread():
    with interruptible(lambda: False):
        pass
    assert "interrupt" not in {thread.name for thread in threading.enumerate()}


def test_what_goes_wrong_inside_comes_out():
    with pytest.raises(ValueError, match="x"), interruptible(lambda: False):
        raise ValueError("x")
