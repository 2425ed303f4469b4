"""Renders a run in each of its states and themes: `python -m tests.ui.run_gallery FOLDER [WIDTH HEIGHT [STATE...]]`.

For the eye, beside the design's own `4-train-running` pictures. Runs are event files, as an engine would have left them.
"""

import math
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PySide6.QtWidgets import QApplication

from studio.memory.device import CardLoad
from studio.places import Workspace
from studio.runs import events as e
from studio.runs.first_batch import FirstBatch, SeenRow, Token, write_first_batch
from studio.runs.folder import RunFolder
from tests.ui.pages.train_facts import GB, add_run, ready_state
from ui import theme
from ui.pages.train import TrainPage
from ui.settings import Settings
from ui.window import Window

TOTAL = 1200
PROMPTS = {
    "How do I change my delivery address?": (
        "To change the delivery address of your order, you will generally need to log in to your account and navigate to the "
        "order section, where there may be an option to edit shipping details.",
        "Happy to help! Open Orders and choose the parcel. You can change the address there.",
        "Happy to help! Open Orders, choose the parcel, then tap Edit address. You can change it until it leaves our "
        "warehouse. Anything else I can do?",
    ),
    "My invoice shows two charges. Why?": (
        "There could be several reasons why you are seeing two charges on your invoice. It is possible that one of them is a "
        "pre-authorisation hold.",
        "Sorry about that! One of the two is a hold that disappears in 3 days.",
        "Sorry about that! One of the two is a card check that disappears within 3 working days. If both are still there on "
        "Friday, reply here and I will refund one.",
    ),
    "Can you tell me a joke about parcels?": (
        "Sure! Why did the parcel go to therapy? Because it had too many unresolved issues.",
        "Sure! Why was the parcel so calm? It knew it would be delivered.",
        "Sure! Why was the parcel so calm? It knew it would be delivered.",
    ),
}


TALKS = [
    ("How do I change my delivery address?", "Open Orders, choose the parcel, then tap Edit address."),
    ("Where is order 4471?", "It left our warehouse on Tuesday and arrives tomorrow before noon."),
    ("<b>Why</b> two charges?", "One of the two is a card check that disappears within 3 working days."),
    ("Kann ich auch auf Deutsch schreiben?", "Ja, gern! Wir antworten in der Sprache, in der Sie schreiben."),
]
WORST = [
    {"row": 1203 + 97 * n, "loss": 4.81 / (1 + n / 9), "num_supervised": 12 + 31 * n, "step": 391 - 7 * n, "held_out": n % 5 == 2,
     "prompt": TALKS[n % 4][0] * (1 + n % 3), "answer": TALKS[(n + 1) % 4][1] * (1 + n % 2)} for n in range(14)
]  # fmt: skip


def first_batch() -> FirstBatch:
    """Rows as a tokenizer would cut them, roughly."""
    rows = []
    for number in range(8):
        prompt, answer = TALKS[number % 4]
        texts = [("<|im_start|>", False), ("user\n", False), *((f"{word} ", False) for word in prompt.split())]
        texts += [("<|im_end|>\n", False), ("<|im_start|>", False), ("assistant\n", False)]
        texts += [*((f"{word} ", True) for word in (answer * 3).split()), ("<|im_end|>", True), ("\n", False)]
        tokens = tuple(Token(index, text, trained) for index, (text, trained) in enumerate(texts))
        learnt = sum(trained for _, trained in texts)
        rows.append(SeenRow(311 * number + 12, len(tokens) + (900 if number == 3 else 0), learnt, tokens))
    return FirstBatch(16, 9800, 5100, tuple(rows))


def loss_at(step: int) -> float:
    return 1.17 + 1.35 * math.exp(-step / 55) + 0.16 * math.sin(step * 12.9898) * math.cos(step * 4.1)


def taken(step: int) -> e.StepTaken:
    """A step of a run with warm-up, one clipped step and a slow step now and then."""
    warm, share = min(1.0, step / 36), step / TOTAL
    return e.StepTaken(
        step=step,
        epoch=step / 400,
        loss=loss_at(step),
        learning_rate=2e-4 * warm * (1 + math.cos(math.pi * max(0.0, share - 0.03))) / 2,
        grad_norm=1.36 if step == 230 else 0.45 + 0.4 * math.exp(-step / 40) + 0.05 * math.sin(step * 7.7),
        num_tokens=4096,
        num_supervised=2100,
        seconds=1.9 if step % 50 == 0 else 1.32 + 0.03 * math.sin(step * 3.1),
        delta_norm=0.9 * (1 - math.exp(-step / 300)) if step % 5 == 0 else None,
    )


