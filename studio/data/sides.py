"""Which rows are learnt and which are held out, for any fraction, without looking through the dataset again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from studio import files
from studio.data.survey import held_at
from studio.errors import DamagedError


@dataclass(frozen=True, eq=False)
class Split:
    """Rows of both sides by their numbers (int64), in file order. `num_leaks` rows have an earlier like on the other side."""

    train: NDArray[np.int64]
    held_out: NDArray[np.int64]
    num_leaks: int

    def is_held_out(self, row: int) -> bool | None:
        """The side of a row, None if it is not learnt from at all."""
        for several, is_held in ((self.held_out, True), (self.train, False)):
            place = int(np.searchsorted(several, row))
            if place < len(several) and several[place] == row:
                return is_held
        return None

    def only(self, rows: Sequence[int] | None, *, held_out: bool) -> list[int]:
        """Those of these rows, or of all, that stand on one side."""
        side = self.held_out if held_out else self.train
        found: list[int] = (side if rows is None else np.intersect1d(side, rows)).tolist()
        return found


@dataclass(frozen=True, eq=False)
class Sides:
    """Each good row by its number (int64), and where it stands (`studio.data.survey.positions`, uint64); `likes` are int64
    arrays of places in these: each one's earliest like by its question, and by its text, -1 if there is none."""

    rows: NDArray[np.int64]
    keys: NDArray[np.uint64]
    likes: tuple[NDArray[np.int64], NDArray[np.int64]]

    def at(self, fraction: float) -> Split:
        """The split that training makes with this fraction (0 <= fraction < 1)."""
        held = held_at(self.keys, fraction)
        return Split(self.rows[~held], self.rows[held], int((self.leaks(fraction) >= 0).sum()))

    def leaks(self, fraction: float) -> NDArray[np.int64]:
        """For each row the place of one on the other side that it leaks to, -1 if there is none. Exact repeats share a side."""
        held = held_at(self.keys, fraction)
        leaks = np.full(len(held), -1, dtype=np.int64)
        for other in self.likes:
            crosses = (other >= 0) & (held != held[other])
            leaks[crosses] = other[crosses]
        return leaks

    def save(self, path: Path) -> None:
        """Keep them in one file. Raises `DiskFullError`."""
        with files.new_file(path) as file:
            np.save(file, np.stack([self.rows, self.keys.view(np.int64), *self.likes]), allow_pickle=False)

    @classmethod
    def load(cls, path: Path) -> Sides:
        """What `save` kept. Raises `DamagedError` if it is something else."""
        try:
            rows, keys, question, text = np.load(path, allow_pickle=False)
        except (OSError, EOFError, ValueError) as error:
            raise DamagedError(f"{path.name} holds no sides of rows.", "Look through the dataset again.") from error
        return cls(rows, keys.view(np.uint64), (question, text))
