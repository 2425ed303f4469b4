"""Datasets for the hub of the tests."""

import gzip
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from random import Random
from typing import Any

import pytest

from tests.studio.models.fake_hub import FakeHub, running

NAME = "datasets/owner/talk"


def rows(count: int, words: str = "row") -> list[dict[str, Any]]:
    return [
        {"messages": [{"role": "user", "content": f"{words} {n}?"}, {"role": "assistant", "content": f"{n}. " * 20}]}
        for n in range(count)
    ]


def lines(count: int, words: str = "row") -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows(count, words)).encode()


@lru_cache
def parquet(count: int) -> bytes:
    """Rows that cannot be packed small, in many row groups as real ones are: a look must not take them all."""
    import pyarrow
    import pyarrow.parquet

    noise = Random(0)
    table = pyarrow.table(
        {
            "question": [f"row {n}?" for n in range(count)],
            "answer": [f"{n}. {noise.randbytes(300).hex()}" for n in range(count)],
        }
    )
    out = io.BytesIO()
    pyarrow.parquet.write_table(table, out, row_group_size=500, use_dictionary=False, compression="none")
    return out.getvalue()


def talk() -> dict[str, bytes]:
    """Two subsets by the card: one of two packed files, one of Parquet."""
    return {
        "README.md": b"---\n---",
        "train/a.jsonl.gz": gzip.compress(lines(40, "first")),
        "train/b.jsonl.gz": gzip.compress(lines(2, "second")),
        "test.jsonl": lines(3, "test"),
        "long/all.parquet": parquet(4_000),
    }


CARD: dict[str, Any] = {
    "license": "apache-2.0",
    "configs": [
        {
            "config_name": "short",
            "default": True,
            "data_files": [{"split": "train", "path": "train/*"}, {"split": "test", "path": "test.jsonl"}],
        },
        {"config_name": "long", "data_files": "long/*.parquet"},
    ],
    "dataset_info": [{"config_name": "short", "splits": [{"name": "train", "num_examples": 42}]}],
}


@contextmanager
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with `talk`, which the environment names."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    with running(FakeHub(models={NAME: talk()}, cards={NAME: CARD})) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub
