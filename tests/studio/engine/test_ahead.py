import threading

import pytest

from studio.engine.ahead import Ahead


def ahead_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_each_step_gets_its_own_wherever_the_loop_begins_or_jumps_to():
    ahead = Ahead(lambda step: step * step, last_step=9)
    assert [ahead.take(step) for step in (4, 5, 6, 8, 3, 9, 2, 9)] == [16, 25, 36, 64, 9, 81, 4, 81]


def test_the_next_one_is_made_while_this_one_is_used():
    made = {step: threading.Event() for step in range(1, 4)}
    ahead = Ahead(lambda step: made[step].set(), last_step=3)
    ahead.take(1)
    assert made[2].wait(10)
    # One step ahead, and no more.
    assert not made[3].is_set()


def test_nothing_is_made_beyond_the_last_step():
    asked = []
    ahead = Ahead(lambda step: asked.append(step), last_step=2)
    ahead.take(1)
    ahead.take(2)
    assert asked == [1, 2]


def test_an_error_is_raised_at_the_step_that_it_belongs_to():
    def make(step):
        if step == 2:
            raise ValueError("of step 2")
        return step

    ahead = Ahead(make, last_step=3)
    assert ahead.take(1) == 1
    with pytest.raises(ValueError, match="of step 2"):
        ahead.take(2)


@pytest.mark.parametrize("taken", [1, 2, 3])
def test_no_thread_outlives_the_loop(taken):
    let_go = threading.Event()

    def make(step):
        if step == taken + 1:
            let_go.wait(10)

    ahead = Ahead(make, last_step=3)
    for step in range(1, taken + 1):
        ahead.take(step)
    # Left in the midst of the next step's, or after the last.
    let_go.set()
    for thread in ahead_threads():
        thread.join(10)
    assert not ahead_threads()
