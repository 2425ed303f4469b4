"""`overlay data`: what is in a dataset, what a base makes of it, mends and exports."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from studio.cli.data_text import shown_text, tokens_text
from studio.data.reading import raw_rows
from studio.places import Workspace
from tests.studio.cli.conftest import Overlay
from tests.studio.data.test_near import text


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    pairs = [{"question": f"Who is {n}?", "answer": text(n)} for n in range(4)]
    near = {"question": "Who is 0?", "answer": text(0) + " Arrr!"}
    return write(tmp_path / "rows.jsonl", *pairs, pairs[0], near, "broken", {"question": "a\x07", "answer": "b"})


def test_the_survey_tells_format_reason_finds_and_counts(overlay: Overlay, rows: Path) -> None:
    found = overlay("data", rows, "--json").document
    assert (found["format"], found["num_rows"], found["num_good"]) == ("question-answer", 8, 7)
    assert (found["num_duplicates"], found["num_near_duplicates"], found["num_conflicts"]) == (1, 1, 1)
    assert found["near_duplicates"] == [{"row": 5, "earlier": 0}]
    assert found["problem_counts"] == {"json": 1}
    assert [(warning["kind"], warning["column"]) for warning in found["warnings"]] == [("control", "message 1")]
    assert found["roles"] == {"user": 7, "assistant": 7}
    told = overlay("data", rows).out
    for words in (
        "question and answer",
        "1 rows repeat others",
        "1 rows nearly repeat",
        "Line 7:",
        "control character",
    ):
        assert words in told


def test_columns_that_are_not_known_are_asked_for_once(overlay: Overlay, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", {"Frage": "Wer?", "Antwort": "Ich."})
    answer = overlay("data", path)
    assert answer.code == 2
    assert "--map question='Frage' --map answer='Antwort'" in answer.err
    for _ in range(2):  # said, and remembered
        arguments = ("--map", "question=Frage", "--map", "answer=Antwort") if not _ else ()
        found = overlay("data", path, *arguments, "--json").document
        assert (found["num_good"], found["mapping"]["question"]) == (1, "Frage")
    out = tmp_path / "out.jsonl"
    assert overlay("data", path, "--export", out, "--json").document["num_rows"] == 1
    assert overlay("data", out, "--json").document["format"] == "messages"


def test_privacy_is_looked_for_if_asked_for(overlay: Overlay, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", {"question": "Mail jack@example.org", "answer": "Aye."})
    assert overlay("data", path, "--json").document["warning_counts"] == {}
    assert overlay("data", path, "--privacy", "--json").document["warning_counts"] == {"email": 1}


def test_mends_make_a_version_and_undo_takes_it_back(overlay: Overlay, rows: Path) -> None:
    before = rows.read_bytes()
    made = overlay("data", rows, "--mend", "repeats", "--mend", "near", "--mend", "control", "--json").document
    assert (made["version"], made["num_written"]) == (1, 5)
    assert made["removed"] == {"near": 1, "repeats": 1, "unreadable": 1}
    assert overlay("data", rows, "--mended", "--json").document["num_rows"] == 5
    assert "as it came" in overlay("data", rows, "--undo").out
    assert overlay("data", rows, "--mended", "--json").document["num_rows"] == 8
    assert overlay("data", rows, "--undo").code == 2
    told = overlay("data", rows, "--mend", "trim", "--mend", "unusable").out
    assert "version 2 has 7 rows" in told
    assert "1 rows left out: unreadable" in told
    assert rows.read_bytes() == before
    assert overlay("data", rows, "--mend", "wash").code == 2


def test_sets_are_merged_by_weight(overlay: Overlay, rows: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.csv", "prompt,completion", "a,b")
    out = tmp_path / "both.jsonl"
    made = overlay("data", rows, "--with", other, "--weight", "1", "--weight", "3", "--export", out, "--json").document
    assert made["num_rows"] == 7 + 3 == len(list(raw_rows(out)))
    assert [problem["line"] for problem in made["left_out"]] == [7]
    assert overlay("data", rows, "--export", out).code == 2


def test_a_row_is_shown_only_as_some_base_sees_it(overlay: Overlay, rows: Path) -> None:
    answer = overlay("data", rows, "--show", "0")
    assert answer.code == 2
    assert "--base" in answer.err


@pytest.mark.slow
def test_a_base_tells_what_a_limit_costs_and_shows_any_row(overlay: Overlay, rows: Path, workspace: Workspace) -> None:
    from tests.studio.engine.conftest import write_base

    write_base(workspace.bases / "tiny", max_position_embeddings=4096)
    found = overlay("data", rows, "--base", "tiny", "--max-tokens", "64", "--json").document
    assert {"total", "supervised", "p50", "p95", "max"} == found["tokens"].keys()
    assert found["num_cut"] == 6
    assert found["better"]["max_tokens"] > 64
    assert sum(bin["rows"] for bin in found["histogram"]) == 7
    seen = overlay("data", rows, "--base", "tiny", "--show", "7", "--json").document
    assert "".join(token["text"] for token in seen["tokens"] if token["trained"]) == "b<|im_end|>"
    assert {"id", "text", "trained"} <= seen["tokens"][0].keys()


def consequence(**changes: Any) -> dict[str, Any]:
    plain = {"max_tokens": 1024, "num_cut": 400, "share_cut": 0.07, "num_lost": 312, "num_endless": 400}
    return {**plain, **changes}


def tokens(now: dict[str, Any], better: dict[str, Any] | None = None, num_refused: int = 0) -> str:
    told = {"total": 1000, "supervised": 400, "p50": 5, "p95": 9, "max": 20}
    refused = [{"row": 3, "message": "line 4: refused"}]
    return tokens_text(
        {
            "base": "b",
            "tokens": told,
            "consequence": now,
            "better": better,
            "num_refused": num_refused,
            "refused": refused,
        }
    )


def test_consequences_are_told_before_counts() -> None:
    better = consequence(max_tokens=2048, num_endless=0, extra_bytes=1_900_000_000)
    told = tokens(consequence(), better, num_refused=2)
    assert "7.0% of the tokens are cut; 312 rows lose their whole answer; 88 lose the end of an answer" in told
    assert "Raising the limit to 2,048 keeps them and costs ≈ 1.9 GB of memory" in told
    assert "2 rows cannot be learnt from with this base. Row 3: line 4: refused" in told
    assert "of which 40% are learnt" in told
    assert "No row is longer than 1,024 tokens" in tokens(consequence(num_cut=0))
    assert "keeps all but 5 and costs no memory" in tokens(consequence(), consequence(num_endless=5, extra_bytes=0))


def test_a_shown_row_has_what_is_learnt_in_brackets_and_the_cut() -> None:
    pieces = [("Q", False, False), ("A", True, False), ("B", True, True), (".", False, True)]
    shown = {
        "row": 2, "line": 3, "num_tokens": 4, "num_supervised": 2, "num_cut": 2,
        "tokens": [{"id": 1, "text": t, "trained": trained, "cut": cut} for t, trained, cut in pieces],
    }  # fmt: skip
    assert shown_text(shown) == "Row 2, line 3: 4 tokens, 50% learnt (⟦...⟧), 2 cut (after ✂).\n\nQ⟦A✂B⟧."


def test_rows_are_edited_by_number_with_new_ones_from_stdin(
    overlay: Overlay, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rows.read_bytes()
    new = {"question": "New?", "answer": "Aye."}
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(json.dumps(new).encode())))
    made = overlay("data", rows, "--remove", "0,5", "--remove", "7", "--replace", "6", "--json").document
    assert (made["version"], made["num_written"], made["removed"]) == (1, 5, {"by hand": 3})
    assert made["edits"]["removed"] == [[0, 0], [5, 5], [7, 7]]
    values = [json.loads(line) for line in Path(made["path"]).read_text().splitlines()]
    assert values[-1] == new
    assert "as it came" in overlay("data", rows, "--undo").out
    assert "1 rows changed: by hand" in overlay("data", rows, "--redo").out
    refused = overlay("data", rows, "--remove", "99")
    assert (refused.code, "There is no row 99" in refused.err) == (2, True)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"{broken")))
    assert "line 1" in overlay("data", rows, "--insert", "0").err
    assert rows.read_bytes() == before
