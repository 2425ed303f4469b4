import pytest
import torch

from studio.engine.desk import MAX_ATTACHED, Desk
from studio.engine.reply import Sampling, reply
from studio.errors import AdapterError, DataError
from studio.library import adapter as library
from studio.models.bases import find_base
from studio.places import Workspace
from studio.recipe.recipe import Base
from tests.studio.engine.conftest import write_base, write_rows
from tests.studio.engine.test_train import CPU, recipe, run_it

IDS = torch.arange(10, 60)[None]


@pytest.fixture(scope="module")
def adapters(tiny_base, tmp_path_factory):
    home = tmp_path_factory.mktemp("library")
    workspace, rows = Workspace(home / "home"), write_rows(home / "rows.jsonl")
    made = []
    for seed in range(MAX_ATTACHED + 2):
        changes = {"training__steps": 4, "training__seed": seed, "training__learning_rate": 3e-2}
        run, _, _ = run_it(workspace, recipe(tiny_base, rows, keep__sample_every_steps=0, **changes))
        made.append(workspace.adapters / run.state().adapter)
    return made


@pytest.fixture
def desk(workspace, tiny_base):
    desk = Desk(CPU)
    desk.lay_base(find_base(workspace, str(tiny_base)), Base(id="x", compute_dtype="float32"))
    return desk


def logits(desk, folder):
    with torch.no_grad(), desk.lane(folder) as (model, _, _):
        return model(input_ids=IDS).logits


def test_each_lane_speaks_with_its_own_overlay_in_any_order(workspace, tiny_base, adapters):
    expected = {}
    for folder in [None, *adapters]:
        alone = Desk(CPU)
        alone.lay_base(find_base(workspace, str(tiny_base)), Base(id="x", compute_dtype="float32"))
        expected[folder] = logits(alone, folder)
    desk = Desk(CPU)
    desk.lay_base(find_base(workspace, str(tiny_base)), Base(id="x", compute_dtype="float32"))
    order = [None, *adapters, *reversed(adapters), None, adapters[0], None, adapters[-1], adapters[1]]
    for folder in order:
        assert torch.equal(logits(desk, folder), expected[folder]), folder
    assert len({float(value.sum()) for value in expected.values()}) == len(expected)


def test_the_same_base_is_not_loaded_twice(workspace, tiny_base, desk, adapters):
    base = find_base(workspace, str(tiny_base))
    model = desk.base.model
    logits(desk, adapters[0])
    loaded, is_new = desk.lay_base(base, Base(id="other-name", compute_dtype="float32"))
    assert not is_new
    assert loaded.model is model


def test_no_more_than_four_overlays_stay_attached(desk, adapters):
    for folder in adapters:
        logits(desk, folder)
    assert len(desk.model.peft_config) == MAX_ATTACHED


def test_an_adapter_of_another_base_is_refused_and_the_lane_stays_usable(
    workspace, tmp_path, rows_file, desk, adapters
):
    other = write_base(tmp_path / "other", seed=5)
    run, _, _ = run_it(workspace, recipe(other, rows_file, training__steps=1))
    before = logits(desk, adapters[0])
    with pytest.raises(AdapterError, match="another base"), desk.lane(workspace.adapters / run.state().adapter):
        pass
    assert torch.equal(logits(desk, adapters[0]), before)


def test_an_overlay_held_for_chat_does_not_learn(desk, adapters):
    logits(desk, adapters[0])
    logits(desk, None)
    logits(desk, adapters[1])
    assert not any(parameter.requires_grad for parameter in desk.model.parameters())


def test_the_overlay_just_trained_answers_at_once(workspace, tiny_base, rows_file):
    run, _, desk = run_it(workspace, recipe(tiny_base, rows_file, training__steps=3))
    folder = workspace.adapters / run.state().adapter
    kept = logits(desk, folder)
    fresh = Desk(CPU)
    fresh.lay_base(find_base(workspace, str(tiny_base)), Base(id="x", compute_dtype="float32"))
    torch.testing.assert_close(kept, logits(fresh, folder), rtol=0, atol=1e-6)
    assert library.read(folder).fingerprint == library.read(run.adapter).fingerprint


def test_answers_repeat_with_their_seed_and_stream_what_they_return(desk):
    turns = [{"role": "user", "content": "Who are you?"}]
    pieces = []
    tokenizer = desk.base.tokenizer
    sampling = Sampling(max_tokens=20, temperature=1.0, top_p=0.9, seed=4)
    first = reply(desk.model, tokenizer, turns, sampling, on_text=pieces.append)
    assert "".join(pieces).strip() == first.text
    assert reply(desk.model, tokenizer, turns, sampling).text == first.text
    others = {reply(desk.model, tokenizer, turns, Sampling(20, 1.0, 0.9, seed)).text for seed in range(5, 9)}
    assert others != {first.text}


def test_greedy_answers_are_those_of_transformers(desk):
    from studio.engine.template import prompt

    turns = [{"role": "user", "content": "What is the sea?"}]
    tokenizer = desk.base.tokenizer
    ours = reply(desk.model, tokenizer, turns, Sampling(max_tokens=24))
    ids = torch.tensor([prompt(tokenizer, turns)])
    theirs = desk.model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=24,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
    )
    assert ours.text == tokenizer.decode(theirs[0, ids.shape[1] :], skip_special_tokens=True).strip()


def test_an_answer_can_be_stopped(desk):
    stopped = reply(
        desk.model, desk.base.tokenizer, [{"role": "user", "content": "x"}], Sampling(50, 1.0), should_stop=lambda: True
    )
    assert stopped.num_tokens <= 1


def test_a_chat_longer_than_the_context_is_refused(desk):
    with pytest.raises(DataError, match="more than the base can read"):
        reply(desk.model, desk.base.tokenizer, [{"role": "user", "content": "sea " * 600}], Sampling(4))
