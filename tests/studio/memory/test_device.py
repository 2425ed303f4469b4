import pytest

from studio.errors import StudioError
from studio.memory.device import choose_device, has_nvidia_driver, survey


def test_the_survey_tells_what_the_driver_tells_or_nothing() -> None:
    cards = survey()
    if not has_nvidia_driver():
        assert cards == []
    for card in cards:
        assert card.name
        assert card.driver
        assert 0 <= card.free_bytes <= card.total_bytes
    assert [card.index for card in cards] == sorted(card.index for card in cards)


def test_asking_twice_leaves_the_driver_as_it_was() -> None:
    assert [card.name for card in survey()] == [card.name for card in survey()]


def test_a_card_is_chosen_where_there_is_one_and_refused_where_there_is_none() -> None:
    assert choose_device("cpu") == "cpu"
    if survey():
        assert choose_device("auto") == choose_device("cuda") == "cuda-0"
    else:
        assert choose_device("auto") == "cpu"
        with pytest.raises(StudioError, match="no NVIDIA card"):
            choose_device("cuda")
