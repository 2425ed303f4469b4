"""Entry of the engine: `python -m studio.engine serve DEVICE SESSION`, `... job FOLDER PARENT`, `... encode PARENT` for its
workers. By `accelerate launch`: `... run FOLDER`.

An engine lives on when who started it is gone; jobs, workers and ranks do not. PARENT is the process that they die with.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

from studio.places import Workspace
from studio.runs.jobs import sign
from studio.runs.processes import die_with_parent


@contextlib.contextmanager
def bringing_libraries() -> Iterator[None]:
    """For the import of torch and its friends: of the million objects that they make, none ever becomes garbage.

    Looking for some among them takes a fifth of the time in which an engine comes up, and then a fifth of a second at each
    change of the base.
    """
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


def main(arguments: list[str]) -> int:
    """Do what the arguments say; returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    # peft 0.21 asks transformers 5.23 by an old name; the log is for what a user could want to know.
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
    if arguments[0] == "run":
        # The launcher is gone: the first rank takes this for a wish to pause, and the others pause with it.
        die_with_parent(os.getppid(), by=signal.SIGTERM)
    match arguments:
        case ["serve", device, session]:
            with bringing_libraries():
                from studio.engine.serve import serve

            return serve(Workspace.default(), device, Path(session))
        case ["job", folder, parent]:
            die_with_parent(int(parent))
            sign(Path(folder), int(parent))
            with bringing_libraries():
                from studio.engine.jobs import work

            return work(Workspace.default(), Path(folder))
        case ["run", folder]:
            with bringing_libraries():
                from studio.engine.launched import take_part

            return take_part(Workspace.default(), Path(folder))
        case ["run", folder, device, session]:
            with bringing_libraries():
                from studio.engine.launched import take_part

            return take_part(Workspace.default(), Path(folder), device, Path(session))
        case ["encode", parent]:
            die_with_parent(int(parent))
            with bringing_libraries():
                from studio.engine.encoders import work as encode

            return encode()
    raise AssertionError(f"unknown arguments: {arguments}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
