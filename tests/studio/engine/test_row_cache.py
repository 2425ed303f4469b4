"""Rows are encoded once, found again whole or not at all, and never in the way."""

import json
import os
import threading

import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from studio import files
from studio.data.formats import Mapping
from studio.engine import encoders, row_cache
from studio.engine.row_cache import ROWS, encoded_rows, key
from studio.engine.template import Coder
from studio.errors import ChangedError, DataError
from studio.places import Workspace
from studio.runs import events as e
from tests.studio.engine.conftest import make_tokenizer, write_rows
from tests.studio.engine.test_train import recipe, run_it

CODER = Coder.of(make_tokenizer(), "assistant")


class Told(list):
    """What was told of the progress: nothing if nothing had to be encoded."""

    def __call__(self, what, done, total):
        self.append((what, done, total))


def rows_of(workspace, data, told=None, coder=CODER, max_tokens=128):
    found = encoded_rows(workspace, data, files.sha256(data), coder, max_tokens, Told() if told is None else told)
    training, _ = found.split(0.0, 0)
    return [example.ids.tolist() for example in training.examples]


def folders(workspace):
    return sorted(path for path in workspace.encoded.iterdir() if path.is_dir())


def test_rows_are_encoded_once(workspace, rows_file):
    first, second = Told(), Told()
    found = rows_of(workspace, rows_file, first)
    assert len(found) == 10
    assert rows_of(workspace, rows_file, second) == found
    assert first[-1] == ("lines", 11, 11)
    assert second == []


def test_a_run_on_kept_rows_learns_the_same_and_says_nothing_of_lines(workspace, tiny_base, rows_file):
    made = recipe(tiny_base, rows_file)
    once, again = (run_it(workspace, made)[0] for _ in range(2))
    assert once.state().losses == again.state().losses
    told = [[one for one in run.events.read() if isinstance(one, e.Progressed)] for run in (once, again)]
    assert [bool(events) for events in told] == [True, False]


def test_another_seed_and_share_need_no_new_file(workspace, tiny_base, rows_file):
    for changes in ({}, {"training__seed": 5}, {"data__validation_fraction": 0.4}):
        run_it(workspace, recipe(tiny_base, rows_file, training__steps=1, training__epochs=None, **changes))
    assert len(folders(workspace)) == 1


def test_whatever_decides_the_tokens_decides_the_file(workspace, rows_file, tmp_path, monkeypatch):
    other = make_tokenizer()
    other.chat_template = other.chat_template.replace("\n", "\t")
    wider = make_tokenizer()
    wider.add_tokens(["matey"])
    renamed = rows_file.with_suffix(".csv")
    names = {
        key(rows_file, "a", CODER, 128),
        key(rows_file, "b", CODER, 128),
        key(renamed, "a", CODER, 128),
        key(rows_file, "a", CODER, 127),
        key(rows_file, "a", Coder.of(other, "assistant"), 128),
        key(rows_file, "a", Coder.of(wider, "assistant"), 128),
        key(rows_file, "a", Coder.of(make_tokenizer(), "everything"), 128),
    }
    names.add(key(rows_file, "a", CODER, 128, mapping=Mapping(answer="text")))
    monkeypatch.setattr(row_cache, "VERSION", row_cache.VERSION + 1)
    names.add(key(rows_file, "a", CODER, 128))
    assert len(names) == 9


def test_mapped_columns_are_encoded_as_they_are_mapped(workspace, tmp_path):
    data = tmp_path / "fragen.jsonl"
    data.write_text('{"Frage": "Who are you?", "Antwort": "I be a pirate."}\n')
    told = (workspace, data, files.sha256(data), CODER, 128, Told(), "")
    (example,) = encoded_rows(*told, Mapping("Frage", "Antwort")).split(0.0, 0)[0].examples
    learnt = [token for token, is_trained in zip(example.ids, example.trained, strict=True) if is_trained]
    assert make_tokenizer().decode(learnt) == "I be a pirate.<|im_end|>"


