"""One run on several cards: `accelerate launch` starts the processes, and the first of them is the engine we speak to."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from itertools import count
from pathlib import Path

from studio.errors import StudioError
from studio.files import safe_name
from studio.places import Workspace
from studio.recipe.fields import replaced
from studio.recipe.recipe import Recipe
from studio.recipe.toml import load, resolve_data, save
from studio.runs.engine import Engine, await_engine, new_session, spawn_python
from studio.runs.folder import RunFolder


def launch(workspace: Workspace, run: RunFolder, device: str, num_processes: int) -> Engine:
    """Have `num_processes` processes do `run`, on as many cards or, if `device` is `cpu`, on the processor's cores.

    The engine lives as long as the launcher, which ends with the run. Raises `EngineError` if it does not come up.
    """
    session = new_session(workspace, device)
    arguments = ["accelerate.commands.launch", *options(num_processes, device)]
    arguments += ["-m", "studio.engine", "run", str(run.path), device, str(session)]
    return await_engine(workspace, device, session, spawn_python(arguments, session / "log.txt", workspace))


def options(num_processes: int, device: str) -> list[str]:
    """What `accelerate launch` must be told, so that no configuration file of its user's says otherwise."""
    threads = max(1, (os.cpu_count() or 1) // num_processes) if device == "cpu" else 1
    return [
        # Not --cpu, which starts one process whatever their number: the run says itself where it is done.
        *("--multi_gpu", "--num_machines", "1", "--num_processes", str(num_processes)),
        *("--mixed_precision", "no", "--dynamo_backend", "no"),
        *("--num_cpu_threads_per_process", str(threads), "--main_process_port", "0"),
    ]


def command_for(workspace: Workspace, recipe: Recipe, num_processes: int) -> str:
    """What to type to train by `recipe` on so many cards, in any folder of this computer. Keeps the recipe as a file.

    Raises `DataError` if its dataset is not there, `StudioError` if the file cannot be written.
    """
    # What is found from where we are must be found from elsewhere.
    recipe = replaced(recipe, "data.path", str(resolve_data(recipe.data.path, None)))
    name = safe_name(recipe.name, "recipe")
    places = (workspace.recipes / f"{name}{number or ''}.toml" for number in count())
    path = next(place for place in places if not place.exists() or _holds(place, recipe))
    save(recipe, path)
    return _command_line(workspace, path, num_processes)


def _holds(path: Path, recipe: Recipe) -> bool:
    try:
        return load(path) == recipe
    except StudioError:
        return False


def _command_line(workspace: Workspace, recipe: Path, num_processes: int) -> str:
    beside = Path(sys.executable).with_name("overlay.exe" if os.name == "nt" else "overlay")
    overlay = [str(beside)] if beside.exists() else [sys.executable, "-m", "studio.cli"]
    command = [*overlay, "train", str(recipe), *(["--processes", str(num_processes)] if num_processes > 1 else [])]
    home = [] if "OVERLAY_HOME" not in os.environ else [f"OVERLAY_HOME={workspace.root}"]
    if os.name == "nt":
        return " && ".join([*(f'set "{setting}"' for setting in home), subprocess.list2cmdline(command)])
    return shlex.join([*(["env", *home] if home else []), *command])
