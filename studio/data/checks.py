"""What a row should be looked at for, though it can be learnt: garbled letters, control characters, markup, excess, secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from studio.data.conversation import Conversation, RowProblem

HUGE_CHARACTERS = 100_000
_CONTROL = re.compile(r"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff\u2028\u2029]")
# UTF-8 that was read as Windows-1252 or Latin-1, and letters that were lost for good.
MOJIBAKE = re.compile(
    "[\u00c2-\u00c3][\u0080-\u00bf\u0152-\u0178\u2013-\u203a\u20ac]|\u00e2[\u0080\u20ac][\u0080-\u00bf\u0152-\u2122]|\u00f0\u0178|\ufffd"
)
_MARKUP = re.compile(r"<\|[\w ]{1,40}\|>|</?s>|<(?:bos|eos|pad|unk)>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>")
_SECRETS = {
    "an access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "an API key": r"\bsk-[A-Za-z0-9_-]{20,}|\bAIza[0-9A-Za-z_-]{35}\b|\bhf_[A-Za-z0-9]{30,}\b",
    "an access token": r"\bgh[pousr]_[A-Za-z0-9]{36,}\b|\bxox[abprs]-[A-Za-z0-9-]{10,}|\bglpat-[A-Za-z0-9_-]{20,}",
    "a private key": r"(?s)-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----(?:.*?-----END (?:[A-Z]+ )?PRIVATE KEY-----|[\w+/=\s]*)",
    "a signed token": r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
    "a password": r"(?i)(\b(?:password|passwd|pwd)\s*[:=]\s*)(?!\[password\])[^\s\"']{6,}",
}
_SECRET = {what: re.compile(pattern) for what, pattern in _SECRETS.items()}
EMAIL = re.compile(r"\b[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+\b")


@dataclass(frozen=True)
class Check:
    """One thing that texts are searched for. `first` is a character without which there is nothing to find."""

    kind: str
    pattern: re.Pattern[str]
    message: str
    fix: str


_CHECKS = (
    Check("control", _CONTROL, "holds the control character {found!r}", "Remove such characters (mend: control)."),
    Check(
        "mojibake",
        MOJIBAKE,
        "holds garbled letters ({found!r}): it was saved in one encoding and read in another",
        "Let them be put right (mend: mojibake), or export the text again as UTF-8.",
    ),
    Check(
        "markup",
        _MARKUP,
        "holds {found!r}, which some bases use as a control token",
        "It is learnt as text and opens no turn; remove it if it came from a template.",
    ),
)


def warnings(one: Conversation, *, privacy: bool = False, file: str = "") -> Iterator[RowProblem]:
    """What to look at in a good row: the first find of each kind in each message. Nothing leaves this computer.

    With `privacy` likely secrets and e-mail addresses are told as well, also those in calls of tools, without repeating them.
    """
    if one.num_characters > HUGE_CHARACTERS:
        size = f"The row has {one.num_characters:,} characters: most of it will be cut."
        yield RowProblem(one.row, one.line, "huge", size, "Split it, or raise the limit of tokens.", file=file)
    for number, message in enumerate(one.messages):
        column = "text" if one.is_text else f"message {number + 1}"
        text = message.content
        for kind, found, fix in [*_finds(text), *(_private(text + message.more) if privacy else [])]:
            yield RowProblem(one.row, one.line, kind, f"The content of {column} {found}.", fix, column, file)


def _finds(text: str) -> Iterator[tuple[str, str, str]]:
    if text.isascii() and "<" not in text and "[" not in text and text.isprintable():
        return
    for check in _CHECKS:
        found = check.pattern.search(text)
        if found:
            yield check.kind, check.message.format(found=found[0]), check.fix


def _private(text: str) -> Iterator[tuple[str, str, str]]:
    for what, pattern in _SECRET.items():
        if found := pattern.search(text):
            fix = "Take it out (mend: secrets): what is learnt can be asked for."
            yield "secret", f"seems to hold {what}{_hint_at(found)}", fix
    if "@" in text and (found := EMAIL.search(text)):
        name, _, domain = found[0].partition("@")
        fix = "Take it out (mend: email) if it is nobody's business."
        yield "email", f"holds an e-mail address ({name[0]}\u2026@{domain})", fix


def _hint_at(found: re.Match[str]) -> str:
    """Enough of a key to find it again, and too little to use it. Of passwords, and of what has many lines, nothing."""
    return "" if found.re.groups or "\n" in found[0] or " " in found[0] else f" ({found[0][:4]}\u2026{found[0][-2:]})"


def without_secrets(text: str) -> str:
    """With a word in brackets in the place of each likely secret; of a password, what it is called stays."""
    for what, pattern in _SECRET.items():
        word = f"[{what.split(' ', 1)[1]}]"
        text = pattern.sub(rf"\g<1>{word}" if pattern.groups else word, text)
    return text
