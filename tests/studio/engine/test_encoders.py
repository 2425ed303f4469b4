"""Real worker processes: the same rows in the same order, whatever becomes of the workers."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from studio.engine import encoders
from studio.engine.encoded import encode_rows
from studio.engine.encoders import encode_batches, num_workers
from studio.engine.template import Coder
from studio.errors import BaseModelError
from tests.studio.engine.conftest import make_tokenizer
from tests.studio.engine.odd_rows import conversation

BATCHES = [[conversation("", [("Ahoy?", f"Arrr {i} {n} \u2028 \N{ANCHOR}")], i) for i in range(3)] for n in range(9)]


@pytest.fixture
def coder():
    return Coder.of(make_tokenizer(), "assistant")


def children():
    return psutil.Process().children(recursive=True)


def refuse(*_):
    raise AssertionError("this process should not have encoded anything")


def test_workers_encode_as_this_process_does_and_in_order(coder, monkeypatch):
    here = list(encode_batches(coder, BATCHES, 128, 0))
    monkeypatch.setattr(encoders, "encode_rows", refuse)
    there = list(encode_batches(coder, BATCHES, 128, 2))
    assert there == here
    assert not children()


def test_a_worker_that_is_killed_costs_nothing_but_time(coder):
    batches = encode_batches(coder, BATCHES, 128, 2)
    found = [next(batches)]
    for worker in children():
        worker.kill()
    assert [*found, *batches] == [encode_rows(coder, batch, 128) for batch in BATCHES]
    assert not children()


def test_what_is_wrong_with_the_base_is_said_as_ever(coder):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(BaseModelError, match="never learn to stop"):
        list(encode_batches(Coder.of(tokenizer, "assistant"), BATCHES, 128, 2))
    assert not children()


def test_workers_end_when_nobody_wants_the_rest(coder):
    batches = encode_batches(coder, BATCHES, 128, 2)
    next(batches)
    assert children()
    batches.close()
    assert not children()


ENGINE = """
import os, signal, sys
from studio.engine.encoders import encode_batches
from studio.engine.template import Coder
from tests.studio.engine.conftest import CHATML, make_tokenizer
from tests.studio.engine.test_encoders import BATCHES, ENDLESS, conversation

tokenizer = make_tokenizer()
tokenizer.chat_template = ENDLESS + CHATML
batches = [BATCHES[0], [conversation("", [("busy", "Arrr")])], *BATCHES]
found = encode_batches(Coder.of(tokenizer, "assistant"), batches, 128, 1)
next(found)
if "forks" in sys.argv and os.fork() == 0:
    signal.pause()  # and so holds whatever its parent held
print("ready", flush=True)
next(found)
"""
ENDLESS = (
    "{% if messages[0]['content'] == 'busy' %}{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}"
    "{% endfor %}{% endif %}"
)


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("forks",)], ids=["alone", "with a child that holds its pipes"])
def test_no_worker_outlives_a_killed_engine_not_even_a_busy_one(more):
    root = Path(encoders.__file__).parents[2]
    engine = psutil.Popen([sys.executable, "-c", ENGINE, *more], stdout=subprocess.PIPE, cwd=root)
    assert engine.stdout.readline() == b"ready\n"
    born = engine.children(recursive=True)
    workers = [child for child in born if "encode" in child.cmdline()]
    assert workers
    engine.kill()
    engine.wait()
    engine.stdout.close()
    _, alive = psutil.wait_procs(workers, timeout=20)
    for child in born:
        if child.is_running():
            child.kill()
    assert not alive


def test_workers_need_no_torch():
    code = "import sys, studio.engine.encoders; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_small_files_need_no_workers(tmp_path):
    data = tmp_path / "rows.jsonl"
    data.write_bytes(b"x" * 1000)
    assert num_workers(data) == 0
    with open(data, "r+b") as file:
        file.truncate(encoders.WORTH_WORKERS_BYTES)
    assert 1 <= num_workers(data) <= encoders.MOST_WORKERS
