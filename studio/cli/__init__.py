"""The `overlay` command: a thin face over the rooms of the core.

Exit codes: 0 done; 2 the user can mend it (one sentence says what is wrong, one what to do); 1 our fault (one sentence, the
traceback lies in the workspace's logs). No traceback is ever shown.
"""

from __future__ import annotations

import io
import os
import sys
import time
import traceback
from collections.abc import Sequence
from importlib import metadata

from filelock import Timeout

from studio import files
from studio.cli import (
    commands_adapters,
    commands_bases,
    commands_chat,
    commands_data,
    commands_demo,
    commands_doctor,
    commands_estimate,
    commands_fit,
    commands_fit_test,
    commands_merge,
    commands_preferences,
    commands_queue,
    commands_runs,
    commands_train,
)
from studio.cli.follow import InternalError
from studio.cli.output import Output
from studio.cli.parser import ArgumentParser
from studio.errors import BusyError, StudioError
from studio.places import Workspace

DONE, OUR_FAULT, CAN_BE_MENDED = 0, 1, 2
_MODULES = (
    commands_doctor,
    commands_demo,
    commands_bases,
    commands_data,
    commands_estimate,
    commands_fit,
    commands_fit_test,
    commands_train,
    commands_queue,
    commands_runs,
    commands_adapters,
    commands_chat,
    commands_preferences,
    commands_merge,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a letter shows its number; nothing fails because of it.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    output = Output(sys.stdout, sys.stderr)
    try:
        workspace = Workspace.default()
    except RuntimeError:
        output.note("overlay: OVERLAY_HOME names the home of a user who does not exist here.\nSet it to a folder.")
        return CAN_BE_MENDED
    try:
        return _run(arguments, output, workspace)
    except BrokenPipeError:
        # The reader (`head`, say) has seen enough. Python must not fail again when it flushes stdout at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except KeyboardInterrupt:
        output.note("overlay: Interrupted.\nNothing that was saved is lost; give the command again to go on.")
        return CAN_BE_MENDED
    except Exception as error:  # noqa: BLE001 - this is the boundary: behind it there is only the user
        return _tell(error, output, workspace)


def _run(arguments: Sequence[str] | None, output: Output, workspace: Workspace) -> int:
    parser = build_parser()
    options = parser.parse_args(arguments)
    output.as_json = getattr(options, "json", False)
    options.device = getattr(options, "device", "auto")
    if workspace.root.exists() and not workspace.root.is_dir():
        raise StudioError(f"{workspace.root} is a file, not a folder.", "Set OVERLAY_HOME to a folder.")
    options.run(options, output, workspace)
    return DONE


def build_parser() -> ArgumentParser:
    """The whole grammar."""
    parser = ArgumentParser(
        prog="overlay",
        description="Teach a language model something new on your own graphics card.",
        epilog="`overlay demo` shows all of it in a few minutes. `overlay COMMAND --help` explains a command. "
        "The workspace is the folder named by OVERLAY_HOME, else the usual place for program data.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"overlay {_version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="command")
    for module in _MODULES:
        module.register(commands)
    return parser


def _version() -> str:
    try:
        return metadata.version("overlay-studio")
    except metadata.PackageNotFoundError:
        return "(not installed as a package)"


def _tell(error: Exception, output: Output, workspace: Workspace) -> int:
    told = _told(error)
    if told is not None:
        output.note("\n".join(filter(None, [f"overlay: {told.message}", told.hint])))
        return OUR_FAULT if isinstance(told, InternalError) else CAN_BE_MENDED
    log = workspace.logs / f"{time.strftime('%Y-%m-%d_%H%M%S')}-{os.getpid()}.txt"
    try:
        files.write_text(log, "".join(traceback.format_exception(error)))
        where = f"The details are in {log}."
    except (OSError, StudioError):
        where = "The details could not be written to the workspace."
    output.note(f"overlay: Something went wrong inside Overlay Studio, which is our fault. {where}")
    return OUR_FAULT


def _told(error: Exception) -> StudioError | None:
    """The error as a user can act on it, or None if it is one of ours."""
    match error:
        case StudioError():
            return error
        case Timeout():
            return BusyError("Another Overlay Studio is writing there just now.", "Try again in a moment.")
        case PermissionError(filename=str(name)):
            return StudioError(f"{name} may not be read or written.", "Change its permissions, or use another place.")
        case FileExistsError(filename=str(name)) | NotADirectoryError(filename=str(name)):
            return StudioError(f"{name} is a file where a folder is needed.", "Move it away, or set OVERLAY_HOME.")
    return None
