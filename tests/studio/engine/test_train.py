"""The loop on a real, tiny base: real NF4, real PEFT, real files."""

import contextlib
import shutil
import threading
from dataclasses import replace

import pytest
import torch

from studio.engine import overlay
from studio.engine.batches import Layout, Schedule, collate, micro_batches
from studio.engine.checkpointing import blocks
from studio.engine.desk import Desk, base_alone
from studio.engine.load import load_base
from studio.engine.loss import IGNORED
from studio.engine.reply import Sampling, reply
from studio.engine.run import perform
from studio.engine.template import Example
from studio.engine.train import Learner, Material, Orders
from studio.errors import ChangedError, DiskFullError, DivergedError
from studio.models.bases import find_base
from studio.recipe.fields import from_dict, replaced
from studio.recipe.recipe import Adapter, Base
from studio.runs import events as e
from studio.runs.create import create_run
from studio.runs.state import RunState, Status
from tests.studio.engine.conftest import write_base

CPU = torch.device("cpu")


def recipe(base, rows, **changes):
    made = from_dict(
        {
            "name": "tiny",
            "base": {"id": str(base), "compute_dtype": "float32"},
            "data": {"path": str(rows), "validation_fraction": 0.2, "max_tokens": 128},
            "adapter": {"rank": 4, "dropout": 0.1},
            "training": {"epochs": 2, "batch_rows": 3, "learning_rate": 1e-2, "micro_batch_tokens": 128},
            "keep": {"checkpoint_every_steps": 2, "evaluate_every_steps": 2, "sample_prompts": ["Who are you?"]},
        }
    )
    for path, value in changes.items():
        made = replaced(made, path.replace("__", "."), value)
    return made


def run_it(workspace, made, orders=None, run=None):
    run = run or create_run(workspace, made, device="cpu")
    desk = Desk(CPU)
    outcome = perform(run, workspace, desk, orders or Orders(), run.events.post)
    return run, outcome, desk


def tensors(run):
    from safetensors.torch import load_file

    return load_file(run.adapter / "adapter_model.safetensors")


class StopAfter(Orders):
    def __init__(self, step, ending):
        self.left, self.wanted = step, ending

    def update(self, model):
        self.left -= 1
        if self.left == 0:
            self.ending = self.wanted


class Killed(BaseException):
    """What a SIGKILL looks like from the inside: no handler of ours runs."""


class KillAfter(StopAfter):
    def update(self, model):
        super().update(model)
        if self.ending:
            raise Killed


@pytest.fixture(params=["nf4", "none"])
def quantisation(request):
    return request.param


def test_a_run_learns_and_leaves_a_plain_peft_adapter(workspace, tiny_base, rows_file):
    made = recipe(tiny_base, rows_file, training__epochs=30, training__learning_rate=3e-2, adapter__dropout=0.0)
    run, outcome, _ = run_it(workspace, made)
    state = run.state()
    assert (outcome.step, outcome.ending) == (state.num_steps, "")
    assert state.status is Status.FINISHED
    assert state.losses[-1][1] < 0.8 * state.losses[0][1]
    assert state.steps[0].learning_rate == 0.0
    assert [taken.delta_norm for taken in state.steps][1] > 0
    assert (workspace.adapters / state.adapter / "adapter_model.safetensors").is_file()


def test_step_zero_is_the_base_bit_for_bit(tiny_base, quantisation):
    loaded = load_base(tiny_base, Base(id="tiny", quantisation=quantisation), CPU)
    ids = torch.arange(10, 60)[None]
    with torch.no_grad():
        alone = loaded.model(input_ids=ids).logits
        overlaid = overlay.lay_on(loaded.model, Adapter(rank=8), seed=3)
        assert torch.equal(overlaid(input_ids=ids).logits, alone)
        assert float(overlay.delta_norm(overlaid)) == 0.0


