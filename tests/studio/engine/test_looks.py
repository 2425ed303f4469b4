"""One row after another as a base sees them: the newest is answered, and the worker goes when nobody asks any more."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from studio.data.conversation import RawRow
from studio.engine.coders import coder_of
from studio.engine.looks import answer_looks
from studio.errors import BaseModelError
from studio.places import Workspace
from studio.runs.looks import SHOWN, ShowRow, read_answer, request_file
from tests.studio.models.folders import write_base as without_tokenizer

ROW = {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Ahoy!"}]}


@pytest.fixture
def asker():
    """A process that lives until it is killed, in the place of the window."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with process:
        yield process
        process.kill()


def answers(workspace: Workspace, base: Path, folder: Path, asker: subprocess.Popen) -> list[int]:
    """Keys of the rows that were answered; each answer ends the asker."""
    shown: list[int] = []

    def progress(what: str, key: int, _total: int) -> None:
        assert what == SHOWN
        shown.append(key)
        asker.kill()
        asker.wait()

    started = psutil.Process(asker.pid).create_time()
    told = {
        "asked": str(folder),
        "pid": asker.pid,
        "process_started": started,
    }
    answer_looks(coder_of(workspace, base, "assistant"), told, None, progress)
    return shown


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_the_newest_row_is_shown_token_by_token(order, workspace, tiny_base, tmp_path, asker) -> None:
    """Two threads of the window may post in the wrong order: the key tells which was asked for last."""
    asked = request_file(tmp_path)
    rows = {1: RawRow(0, 1, {"nothing": 1}), 2: RawRow(7, 8, ROW)}
    for key in order:
        asked.post(ShowRow.of(key, rows[key]))
    assert answers(workspace, tiny_base, tmp_path, asker) == [2]
    shown = read_answer(tmp_path, 2)["shown"]
    assert (shown["row"], shown["line"]) == (7, 8)
    assert "".join(token["text"] for token in shown["tokens"] if token["trained"]) == "Ahoy!<|im_end|>"


def test_a_row_that_cannot_be_learnt_is_answered_with_the_reason(workspace, tiny_base, tmp_path, asker) -> None:
    request_file(tmp_path).post(ShowRow.of(1, RawRow(0, 1, {"nothing": 1})))
    answers(workspace, tiny_base, tmp_path, asker)
    told = read_answer(tmp_path, 1)
    assert told["error"]
    assert told["hint"]


def test_a_base_without_a_tokenizer_is_refused_at_once(workspace, tmp_path) -> None:
    with pytest.raises(BaseModelError):
        coder_of(workspace, without_tokenizer(tmp_path / "base"), "assistant")
