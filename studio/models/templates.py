"""Chat templates for bases that have none: a few, written by us, among which the user chooses.

They add no token to the vocabulary, and each ends an answer with the token that ends a text for the base, so that stopping is
learnt. A base that has a template of its own was trained with it and keeps it.
"""

from __future__ import annotations

import json
from pathlib import Path

from studio.errors import Problem
from studio.places import RESOURCES

OWN = "own"
# The choices of `data.chat_template`, as they are called in windows.
OFFERED = {"chatml": "ChatML", "alpaca": "Alpaca", "vicuna": "Vicuna", "plain": "Plain"}


def template_text(name: str) -> str:
    """The Jinja text of one of `OFFERED`; "" for `OWN`."""
    return "" if name == OWN else (RESOURCES / "templates" / f"{name}.jinja").read_text(encoding="utf-8").strip()


def has_own(base: Path) -> bool | None:
    """Whether the base in this folder has a chat template; None if it cannot be told, for its tokenizer is not there."""
    if (base / "chat_template.jinja").is_file() or any(base.glob("additional_chat_templates/*.jinja")):
        return True
    try:
        told = json.loads((base / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return bool(told.get("chat_template")) if isinstance(told, dict) else None


def misfit(is_own: bool | None, name: str) -> Problem | None:
    """What is wrong with the choice `name` for a base of which `has_own` says `is_own`, None if nothing is."""
    if is_own is None or is_own is (name == OWN):
        return None
    return Problem(field="data.chat_template", **refusal(is_own=is_own))


def refusal(*, is_own: bool) -> dict[str, str]:
    """`message` and `fix` where a template was chosen for a base with its own, or none for a base without."""
    if is_own:
        return {
            "message": "this base has a chat template of its own, which it was trained with",
            "fix": f'Set data.chat_template to "{OWN}".',
        }
    return {
        "message": "this base has no chat template",
        "fix": f"Choose one (data.chat_template: {', '.join(OFFERED)}), or an instruction-tuned base.",
    }
