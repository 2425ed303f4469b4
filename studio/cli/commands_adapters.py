"""`overlay adapters`: the library."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from studio import files
from studio.cli.output import Output, table
from studio.cli.parser import Commands, add_command
from studio.library import shelf
from studio.library.adapter import Adapter
from studio.places import Workspace


def register(commands: Commands) -> None:
    """Add the command and its actions."""
    parser = add_command(commands, "adapters", list_them, "the library of adapters")
    actions = parser.add_subparsers(title="actions", metavar="ACTION")
    bring = add_command(
        actions,
        "import",
        import_one,
        "take in an adapter from elsewhere",
        details="Any LoRA adapter that PEFT saved as safetensors. It is copied; the original stays where it is.",
    )
    bring.add_argument("path", metavar="PATH", type=Path, help="the adapter's folder")
    bring.add_argument("--as", dest="new_name", metavar="NAME", help="what it is to be called here")
    _add_named(actions, "show", show_one, "all that is known of one adapter")
    _add_named(actions, "check", check_one, "whether an adapter's files are sound")
    renaming = _add_named(actions, "rename", rename_one, "give an adapter another name")
    renaming.add_argument("new_name", metavar="NEW", help="the new name")
    tagging = _add_named(actions, "tag", tag_one, "add or take off tags")
    tagging.add_argument("tags", metavar="TAG", nargs="*", help="a tag to add")
    tagging.add_argument("--remove", metavar="TAG", action="append", default=[], help="a tag to take off")
    noting = _add_named(actions, "note", note_one, "write a note on an adapter")
    noting.add_argument("text", metavar="TEXT", help="the note; an empty one takes it off")
    _add_named(actions, "remove", remove_one, "move an adapter to the trash")
    add_command(actions, "trash", list_trash, "adapters in the trash")
    _add_named(actions, "restore", restore_one, "bring an adapter back from the trash")


def list_them(_options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Print every usable adapter, newest first; damaged ones are told on stderr."""
    adapters = shelf.list_adapters(workspace)
    for problem in shelf.list_problems(workspace):
        output.note(f"Left out: {problem.message} {problem.hint}")
    rows = [
        (a.name, a.base or "?", str(a.rank), files.readable_bytes(a.bytes), _day(a), ", ".join(a.tags))
        for a in adapters
    ]
    empty = "The library is empty. `overlay demo` trains a first adapter."
    text = table(("NAME", "BASE", "RANK", "SIZE", "CREATED", "TAGS"), rows) if rows else empty
    output.result([adapter.record() for adapter in adapters], text)


def import_one(options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Take in an adapter."""
    adapter = shelf.import_adapter(workspace, options.path, options.new_name)
    output.result(adapter.record(), f"{adapter.name} is in the library. {adapter.note}".rstrip())


def show_one(options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Print one adapter."""
    adapter = shelf.find(workspace, options.name)
    output.result(adapter.record(), _text(adapter))


def check_one(options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Print what is wrong with an adapter."""
    adapter = shelf.find(workspace, options.name)
    problems = shelf.check(adapter)
    text = "\n".join(problems) if problems else f"{adapter.name} is sound."
    output.result({"name": adapter.name, "ok": not problems, "problems": problems}, text)


def rename_one(options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Rename an adapter."""
    adapter = shelf.rename(workspace, options.name, options.new_name)
    output.result(adapter.record(), f"{options.name} is called {adapter.name} now.")


def tag_one(options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Change an adapter's tags."""
    adapter = shelf.tag(workspace, options.name, tuple(options.tags), tuple(options.remove))
    output.result(adapter.record(), f"{adapter.name}: {', '.join(adapter.tags) or 'no tags'}")


def note_one(options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Change an adapter's note."""
    adapter = shelf.set_note(workspace, options.name, options.text)
    output.result(adapter.record(), f"{adapter.name}: {adapter.note or 'no note'}")


def remove_one(options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Move an adapter to the trash."""
    adapter = shelf.find(workspace, options.name)
    lies = shelf.remove(workspace, options.name)
    text = f"{adapter.name} is in the trash. `overlay adapters restore {lies.name}` brings it back."
    output.result({**adapter.record(), "trash": str(lies)}, text)


def list_trash(_options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Print the adapters in the trash."""
    names = [path.name for path in shelf.list_trash(workspace)]
    output.result(names, "\n".join(names) if names else "There is no adapter in the trash.")


def restore_one(options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Bring an adapter back."""
    adapter = shelf.restore(workspace, workspace.trash / Path(options.name).name)
    output.result(adapter.record(), f"{adapter.name} is in the library again.")


def _add_named(actions: Commands, action: str, run: object, summary: str) -> argparse.ArgumentParser:
    assert callable(run)
    parser = add_command(actions, action, run, summary)
    parser.add_argument("name", metavar="NAME", help="the adapter's name")
    return parser


def _day(adapter: Adapter) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(adapter.created))


def _text(adapter: Adapter) -> str:
    facts = {
        "Name": adapter.name,
        "Base": adapter.base or "unknown",
        "Method": adapter.method,
        "Rank": f"{adapter.rank}, alpha {adapter.alpha:g} (scale {adapter.scale:g})",
        "Targets": ", ".join(adapter.target_modules),
        "Size": files.readable_bytes(adapter.bytes),
        "Created": _day(adapter),
        "Run": adapter.run or "-",
        "Tags": ", ".join(adapter.tags) or "-",
        "Note": adapter.note or "-",
        "Folder": str(adapter.path),
        **{f"Metric {name}": f"{value:g}" for name, value in adapter.metrics.items()},
    }
    width = max(len(name) for name in facts)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in facts.items())
