import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio import places
from studio.errors import DataError, NotFoundError, RecipeError, StudioError
from studio.recipe.fields import FIELDS, from_dict, get, replaced
from studio.recipe.recipe import Recipe
from studio.recipe.toml import dump, load, parse, resolve_data, save
from tests.studio.recipe.contract import CONTRACT
from tests.studio.recipe.strategies import sound_recipes

KEYS = st.sampled_from(sorted({part for entry in FIELDS for part in entry.path.split(".")} | {"schema"}))


def problems_in(text: str) -> dict[str, str]:
    with pytest.raises(RecipeError) as caught:
        parse(text)
    return {problem.field: f"{problem.message} {problem.fix}" for problem in caught.value.problems}


# --- reading -------------------------------------------------------------------------------------------------------


def test_the_contract_shows_the_defaults() -> None:
    assert parse(CONTRACT) == Recipe()


def test_the_contract_names_every_setting_but_the_alternatives() -> None:
    for entry in FIELDS:
        named = f"\n{entry.key} = " in CONTRACT
        assert named == (get(Recipe(), entry.path) is not None), entry.path


def test_a_short_file_takes_the_rest_from_the_defaults() -> None:
    recipe = parse('[base]\nid = "mine"\n[training]\nsteps = 5\n')
    assert (recipe.base.id, recipe.training.steps, recipe.training.epochs) == ("mine", 5, None)
    assert recipe.keep == Recipe().keep


def test_three_mistakes_are_three_problems_in_one_error() -> None:
    found = problems_in(
        """
        [data]
        max_tokens = "long"
        [training]
        leraning_rate = 1e-4
        micro_batch_rows = 32
        batch_rows = 16
        """
    )
    assert set(found) == {"data.max_tokens", "training.leraning_rate", "training.micro_batch_rows"}
    assert '"long"' in found["data.max_tokens"]
    assert "from 16 to 1048576" in found["data.max_tokens"]
    assert "training.learning_rate" in found["training.leraning_rate"]
    assert "raise training.batch_rows" in found["training.micro_batch_rows"]


