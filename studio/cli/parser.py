"""The command line's grammar: argparse, with its complaints told as ours."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import NoReturn, TypeAlias

from studio.cli.output import Output
from studio.errors import StudioError
from studio.places import Workspace

Run: TypeAlias = Callable[[argparse.Namespace, Output, Workspace], None]
Commands: TypeAlias = "argparse._SubParsersAction[ArgumentParser]"


class UsageError(StudioError):
    """A command that was typed wrongly."""


class ArgumentParser(argparse.ArgumentParser):
    """An argparse parser that raises instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        """Raise `UsageError` with argparse's sentence."""
        sentence = message if message.endswith(".") else f"{message}."
        raise UsageError(sentence[0].upper() + sentence[1:], f"`{self.prog} --help` explains the command.")


def add_command(
    commands: Commands, name: str, run: Run, summary: str, *, details: str = "", uses_device: bool = False
) -> ArgumentParser:
    """A new command: its one line for the list of commands, its paragraph, and the options that all of them share."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}. {details}".strip(),
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    # SUPPRESS: a sub-command's default must not overwrite what was said before its name.
    parser.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="print JSON for programs instead of text"
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cuda", "cpu"),
        default=argparse.SUPPRESS,
        help="what does the work (default: the graphics card if there is one)" if uses_device else argparse.SUPPRESS,
    )
    return parser


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """The type of an option that takes a whole number from `low` to `high`."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text[:40]} is not a whole number from {low} to {high}")
        return value

    return convert


def number(low: float, high: float) -> Callable[[str], float]:
    """The type of an option that takes a number from `low` to `high`."""

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text[:40]} is not a number from {low:g} to {high:g}")
        return value

    return convert