def test_a_template_that_tells_the_date_is_good_for_a_day(rows_file, monkeypatch):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }}" + tokenizer.chat_template
    dated = Coder.of(tokenizer, "assistant")
    days = [(key(rows_file, "a", dated, 9), key(rows_file, "a", CODER, 9))]
    monkeypatch.setattr(row_cache.time, "strftime", lambda _: "2031-01-01")
    days.append((key(rows_file, "a", dated, 9), key(rows_file, "a", CODER, 9)))
    assert days[0][0] != days[1][0]
    assert days[0][1] == days[1][1]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A workspace with kept rows, the data and what the rows are."""
    root = tmp_path_factory.mktemp("kept")
    workspace, data = Workspace(root / "home"), write_rows(root / "rows.jsonl")
    return workspace, data, rows_of(workspace, data)


@given(st.sampled_from([ROWS, files.MANIFEST]), st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_one_wrong_byte_and_the_file_is_made_anew(kept, name, where, flip):
    workspace, data, wanted = kept
    (folder,) = folders(workspace)
    content = bytearray((folder / name).read_bytes())
    content[int(where * len(content))] ^= flip
    (folder / name).write_bytes(content)
    assert rows_of(workspace, data) == wanted


@pytest.mark.parametrize("left", [0, 7, 500])
def test_a_file_cut_short_is_made_anew(kept, left):
    workspace, data, wanted = kept
    (folder,) = folders(workspace)
    os.truncate(folder / ROWS, left)
    told = Told()
    assert rows_of(workspace, data, told) == wanted
    assert told


def test_what_a_killed_builder_left_is_swept_away(workspace, rows_file):
    workspace.encoded.mkdir(parents=True)
    left = files.temporary_beside(workspace.encoded / "x")
    left.mkdir()
    rows_of(workspace, rows_file)
    assert not left.exists()


def test_who_waits_for_another_that_builds_the_same_finds_it_built(workspace, rows_file):
    workspace.encoded.mkdir(parents=True)
    told, found = Told(), []
    waiting = threading.Thread(target=lambda: found.extend(rows_of(workspace, rows_file, told)))
    with FileLock(workspace.encoded / "lock"):
        waiting.start()
        row_cache._build(
            workspace.encoded / key(rows_file, files.sha256(rows_file), CODER, 128),
            rows_file,
            files.sha256(rows_file),
            CODER,
            128,
            Told(),
        )
    waiting.join(60)
    assert len(found) == 10
    assert told == []


def test_what_was_used_longest_ago_makes_room(workspace, rows_file, monkeypatch):
    for max_tokens in (100, 101, 102):
        rows_of(workspace, rows_file, max_tokens=max_tokens)
    oldest, kept, newest = (
        workspace.encoded / key(rows_file, files.sha256(rows_file), CODER, max_tokens) for max_tokens in (101, 100, 102)
    )
    for age, folder in enumerate((newest, oldest, kept)):
        os.utime(folder, (1000 - age, 1000 - age))
    rows_of(workspace, rows_file, max_tokens=100)  # used just now
    os.utime(newest, (2000, 2000))
    size = sum(path.stat().st_size for path in kept.iterdir())
    monkeypatch.setattr(row_cache, "MOST_BYTES", 2 * size + rows_file.stat().st_size + 500)
    rows_of(workspace, rows_file, max_tokens=103)
    assert not oldest.exists()
    assert kept.exists()
    assert newest.exists()


def test_data_that_changes_meanwhile_is_not_kept(workspace, rows_file):
    with pytest.raises(ChangedError, match="changed while it was being read"):
        encoded_rows(workspace, rows_file, "0" * 64, CODER, 128, Told())
    assert folders(workspace) == []


def test_data_without_a_good_row_says_so_and_leaves_nothing(workspace, rows_file):
    rows_file.write_text('{"messages": []}\n')
    with pytest.raises(DataError, match="its only row cannot be used"):
        rows_of(workspace, rows_file)
    assert folders(workspace) == []


def test_batches_are_bounded_in_rows_and_in_characters(workspace, tmp_path, monkeypatch):
    data = write_rows(tmp_path / "rows.jsonl", [("Ahoy", "a" * n) for n in (10, 10, 10, 10, 900, 10)])
    monkeypatch.setattr(row_cache, "BATCH_ROWS", 3)
    monkeypatch.setattr(row_cache, "BATCH_CHARACTERS", 500)
    told = Told()
    sizes = [len(batch) for batch in row_cache._batches(data, told, "", None)]
    assert sizes == [3, 2, 1]
    assert told == [("lines", 3, 7), ("lines", 5, 7), ("lines", 6, 7), ("lines", 7, 7)]


def test_rows_kept_together_stay_so_through_workers_and_cache(workspace, tmp_path, monkeypatch):
    data = tmp_path / "rows.jsonl"
    rows = [{"question": f"Who is {n}?", "answer": "Arrr.", "ship": n % 7} for n in range(210)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(encoders, "WORTH_WORKERS_BYTES", 1)
    for group_by in ("ship", ""):
        kept = encoded_rows(workspace, data, files.sha256(data), CODER, 128, Told(), group_by)
        training, held_out = kept.split(0.4, 1)
        ships = [{example.row % 7 for example in side.examples} for side in (training, held_out)]
        assert bool(ships[0] & ships[1]) == (not group_by)
    assert len(folders(workspace)) == 2
