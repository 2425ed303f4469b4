"""The rules of the house that no linter knows. Each rule is shown to catch a planted offence."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FUNCTION_LINES, TRAINING_LOOP_LINES = 60, 120
MODULE_LINES = 400
# The bootstrap is one file so that nothing but Python is needed to start it: it has no package to be split into.
OTHER_MODULE_LINES = {"ui/window.py": 250, "packaging/bootstrap.py": 640}
BOUNDARIES = {"studio/engine/boundary.py", "studio/cli/__init__.py", "ui/bridge.py", "ui/app.py"}
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers"}


@dataclass(frozen=True)
class Rule:
    """What must not be written, what to do instead, where it applies and where it does not; `planted` breaks it."""

    name: str
    pattern: str
    advice: str
    planted: str
    where: tuple[str, ...] = ("studio/", "ui/")
    except_in: tuple[str, ...] = ()


RULES = [
    Rule("os.path", r"\bos\.path\b|\bfrom os import path\b", "Use pathlib.Path.", "os.path.join(a, b)"),
    Rule(
        "timers",
        r"\bQTimer\(",
        "Let a signal tell the change; a widget that animates goes to ui/widgets.",
        "timer = QTimer(self)",
        where=("ui/",),
        except_in=("ui/bridge.py", "ui/widgets/"),
    ),
    Rule(
        "remote code",
        r"trust_remote_code[\"']?\s*[=:]\s*True",
        "A model's own code is never run; support the architecture, or refuse the model.",
        "load(path, trust_remote_code=True)",
    ),
    Rule(
        "pickles",
        r"\btorch\.load\(|\bimport c?pickle\b|\bfrom pickle\b|\bpickle\.",
        "Loading a pickle runs it. Use safetensors or JSON.",
        "state = torch.load(path)",
    ),
    Rule(
        "network ports",
        r"\bsocket\.AF_INET|\bQTcpServer\b",
        "Nothing listens on the network. Use files, pipes or a local socket.",
        "server = QTcpServer()",
    ),
    Rule(
        "sleeping window",
        r"\btime\.sleep\(|\bfrom time import .*\bsleep\b|\bQThread\.m?sleep\(",
        "The window never waits: use a signal or ui.bridge.in_background.",
        "time.sleep(1)",
        where=("ui/",),
    ),
    Rule(
        "unsafe writes",
        r"\bopen\((?:[^()]|\([^()]*\))*[\"'][wx][bt+]*[\"']|(?<!\bfiles)\.write_(?:text|bytes)\(",
        "Write through studio.files: a power cut or a full disk must not cost the user a file.",
        'with open(folder(x) / "a", "wb") as file:',
        except_in=("studio/files.py",),
    ),
]
MACHINE_PATHS = Rule(
    "machine paths",
    r"(?<![\w.~$}>-])/(?:home|root|work|farm|Users)/\w|\b[A-Z]:\\+Users\b",
    "Paths of one computer mean nothing on another. Use studio.places, or tmp_path in a test.",
    "cache = '/" + "root/models'",
    where=("studio/", "ui/", "packaging/", ".ci/", "resources/", "pyproject.toml"),
)
MACHINE_PATHS_IN_TESTS = Rule(
    "machine paths in tests",
    r"(?<![\w.~$}>-])/(?:root|work|farm)/\w",
    MACHINE_PATHS.advice,
    "cache = '/" + "work/models'",
    where=("tests/", "README.md"),
)


def sources(*folders: str) -> Iterator[tuple[str, str]]:
    """(path below the root, text) of each Python module in these folders."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def texts(where: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """(path below the root, text) of each text file in these places."""
    for place in where:
        root = ROOT / place
        for path in [root] if root.is_file() else sorted(root.rglob("*")):
            if path.is_file() and (
                path.suffix in (".py", ".md", ".toml", ".txt", ".json", ".jsonl") or path.name == "run"
            ):
                yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def code_of(source: str) -> str:
    """The source with comments and docstrings blanked out, lines kept: prose may name what code may not do."""
    lines = source.splitlines()
    spans = [
        (token.start, token.end)
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    ]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            assert node.end_lineno is not None
            spans.append(((node.lineno, 0), (node.end_lineno, len(lines[node.end_lineno - 1]))))
    for (first, start), (last, end) in spans:
        for number in range(first, last + 1):
            text = lines[number - 1]
            left, right = (start if number == first else 0), (end if number == last else len(text))
            lines[number - 1] = text[:left] + " " * (right - left) + text[right:]
    return "\n".join(lines)


def offences(rule: Rule, name: str, code: str) -> list[str]:
    """One line `path:line: advice` per place in `code` that breaks the rule."""
    if not name.startswith(rule.where) or (rule.except_in and name.startswith(rule.except_in)):
        return []
    lines = [code.count("\n", 0, match.start()) + 1 for match in re.finditer(rule.pattern, code)]
    return [f"{name}:{line}: {rule.name}: {rule.advice}" for line in lines]


def told(found: list[str]) -> str:
    return "\n" + "\n".join(found)


# --- patterns ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_code_keeps_the_rule(rule: Rule) -> None:
    found = [line for name, text in sources("studio", "ui") for line in offences(rule, name, code_of(text))]
    assert not found, told(found)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_rule_catches_code_but_neither_prose_nor_its_exceptions(rule: Rule) -> None:
    place = rule.where[-1] + "pages/planted.py"
    assert offences(rule, place, rule.planted) == [f"{place}:1: {rule.name}: {rule.advice}"]
    prose = f'"""Not: {rule.planted.replace(chr(34), chr(39))}"""\nx = 1  # nor {rule.planted}\n'
    assert offences(rule, place, code_of(prose)) == []
    assert all(offences(rule, name, rule.planted) == [] for name in rule.except_in)


@pytest.mark.parametrize("line", ["files.write_text(path, text)", 'open(path, "ab")', "open(path)", "window.open(x)"])
def test_writing_through_studio_files_and_reading_are_no_offence(line: str) -> None:
    rule = next(rule for rule in RULES if rule.name == "unsafe writes")
    assert offences(rule, "studio/runs/queue.py", line) == []


@pytest.mark.parametrize("rule", [MACHINE_PATHS, MACHINE_PATHS_IN_TESTS], ids=lambda rule: rule.name)
def test_no_path_of_one_machine_is_written_down(rule: Rule) -> None:
    found = [line for name, text in texts(rule.where) for line in offences(rule, name, text)]
    assert not found, told(found)


@pytest.mark.parametrize("rule", [MACHINE_PATHS, MACHINE_PATHS_IN_TESTS], ids=lambda rule: rule.name)
def test_a_machine_path_is_caught_and_a_relative_one_is_not(rule: Rule) -> None:
    place = rule.where[0] + "planted.py"
    assert offences(rule, place, rule.planted)
    assert not offences(rule, place, "'resources/work/x', 'https://example.org/home/x', folder / 'root'")


# --- size ----------------------------------------------------------------------------------------------------------


def too_long(name: str, source: str) -> list[str]:
    """What of this module is over its budget."""
    found = []
    lines, most = len(source.splitlines()), OTHER_MODULE_LINES.get(name, MODULE_LINES)
    if lines > most:
        found.append(f"{name}: {lines} lines, at most {most}: split it by what changes together.")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            loop = name == "studio/engine/train.py" and node.name == "train"
            most = TRAINING_LOOP_LINES if loop else FUNCTION_LINES
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > most:
                found.append(f"{name}:{node.lineno}: {node.name} has {length} lines, at most {most}: name its parts.")
    return found


def function_of(lines: int, name: str = "f") -> str:
    return f"def {name}():\n" + "    x = 1\n" * (lines - 1)


def test_no_function_or_module_is_over_its_budget() -> None:
    found = [line for name, text in sources("studio", "ui", "packaging") for line in too_long(name, text)]
    assert not found, told(found)


def test_the_size_budget_is_exact() -> None:
    assert not too_long("ui/form.py", function_of(60))
    assert too_long("ui/form.py", function_of(61))
    assert not too_long("studio/engine/train.py", function_of(120, "train"))
    assert too_long("studio/engine/train.py", function_of(121, "train"))
    assert too_long("studio/engine/train.py", function_of(61, "evaluate"))
    assert not too_long("ui/form.py", "x = 1\n" * 400)
    assert too_long("ui/form.py", "x = 1\n" * 401)
    assert too_long("ui/window.py", "x = 1\n" * 251)
    assert not too_long("packaging/bootstrap.py", "x = 1\n" * 640)
    assert too_long("packaging/bootstrap.py", "x = 1\n" * 641)
    assert too_long("packaging/check.py", "x = 1\n" * 401)


# --- broad excepts -------------------------------------------------------------------------------------------------


def broad_excepts(name: str, source: str) -> list[str]:
    """Handlers that catch everything and keep it; one that ends in a bare `raise` only tidies up."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if name in BOUNDARIES or not isinstance(node, ast.ExceptHandler):
            continue
        caught = {item.id for item in ast.walk(node.type) if isinstance(item, ast.Name)} if node.type else {"Exception"}
        last = node.body[-1]
        passes_on = isinstance(last, ast.Raise) and last.exc is None
        if caught & {"Exception", "BaseException"} and not passes_on:
            found.append(f"{name}:{node.lineno}: catches everything: name what can go wrong here.")
    return found


