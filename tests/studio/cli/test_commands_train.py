"""What `overlay train` and `overlay resume` do around a run; the run itself is another's business."""

import re
import shlex
from pathlib import Path

import pytest
import wakepy

from studio import files
from studio.cli import commands_train
from studio.cli.follow import raise_failure
from studio.data.formats import Mapping
from studio.errors import DivergedError
from studio.places import Workspace
from studio.runs import events as e
from studio.runs.create import read_job
from studio.runs.folder import RunFolder, list_runs
from tests.studio.cli.conftest import Overlay
from tests.studio.library.folders import LORA, write_safetensors


@pytest.mark.parametrize(("options", "modes"), [([], ["keep.running"]), (["--let-sleep"], [])])
def test_the_computer_stays_awake_while_a_run_is_done_unless_it_may_sleep(
    overlay: Overlay, recipe: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], modes: list[str]
) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(
        commands_train, "do_run", lambda *_: seen.append([str(mode.name) for mode in wakepy.global_modes()])
    )
    assert overlay("train", recipe, "--device", "cpu", *options).code == 0
    assert overlay("resume", "try", *options).code == 0
    assert seen == [modes, modes]
    assert wakepy.global_modes() == []


def test_a_computer_that_may_fall_asleep_all_the_same_is_told_of(
    overlay: Overlay, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands_train, "do_run", lambda *_: None)
    monkeypatch.setenv("WAKEPY_FORCE_FAILURE", "1")
    answer = overlay("train", recipe, "--device", "cpu", "--json")
    assert answer.code == 0
    assert "falling asleep" in answer.err
    assert answer.out == ""


def test_a_dataset_is_learnt_from_by_the_columns_that_were_confirmed(
    overlay: Overlay, recipe: Path, workspace: Workspace, untrained: list[RunFolder], tmp_path: Path
) -> None:
    data = tmp_path / "fragen.jsonl"
    data.write_text('{"Frage": "Wer?", "Antwort": "Ich."}\n' * 4)
    refused = overlay("train", recipe, "--data", data)
    assert refused.code == 2
    assert overlay("data", data).err == refused.err
    (words,) = re.findall(r"overlay (data .*)", refused.err)
    assert overlay(*shlex.split(words)).code == 0
    assert overlay("train", recipe, "--data", data).code == 0
    run = untrained.pop()
    assert read_job(run).mapping == Mapping("Frage", "Antwort")
    # Forgotten since, it is still the run's, and that of a run which begins from it.
    (remembered,) = workspace.mappings.iterdir()
    remembered.unlink()
    assert overlay("resume", run.id).code == 0
    assert overlay("train", "--from", run.id).code == 0
    assert read_job(untrained.pop()).mapping == Mapping("Frage", "Antwort")
    # Another one than the run began with is another input.
    assert overlay("data", data, "--map", "answer=Frage").code == 0
    answer = overlay("resume", run.id)
    assert (answer.code, "column mapping" in answer.err) == (2, True)


# --- a new run from another one --------------------------------------------------------------------------------------


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> list[RunFolder]:
    """The runs that were begun instead of being done."""
    begun: list[RunFolder] = []
    monkeypatch.setattr(commands_train, "do_run", lambda _workspace, run, *_: begun.append(run))
    return begun


@pytest.fixture
def parent(overlay: Overlay, recipe: Path, workspace: Workspace, untrained: list[RunFolder]) -> RunFolder:
    """A run that has saved its second step."""
    assert overlay("train", recipe, "--device", "cpu").code == 0
    run = untrained.pop()
    with files.new_folder(run.checkpoint(2)) as folder:
        write_safetensors(folder / "adapter.safetensors", LORA)
    run.events.post(e.Failed(kind="diverged", message="The loss is no number.", hint="Try less."))
    return run


def test_a_run_is_begun_again_from_its_checkpoint_with_another_rate_and_without_a_recipe_file(
    overlay: Overlay, parent: RunFolder, untrained: list[RunFolder]
) -> None:
    answer = overlay("train", "--from", parent.id, "--set", "training.learning_rate=6.7e-05", "--set", "keep.notes=")
    assert answer.code == 2
    answer = overlay("train", "--from", parent.id, "--set", "training.learning_rate=6.7e-05")
    assert answer.code == 0, answer.err
    assert f"as that of {parent.name} at step 2" in answer.out
    (child,) = untrained
    was, now = read_job(parent), read_job(child)
    assert now.recipe.training.learning_rate == 6.7e-05
    assert now.recipe.adapter == was.recipe.adapter
    assert (now.data, now.device, child.name) == (was.data, "cpu", parent.name)
    assert child.job["parent"]["run"] == parent.id
    assert child.start.read_bytes() == (parent.checkpoint(2) / "adapter.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--from", "nobody"], "no run and no adapter called nobody"),
        ([], "no RECIPE"),
        (["--from", "PARENT", "--set", "adapter.rank=4"], "rank 2 instead of 4"),
        (["--from", "PARENT", "--set", "training.lerning_rate=1"], "learning_rate"),
        (["--from", "PARENT", "--set", "training.learning_rate"], "gives no value"),
        (["--from", "PARENT", "--set", "training.learning_rate=high"], "learning_rate"),
    ],
)
def test_what_cannot_be_begun_is_told_and_leaves_no_run(
    overlay: Overlay, workspace: Workspace, parent: RunFolder, arguments: list[str], words: str
) -> None:
    answer = overlay("train", *(parent.id if each == "PARENT" else each for each in arguments))
    assert (answer.code, words in answer.err) == (2, True), answer.err
    assert [run.id for run in list_runs(workspace)] == [parent.id]


def test_the_way_on_after_a_changed_dataset_is_named_as_a_command_that_works(
    overlay: Overlay, recipe: Path, parent: RunFolder, untrained: list[RunFolder]
) -> None:
    with open(recipe.parent / "rows.jsonl", "a") as file:
        file.write("\n")
    command = re.findall(r"`overlay (train [^`]+)`", overlay("resume", parent.id).err)
    assert len(command) == 1
    assert overlay(*shlex.split(command[0])).code == 0
    assert untrained[0].job["inputs"]["dataset"] != parent.job["inputs"]["dataset"]


def test_the_way_on_after_a_lost_loss_is_named_as_a_command_that_works(
    overlay: Overlay, parent: RunFolder, untrained: list[RunFolder]
) -> None:
    with pytest.raises(DivergedError) as caught:
        raise_failure(parent.events.read()[-1], parent)
    command = re.findall(r"`overlay (train [^`]+)`", caught.value.hint)
    assert len(command) == 1
    assert overlay(*shlex.split(command[0])).code == 0
    rates = [read_job(run).recipe.training.learning_rate for run in (parent, untrained[0])]
    assert rates[1] == pytest.approx(rates[0] / 3, rel=0.05)