def test_delta_norm_is_the_norm_of_the_whole_change(tiny_base):
    loaded = load_base(tiny_base, Base(id="tiny", quantisation="none"), CPU)
    overlaid = overlay.lay_on(loaded.model, Adapter(rank=4, alpha=8, targets=("q_proj",)), seed=3)
    total = 0.0
    for module in overlaid.modules():
        if hasattr(module, "lora_A"):
            torch.nn.init.normal_(module.lora_B["default"].weight)
            change = 2.0 * module.lora_B["default"].weight @ module.lora_A["default"].weight
            total += float(change.square().sum().detach())
    assert float(overlay.delta_norm(overlaid)) == pytest.approx(total**0.5, rel=1e-5)


def gradients(learner, batches):
    learner.zero_grad()
    total = sum(batch.num_supervised for batch in batches)
    loss = sum(learner(batch) / total for batch in batches)
    loss.backward()
    return float(loss.detach()), [p.grad.clone() for p in learner.parameters() if p.requires_grad]


@pytest.fixture
def learner(tiny_base):
    loaded = load_base(tiny_base, Base(id="tiny", quantisation="nf4", compute_dtype="float32"), CPU)
    overlaid = overlay.lay_on(loaded.model, Adapter(rank=4), seed=3)
    with torch.no_grad():
        for parameter in overlay.trainable(overlaid).values():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.05)
    return Learner(overlaid)


ROWS = [Example(tuple(range(5 + n, 5 + n + length)), (False, False) + (True,) * (length - 2), n) for n, length in
        enumerate((9, 30, 14, 5, 22, 17, 8, 12))]  # fmt: skip


def test_how_rows_are_split_makes_no_difference(learner):
    expected_loss, expected = gradients(learner, [collate([[row] for row in ROWS], 0)])
    for layout in (
        Layout(False, 0, micro_batch_rows=1),
        Layout(False, 0, micro_batch_rows=3, multiple=64),
        Layout(True, 0, micro_batch_tokens=64, multiple=64),
        Layout(True, 0, micro_batch_tokens=256),
    ):
        loss, found = gradients(learner, micro_batches(ROWS, layout))
        assert loss == pytest.approx(expected_loss, rel=1e-5)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_packed_rows_cannot_read_each_other(learner):
    """The gradient of row B's loss with respect to row A's embeddings is exactly zero."""
    a, b = ROWS[1], ROWS[4]
    batch = collate([[a, b]], 0, multiple=64)
    embeddings = learner.overlaid.get_base_model().get_input_embeddings()
    kept = []
    handle = embeddings.register_forward_hook(lambda _m, _i, out: kept.append(out.requires_grad_()) or kept[0])
    targets = batch.targets_BT.clone()
    targets[:, : len(a.ids)] = IGNORED
    supervised = torch.nonzero(targets.flatten() != IGNORED).squeeze(1)
    only_b = replace(batch, targets_BT=targets, supervised_N=supervised)
    loss = learner(only_b)
    handle.remove()
    (gradient,) = torch.autograd.grad(loss, kept[0])
    assert torch.equal(gradient[0, : len(a.ids)], torch.zeros_like(gradient[0, : len(a.ids)]))
    assert float(gradient[0, len(a.ids) : len(a.ids) + len(b.ids)].abs().sum()) > 0


def test_an_evaluation_or_a_sample_leaves_gradients_as_they_were(learner):
    """bitsandbytes re-packs 4-bit weights in an eval-mode forward on some CPUs; gradients then vanish without a word."""
    batch = [collate([[row] for row in ROWS], 0)]
    _, before = gradients(learner, batch)
    assert all(float(gradient.abs().sum()) > 0 for gradient in before)
    learner.eval()
    with torch.no_grad():
        learner(batch[0])
        with base_alone(learner.overlaid) as alone:
            alone(input_ids=batch[0].ids_BT)
    learner.train()
    _, after = gradients(learner, batch)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize("stop_at", [1, 2, 3, 5])
