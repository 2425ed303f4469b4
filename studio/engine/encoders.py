"""Worker processes that encode rows. Both ends are here: what asks, and `work`, which answers.

A worker is told how to encode in its first line and gets a batch of rows with each one after it; it answers with Arrow record
batches. It imports no torch. It lives as long as somebody holds the other end of its input: when the engine dies, however that
happens, the system closes that end, and the worker is gone at once, whatever it is busy with.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from studio.data.conversation import Conversation, Message
from studio.data.opening import num_bytes
from studio.engine.encoded import SCHEMA, encode_rows
from studio.engine.template import Coder

# A worker takes a second to start, and holds 150 MB: below this a file is encoded before the first one is of use.
WORTH_WORKERS_BYTES = 8 << 20
MOST_WORKERS = 8
_BATCHES_PER_WORKER = 2


def num_workers(data: Path) -> int:
    """How many workers pay for this file: one for each processor that this process may use, none for a small file."""
    if num_bytes(data) < WORTH_WORKERS_BYTES:
        return 0
    allowed = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(allowed, MOST_WORKERS)


def encode_batches(
    coder: Coder, batches: Iterable[Sequence[Conversation]], max_tokens: int, workers: int
) -> Generator[pa.RecordBatch]:
    """Each batch encoded, in order; by so many processes, or by this one if there are none.

    No more than a few batches are in memory at a time. A worker that fails, or is killed, costs time only: its batches are
    encoded here, where an error is what it is.
    """
    if not workers:
        for batch in batches:
            yield encode_rows(coder, batch, max_tokens)
        return
    with _Workers(coder, max_tokens, workers) as there:
        waiting: deque[tuple[Sequence[Conversation], Future[pa.RecordBatch | None]]] = deque()
        for batch in batches:
            waiting.append((batch, there.submit(batch)))
            if len(waiting) > _BATCHES_PER_WORKER * workers:
                yield _answer(coder, max_tokens, *waiting.popleft())
        while waiting:
            yield _answer(coder, max_tokens, *waiting.popleft())


def _answer(
    coder: Coder, max_tokens: int, batch: Sequence[Conversation], future: Future[pa.RecordBatch | None]
) -> pa.RecordBatch:
    found = future.result()
    return encode_rows(coder, batch, max_tokens) if found is None else found


class _Workers:
    """Some workers, each waited for by a thread of its own."""

    def __init__(self, coder: Coder, max_tokens: int, count: int) -> None:
        self._told = json.dumps({"coder": coder.told, "max_tokens": max_tokens})
        self._count = count

    def __enter__(self) -> _Workers:
        self._all = [_Worker(self._told) for _ in range(self._count)]
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self._all:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(self._count, thread_name_prefix="encoder")
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._all:
            worker.end()
        # A thread that waited for an answer has now got the end of it.
        self._threads.shutdown(cancel_futures=True)

    def submit(self, batch: Sequence[Conversation]) -> Future[pa.RecordBatch | None]:
        """Have the batch encoded by whoever is free; None comes back if that failed."""
        return self._threads.submit(self._encode, batch)

    def _encode(self, batch: Sequence[Conversation]) -> pa.RecordBatch | None:
        worker = self._idle.get()
        try:
            return worker.encode(batch)
        except (OSError, ValueError, StopIteration, pa.ArrowException):
            return None
        finally:
            self._idle.put(worker)


class _Worker:
    """This side of one worker."""

    def __init__(self, told: str) -> None:
        self._told: str | None = told
        self._answers: pa.RecordBatchReader | None = None
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "studio.engine", "encode"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(),
            creationflags=0x08000000 if os.name == "nt" else 0,  # CREATE_NO_WINDOW
        )

    def encode(self, batch: Sequence[Conversation]) -> pa.RecordBatch:
        """Ask, and wait for the answer. Raises an `OSError` or an `ArrowException` if there is none to be had."""
        asked, answers = self._process.stdin, self._process.stdout
        assert asked is not None
        assert answers is not None
        if self._told is not None:
            asked.write(self._told.encode("ascii") + b"\n")
            self._told = None
        asked.write(_to_line(batch))
        asked.flush()
        if self._answers is None:
            self._answers = pa.ipc.open_stream(answers)
        return self._answers.read_next_batch()

    def end(self) -> None:
        """End it now, whatever it does, and wait until it is gone."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with contextlib.suppress(OSError):
                stream.close()


def _environment() -> dict[str, str]:
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    # One worker for each processor: none of them needs threads.
    return {**os.environ, "PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}


def _to_line(batch: Sequence[Conversation]) -> bytes:
    rows = [
        [
            one.row,
            one.line,
            one.tools,
            one.group,
            [[message.role, message.content, message.more] for message in one.messages],
        ]
        for one in batch
    ]
    return json.dumps(rows).encode("ascii") + b"\n"


def _from_line(line: bytes) -> list[Conversation]:
    return [
        Conversation(tuple(Message(*turn) for turn in turns), row, number, tools, group)
        for row, number, tools, group, turns in json.loads(line)
    ]


# --- the other side --------------------------------------------------------------------------------------------------


def work() -> int:
    """Encode what is asked for on the standard input until nobody can ask any more."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # Whatever a library prints must not stand between the answers.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(lines,), daemon=True).start()
    told = json.loads(lines.get())
    coder, max_tokens = Coder(told["coder"]), told["max_tokens"]
    with pa.ipc.new_stream(answers, SCHEMA) as stream:
        while True:
            stream.write_batch(encode_rows(coder, _from_line(lines.get()), max_tokens))
            answers.flush()


def _listen(lines: queue.SimpleQueue[bytes]) -> None:
    for line in sys.stdin.buffer:
        lines.put(line)
    # Nobody holds the other end: not even an answer half made is wanted.
    os._exit(0)
