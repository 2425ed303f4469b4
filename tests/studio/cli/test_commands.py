"""Shapes, exit codes and words of the commands that need no engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from studio.cli import commands_doctor
from studio.memory.device import Gpu
from studio.places import Workspace
from studio.recipe.toml import load
from studio.runs import events as e
from studio.runs.card_lease import card_lease
from studio.runs.create import create_run
from studio.runs.folder import RunFolder
from studio.runs.processes import own_start
from tests.studio.cli.conftest import Overlay
from tests.studio.library.folders import CONFIG, facts, make_adapter, make_base
from tests.studio.library.test_promote import checkpoint

COMMANDS = (
    *("doctor", "bases", "data", "estimate", "train", "resume", "pause"),
    *("stop", "runs", "adapters", "chat", "merge", "demo"),
)
GONE_PID = 2**22 + 1  # above the largest pid that Linux gives away by default


def a_run(workspace: Workspace, recipe: Path, *events: e.Event) -> RunFolder:
    run = create_run(workspace, load(recipe), device="cpu", recipe_folder=recipe.parent)
    for event in events:
        run.events.post(event)
    return run


def step(number: int) -> e.StepTaken:
    return e.StepTaken(
        step=number, epoch=0.1, loss=3.0 / number, learning_rate=1e-3, grad_norm=1.0, num_tokens=9, num_supervised=5, seconds=0.5
    )  # fmt: skip


def test_the_command_needs_neither_torch_nor_qt() -> None:
    code = (
        "import sys, studio.cli; print([n for n in ('torch', 'transformers', 'peft', 'PySide6') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_module_can_be_run(tmp_path: Path) -> None:
    environment = {**os.environ, "OVERLAY_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "studio.cli", "runs", "--json"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, [], "")


def test_every_command_explains_itself(overlay: Overlay, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        overlay("--help")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for name in COMMANDS:
        assert f"\n    {name} " in text
        with pytest.raises(SystemExit) as caught:
            overlay(name, "--help")
        assert caught.value.code == 0
        assert len(capsys.readouterr().out.splitlines()) > 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "COMMAND"),
        (["nonsense"], "nonsense"),
        (["train"], "RECIPE"),
        (["demo", "--steps", "0"], "0 is not a whole number from 1"),
        (["chat", "--prompt", "x", "--temperature", "hot"], "hot is not a number"),
        (["runs", "--device", "tpu"], "tpu"),
        (["merge", "x", "--out", "y", "--dtype", "int8"], "int8"),
        (["train", "none.toml"], "none.toml"),
        (["train", "none.toml", "--processes", "0"], "0 is not a whole number from 1"),
        (["data", "none.jsonl"], "none.jsonl"),
        (["estimate", "none.toml"], "none.toml"),
        (["resume", "none"], "none"),
        (["stop", "none"], "none"),
        (["pause", "none"], "none"),
        (["runs", "show", "none"], "none"),
        (["adapters", "show", "none"], "none"),
        (["adapters", "import", "none"], "none"),
        (["adapters", "restore", "none"], "none"),
        (["merge", "none", "--out", "somewhere"], "none"),
        (["chat", "--prompt", "x"], "No base"),
        (["chat", "--prompt", "x", "--base", "none"], "none"),
        (["chat", "--prompt", "x", "--lanes", "base,none"], "none"),
        (["bases", "add", "someone/model"], "someone/model"),
        (["bases", "add", "--name", "x", "nowhere.gguf"], "nowhere.gguf"),
    ],
)
def test_what_the_user_can_mend_is_told_in_two_sentences(overlay: Overlay, arguments: list[str], words: str) -> None:
    answer = overlay(*arguments)
    assert (answer.code, answer.out) == (2, "")
    said, hint = answer.err.strip().split("\n")
    assert said.startswith("overlay: ")
    assert words in said
    assert len(hint) > 10


def test_a_run_is_not_shared_among_more_processes_than_there_are_cards(
    overlay: Overlay, workspace: Workspace, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studio.cli.commands_train.choose_device", lambda _: "cuda-0")
    monkeypatch.setattr("studio.cli.commands_train.survey", lambda: [Gpu("RTX", 24 << 30, 20 << 30, "580", 0)])
    answer = overlay("train", recipe, "--processes", "2")
    assert (answer.code, answer.out) == (2, "")
    assert "2 processes need 2 cards; this computer has 1." in answer.err
    assert not workspace.runs.exists()


def test_a_mistake_of_ours_is_one_sentence_and_a_log(
    overlay: Overlay, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("by our fault")

    monkeypatch.setattr("studio.cli.commands_runs.list_runs", fail)
    answer = overlay("runs", "--json")
    assert (answer.code, answer.out, len(answer.err.splitlines())) == (1, "", 1)
    (log,) = (workspace.root / "logs").iterdir()
    assert str(log) in answer.err
    assert "ZeroDivisionError: by our fault" in log.read_text()


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    environment = {**os.environ, "OVERLAY_HOME": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "studio.cli", "doctor"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate()
    assert (process.returncode, err) == (0, b"")


def test_a_workspace_that_is_a_file_is_told(overlay: Overlay, workspace: Workspace) -> None:
    workspace.root.write_text("")
    answer = overlay("runs")
    assert answer.code == 2
    assert "OVERLAY_HOME" in answer.err


def test_a_workspace_that_cannot_be_is_told(overlay: Overlay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERLAY_HOME", "~nobody-of-this-name/home")
    answer = overlay("runs")
    assert (answer.code, "OVERLAY_HOME" in answer.err) == (2, True)


def test_doctor(overlay: Overlay) -> None:
    found = overlay("doctor", "--json").document
    assert found["ok"] is (not found["problems"])
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["packages"]["pydantic"]
    assert found["disk_free_bytes"] > 0
    assert all({"name", "total_bytes", "free_bytes", "driver"} <= gpu.keys() for gpu in found["gpus"])
    assert all(problem.keys() == {"message", "hint"} for problem in found["problems"])


def test_doctor_names_the_workspace_that_holds_a_card(
    overlay: Overlay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(commands_doctor, "survey", lambda: [Gpu("RTX", 24 << 30, 20 << 30, "580", 0, "GPU-1")])
    other = Workspace(tmp_path / "other")
    assert "held by" not in overlay("doctor").out
    with card_lease("GPU-1", other, "cuda-0"):
        assert f"held by the engine of {other.root} (process {os.getpid()})" in overlay("doctor").out


def test_doctor_names_what_is_missing_and_what_is_installed_in_name_only(
    overlay: Overlay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed_as(tmp_path, monkeypatch, "hollow-thing", "1.0")
    monkeypatch.setitem(commands_doctor._PACKAGES, "missing-thing", "missing_thing")
    monkeypatch.setitem(commands_doctor._PACKAGES, "hollow-thing", "hollow_thing")
    answer = overlay("doctor", "--json")
    assert (answer.code, answer.document["ok"]) == (0, False)
    messages = [problem["message"] for problem in answer.document["problems"]]
    assert any("Missing" in message and "missing-thing" in message for message in messages)
    assert any("name only" in message and "hollow-thing" in message for message in messages)


def test_doctor_knows_the_window_library_that_crashes(
    overlay: Overlay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed_as(tmp_path, monkeypatch, "PySide6-Essentials", "6.12.0")
    messages = [problem["message"] for problem in overlay("doctor", "--json").document["problems"]]
    assert any("6.12.0" in message for message in messages) is (sys.version_info < (3, 12))


def installed_as(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, version: str) -> None:
    """What `pip` would leave behind for a package of that name, without the package."""
    record = tmp_path / "site" / f"{name.replace('-', '_')}-{version}.dist-info"
    record.mkdir(parents=True)
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    monkeypatch.syspath_prepend(tmp_path / "site")


def test_bases(overlay: Overlay, workspace: Workspace) -> None:
    assert overlay("bases", "--json").document == []
    make_base(workspace.bases / "small")
    (workspace.bases / "broken").mkdir()
    answer = overlay("bases", "--json")
    (base,) = answer.document
    keys = {"id", "path", "architecture", "num_parameters", "context_tokens", "licence", "fingerprint"}
    assert keys <= base.keys()
    assert base["id"] == "small"
    assert "broken" in answer.err
    assert "small" in overlay("bases").out


def test_data(overlay: Overlay, tmp_path: Path) -> None:
    good = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}'
    (tmp_path / "rows.jsonl").write_text(f"{good}\n{good}\nnonsense\n")
    found = overlay("data", tmp_path / "rows.jsonl", "--json").document
    assert (found["num_rows"], found["num_good"], found["num_duplicates"]) == (3, 2, 1)
    (problem,) = found["problems"]
    assert problem["line"] == 3
    assert {"row", "line", "kind", "message"} <= problem.keys()
    assert "Line 3" in overlay("data", tmp_path / "rows.jsonl").out


def test_empty_data(overlay: Overlay, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("")
    answer = overlay("data", tmp_path / "rows.jsonl", "--json")
    assert (answer.code, answer.out) == (2, "")
    assert "empty" in answer.err


def test_estimate(overlay: Overlay, recipe: Path) -> None:
    small = overlay("estimate", recipe, "--card-gib", "0.5", "--json").document
    assert small["process_bytes"] > small["total_bytes"] == sum(small["terms"].values())
    terms = {"weights", "adapter", "gradients", "optimizer", "activations", "logits", "overhead"}
    assert small["terms"].keys() == terms
    assert (small["fits"], small["card_bytes"]) == (False, 1 << 29)
    assert overlay("estimate", recipe, "--card-gib", "80", "--json").document["fits"] is True
    assert "does not fit" in overlay("estimate", recipe, "--card-gib", "0.5").out


def test_a_recipe_with_three_mistakes_has_them_all_named_and_leaves_no_run(
    overlay: Overlay, recipe: Path, workspace: Workspace
) -> None:
    recipe.write_text('[adapter]\nrank = 0\n[training]\nlearning_rate = "fast"\nepocs = 3\n')
    answer = overlay("train", recipe)
    assert answer.code == 2
    for mistake in ("adapter.rank", "training.learning_rate", "training.epocs"):
        assert mistake in answer.err
    assert not workspace.runs.exists()


@pytest.mark.parametrize(("line", "words"), [('id = "small"', "no-such-base"), ('path = "rows.jsonl"', "no-such-rows")])
def test_an_input_that_is_missing_stops_training_before_a_run_is_made(
    overlay: Overlay, recipe: Path, workspace: Workspace, line: str, words: str
) -> None:
    recipe.write_text(recipe.read_text().replace(line, f'{line.split(" = ")[0]} = "{words}"'))
    answer = overlay("train", recipe, "--device", "cpu")
    assert answer.code == 2
    assert words in answer.err
    assert not workspace.runs.exists()


def test_runs(overlay: Overlay, workspace: Workspace, recipe: Path) -> None:
    pid, process_started = own_start()
    prepared = e.Prepared(
        num_steps=4, num_rows=4, num_held_out=0, tokens_per_epoch=40, supervised_tokens_per_epoch=20,
        num_cut=0, num_dropped=0, num_trainable=10, num_parameters=100,
    )  # fmt: skip
    living = e.Started(pid=pid, process_started=process_started, device="cpu")
    run = a_run(workspace, recipe, living, prepared, step(1), step(2))
    (record,) = overlay("runs", "--json").document
    assert record == {
        "run": run.id,
        "name": "try",
        "state": "running",
        "step": 2,
        "num_steps": 4,
        "base": "small",
        "adapter": "",
    }
    run.events.post(e.Finished(run=run.id, adapter="try", seconds=2.0))
    shown = overlay("runs", "show", "try", "--json").document
    assert shown["losses"] == [[1, 3.0], [2, 1.5]]
    assert (shown["state"], shown["adapter"], shown["ending"]) == ("finished", "try", None)
    assert "finished" in overlay("runs").out
    assert "Loss 3.000" in overlay("runs", "show", run.id).out


def test_a_run_shows_its_best_step_its_worst_rows_and_what_is_suspected(
    overlay: Overlay, workspace: Workspace, recipe: Path
) -> None:
    rows = [{"row": 2, "loss": 4.5, "num_supervised": 3, "step": 4, "held_out": False, "prompt": "a", "answer": "b"}]
    evaluations = [e.Evaluated(step=number, loss=1.0 + number / 10, num_supervised=3) for number in (1, 2, 3, 4)]
    events = [e.Started(pid=GONE_PID, process_started=1.0, device="cpu"), *(step(number) for number in (1, 2, 3, 4))]
    told = (e.RowsJudged(step=4, rows=rows), e.EndedEarly(step=4, best_step=1, best_loss=1.1), e.Finished())
    run = a_run(workspace, recipe, *events, *evaluations, *told)
    shown = overlay("runs", "show", run.id, "--json").document
    assert (shown["best"], shown["ended_early"], shown["worst_rows"]) == ({"step": 1, "loss": 1.1}, True, rows)
    assert [hint["kind"] for hint in shown["hints"]] == ["memorising"]
    assert "1.100 at step 1" in shown["hints"][0]["reason"]
    text = overlay("runs", "show", run.id).out
    assert "Best held-out loss 1.100 at step 1; the run ended early" in text
    assert "Hardest rows: 3 (4.50)" in text
    assert "memorising" in text


def test_a_checkpoint_is_promoted_by_name_of_its_step_or_as_the_best(
    overlay: Overlay, workspace: Workspace, recipe: Path
) -> None:
    run = a_run(workspace, recipe, e.Started(pid=GONE_PID, process_started=1.0, device="cpu"), step(1), step(2))
    (run.path / "adapter_config.json").write_text(json.dumps(CONFIG))
    checkpoint(run, 1)
    checkpoint(run, 2, seed=1)
    answer = overlay("runs", "promote", run.id)
    assert (answer.code, "--step" in answer.err) == (2, True)
    first = overlay("runs", "promote", run.id, "--step", "1", "--json").document
    assert (first["name"], first["run"]) == ("try-step-1", run.id)
    run.events.post(e.CheckpointSaved(step=2, path="checkpoints/step-000002", bytes=9, is_best=True))
    assert overlay("runs", "promote", run.id, "--json").document["name"] == "try-step-2"
    assert (overlay("runs", "promote", run.id, "--step", "9").code) == 2


def test_a_run_whose_engine_was_killed_shows_as_interrupted(
    overlay: Overlay, workspace: Workspace, recipe: Path
) -> None:
    a_run(workspace, recipe, e.Started(pid=GONE_PID, process_started=1.0, device="cpu"), step(1))
    (record,) = overlay("runs", "--json").document
    assert record["state"] == "interrupted"
    assert "resume" in overlay("runs", "show", "try", "--json").document["ending"]["hint"].lower()


def test_a_damaged_run_hides_no_other(overlay: Overlay, workspace: Workspace, recipe: Path) -> None:
    run = a_run(workspace, recipe)
    (workspace.runs / "damaged").mkdir()
    (workspace.runs / "damaged" / "job.json").write_text("{")
    answer = overlay("runs", "--json")
    assert [record["run"] for record in answer.document] == [run.id]
    assert "job.json" in answer.err


def test_stopping_what_stands_still_says_how_it_stands(overlay: Overlay, workspace: Workspace, recipe: Path) -> None:
    run = a_run(workspace, recipe, e.Started(pid=GONE_PID, process_started=1.0, device="cpu"), e.Paused(step=3))
    assert overlay("stop", run.id, "--json").document == {"run": run.id, "state": "paused"}
    assert overlay("pause", run.id, "--json").document == {"run": run.id, "state": "paused"}


def test_a_finished_run_and_a_run_in_progress_are_not_resumed(
    overlay: Overlay, workspace: Workspace, recipe: Path
) -> None:
    pid, process_started = own_start()
    run = a_run(workspace, recipe, e.Started(pid=pid, process_started=process_started, device="cpu"))
    answer = overlay("resume", run.id)
    assert (answer.code, "in progress" in answer.err) == (2, True)
    run.events.post(e.Finished(run=run.id, adapter="try"))
    answer = overlay("resume", run.id)
    assert (answer.code, "finished" in answer.err) == (2, True)


def test_a_run_whose_data_has_changed_is_not_resumed(overlay: Overlay, workspace: Workspace, recipe: Path) -> None:
    run = a_run(workspace, recipe, e.Started(pid=GONE_PID, process_started=1.0, device="cpu"), e.Paused(step=3))
    with open(recipe.parent / "rows.jsonl", "a") as file:
        file.write("\n")
    answer = overlay("resume", run.id)
    assert (answer.code, "dataset" in answer.err) == (2, True)


def test_adapters(overlay: Overlay, tmp_path: Path) -> None:
    source = make_adapter(tmp_path / "theirs", sidecar=facts("sha256:abc"))
    record = overlay("adapters", "import", source, "--as", "first", "--json").document
    keys = {"name", "path", "base", "base_fingerprint", "method", "rank", "bytes", "created", "tags"}
    assert keys <= record.keys()
    assert overlay("adapters", "--json").document == [record]
    assert overlay("adapters", "show", "first", "--json").document == record
    assert overlay("adapters", "check", "first", "--json").document == {"name": "first", "ok": True, "problems": []}
    assert overlay("adapters", "tag", "first", "a", "b", "--json").document["tags"] == ["a", "b"]
    assert overlay("adapters", "tag", "first", "--remove", "a", "--json").document["tags"] == ["b"]
    assert overlay("adapters", "note", "first", "mine", "--json").document["note"] == "mine"
    assert overlay("adapters", "rename", "first", "second", "--json").document["name"] == "second"
    for words in ("adapters", "adapters show second", "adapters check second"):
        assert "second" in overlay(*words.split()).out


def test_a_damaged_adapter_is_found_out(overlay: Overlay, workspace: Workspace, tmp_path: Path) -> None:
    overlay("adapters", "import", make_adapter(tmp_path / "theirs"))
    weights = workspace.adapters / "theirs" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    found = overlay("adapters", "check", "theirs", "--json").document
    assert found["ok"] is False
    assert any("changed or damaged" in problem for problem in found["problems"])


def test_an_adapter_comes_back_from_the_trash(overlay: Overlay, tmp_path: Path) -> None:
    overlay("adapters", "import", make_adapter(tmp_path / "theirs"))
    assert overlay("adapters", "remove", "theirs", "--json").document["name"] == "theirs"
    assert overlay("adapters", "--json").document == []
    assert overlay("adapters", "trash", "--json").document == ["theirs"]
    assert overlay("adapters", "restore", "theirs", "--json").document["name"] == "theirs"
    assert [record["name"] for record in overlay("adapters", "--json").document] == ["theirs"]


def test_an_adapter_is_not_laid_on_another_base(overlay: Overlay, workspace: Workspace, tmp_path: Path) -> None:
    make_base(workspace.bases / "other")
    overlay("adapters", "import", make_adapter(tmp_path / "first", sidecar=facts("sha256:abc")))
    for command in (
        ["chat", "--base", "other", "--lanes", "first", "--prompt", "x"],
        ["merge", "first", "--base", "other", "--out", str(tmp_path / "merged")],
    ):
        answer = overlay(*command)
        assert (answer.code, answer.out) == (2, "")
        assert "not those of other" in answer.err


def test_a_merge_overwrites_nothing(overlay: Overlay, workspace: Workspace, tmp_path: Path) -> None:
    make_base(workspace.bases / "other")
    overlay("adapters", "import", make_adapter(tmp_path / "first"))
    answer = overlay("merge", "first", "--base", "other", "--out", tmp_path)
    assert (answer.code, "exists already" in answer.err) == (2, True)
