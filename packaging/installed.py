"""Run by `bootstrap.py` inside the environment: one process answers for all packages, as one JSON object on stdout.

A package counts as sound when each of its files exists and has the size that it recorded; with the argument `--deep`
the checksum too, which takes some ten seconds instead of a quarter of one.
"""

import base64
import csv
import hashlib
import importlib.metadata
import json
import os
import re
import sys
from pathlib import Path


def sound(distribution: importlib.metadata.Distribution, deep: bool) -> bool:
    """Whether every recorded file is there and whole."""
    rows = csv.reader((distribution.read_text("RECORD") or "").splitlines())
    for name, checksum, size in (row for row in rows if len(row) == 3):
        if not size or name.endswith(".pyc"):
            continue
        path = str(distribution.locate_file(name))
        try:
            if os.stat(path).st_size != int(size):
                return False
        except OSError:
            return False
        if deep and checksum.startswith("sha256=") and checksum[7:] != sha256(path):
            return False
    return True


def sha256(path: str) -> str:
    """The checksum as RECORD files spell it: URL-safe base64 without padding."""
    with open(path, "rb") as file:
        return base64.urlsafe_b64encode(hashlib.file_digest(file, "sha256").digest()).decode().rstrip("=")


def report(deep: bool) -> dict[str, object]:
    """What is found (name -> versions), damaged, left half-written; the Python; where the project was installed from."""
    found: dict[str, list[str]] = {}
    damaged, unfinished, project = [], [], None
    for folder in sorted(Path(entry) for entry in sys.path if entry.endswith("site-packages")):
        # pip renames what it is about to replace to `~name`; after an interruption such folders stay behind.
        for place in sorted(path for path in folder.glob("*.dist-info") if not path.name.startswith("~")):
            distribution = importlib.metadata.Distribution.at(place)
            # pip writes RECORD last.
            if not (place / "RECORD").exists() or not (place / "METADATA").exists():
                unfinished.append(str(place))
                continue
            name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"] or place.name).lower()
            found.setdefault(name, []).append(distribution.version)
            if not sound(distribution, deep):
                damaged.append(name)
            if name == "overlay-studio":
                project = json.loads(distribution.read_text("direct_url.json") or "{}").get("url")
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return {"python": python, "found": found, "damaged": damaged, "unfinished": unfinished, "project": project}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(report("--deep" in sys.argv)))
