import pytest
import wakepy
from wakepy.core import method

from studio.runs.awake import kept_awake


def test_the_computer_stays_awake_within_the_block_and_not_after_it():
    with kept_awake() as could_be_had:
        assert could_be_had
        assert [mode.name for mode in wakepy.global_modes()] == ["keep.running"]
    assert wakepy.global_modes() == []


def test_where_it_cannot_be_had_the_block_is_done_all_the_same(monkeypatch):
    monkeypatch.setenv("WAKEPY_FORCE_FAILURE", "1")
    with kept_awake() as could_be_had:
        assert not could_be_had
    assert wakepy.global_modes() == []


def test_an_error_within_the_block_is_not_swallowed_and_the_computer_may_sleep_again():
    with pytest.raises(KeyboardInterrupt), kept_awake():
        raise KeyboardInterrupt
    assert wakepy.global_modes() == []


def test_a_desktop_that_is_gone_at_the_end_spoils_nothing(monkeypatch):
    def gone(*_: object) -> None:
        raise RuntimeError("The heartbeat could not be stopped")

    monkeypatch.setattr("wakepy.core.mode.deactivate_method", gone)
    assert method.deactivate_method is not gone
    done = []
    with kept_awake():
        done.append(True)
    assert done
    wakepy.core.mode._all_modes.clear()  # what could not be let go of is not to be counted by other tests
