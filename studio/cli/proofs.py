"""How good is the estimate? Beside a dry run of the real code, and beside published measurements."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from studio.cli.follow import follow_job
from studio.cli.output import Output, table
from studio.files import readable_bytes
from studio.memory.budget import Budget
from studio.memory.measured import Compared, compare
from studio.models.remote import find_config
from studio.places import Workspace
from studio.recipe.fields import to_dict
from studio.recipe.recipe import Recipe
from studio.runs.jobs import start_job


def run_dry(workspace: Workspace, recipe: Recipe, found: Budget, output: Output) -> tuple[dict[str, Any], str]:
    """What a worker finds when it runs `recipe` on tensors without contents: bytes, and the comparison in words."""
    config = find_config(workspace, recipe.base.id, lambda _: None)
    job = start_job(workspace, "trace", {"config": config, "recipe": to_dict(recipe)})
    traced = follow_job(job, output, "Running it dry").result
    terms: dict[str, int] = traced["terms"]
    rows = [(term.label, readable_bytes(term.bytes), readable_bytes(terms.get(term.name, 0))) for term in found.terms]
    rows.append(("Together", readable_bytes(found.total_bytes), readable_bytes(traced["total_bytes"])))
    error = found.total_bytes / traced["total_bytes"] - 1
    text = table(("Tensors at the peak", "ESTIMATE", "DRY RUN"), rows)
    return traced, f"{text}\nThe estimate is off by {error:+.2%}."


def compare_measured(file: Path, output: Output) -> None:
    """Print the estimate beside every measured figure of a table."""
    found = compare(file)
    document = [
        {
            "source": row.source,
            "model": row.model,
            "seq_len": row.seq_len,
            "kind": row.kind,
            "predicted_bytes": row.predicted_bytes,
            "measured_bytes": row.measured_bytes,
            "error": row.error,
            "covered": row.covered,
            "reason": row.reason,
        }
        for row in found
    ]
    rows = [(row.source, row.model, row.kind, readable_bytes(row.measured_bytes), *_estimate(row)) for row in found]
    text = table(("SOURCE", "MODEL", "KIND", "MEASURED", "ESTIMATE", "ERROR"), rows)
    output.result(document, "\n".join([text, *_summary(found)]))


def _estimate(row: Compared) -> tuple[str, str]:
    if row.predicted_bytes is None or row.error is None:
        return "not covered", row.reason
    return readable_bytes(row.predicted_bytes), f"{row.error:+.1%}"


def _summary(found: list[Compared]) -> list[str]:
    lines = []
    for kind in dict.fromkeys(row.kind for row in found):
        errors = [abs(row.error) for row in found if row.kind == kind and row.error is not None]
        if errors:
            within = sum(error <= 0.05 for error in errors)
            lines.append(f"{kind}: {within} of {len(errors)} within 5 %, the worst off by {max(errors):.1%}.")
    return lines