@pytest.mark.parametrize("ending", ["pause", "kill"])
def test_a_resumed_run_is_the_unbroken_one_bit_for_bit(workspace, tiny_base, rows_file, stop_at, ending):
    made = recipe(tiny_base, rows_file)
    whole, _, _ = run_it(workspace, made)
    broken = create_run(workspace, made, device="cpu")
    if ending == "kill":
        with pytest.raises(Killed):
            run_it(workspace, made, KillAfter(stop_at, "kill"), broken)
    else:
        run_it(workspace, made, StopAfter(stop_at, "pause"), broken)
        # A second pause one step later: a resume of a resume.
        run_it(workspace, made, StopAfter(1, "pause"), broken)
    last = broken.checkpoints()
    broken.events.post(e.Started(pid=1, process_started=0.0, device="cpu", from_step=last[-1][0] if last else 0))
    run_it(workspace, made, run=broken)
    assert RunState.replay(broken.events.read()).losses == whole.state().losses
    for name, tensor in tensors(whole).items():
        assert torch.equal(tensor, tensors(broken)[name]), name


def test_questions_between_steps_leave_the_curve_untouched(workspace, tiny_base, rows_file):
    class Curious(Orders):
        def update(self, model):
            turns = [{"role": "user", "content": "Who are you?"}]
            tokenizer = asked["desk"].base.tokenizer
            sampling = Sampling(max_tokens=4, temperature=1.0, seed=5)
            reply(model, tokenizer, turns, sampling)
            with base_alone(model) as alone:
                reply(alone, tokenizer, turns, sampling)

    made = recipe(tiny_base, rows_file)
    quiet, _, _ = run_it(workspace, made)
    run = create_run(workspace, made, device="cpu")
    asked = {"desk": Desk(CPU)}
    perform(run, workspace, asked["desk"], Curious(), run.events.post)
    assert run.state().losses == quiet.state().losses


def test_a_stopped_run_is_saved_and_goes_on(workspace, tiny_base, rows_file):
    made = recipe(tiny_base, rows_file)
    run, outcome, _ = run_it(workspace, made, StopAfter(3, "stop"))
    assert (outcome.step, outcome.ending) == (3, "stop")
    state = run.state()
    assert state.status is Status.STOPPED
    assert (workspace.adapters / state.adapter).is_dir()
    run_it(workspace, made, run=run)
    assert run.state().status is Status.FINISHED


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_used(workspace, tiny_base, rows_file):
    made = recipe(tiny_base, rows_file)
    run, _, _ = run_it(workspace, made, StopAfter(5, "pause"))
    steps = [step for step, _ in run.checkpoints()]
    newest = run.checkpoints()[-1][1] / "optimizer.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    run_it(workspace, made, run=run)
    whole, _, _ = run_it(workspace, made)
    assert (run.path / "checkpoints" / "damaged" / f"step-{steps[-1]:06d}").is_dir()
    assert run.state().losses[-1] == whole.state().losses[-1]


def test_only_the_wanted_checkpoints_are_kept(workspace, tiny_base, rows_file):
    made = recipe(tiny_base, rows_file, keep__checkpoint_every_steps=1, keep__checkpoints_kept=2)
    run, outcome, _ = run_it(workspace, made)
    assert [step for step, _ in run.checkpoints()] == [outcome.step - 1, outcome.step]


@pytest.mark.parametrize("changed", ["dataset", "base", "chat template"])
def test_a_changed_input_is_refused_by_name(workspace, tmp_path, rows_file, changed):
    base = write_base(tmp_path / "base")
    made = recipe(base, rows_file)
    run, _, _ = run_it(workspace, made, StopAfter(2, "pause"))
    if changed == "base":
        write_base(tmp_path / "base", seed=1)
    else:
        path = rows_file if changed == "dataset" else base / "chat_template.jinja"
        path.write_text(path.read_text() + path.read_text(), encoding="utf-8")
    with pytest.raises(ChangedError, match=f"The {changed} of tiny changed"):
        run_it(workspace, made, run=run)


