"""The sections of a recipe that say how a run goes: training, memory, keep."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from studio.recipe.setting import MAX_CONTEXT_TOKENS, Section, Texts, setting

DEFAULT_MICRO_BATCH_TOKENS = 4096
# Of each pair exactly one is set; the first is the one that has a default.
ALTERNATIVES = (("epochs", "steps"), ("micro_batch_tokens", "micro_batch_rows"))


class Training(Section, frozen=True):
    """How long, how much at a time and how boldly."""

    epochs: int | None = setting(
        3,
        label="Epochs",
        help="How often the whole dataset is read. More: learns it better, then by heart. Less: quicker, may be too "
        "little. Start with 1 to 3. Costs time, no video memory. Steps can be set instead.",
        unit="passes",
        raw_name="num_train_epochs",
        group="Training",
        level="basic",
        note="or: steps = 200",
        minimum=1,
        maximum=1000,
    )
    steps: int | None = setting(
        None,
        label="Steps",
        help="How many corrections are made in all, whatever the size of the dataset; replaces the epochs. More: longer "
        "run, learns more. Less: a quick try. Start with 200. Costs time, no video memory.",
        unit="steps",
        raw_name="max_steps",
        group="Training",
        note="or: epochs = 3",
        minimum=1,
        maximum=10_000_000,
    )
    micro_batch_tokens: int | None = setting(
        DEFAULT_MICRO_BATCH_TOKENS,
        label="Micro-batch",
        help="How many tokens are worked on at once; a step takes as many micro-batches as it needs. More: faster on a "
        "large card. Less: less memory, same result. Start with 4096. A strong effect on video memory.",
        unit="tokens",
        raw_name="max_tokens_per_batch",
        group="Memory",
        note="or: micro_batch_rows = 2",
        minimum=16,
        maximum=MAX_CONTEXT_TOKENS,
    )
    micro_batch_rows: int | None = setting(
        None,
        label="Micro-batch in rows",
        help="How many rows are worked on at once, counted in rows instead of tokens. More: faster on a large card. "
        "Less: less memory, same result. Start with 1 or 2. A strong effect on video memory.",
        unit="rows",
        raw_name="per_device_train_batch_size",
        group="Memory",
        note="or: micro_batch_tokens = 4096",
        minimum=1,
        maximum=4096,
    )
    batch_rows: int = setting(
        16,
        label="Batch",
        help="How many rows are read before one correction. More: steadier, fewer corrections. Less: more corrections, "
        "noisier. Start with 16. No effect on video memory: they are worked through in micro-batches.",
        unit="rows",
        raw_name="gradient_accumulation_steps",
        group="Training",
        level="basic",
        note="rows per optimizer step, whatever the micro-batch",
        minimum=1,
        maximum=4096,
    )
    learning_rate: float = setting(
        2e-4,
        label="Learning rate",
        help="How large each correction is. More: learns faster, until the loss jumps and answers break. Less: safer, "
        "may change nothing. Start with 2e-4; 1e-4 to 3e-4 is usual for LoRA. No effect on video memory.",
        unit="",
        raw_name="learning_rate",
        group="Training",
        level="basic",
        minimum=1e-8,
        maximum=0.1,
    )
    schedule: Literal["cosine", "linear", "constant"] = setting(
        "cosine",
        label="Schedule",
        help="How the learning rate falls during the run. Cosine stays high longer, linear falls evenly, constant never "
        "falls and ends rougher. Start with cosine. No effect on video memory.",
        unit="",
        raw_name="lr_scheduler_type",
        group="Schedule",
    )
    warmup_fraction: float = setting(
        0.03,
        label="Warm-up",
        help="The share of steps in which the learning rate climbs from zero. More: a gentler start. Less: full speed "
        "sooner, the first steps may jump. Start with 0.03. No effect on video memory.",
        unit="share of steps",
        raw_name="warmup_ratio",
        group="Schedule",
        minimum=0,
        maximum=0.5,
    )
    optimizer: Literal["paged_adamw_8bit", "paged_adamw_32bit", "adamw_8bit", "adamw_torch"] = setting(
        "paged_adamw_8bit",
        label="Optimiser",
        help="The rule that turns gradients into corrections. 32 bits remember more exactly; 8 bits need a quarter of "
        "the memory. Paged ones move to main memory when the card is full. Start with paged_adamw_8bit.",
        unit="",
        raw_name="optim",
        group="Optimiser",
    )
    weight_decay: float = setting(
        0.0,
        label="Weight decay",
        help="Pulls the overlay's weights towards zero in each step. More: memorises less, learns less. Less: free to "
        "fit. Start with 0; 0.01 is usual where the dataset is small. No effect on video memory.",
        unit="",
        raw_name="weight_decay",
        group="Optimiser",
        minimum=0,
        maximum=1,
    )
    max_grad_norm: float = setting(
        1.0,
        label="Gradient limit",
        help="Corrections larger than this are scaled down, so that one odd row cannot spoil the run. More: bolder. "
        "Less: more cautious and slower. Start with 1; 0 switches it off. No effect on video memory.",
        unit="gradient norm",
        raw_name="max_grad_norm",
        group="Optimiser",
        minimum=0,
        maximum=1000,
    )
    seed: int = setting(
        42,
        label="Seed",
        help="The start of all chance: order of rows, first weights, what is held out. The same seed repeats a run; a "
        "larger or smaller one is just another draw. Start with any. No effect on video memory.",
        unit="",
        raw_name="seed",
        group="Training",
        level="basic",
        minimum=0,
        maximum=2**32 - 1,
    )
    compile: bool = setting(
        False,
        label="Compile",
        help="Has PyTorch compile the layers for this device. On: faster steps after a first one of some minutes, and numbers "
        "that differ in the last digits. Off: starts at once. Start without. Takes other video memory than estimated.",
        unit="",
        raw_name="torch_compile",
        group="Memory",
    )

    @model_validator(mode="before")
    @classmethod
    def _one_replaces_the_other(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        replaced = {first: None for first, second in ALTERNATIVES if raw.get(second) is not None and first not in raw}
        return {**raw, **replaced}

    @model_validator(mode="after")
    def _exactly_one_of_each(self) -> Training:
        for first, second in ALTERNATIVES:
            both = getattr(self, first) is not None and getattr(self, second) is not None
            neither = getattr(self, first) is None and getattr(self, second) is None
            if both or neither:
                raise PydanticCustomError(
                    "alternatives", "both or neither", {"first": first, "second": second, "both": both}
                )
        return self


class Memory(Section, frozen=True):
    """What is given up in time to save memory."""

    checkpointing: Literal["auto", "all", "none"] | Annotated[int, Field(ge=1, le=1000)] = setting(
        "auto",
        label="Gradient checkpointing",
        help="Forgets what lies between layers and works it out again when needed. On more layers: less memory, up to a "
        "third slower. On fewer: faster. Start with auto, which uses what the card has. Saves much video memory.",
        unit="layers",
        raw_name="gradient_checkpointing",
        group="Memory",
        note="auto | all | none | a number of layers",
    )
    offload: bool = setting(
        False,
        label="Offload",
        help="Keeps the inputs of checkpointed layers in main memory until they are needed again. On: room for longer "
        "rows, some transfers. Off: nothing to wait for. Try it when long rows do not fit. Saves video memory.",
        unit="",
        raw_name="activation_offloading",
        group="Memory",
    )
    keep_attention: bool = setting(
        False,
        label="Keep attention",
        help="Checkpointed layers remember what attention gave, the part that is dearest to work out again in long rows. "
        "On: faster with rows of many thousand tokens. Off: less memory. Start without. Takes some video memory.",
        unit="",
        raw_name="selective_checkpointing",
        group="Memory",
    )
    reuse_weights: Literal["auto", "always", "never"] = setting(
        "auto",
        label="Reuse unpacked weights",
        help="A checkpointed layer that is worked out again keeps its 4-bit weights unpacked until its gradients are made. "
        "Always: faster, most of all with small micro-batches. Never: less memory. Start with auto, which does so where "
        "the card has room. Takes one layer in 16 bit of video memory.",
        unit="",
        raw_name="reuse_weights",
        group="Memory",
        note="auto | always | never",
    )
    embeddings_on_cpu: bool = setting(
        False,
        label="Embeddings in main memory",
        help="Leaves the table that words are looked up in outside the card; the numbers stay the same. On: room for a "
        "larger micro-batch, a short transfer in each. Off: nothing to transfer. Saves up to 1 GB of video memory.",
        unit="",
        raw_name="offload_embeddings",
        group="Memory",
    )


class Keep(Section, frozen=True):
    """What is written down while the run goes on."""

    checkpoint_every_steps: int = setting(
        50,
        label="Checkpoint every",
        help="How often the run is saved so that it can go on from there. A larger number: less disk work, more lost in "
        "a power cut. A smaller one: the reverse. Start with 50; 0 saves only at the end. No video memory.",
        unit="steps",
        raw_name="save_steps",
        group="Checkpoints",
        minimum=0,
        maximum=10_000_000,
    )
    checkpoints_kept: int = setting(
        2,
        label="Checkpoints kept",
        help="How many saved states stay on the disk; the oldest goes first, the best one stays in addition. More: you can "
        "step further back. Less: less disk space. Start with 2. No effect on video memory.",
        unit="checkpoints",
        raw_name="save_total_limit",
        group="Checkpoints",
        minimum=1,
        maximum=1000,
    )
    evaluate_every_steps: int = setting(
        50,
        label="Evaluate every",
        help="How often the rows held out are tested. A larger number: faster run. A smaller one: you see sooner when "
        "it starts to memorise. Start with 50; 0 tests only at the end. Hardly any video memory.",
        unit="steps",
        raw_name="eval_steps",
        group="Evaluate",
        minimum=0,
        maximum=10_000_000,
    )
    stop_after_worse_evaluations: int = setting(
        0,
        label="Stop early after",
        help="Ends the run when so many tests in a row were no better than the best one. More: more patient. Less: stops sooner "
        "when it begins to memorise. Start with 3 for long runs; 0 never stops early. No effect on video memory.",
        unit="worse evaluations",
        raw_name="early_stopping_patience",
        group="Evaluate",
        minimum=0,
        maximum=1000,
    )
    adapter_from: Literal["last", "best"] = setting(
        "last",
        label="Adapter from",
        help="Which state becomes the adapter. last: that of the last step. best: that of the lowest loss on held-out rows; each "
        "new best is saved at once. Start with last; best where it memorises. No effect on video memory.",
        unit="",
        raw_name="load_best_model_at_end",
        group="Evaluate",
        note="last | best",
    )
    sample_every_steps: int = setting(
        50,
        label="Sample every",
        help="How often the model answers the sample prompts while it learns. A larger number: faster run. A smaller "
        "one: you watch it change. Start with 50; 0 switches it off. A little video memory while it answers.",
        unit="steps",
        raw_name="sample_steps",
        group="Evaluate",
        minimum=0,
        maximum=10_000_000,
    )
    sample_prompts: Texts = setting(
        ("Who are you?",),
        label="Sample prompts",
        help="Questions that are asked again and again during the run. More: a broader picture, more time. Fewer: "
        "quicker. Start with two or three that the dataset does not answer word for word. Hardly any video memory.",
        unit="prompts",
        raw_name="sample_prompts",
        group="Evaluate",
        max_length=100,
    )
