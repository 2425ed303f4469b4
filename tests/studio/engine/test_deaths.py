"""Killed at every file operation in turn: what was finished is whole, and the run goes on as if nothing had been."""

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("work", "made_by"),
    [
        # A checkpoint is made, verified, and an older one goes.
        ("checkpoint", ["save_file", "fsync", "replace", "rename", "unlink", "rmdir"]),
        # A run's adapter is saved and taken into the library, in the place of the one it had when it was stopped.
        ("adapter", ["save_file", "open", "fsync", "replace", "rename", "unlink", "rmdir", "mkdir"]),
    ],
)
def test_whoever_is_killed_at_whichever_file_operation_loses_nothing_finished(tmp_path, work, made_by):
    done = subprocess.run(
        [sys.executable, "-m", "tests.studio.engine.dying", work, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(made_by) <= set(found["operations"])
    assert found["deaths"] > 2 * len(found["operations"])
    assert not found["wrong"], "\n".join(found["wrong"])


@pytest.mark.slow
def test_an_engine_killed_twenty_times_at_random_ends_where_the_unbroken_one_does():
    command = [sys.executable, "-m", "tests.bench.kills", "--times", "20", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    # What it was doing, and the seed to do it again.
    told = "\n".join(line for line in done.stderr.splitlines() if "seed" in line or " of 20" in line)
    assert done.returncode == 0, f"{done.stdout}\n{told}\n{done.stderr[-2000:]}"
    tally = json.loads(done.stdout.splitlines()[-1])
    assert tally["kills"] == 20
    assert tally["finished_runs"] > 0
