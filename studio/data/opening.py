"""What a path holds: one file or a folder of them, packed or not, of which kind and in which encoding."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO, cast

from studio import files
from studio.data.columnar import unpacked_zstd
from studio.data.json_rows import is_json
from studio.errors import DataError

_PACKED = {".gz": b"\x1f\x8b", ".zst": b"\x28\xb5\x2f\xfd"}
_BY_SUFFIX = {
    ".csv": "table",
    ".tsv": "table",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".markdown": "text",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
SUFFIXES = {".json", ".jsonl", ".ndjson", *_BY_SUFFIX}
_FOREIGN = {
    b"PK\x03\x04": "a zip file or a spreadsheet",
    b"%PDF": "a PDF file",
    b"SQLite format 3": "a database",
    b"\x89PNG": "a picture",
    b"\x80\x04": "a pickle",
}
START_BYTES = 1 << 16


@dataclass(frozen=True)
class Kind:
    """`form`: `lines` (JSON), `values` (a JSON array or value), `table`, `text`, `parquet`, `arrow`. `packing`: none, `.gz`,
    `.zst`. `suffix` is that of the unpacked file."""

    form: str
    encoding: str = "utf-8"
    packing: str = ""
    suffix: str = ""


def members(path: Path) -> list[Path]:
    """The files that make up the dataset: `path` itself, or the readable ones in that folder, by name.

    Raises `DataError` if there are none.
    """
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.rglob("*") if file.is_file() and _is_member(path, file))
    if not found:
        raise DataError(f"There is no dataset in the folder {path}.", "Put JSON, CSV, Parquet or text files there.")
    return found


def _is_member(folder: Path, file: Path) -> bool:
    parts = file.relative_to(folder).parts
    return not any(part.startswith(".") for part in parts) and unpacked_suffix(file) in SUFFIXES


def unpacked_suffix(path: PurePath) -> str:
    """`.jsonl` for `rows.jsonl` and `rows.jsonl.gz` alike."""
    suffix = path.suffix.lower()
    return PurePath(path.stem).suffix.lower() if suffix in _PACKED else suffix


def num_bytes(path: Path) -> int:
    """Bytes on the disk, of all files of a folder together. Raises `DataError` if they cannot be read."""
    with readable(path):
        return sum(file.stat().st_size for file in members(path))


def sha256(path: Path) -> str:
    """Of the file's bytes; of a folder, over the names and sums of its files. Raises an `OSError`."""
    if not path.is_dir():
        return files.sha256(path)
    told = "".join(f"{files.sha256(file)}  {file.relative_to(path).as_posix()}\n" for file in members(path))
    return hashlib.sha256(told.encode("utf-8")).hexdigest()


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Tell in plain words what keeps a file from being read."""
    if "\0" in str(path):
        raise DataError("The path of the dataset holds a null character.", "Check the path of the dataset.")
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"There is no file {path}.", "Check the path of the dataset.") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path.name} is packed and damaged.", "Pack or download it again.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is not valid text.", "Save the file as UTF-8 and try again.") from error
    except OSError as error:
        why = error.strerror or "its contents are damaged"
        raise DataError(f"{path} cannot be read: {why}.", "Choose a file that you may read.") from error


def kind_of(path: Path) -> Kind:
    """Look at the first bytes. Raises `DataError` for what is no dataset, an `OSError` for what cannot be read."""
    with open(path, "rb") as file:
        start = file.read(16)
    packing = next((suffix for suffix, magic in _PACKED.items() if start.startswith(magic)), "")
    suffix = unpacked_suffix(path)
    if not packing and start.startswith(b"PAR1"):
        return Kind("parquet")
    if not packing and (start.startswith(b"ARROW1") or _BY_SUFFIX.get(suffix) == "arrow"):
        return Kind("arrow")
    with unpacked(path, packing) as (stream, _):
        start = stream.read(START_BYTES)
    form, encoding = form_of(path, start)
    if form in ("parquet", "arrow"):
        what = "is packed once more, which such a file cannot be" if packing else f"is no {form} file"
        raise DataError(f"{path.name} {what}.", "Unpack it, or export it again.")
    return Kind(form, encoding, packing, suffix)


def form_of(path: Path, start: bytes) -> tuple[str, str]:
    """Form and encoding of a file of that name that begins with these (unpacked) bytes. Raises `DataError` as `kind_of` does."""
    encoding, suffix = _encoding(path, start), unpacked_suffix(path)
    return _BY_SUFFIX.get(suffix) or _json_form(start.decode(encoding, errors="ignore"), suffix), encoding


@contextlib.contextmanager
def unpacked(path: Path, packing: str) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """The bytes behind the packing, to be read forwards, and the packed file, whose position tells how far that is."""
    with open(path, "rb") as file:
        if packing == ".gz":
            with gzip.open(file) as stream:
                yield cast("IO[bytes]", stream), file
        elif packing == ".zst":
            yield unpacked_zstd(path, file), file
        else:
            yield file, file


def _encoding(path: Path, start: bytes) -> str:
    for magic, what in _FOREIGN.items():
        if start.startswith(magic):
            raise DataError(
                f"{path.name} is {what}, which cannot be read as a dataset.", "Save it as JSON lines or as CSV."
            )
    if start.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise DataError(f"{path.name} is encoded as UTF-32.", "Save the file as UTF-8 and try again.")
    return "utf-16" if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8"


def _json_form(start: str, suffix: str) -> str:
    """A file of one object per line may be called .json, and an array may be called .jsonl: the content decides."""
    text = start.lstrip("\ufeff \t\r\n")
    if text.startswith("["):
        return "values"
    first, line_break, _ = text.partition("\n")
    is_one_value = suffix == ".json" and text.startswith("{") and line_break and not is_json(first)
    return "values" if is_one_value else "lines"