@pytest.mark.parametrize(("every_steps", "noticed"), [(2, r"at step 4 \(rows"), (1, "none after step 3")])
def test_a_loss_that_is_no_number_stops_before_the_weights_are_touched(
    workspace, tiny_base, rows_file, every_steps, noticed
):
    class Poison(Orders):
        def update(self, model):
            with torch.no_grad():
                next(iter(overlay.trainable(model).values())).fill_(float("inf"))

    made = recipe(tiny_base, rows_file, keep__checkpoint_every_steps=every_steps, keep__sample_every_steps=0)
    run = create_run(workspace, made, device="cpu")
    run_it(workspace, made, StopAfter(2, "pause"), run)
    good = run.checkpoints()[-1]
    with pytest.raises(DivergedError, match=noticed) as caught:
        run_it(workspace, made, Poison(), run)
    assert "is good" in caught.value.hint
    assert "third of the learning rate" in caught.value.hint
    assert run.checkpoints()[-1] == good, "nothing with a number that is none is kept"
    assert not any(taken.loss != taken.loss for taken in run.state().steps)


def test_a_full_disk_during_a_checkpoint_costs_nothing_finished(workspace, tiny_base, rows_file, monkeypatch):
    import errno

    from studio.engine import checkpoint

    made = recipe(tiny_base, rows_file, keep__checkpoint_every_steps=1)
    run = create_run(workspace, made, device="cpu")
    run_it(workspace, made, StopAfter(2, "pause"), run)
    before = {path: path.stat().st_size for path in run.path.rglob("*.safetensors")}

    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(DiskFullError, match="is full"):
        run_it(workspace, made, run=run)
    monkeypatch.undo()
    assert {path: path.stat().st_size for path in run.path.rglob("*.safetensors")} == before
    assert not list(run.path.rglob("*.tmp-*"))
    run_it(workspace, made, run=run)
    assert run.state().status is Status.FINISHED


@pytest.mark.parametrize("changes", [{"adapter__rslora": True}, {"adapter__dora": True}, {"adapter__targets": "attention"},
                                     {"memory__checkpointing": "all"}, {"memory__checkpointing": 1},
                                     {"adapter__dtype": "bfloat16"},
                                     {"memory__checkpointing": "all", "memory__keep_attention": True},
                                     {"memory__checkpointing": "all", "memory__reuse_weights": "always", "adapter__dropout": 0.0},
                                     {"data__packing": False}, {"training__schedule": "linear"}])  # fmt: skip
def test_every_switch_of_the_recipe_runs(workspace, tiny_base, rows_file, changes):
    run, _, _ = run_it(workspace, recipe(tiny_base, rows_file, training__steps=2, **changes))
    assert run.state().status is Status.FINISHED


@pytest.mark.parametrize("offload", [False, True])
def test_inputs_of_blocks_are_moved_to_main_memory_if_the_recipe_says_so(
    workspace, tiny_base, rows_file, monkeypatch, offload
):
    from studio.engine.offload import PlainLanes

    moved, real = [], PlainLanes.send
    monkeypatch.setattr(PlainLanes, "send", lambda *args: moved.append(args[1].numel()) or real(*args))
    made = recipe(tiny_base, rows_file, training__steps=2, memory__checkpointing="all", memory__offload=offload)
    _, _, desk = run_it(workspace, made)
    assert any(moved) is offload
    # The main memory that was held for them is free again.
    assert not any("offload" in str(block._gradient_checkpointing_func) for block in blocks(desk.model))


def test_checkpointing_changes_memory_not_numbers(workspace, tiny_base, rows_file):
    curves = [
        run_it(workspace, recipe(tiny_base, rows_file, adapter__dropout=0.0, memory__checkpointing=kind))[0]
        .state()
        .losses
        for kind in ("none", "all", 1, "auto")
    ]
    assert all(curve == curves[0] for curve in curves)


