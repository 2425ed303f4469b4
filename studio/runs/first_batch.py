"""What the first step learns from, token by token: `first_batch.json` in the run's folder.

    {"schema": 1, "num_rows", "num_tokens", "num_supervised",
     "rows": [{"row", "num_tokens", "num_supervised", "tokens": [{"id", "text", "trained"}]}]}

The numbers are those of the whole step and of whole rows; of a large step not all rows are in the file, and of a long row not all
tokens. It is for looking at, and nothing is computed from it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from studio import files
from studio.errors import DamagedError
from studio.runs.folder import RunFolder

FIRST_BATCH = "first_batch.json"
MAX_ROWS = 8
MAX_TOKENS = 4096


@dataclass(frozen=True)
class Token:
    """One token as text; `trained` if the step learns to predict it."""

    id: int
    text: str
    trained: bool


@dataclass(frozen=True)
class SeenRow:
    """One row: its place in the dataset from 0, how long it is, and its first tokens."""

    row: int
    num_tokens: int
    num_supervised: int
    tokens: tuple[Token, ...]

    @property
    def is_cut(self) -> bool:
        """Whether it goes on beyond `tokens`."""
        return len(self.tokens) < self.num_tokens


@dataclass(frozen=True)
class FirstBatch:
    """The first step: how much it is in all, and its first rows."""

    num_rows: int
    num_tokens: int
    num_supervised: int
    rows: tuple[SeenRow, ...]

    @property
    def is_cut(self) -> bool:
        """Whether there is more than `rows` show."""
        return len(self.rows) < self.num_rows or any(row.is_cut for row in self.rows)


def write_first_batch(run: RunFolder, batch: FirstBatch) -> None:
    """Write the file. Raises `DiskFullError`."""
    files.write_json(run.path / FIRST_BATCH, asdict(batch))


def read_first_batch(run: RunFolder) -> FirstBatch | None:
    """What the file says; None if there is none (yet). Raises `DamagedError` if it is none of ours."""
    try:
        told = files.read_json(run.path / FIRST_BATCH)
        rows = [
            SeenRow(
                int(row["row"]),
                int(row["num_tokens"]),
                int(row["num_supervised"]),
                tuple(Token(int(one["id"]), str(one["text"]), bool(one["trained"])) for one in row["tokens"]),
            )
            for row in told["rows"]
        ]
        return FirstBatch(int(told["num_rows"]), int(told["num_tokens"]), int(told["num_supervised"]), tuple(rows))
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(
            f"The {FIRST_BATCH} of {run.id} cannot be understood.", "Remove it; the run does not need it."
        ) from error