def begun(num_steps: int, device: str = "cuda-0") -> Iterator[e.Event]:
    """A run up to `num_steps`."""
    yield e.Started(pid=1, process_started=1.0, device=device)
    yield e.Estimated(
        total_bytes=12 * GB, process_bytes=int(13.7 * GB), context_bytes=GB, terms={}, card="RTX 4090", card_bytes=24 * GB
    )  # fmt: skip
    yield e.PhaseEntered(name="loading")
    yield e.Prepared(
        num_steps=TOTAL,
        num_rows=6400,
        num_held_out=128,
        tokens_per_epoch=1_640_000,
        supervised_tokens_per_epoch=840_000,
        num_cut=12,
        num_dropped=0,
        num_trainable=33_030_144,
        num_parameters=4_055_498_240,
        longest_row=2048,
    )
    yield e.FirstBatchWritten(path="first_batch.json", num_rows=16, num_tokens=9800, num_supervised=5100)
    for prompt, texts in PROMPTS.items():
        yield e.SampleWritten(step=0, prompt=prompt, text=texts[0])
    for step in range(1, num_steps + 1):
        yield taken(step)
        if step == 1 or step % 10 == 0:
            size = 4.0 if step == 1 else 11.4 + (1.8 if step == 230 else 0.4 * (step % 60 == 0))
            yield e.MemoryMeasured(step=step, process_bytes=int(size * GB))
        if step % 50 == 0:
            yield e.Evaluated(step=step, loss=loss_at(step) * 0.3 + 0.85, num_supervised=900)
            for prompt, texts in PROMPTS.items():
                yield e.SampleWritten(step=step, prompt=prompt, text=texts[2 if step >= 400 else 1])
            yield e.RowsJudged(step=step, rows=WORST)
        if step % 100 == 0:
            yield e.CheckpointSaved(step=step, path=f"checkpoints/step-{step:06d}", bytes=1)


STATES: dict[str, list[e.Event]] = {
    "running": list(begun(412)),
    "early": list(begun(2)),
    "finished": [*begun(TOTAL), e.Finished(run="support", adapter="support-bot v3", seconds=1700.0,
                                           result={"energy_joules": 453_000.0})],
    "paused": [*begun(412), e.Paused(step=412)],
    "stopped": [*begun(412), e.Stopped(step=412, saved=True, adapter="support-bot v3")],
    "failed": [*begun(412), e.Failed(kind="diverged", step=413, message="The loss became NaN at step 413, in row 1,204.",
                                      hint="The last good checkpoint is step 400.")],
    "killed": [*begun(412), e.Died(exit_code=None, signal="SIGKILL", last_lines=[])],
}  # fmt: skip
TABS = ("charts", "samples", "batch", "worst", "log", "recipe")


def main() -> None:
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    width, height = (int(sys.argv[2]), int(sys.argv[3])) if len(sys.argv) > 3 else (1440, 900)
    wanted = sys.argv[4:]
    app = QApplication([])
    for look in theme.NAMES:
        theme.apply(app, look)  # type: ignore[arg-type]
        with tempfile.TemporaryDirectory() as place:
            for name, events in STATES.items():
                for tab in TABS if name == "running" else TABS[:1]:
                    if wanted and f"{name}-{tab}" not in wanted and name not in wanted and look not in wanted:
                        continue
                    draw(app, Path(place) / name, events, tab, (width, height), folder / f"{name}-{tab}-{look}.png")


def draw(app: QApplication, run: Path, events: list[e.Event], tab: str, size: tuple[int, int], target: Path) -> None:
    """One picture of the whole window."""
    state = ready_state()
    state.is_gathered = True
    state.card_loads = (CardLoad(71, 290.0, 0.98, None),)
    window = Window(Workspace(run.parent), state, Settings())
    window.resize(*size)
    add_run(state, run, events, "support-bot v3")
    write_first_batch(RunFolder(run), first_batch())
    lines = [f"[engine] step {step}: 16 rows, 4,096 tokens, card at 71 degrees" for step in range(300, 412)]
    (run / "log.txt").write_text("\n".join(lines) + "\n", "utf-8")
    state.run_selected.emit(run.name)
    window.show()
    page = window._stack.currentWidget()
    assert isinstance(page, TrainPage)
    if tab in page.running.views:
        page.running.tabs.set_value(tab)
    for _ in range(60):
        app.processEvents()
        app.thread().msleep(10)
    window.grab().save(str(target))
    state.runs = {}
    window.close()
    window.deleteLater()


if __name__ == "__main__":
    main()
