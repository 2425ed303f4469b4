"""A base's tokenizer as transformers makes it, apart from the models, which it does not need: it comes in a third of the time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from studio.errors import BaseModelError


def load_tokenizer(path: Path) -> Any:
    """The base's tokenizer. Raises `BaseModelError` if there is none, or one without character offsets."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise BaseModelError(
            f"The base {path.name} has no usable tokenizer.", "Add the base again, with all its files."
        ) from error
    if not tokenizer.is_fast:
        raise BaseModelError(
            f"The tokenizer of {path.name} cannot tell which characters a token stands for.",
            "Use a base that ships a tokenizer.json.",
        )
    return tokenizer
