"""How long the rows are for one base, and any row token by token: the same tokens that training will see."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from studio import files
from studio.data.formats import Mapping
from studio.data.lengths import Lengths, consequence
from studio.engine import coders, jobs
from studio.engine.coders import coder_of
from studio.engine.look import find_row, measure, show
from studio.engine.row_cache import encoded_rows
from studio.engine.template import Coder
from studio.engine.tokenizing import load_tokenizer
from studio.errors import DataError
from studio.runs import events as e
from tests.studio.engine.conftest import make_tokenizer, write_rows
from tests.studio.engine.template_families import FAMILIES, tokenizer_of

TOKENIZER = make_tokenizer()
CODER = Coder.of(TOKENIZER, "assistant")
PAIRS = st.lists(
    st.tuples(st.text("ab ", min_size=1, max_size=60), st.text("cd ", min_size=1, max_size=200)), min_size=1, max_size=8
)


def silent(*_):
    pass


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(pairs=PAIRS.filter(lambda p: all(q.strip() and a.strip() for q, a in p)), limit=st.integers(16, 200))
def test_what_a_limit_costs_is_what_training_drops_and_cuts(tmp_path_factory, pairs, limit):
    folder = tmp_path_factory.mktemp("look")
    data = write_rows(folder / "rows.jsonl", pairs)
    found = measure(CODER, data, limit, folder / "lengths.npy", silent)
    trained, _ = encoded_rows(jobs.Workspace(folder), data, files.sha256(data), CODER, limit, silent).split(0.0, 0)
    cost = consequence(Lengths.load(folder / "lengths.npy"), limit)
    assert found["consequence"] == vars(cost)
    assert (cost.num_rows, cost.num_cut, cost.num_lost) == (len(pairs), trained.num_cut, trained.num_dropped)
    whole, _ = encoded_rows(jobs.Workspace(folder), data, files.sha256(data), CODER, 10_000, silent).split(0.0, 0)
    assert found["tokens"]["total"] == whole.num_tokens
    assert found["tokens"]["supervised"] == whole.num_supervised
    assert found["tokens"]["max"] == whole.longest
    ends = [len(one.ids) - 1 - int(np.argmax(one.trained[::-1])) >= limit for one in whole.examples]
    assert cost.num_endless == sum(ends)


def test_rows_that_the_template_refuses_are_counted_with_the_reason(tmp_path):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = (
        "{% if messages[0]['content'] == 'no' %}{{ raise_exception('not that') }}{% endif %}" + tokenizer.chat_template
    )
    data = write_rows(tmp_path / "rows.jsonl", [("a", "b"), ("no", "c"), ("d", "e")])
    found = measure(Coder.of(tokenizer, "assistant"), data, 100, tmp_path / "lengths.npy", silent)
    assert found["num_refused"] == 1
    assert found["refused"][0]["row"] == 1
    assert "not that" in found["refused"][0]["message"]
    assert Lengths.load(tmp_path / "lengths.npy").rows.tolist() == [0, 2]


def test_a_row_is_shown_token_by_token(tmp_path):
    data = write_rows(tmp_path / "rows.jsonl", [("Who are you?", "I be a pirate."), ("What?", "Arrr<|im_end|>")])
    seen = show(CODER, find_row(data, 0), max_tokens=8)
    assert "".join(token["text"] for token in seen["tokens"]) == seen["rendered"]
    assert "".join(token["text"] for token in seen["tokens"] if token["trained"]) == "I be a pirate.<|im_end|>"
    assert [token["cut"] for token in seen["tokens"]].count(False) == 8
    assert seen["num_cut"] == seen["num_tokens"] - 8
    assert seen["num_supervised"] == sum(token["trained"] for token in seen["tokens"])
    typed = show(CODER, find_row(data, 1), max_tokens=99)
    assert typed["rendered"].count("<|im_end|>") == 3
    assert [token["text"] for token in typed["tokens"]].count("<|im_end|>") == 2


@pytest.mark.parametrize(("row", "words"), [(1, "Row 1 of rows.jsonl cannot be used"), (2, "no row 2: it has 2")])
def test_a_row_that_is_none_says_so(tmp_path, row, words):
    data = write_rows(tmp_path / "rows.jsonl", [("a", "b")])
    data.write_text(data.read_text() + "broken\n")
    with pytest.raises(DataError, match=words):
        find_row(data, row)


def result_of(workspace, folder, kind, **arguments):
    files.write_json(folder / "job.json", {"kind": kind, "created": 0.0, "arguments": arguments})
    assert jobs.work(workspace, folder) == 0
    *_, last = e.event_file(folder / "events.jsonl").read()
    return last.result


def test_both_are_jobs_of_a_worker(tmp_path, workspace, tiny_base):
    data = tmp_path / "rows.jsonl"
    data.write_text(json.dumps({"Frage": "Who are you?", "Antwort": "I be a pirate."}) + "\n")
    told = {
        "base": str(tiny_base),
        "data": str(data),
        "train_on": "assistant",
        "max_tokens": 32,
        "mapping": vars(Mapping("Frage", "Antwort")),
    }
    found = result_of(workspace, tmp_path / "lengths", "lengths", **told)
    assert found["consequence"]["num_rows"] == 1
    seen = result_of(workspace, tmp_path / "show", "show", row=0, **told)
    assert seen["num_tokens"] == found["tokens"]["total"]


def test_how_a_base_encodes_is_asked_of_transformers_once_and_is_what_it_says(workspace, tmp_path, monkeypatch):
    for name, family in FAMILIES.items():
        base = tmp_path / name
        base.mkdir()
        tokenizer_of(family).save_pretrained(base)
        said = Coder.of(load_tokenizer(base), "assistant").told
        assert json.loads(coder_of(workspace, base, "assistant").told) == json.loads(said)
        with monkeypatch.context() as patched:
            patched.setattr(coders, "_asked", None)
            assert json.loads(coder_of(workspace, base, "assistant").told) == json.loads(said)
    (base / "chat_template.jinja").write_text("{{ messages[0].content }}{{ eos_token }}")
    assert "messages[0]" in json.loads(coder_of(workspace, base, "assistant").told)["template"]
    assert len(list(workspace.coders.iterdir())) == coders.MOST_KEPT


def test_a_look_at_rows_needs_no_model(workspace, tiny_base, tmp_path):
    coder_of(workspace, tiny_base, "assistant")  # asked for once
    data = write_rows(tmp_path / "rows.jsonl", [("Who are you?", "I be a pirate.")])
    told = {
        "base": str(tiny_base),
        "data": str(data),
        "train_on": "assistant",
        "max_tokens": 32,
        "mapping": None,
        "row": 0,
    }
    files.write_json(tmp_path / "job.json", {"kind": "show", "created": 0.0, "arguments": told})
    program = (
        "import sys; from pathlib import Path; from studio.engine.jobs import work; from studio.places import Workspace;"
        "work(Workspace(Path(sys.argv[1])), Path(sys.argv[2]));"
        "sys.exit(' '.join({'torch', 'peft', 'transformers.models.auto'} & set(sys.modules)))"
    )
    asked = [sys.executable, "-c", program, str(workspace.root), str(tmp_path)]
    assert subprocess.run(asked, check=False, capture_output=True, text=True).stderr.strip() == ""
    *_, last = e.event_file(tmp_path / "events.jsonl").read()
    assert last.result["num_tokens"] > 0
