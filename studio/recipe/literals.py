"""Values as a recipe file spells them; messages spell them the same way."""

from __future__ import annotations

import json
import re
from typing import Any

_LONGEST_SEEN = 60


def literal(value: Any) -> str:
    """A value of a recipe in TOML: `2e-4`, `true`, `["q_proj", "v_proj"]`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # TOML forbids a bare DEL, JSON does not.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, float):
        return _shortest(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(literal(item) for item in value) + "]"
    return str(value)


def seen(value: Any) -> str:
    """What somebody wrote, short enough for a sentence."""
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, int) and abs(value) > 10**30:
        return "a number far too large"
    if isinstance(value, list | tuple) and any(isinstance(item, dict | list | int) for item in value):
        return "a list of other things"
    text = literal(value)
    return text if len(text) <= _LONGEST_SEEN else f"{text[:_LONGEST_SEEN]}..."


def _shortest(value: float) -> str:
    plain = repr(value)
    scientific = re.sub(r"\.?0*e([+-])0*(\d)", r"e\1\2", f"{value:.6e}").replace("e+", "e")
    return scientific if len(scientific) < len(plain) and float(scientific) == value else plain
