import contextlib
import threading

from studio.engine import interrupt
from studio.engine.interrupt import Interrupted, interruptible

PATIENCE_SECONDS = 20.0
MOST_ROUNDS = 500


def what_is_raised_by(action, is_wanted):
    """Do it as a block that may be broken off, in a thread of its own: one that is never left fails the test and does not
    keep it."""
    raised = []

    def run():
        try:
            with interruptible(is_wanted):
                action()
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive(), "the block was not left"
    return [repr(error) for error in raised]


def test_a_block_is_broken_off_soon_after_it_is_wanted():
    wanted = threading.Event()
    rounds = []

    def work():
        for number in range(MOST_ROUNDS):
            rounds.append(number)
            with contextlib.suppress(Exception):  # as a library would
                threading.Event().wait(0.01)
            if number == 5:
                wanted.set()
        raise AssertionError("nobody broke it off")

    assert what_is_raised_by(work, wanted.is_set) == ["Interrupted()"]
    assert 5 < len(rounds) < MOST_ROUNDS


def test_what_python_lets_nothing_out_of_is_broken_off_once_more(monkeypatch):
    monkeypatch.setattr(interrupt, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(interrupt, "AGAIN_SECONDS", 0.02)
    lost = []

    def rounds():
        for _ in range(MOST_ROUNDS):
            threading.Event().wait(0.01)
        raise AssertionError("nobody broke it off")

    def work():
        try:
            rounds()
        except Interrupted as error:
            lost.append(error)
        rounds()

    assert what_is_raised_by(work, lambda: True) == ["Interrupted()"]
    assert len(lost) == 1


def test_a_block_that_nobody_wants_to_end_ends_by_itself_and_leaves_no_thread():
    assert what_is_raised_by(lambda: threading.Event().wait(2 * interrupt.LOOK_SECONDS), lambda: False) == []
    assert "interrupt" not in {thread.name for thread in threading.enumerate()}


def test_what_goes_wrong_inside_comes_out():
    def fail():
        raise ValueError("x")

    assert what_is_raised_by(fail, lambda: False) == ["ValueError('x')"]
