"""The language of a text, by its script and by the small words that every sentence of a language is full of. No model, no list of
names: where this tells nothing for certain, it says so.
"""

# ruff: noqa: RUF001 - Cyrillic words are meant

from __future__ import annotations

import re
from collections import Counter

UNKNOWN = ""
MOST_CHARACTERS = 800
NAMES = {
    "ar": "Arabic", "bg": "Bulgarian", "bn": "Bengali", "cs": "Czech", "da": "Danish", "de": "German", "el": "Greek",
    "en": "English", "es": "Spanish", "fa": "Persian", "fi": "Finnish", "fr": "French", "he": "Hebrew", "hi": "Hindi",
    "hu": "Hungarian", "hy": "Armenian", "id": "Indonesian", "it": "Italian", "ja": "Japanese", "ka": "Georgian",
    "ko": "Korean", "nl": "Dutch", "no": "Norwegian", "pl": "Polish", "pt": "Portuguese", "ro": "Romanian",
    "ru": "Russian", "sv": "Swedish", "ta": "Tamil", "te": "Telugu", "th": "Thai", "tr": "Turkish", "uk": "Ukrainian",
    "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip
_SMALL_WORDS = {
    "ar": "في من على إلى أن هذا هذه التي الذي عن مع ما لا هو هي كان أو ذلك بعد قد كل",
    "bg": "и в на не да се от за е са че това как който която но ще бъде има като или този тази със също може",
    "cs": "a je se na v že s z do to jako pro si ale by jsou byl být nebo která který když jeho také není má aby",
    "da": "og i at det en den til er som på de med han af for ikke der var jeg et har om vi fra du kan hvad efter mig sig nogle",
    "de": "der die und das ist nicht ein eine zu den mit sie ich es von auf für im dem des sich auch wie oder aber wird",
    "en": "the and of to in is that it for was with as you are this be not have on at by from or an but what can i",
    "es": "de la que el en y a los se del las un por con no una su para es al lo como más pero sus este está muy",
    "fa": "و در به از که این را با است برای آن یک خود تا بر هم می شود شده های کرد",
    "fi": "ja on ei se että hän oli en mutta ole kun niin minä mitä sen tai myös ovat jos vain kuin joka tämä voi",
    "fr": "de la le et les des en un une du que est dans qui pour pas il sur ne au par je vous avec plus ce sont cette",
    "hu": "a az és hogy nem is egy ez meg de van csak ha vagy mint már el volt még kell lehet ki nagyon azt",
    "id": "yang dan di ini itu dengan untuk tidak dari dalam akan pada adalah ke saya anda ada juga bisa atau karena",
    "it": "di e il la che è un a per in una non sono con si del da le della come i più anche ma lo questo gli ho",
    "nl": "de het een en van is dat in op te niet voor met die zijn ik aan er maar om ook als bij je wat naar deze",
    "no": "og i det er på som en å til av ikke for jeg at med de har den han et var vi om kan du fra hva eller etter meg seg å",
    "pl": "i w nie na się z to że do jest jak o co ale po tak za od przez jego dla by czy są już był może tego",
    "pt": "de a o que e do da em um para é com não uma os no se na por mais as dos como mas foi ao ele das tem você",
    "ro": "și de la în a cu nu că o pe un se este care din mai pentru sunt o să dar ca au fi sau această",
    "ru": "и в не на что я с он как это по но к у за от так же все из его ее для мы вы бы если или только есть",
    "sv": "och i att det en som på är av för med den till inte om ett han jag har de var men kan vi du från eller så",
    "tr": "ve bir bu da de için ile ne o çok ama daha gibi olarak var ben mi değil en kadar olan sonra her",
    "uk": "і в не на що я з він як це до та у за від так але для ми ви або який його вони був є ще якщо",
    "vi": "và là của có không được cho một trong người với này các những đã để khi tôi bạn về như từ thì",
}
_SCRIPTS = (
    ("el", 0x370, 0x3FF),
    ("Cyrillic", 0x400, 0x52F),
    ("hy", 0x530, 0x58F),
    ("he", 0x590, 0x5FF),
    ("Arabic", 0x600, 0x77F),
    ("hi", 0x900, 0x97F),
    ("bn", 0x980, 0x9FF),
    ("ta", 0xB80, 0xBFF),
    ("te", 0xC00, 0xC7F),
    ("th", 0xE00, 0xE7F),
    ("ka", 0x10A0, 0x10FF),
    ("ko", 0x1100, 0x11FF),
    ("ja", 0x3040, 0x30FF),
    ("zh", 0x4E00, 0x9FFF),
    ("ko", 0xAC00, 0xD7A3),
)
_SEVERAL = {"Latin": "cs da de en es fi fr hu id it nl no pl pt ro sv tr vi", "Cyrillic": "bg ru uk", "Arabic": "ar fa"}
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f\u1e00-\u1eff]+")
_WORD = re.compile(r"[^\W\d_]+")
# A text in a language is at least a tenth small words, and has some: shorter ones are anybody's.
_LEAST_SHARE, _LEAST_SCORE, _LEAST_LEAD = 0.1, 1.5, 1.2


def _worth() -> dict[str, list[tuple[str, float]]]:
    """Each small word with its languages; the more share it, the less it says."""
    owners: dict[str, list[str]] = {}
    for language, words in _SMALL_WORDS.items():
        for word in set(words.split()):
            owners.setdefault(word, []).append(language)
    return {word: [(one, len(several) ** -0.5) for one in several] for word, several in owners.items()}


_WORTH = _worth()


def language_of(text: str) -> str:
    """The code of a language in `NAMES`, by how the text begins; `UNKNOWN` where that cannot be told (code, numbers, a word)."""
    text = text[:MOST_CHARACTERS]
    script = "Latin" if text.isascii() else _script(text)
    return _by_words(text, _SEVERAL[script].split()) if script in _SEVERAL else script


def _script(text: str) -> str:
    """The one that most letters belong to; kana among them make it Japanese."""
    others = _LATIN.sub("", text)
    counts = Counter(filter(None, map(_script_of, others)))
    counts["Latin"] = sum(map(str.isalpha, text)) - sum(map(str.isalpha, others))
    if counts["ja"] * 10 > counts["zh"] > 0:
        counts["ja"] += counts.pop("zh")
    script, count = counts.most_common(1)[0]
    return script if count else UNKNOWN


def _script_of(letter: str) -> str:
    code = ord(letter)
    return next((name for name, first, last in _SCRIPTS if first <= code <= last), "") if code > 0x36F else ""


def _by_words(text: str, candidates: list[str]) -> str:
    words = _WORD.findall(text.casefold())
    scores: Counter[str] = Counter()
    num_small = 0
    for word in words:
        found = _WORTH.get(word, ())
        num_small += bool(found)
        for language, worth in found:
            scores[language] += worth  # type: ignore[assignment]  # a Counter holds fractions as well
    (best, most), (_, second) = sorted(((one, scores[one]) for one in candidates), key=lambda pair: -pair[1])[:2]
    is_certain = most >= max(_LEAST_SCORE, second * _LEAST_LEAD) and num_small >= _LEAST_SHARE * len(words)
    return best if is_certain else UNKNOWN
