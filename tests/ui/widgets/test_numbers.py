"""Numbers as people type them, under the locales that break other programs."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PySide6.QtCore import QLocale

from ui.widgets import numbers
from ui.widgets.controls import NumberField


@pytest.fixture(params=["en_GB", "de_DE", "fr_FR", "C"])
def _locale(request: pytest.FixtureRequest) -> Iterator[None]:
    before = QLocale()
    QLocale.setDefault(QLocale(request.param))
    yield
    QLocale.setDefault(before)


@pytest.mark.usefixtures("_locale")
@pytest.mark.parametrize(
    ("text", "value"),
    [("2e-4", 2e-4), ("2,0e-4", 2e-4), ("0.05", 0.05), ("0,05", 0.05), ("1.234,5", 1234.5), ("-3", -3.0)],
)
def test_a_float_is_read_with_point_or_comma(text: str, value: float) -> None:
    assert numbers.parse_float(text) == pytest.approx(value)


@pytest.mark.usefixtures("_locale")
@pytest.mark.parametrize("text", ["2048", "2,048", "2.048", "2 048", "2\u202f048", "2'048"])
def test_a_whole_number_is_read_whatever_parts_its_thousands(text: str) -> None:
    assert numbers.parse_int(text) == 2048


@pytest.mark.parametrize("text", ["", "two", "1.5", "1,5", "2e", "--3", "nan", "inf"])
def test_what_is_no_whole_number_is_refused(text: str) -> None:
    assert numbers.parse_int(text) is None


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "1e999", "2e-"])
def test_what_is_no_finite_number_is_refused(text: str) -> None:
    assert numbers.parse_float(text) is None


@pytest.mark.usefixtures("_locale")
def test_what_is_written_is_read_back() -> None:
    for value in (0, 7, 999, 1000, 2048, 1_234_567, -4096):
        assert numbers.parse_int(numbers.format_int(value)) == value
    for number in (0.0, 2e-4, 3e-5, 0.05, 1.0, 1.5, 250.0, 2.5e7):
        assert numbers.parse_float(numbers.format_float(number)) == pytest.approx(number)


def test_small_numbers_are_written_as_people_write_them() -> None:
    assert numbers.format_float(2e-4) == "2e-4"
    assert numbers.format_float(0.05) == "0.05"


@given(st.floats(1e-8, 1e5))
def test_stepping_up_and_down_moves_the_right_way(value: float) -> None:
    assert numbers.step_float(value, 1) > value > numbers.step_float(value, -1) >= 0


@pytest.mark.usefixtures("_locale")
def test_a_learning_rate_typed_with_a_comma_arrives_as_a_number(qtbot) -> None:
    field = NumberField(1e-4, minimum=1e-6, maximum=1e-2, whole=False)
    qtbot.addWidget(field)
    field.clear()
    with qtbot.waitSignal(field.value_changed):
        qtbot.keyClicks(field, "2,5e-4")
    assert field.value() == pytest.approx(2.5e-4)
