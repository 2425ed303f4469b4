"""What an engine's environment says about the allocator of its card."""

import os
import platform
import subprocess
import sys

import pytest

from studio.places import Workspace
from studio.runs.allocator import allocator_settings
from studio.runs.engine import spawn_python


@pytest.mark.parametrize(
    ("system", "release", "expands"),
    [
        ("linux", "6.8.0-40-generic", True),
        ("linux", "5.15.153.1-microsoft-standard-WSL2", False),
        ("linux", "4.4.0-19041-Microsoft", False),
        ("win32", "11", False),
        ("darwin", "24.1.0", False),
    ],
)
def test_segments_expand_where_the_driver_can(monkeypatch, system, release, expands):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "release", lambda: release)
    expected = {"PYTORCH_ALLOC_CONF": "expandable_segments:True"} if expands else {}
    assert allocator_settings({"PATH": "/bin"}) == expected


@pytest.mark.parametrize("name", ["PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF"])
def test_a_setting_of_the_users_own_stands(name):
    assert allocator_settings({name: "max_split_size_mb:128"}) == {}


def test_a_process_of_ours_is_told(tmp_path, monkeypatch):
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)
    given = []

    def started(_command, *, env, **_options):
        given.append(env)

    monkeypatch.setattr(subprocess, "Popen", started)
    for setting in ("", "roundup_power2_divisions:4"):
        if setting:
            monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", setting)
        spawn_python(["studio.engine"], tmp_path / "log.txt", Workspace(tmp_path))
    told, own = given
    assert allocator_settings({}).items() <= told.items()
    assert "PYTORCH_ALLOC_CONF" not in own
    assert own["PYTORCH_CUDA_ALLOC_CONF"] == os.environ["PYTORCH_CUDA_ALLOC_CONF"]
