"""What a card teaches, from recorded pairs of allocator and driver figures."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.memory.correction import (
    BOUND_BYTES,
    NEWEST,
    Correction,
    Measurement,
    correction_for,
    keep,
    learn,
    read,
)
from studio.places import Workspace

# Peak allocated and process bytes of packed QLoRA runs with a chunked loss on an A100 80 GB, as published (Mistral 7B and
# Llama 3 8B, 16k and 32k tokens), beside what a context of 0.9 GB and a tenth of the activations would be.
RECORDED = [
    (13_035_024_896, 14_859_370_496, 1_816_000_000),
    (21_761_798_656, 24_455_938_048, 2_733_000_000),
    (14_411_297_792, 16_281_239_552, 1_795_000_000),
    (22_936_744_960, 25_542_262_784, 2_690_000_000),
]
CARD, DRIVER = "NVIDIA A100-SXM4-80GB", "550.54.15"


def measurement(number=0, card=CARD, driver=DRIVER, **changes):
    allocated, process, context = RECORDED[number % len(RECORDED)]
    values = {
        "run": f"run-{number}",
        "card": card,
        "driver": driver,
        "total_estimated_bytes": allocated,
        "context_estimated_bytes": context,
        "allocated_bytes": allocated,
        "reserved_bytes": process - 500_000_000,
        "process_bytes": process,
        "micro_batch_tokens": 16_384,
        "num_steps": 100,
        "time": float(number),
    }
    return Measurement(**values | changes)


def off_by(excess, run="x", time=0.0):
    """A run whose process held `excess` bytes more beside its tensors than was estimated."""
    return measurement(run=run, time=time, process_bytes=sum(RECORDED[0][::2]) + excess)


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "home")


def test_the_median_of_what_the_process_held_beside_its_tensors_is_learnt():
    found = learn([measurement(number) for number in range(4)])
    excess = sorted(process - allocated - context for allocated, process, context in RECORDED)
    assert found.bytes == round((excess[1] + excess[2]) / 2)
    assert found.num_runs == 4
    assert found.spread_bytes < 100_000_000


def test_nothing_is_learnt_from_nothing():
    assert learn([]) is None


def test_words():
    assert Correction(312_000_000, 4, 0).text == "this card: +0.3 GB, from 4 runs"
    assert Correction(-200_000_000, 1, 0).text == "this card: -0.2 GB, from 1 run"


@given(st.lists(st.integers(-RECORDED[0][2] + 10**9, 60 * 10**9), max_size=8), st.integers(-(10**8), 10**12))
def test_no_single_run_moves_it_by_more_than_the_bound(usual, weird):
    before = learn([off_by(excess, str(i)) for i, excess in enumerate(usual)])
    after = learn([off_by(excess, str(i)) for i, excess in enumerate(usual)] + [off_by(weird, "weird")])
    assert abs(after.bytes - (before.bytes if before else 0)) <= BOUND_BYTES


def test_a_weird_run_among_usual_ones_hardly_counts():
    usual = [off_by(300_000_000 + n, f"run-{n}") for n in range(5)]
    found = learn([*usual, off_by(40_000_000_000, "with a game beside it")])
    assert found.bytes == pytest.approx(300_000_000, abs=10)
    assert found.spread_bytes < 10


def test_a_run_measured_again_counts_once_with_its_newest_figures():
    found = learn([off_by(600_000_000, "a", time=2.0), off_by(100_000_000, "a", time=1.0)])
    assert (found.bytes, found.num_runs) == (600_000_000, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_steps": 2},
        {"process_bytes": 1_000},
        {"allocated_bytes": 0},
        {"reserved_bytes": 10},
        {"context_estimated_bytes": -1},
    ],
)
def test_figures_that_cannot_be_true_teach_nothing(changes):
    assert learn([measurement(**changes)]) is None


def test_another_card_or_another_driver_says_nothing_about_this_one(workspace):
    keep(workspace, off_by(300_000_000, "mine"))
    keep(workspace, measurement(1, card="NVIDIA GeForce RTX 4090"))
    keep(workspace, measurement(2, driver="570.86.10"))
    found = correction_for(workspace, CARD, DRIVER)
    assert (found.bytes, found.num_runs) == (300_000_000, 1)
    assert correction_for(workspace, CARD, "535.183.01") is None
    assert correction_for(workspace, "NVIDIA GeForce RTX 3090", DRIVER) is None


def test_without_a_file_nothing_is_known_and_nothing_is_made(workspace):
    assert correction_for(workspace, CARD, DRIVER) is None
    assert not workspace.root.exists()


def test_what_is_kept_is_read_again_whatever_lies_between(workspace):
    keep(workspace, measurement(0))
    with open(workspace.measurements, "ab") as file:
        file.write(b'{"run": "torn", "card": "NVI\n\n[1, 2]\n\xff\xfe\x00\nnull\n')
        file.write(json.dumps(vars(measurement(1)) | {"process_bytes": "much"}).encode() + b"\n")
        file.write(json.dumps(vars(measurement(1)) | {"num_steps": True}).encode() + b"\n")
        file.write(json.dumps({"run": "half"}).encode() + b"\n" + b"[" * 100_000 + b"\n")
        file.write(json.dumps(vars(measurement(2)) | {"mood": "good"}).encode())
    keep(workspace, measurement(3))
    assert read(workspace) == [measurement(0), measurement(2), measurement(3)]


def test_only_the_newest_are_read(workspace):
    for number in range(NEWEST + 30):
        keep(workspace, measurement(number))
    found = read(workspace)
    assert len(found) == NEWEST
    assert found[-1].run == f"run-{NEWEST + 29}"