@pytest.mark.parametrize(
    ("text", "field", "nearest"),
    [
        ("[adapter]\nlora_alpha = 8", "adapter.lora_alpha", "adapter.alpha"),
        ("[data]\nlearning_rate = 1e-4", "data.learning_rate", "training.learning_rate"),
        ("[trainig]\nsteps = 4", "trainig", "[training]"),
        ("nmae = 'x'", "nmae", "name"),
        ("[base]\nquantization = 'nf4'", "base.quantization", "base.quantisation"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(text: str, field: str, nearest: str) -> None:
    assert f"Write {nearest} instead" in problems_in(text)[field]


def test_an_unknown_key_like_no_other_is_still_refused() -> None:
    assert set(problems_in('"a.b c" = 1\nzzz = 2')) == {'"a.b c"', "zzz"}


@pytest.mark.parametrize(
    ("text", "field", "wanted"),
    [
        ("[adapter]\nrank = 0", "adapter.rank", "0 is not a whole number from 1 to 1024"),
        ("[adapter]\nrank = 8.0", "adapter.rank", "8.0 is not a whole number"),
        ("[adapter]\nrank = true", "adapter.rank", "true is not a whole number"),
        (f"[adapter]\nrank = 0x{'f' * 5000}", "adapter.rank", "a number far too large is not"),
        ("[training]\nlearning_rate = nan", "training.learning_rate", "nan is not a number from 1e-8 to 0.1"),
        ("[training]\nlearning_rate = 5", "training.learning_rate", "5 is not a number from 1e-8 to 0.1"),
        ("[training]\nschedule = 'sine'", "training.schedule", '"cosine", "linear", "constant"'),
        ("[memory]\ncheckpointing = 0", "memory.checkpointing", '"none" or a whole number from 1 to 1000'),
        ("[memory]\noffload = 1", "memory.offload", "1 is not true or false"),
        ("[adapter]\ntargets = []", "adapter.targets", "or a list of module names"),
        ("[keep]\nsample_prompts = 'Hi'", "keep.sample_prompts", '"Hi" is not a list'),
        ("name = ''", "name", '"" is not a text'),
        ("data = 3", "data", "Write [data]"),
        ("[[data]]\nmax_tokens = 64", "data", "Write [data]"),
        ("schema = 0", "schema", "Write schema = 1"),
        ("schema_version = 1", "schema_version", "the nearest is schema"),
        ("[training]\nepochs = 1\nsteps = 5", "training.epochs", "Keep one of training.epochs and training.steps"),
        ("[data]\nmax_tokens = 1979-05-27", "data.max_tokens", "1979-05-27 is not a whole number"),
    ],
)
def test_a_bad_value_is_told_with_what_was_seen_and_what_is_allowed(text: str, field: str, wanted: str) -> None:
    found = problems_in(text)
    assert list(found) == [field]
    assert wanted in found[field]


def test_a_bad_value_is_not_blamed_for_a_contradiction_with_its_default() -> None:
    found = problems_in('[data]\nmax_tokens = "long"\n[training]\nmicro_batch_tokens = 512')
    assert list(found) == ["data.max_tokens"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("schema = 1\nname = pirate\n", 2),
        ("name = 'a'\nname = 'b'\n", 2),
        ("[data]\n\n[keep]\nsample_prompts = [\n", 4),
    ],
)
def test_broken_toml_names_the_line(text: str, line: int) -> None:
    assert f"line {line} " in problems_in(text)[""]


@pytest.mark.parametrize("text", ["a = " + "[" * 20_000, "a = " + "1" * 5000], ids=["deep", "long"])
def test_hostile_toml_is_refused(text: str) -> None:
    assert "too large" in problems_in(text)[""]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@given(raw=st.dictionaries(KEYS, ANYTHING, max_size=4))
def test_any_values_make_a_recipe_or_a_recipe_error(raw: dict[str, object]) -> None:
    problems = []
    try:
        recipe = from_dict(raw)
        assert parse(dump(recipe)) == recipe
    except RecipeError as error:
        problems = error.problems
    assert all(problem.field and problem.message and problem.fix for problem in problems)


def test_a_newer_file_is_refused_without_guessing_at_it() -> None:
    found = problems_in("schema = 2\n[brain]\nsize = 3")
    assert list(found) == ["schema"]
    assert "Update Overlay Studio" in found["schema"]


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        load(tmp_path / "none.toml")


def test_a_folder_and_a_binary_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StudioError):
        load(tmp_path)
    binary = tmp_path / "recipe.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match=r"recipe\.toml has one problem"):
        load(binary)


# --- writing -------------------------------------------------------------------------------------------------------


@given(recipe=sound_recipes())
def test_any_recipe_survives_its_file(recipe: Recipe) -> None:
    assert parse(dump(recipe)) == recipe


def test_a_fresh_file_looks_like_the_contract() -> None:
    without_comments = [line.partition("#")[0].rstrip() for line in dump(Recipe()).splitlines()]
    assert without_comments == [line.partition("#")[0].rstrip() for line in CONTRACT.splitlines()]
    assert "# nf4 | fp4 | int8 | none" in dump(Recipe())


@given(recipe=sound_recipes())
def test_saving_over_a_file_gives_the_recipe_and_keeps_the_comments(recipe: Recipe) -> None:
    owned = "# my notes\n\n[training] # how\nlearning_rate = 2e-4 # careful\n\n# the base\n[base]\nid = 'x' # mine\n"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.toml"
        path.write_text(owned, encoding="utf-8")
        save(recipe, path)
        text = path.read_text(encoding="utf-8")
        assert load(path) == recipe
    for comment in ("# my notes", "[training] # how", "# careful", "# the base\n[base]", "# mine"):
        assert comment in text


def test_only_the_changed_value_changes(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(CONTRACT.replace("rank = 16", "rank = 16   # found by trial"), encoding="utf-8")
    save(replaced(load(path), "adapter.rank", 8), path)
    expected = CONTRACT.replace("rank = 16", "rank = 8   # found by trial").replace("alpha = 32", "alpha = 16")
    assert path.read_text(encoding="utf-8") == expected


def test_steps_take_the_place_of_epochs(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(CONTRACT, encoding="utf-8")
    save(replaced(Recipe(), "training.steps", 200), path)
    assert path.read_text(encoding="utf-8") == CONTRACT.replace(
        "epochs = 3                  # or: steps = 200", "steps = 200                 # or: epochs = 3"
    )
    save(Recipe(), path)
    assert path.read_text(encoding="utf-8") == CONTRACT


@pytest.mark.parametrize("text", ["no toml at all", "data = 3\n", "data.path = 'x'\n", "base = {id = 'x'}\n", "\ufeff"])
def test_an_odd_file_is_replaced_by_a_sound_one(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    save(Recipe(), path)
    assert load(path) == Recipe()


def test_a_recipe_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(StudioError):
        save(Recipe(), tmp_path)


# --- the dataset ---------------------------------------------------------------------------------------------------


def test_data_is_found_beside_the_recipe_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside, here, shipped = (tmp_path / name for name in ("beside", "here", "shipped"))
    for folder in (beside, here, shipped):
        folder.mkdir()
        (folder / "rows.jsonl").touch()
    monkeypatch.chdir(here)
    monkeypatch.setattr(places, "RESOURCES", shipped)
    for folder in (beside, here, shipped):
        assert resolve_data("rows.jsonl", beside) == (folder / "rows.jsonl").resolve()
        (folder / "rows.jsonl").unlink()
    with pytest.raises(DataError) as caught:
        resolve_data("rows.jsonl", beside)
    assert all(str(folder) in caught.value.message for folder in (beside, here, shipped))


def test_an_absolute_path_is_taken_as_it_stands(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.touch()
    assert resolve_data(str(rows), None) == rows.resolve()
    with pytest.raises(DataError):
        resolve_data(str(tmp_path / "none.jsonl"), tmp_path)
