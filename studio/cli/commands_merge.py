"""`overlay merge`: bake an adapter into its base."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from studio import files
from studio.cli.follow import follow_job
from studio.cli.output import Output
from studio.cli.parser import Commands, add_command
from studio.errors import AdapterError, StudioError
from studio.library import shelf
from studio.library.adapter import Adapter
from studio.models.bases import Base, find_base
from studio.places import Workspace
from studio.runs import events as e
from studio.runs.jobs import start_job

DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


def register(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "merge",
        merge,
        "bake an adapter into its base",
        details="The result is an ordinary model folder that any program can load: faster to run, no longer swappable. "
        "The sum is made on the 16-bit weights, tensor by tensor, so it needs little memory.",
    )
    parser.add_argument("name", metavar="NAME", help="the adapter's name")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="the folder to make; it must not exist")
    parser.add_argument("--dtype", choices=tuple(DTYPES), help="the number format (default: that of the base)")
    parser.add_argument("--base", metavar="B", help="the base model (default: the one the adapter was made for)")


def merge(options: argparse.Namespace, output: Output, workspace: Workspace) -> None:
    """Merge, and print the receipt."""
    adapter = shelf.find(workspace, options.name)
    base = find_base(workspace, options.base) if options.base else shelf.base_for(workspace, adapter)
    why = shelf.fits(adapter, base)
    if why:
        raise AdapterError(why, f"Merge it into the base it was made for: {adapter.base or 'ask its maker'}.")
    warning = shelf.origin_warning(adapter, base)
    if warning:
        output.note(f"Note: {warning}")
    out = options.out.expanduser().resolve()
    if out.exists():
        raise StudioError(f"{out} exists already.", "Choose a folder that does not exist yet.")
    finished = run_merge(workspace, adapter, base, out, output, DTYPES.get(options.dtype))
    output.result(finished.result, _text(finished.result))


def run_merge(
    workspace: Workspace, adapter: Adapter, base: Base, out: Path, output: Output, dtype: str | None = None
) -> e.Finished:
    """Have a worker write the merged model to the new folder `out`; its `result` has `path`, `bytes` and `receipt`."""
    arguments = {"adapter": str(adapter.path), "base": str(base.path), "out": str(out), "dtype": dtype}
    return follow_job(start_job(workspace, "merge", arguments), output, "Merging")


def _text(result: dict[str, Any]) -> str:
    receipt = result.get("receipt", {})
    lines = [f"The merged model is in {result['path']} ({files.readable_bytes(result['bytes'])})."]
    agreement, kl_mean, lost = (receipt.get(key) for key in ("top1_agreement", "kl_mean", "delta_lost"))
    if agreement is not None:
        lines.append(f"It picks the same next word as base and adapter together in {agreement:.1%} of places.")
    if kl_mean is not None:
        lines.append(f"Mean divergence of its predictions: {kl_mean:.2g} nats (0 is identical).")
    if lost is not None:
        lines.append(f"Lost by rounding to the file's number format: {lost:.2%} of the change.")
    return "\n".join(lines)