def test_a_resumed_run_may_recompute_other_layers_than_before(workspace, tiny_base, rows_file, monkeypatch):
    from studio.engine import comparison

    made = recipe(tiny_base, rows_file, training__steps=6)
    unbroken, _, _ = run_it(workspace, made)
    run, _, _ = run_it(workspace, made, StopAfter(3, "pause"))
    monkeypatch.setattr(comparison, "room", lambda _device: (1, 0))
    run_it(workspace, made, run=run)
    assert run.state().estimate.num_checkpointed == 2
    assert run.state().losses == unbroken.state().losses


def test_the_adapter_names_no_path_of_this_computer(workspace, tiny_base, rows_file):
    run, _, _ = run_it(workspace, recipe(tiny_base, rows_file))
    folder = workspace.adapters / run.state().adapter
    for path in folder.iterdir():
        assert str(tiny_base.parent).encode() not in path.read_bytes(), path.name


def test_plain_peft_loads_it_and_says_the_same(workspace, tiny_base, rows_file):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    run, _, _ = run_it(workspace, recipe(tiny_base, rows_file, base__quantisation="none", training__learning_rate=3e-2))
    folder = workspace.adapters / run.state().adapter
    theirs = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32), str(folder)
    )
    desk = Desk(CPU)
    desk.lay_base(find_base(workspace, str(tiny_base)), Base(id="x", quantisation="none", compute_dtype="float32"))
    ids = torch.arange(10, 60)[None]
    with torch.no_grad(), desk.lane(None) as (alone, _, _):
        base_logits = alone(input_ids=ids).logits
    with torch.no_grad(), desk.lane(folder) as (ours, fingerprint, _):
        assert fingerprint.startswith("sha256:")
        assert torch.equal(ours(input_ids=ids).logits, theirs(input_ids=ids).logits)
        assert not torch.equal(ours(input_ids=ids).logits, base_logits)
    with torch.no_grad(), desk.lane(None) as (alone, _, _):
        assert torch.equal(alone(input_ids=ids).logits, base_logits)
    shutil.rmtree(folder)


def test_norms_embeddings_and_head_stay_in_sixteen_bits(tmp_path):
    """What `prepare_model_for_kbit_training` would raise to fp32, at a quarter more memory and a fifth less speed."""
    folder = write_base(tmp_path / "sixteen", dtype="bfloat16", tie_word_embeddings=False)
    loaded = load_base(folder, Base(id="x"), CPU)
    frozen = {
        p.dtype for p in overlay.lay_on(loaded.model, Adapter(rank=4), seed=1).parameters() if not p.requires_grad
    }
    assert frozen == {torch.uint8, torch.bfloat16}


# --- what the loop works on ----------------------------------------------------------------------------------------


def test_for_a_card_a_step_is_laid_out_in_pinned_memory_with_that_card_as_the_current_one(monkeypatch):
    cards, pinned = [], []

    @contextlib.contextmanager
    def current(device):
        cards.append(device)
        yield
        cards.pop()

    def pin(tensor):
        assert cards == [torch.device("cuda:1")]
        pinned.append(tensor)
        return tensor.clone()

    monkeypatch.setattr(torch.cuda, "device", current)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    material = Material(ROWS, [], Schedule(len(ROWS), 3, 2, seed=1), Layout(True, 0, micro_batch_tokens=64))
    rows, batches = material.lay_out(1, torch.device("cuda:1"))
    assert len(pinned) == 5 * len(batches)
    _, plain = material.lay_out(1, CPU)
    assert [batch.ids_BT.tolist() for batch in batches] == [batch.ids_BT.tolist() for batch in plain]
    assert sum(batch.num_tokens for batch in batches) == sum(len(row.ids) for row in rows)


def test_no_thread_is_left_when_a_run_has_ended(workspace, tiny_base, rows_file):
    run_it(workspace, recipe(tiny_base, rows_file), StopAfter(2, "pause"))
    for thread in threading.enumerate():
        if thread.name.startswith("ahead"):
            thread.join(10)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("ahead", "encoder"))]