def test_only_the_boundaries_catch_everything() -> None:
    found = [line for name, text in sources("studio", "ui") for line in broad_excepts(name, text)]
    assert not found, told(found)


@pytest.mark.parametrize(
    ("handler", "caught"),
    [
        ("except Exception:\n    pass", 1),
        ("except BaseException as error:\n    log(error)", 1),
        ("except (ValueError, Exception):\n    pass", 1),
        ("except:\n    pass", 1),
        ("except Exception:\n    tidy()\n    raise", 0),
        ("except Exception as error:\n    raise StudioError('no') from error", 1),
        ("except ValueError:\n    pass", 0),
    ],
)
def test_a_broad_except_is_caught(handler: str, caught: int) -> None:
    source = f"try:\n    work()\n{handler}\n"
    assert len(broad_excepts("studio/runs/queue.py", source)) == caught
    assert broad_excepts("ui/bridge.py", source) == []


# --- names ---------------------------------------------------------------------------------------------------------


def vague(name: str) -> bool:
    return bool(VAGUE_NAMES & set(Path(name).with_suffix("").parts))


def test_every_module_is_named_after_what_it_does() -> None:
    assert [name for name, _ in sources("studio", "ui", "packaging") if vague(name)] == []


def test_a_vague_module_name_is_caught() -> None:
    assert vague("studio/utils.py")
    assert vague("ui/common/widgets.py")
    assert not vague("studio/runs/queue.py")


def test_the_packaging_folder_is_no_package() -> None:
    # As a package it would hide the library `packaging`, which the engine's libraries import.
    assert not (ROOT / "packaging" / "__init__.py").exists()
