"""Every way in which the studio tells a *user* that something cannot be done.

    StudioError               what happened, and what to do about it
      RecipeError             the recipe contradicts itself; carries all problems at once
      DataError               a dataset is missing, empty or cannot be read
      BaseModelError          a base model is missing, damaged or of an unknown kind
      AdapterError            an adapter is missing, damaged or made for another base
      NotFoundError           a run, adapter or base of that name does not exist
      BusyError               the card, or a file, is in use by someone else
      DiskFullError           there is no room for what was to be written
      DamagedError            a file of ours does not hold what its manifest promises
      ChangedError            an input of a run is no longer what it was at the start
      DivergedError           the loss or a gradient became NaN or infinite
      OutOfMemoryError        the card, or the computer, has too little memory
      EngineError             the engine process could not start, or ended without a last word

Mistakes of our own are `assert`s and ordinary exceptions: they reach nobody but the log. The two boundaries (the
engine's entry, the window's task runner) turn them into one honest sentence.
"""

from __future__ import annotations

from dataclasses import dataclass


class StudioError(Exception):
    """Something that the user can mend: `message` says what happened and why, `hint` what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def kind(self) -> str:
        """A stable name for programs: `RecipeError` becomes `recipe`."""
        return type(self).__name__.removesuffix("Error").lower()


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing wrong with a recipe: the field's path (`training.epochs`), what is wrong, and the remedy."""

    field: str
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class RecipeError(StudioError):
    """A recipe that cannot be run. All its problems are told at once."""

    def __init__(self, problems: list[Problem], source: str = "the recipe") -> None:
        assert problems
        count = "one problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(
            f"{source} has {count}: " + "; ".join(str(problem) for problem in problems),
            " ".join(dict.fromkeys(problem.fix for problem in problems)),
        )
        self.problems = problems


class DataError(StudioError):
    """A dataset that is missing, empty or unreadable."""


class BaseModelError(StudioError):
    """A base model that is missing, damaged or of an unknown kind."""


class AdapterError(StudioError):
    """An adapter that is missing, damaged or made for another base."""


class NotFoundError(StudioError):
    """Nothing of that name."""


class BusyError(StudioError):
    """Somebody else holds the card or the file."""


class DiskFullError(StudioError):
    """No room for `needs_bytes` (0: nobody knows how much) in `folder`. What was there before is untouched."""

    def __init__(self, message: str, hint: str = "", *, folder: str = "", needs_bytes: int = 0) -> None:
        super().__init__(message, hint)
        self.folder = folder
        self.needs_bytes = needs_bytes


class DamagedError(StudioError):
    """A file of ours that does not hold what its manifest promises."""


class ChangedError(StudioError):
    """An input of the run with this id ("" where only a part of it is looked at) is no longer what it was when it began."""

    def __init__(self, message: str, hint: str = "", *, run: str = "") -> None:
        super().__init__(message, hint)
        self.run = run


class DivergedError(StudioError):
    """The loss or a gradient became NaN or infinite."""


class OutOfMemoryError(StudioError):
    """Too little memory on the card or in the computer."""


class EngineError(StudioError):
    """The engine process could not start, or ended without a last word."""
