"""The sections of a recipe that say what learns from what: base, data, adapter."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from studio.recipe.setting import MAX_CONTEXT_TOKENS, MAX_RANK, Section, Texts, is_whole, setting


class Base(Section, frozen=True):
    """The frozen model that the overlay is drawn on, and how it is held in memory."""

    id: str = setting(
        "starter",
        label="Base model",
        help="The model that learns; its own weights stay as they are. A larger one knows more and needs more memory. "
        "Start with the small one that comes with the studio. Sets most of the video memory.",
        unit="",
        raw_name="model_name_or_path",
        group="Setup",
        level="basic",
        note="name of a base on this computer, a folder, or a hub id",
        min_length=1,
        max_length=4096,
    )
    quantisation: Literal["nf4", "fp4", "int8", "none"] = setting(
        "nf4",
        label="Quantisation",
        help="How finely the frozen weights are stored. More bits: closer to the original. Fewer bits: less memory. "
        "Start with nf4, made for the way weights are spread. 4 bits need about a quarter of what 16 bits need.",
        unit="",
        raw_name="bnb_4bit_quant_type",
        group="Quantisation",
    )
    double_quantisation: bool = setting(
        True,
        label="Double quantisation",
        help="Stores the scales of the 4-bit weights in fewer bits too. On: a little less memory, no loss that can be "
        "measured. Off: loads slightly faster. Leave it on. Saves about 0.05 bytes per weight; needs nf4 or fp4.",
        unit="",
        raw_name="bnb_4bit_use_double_quant",
        group="Quantisation",
    )
    compute_dtype: Literal["bfloat16", "float16", "float32"] = setting(
        "bfloat16",
        label="Compute type",
        help="The number format of the arithmetic. float32 is the most exact and the slowest; float16 overflows more "
        "easily. Start with bfloat16; older cards may be faster with float16. float32 doubles the memory of activations.",
        unit="",
        raw_name="bnb_4bit_compute_dtype",
        group="Quantisation",
    )


class Data(Section, frozen=True):
    """What the overlay learns from."""

    path: str = setting(
        "examples/pirate.jsonl",
        label="Dataset",
        help="The file with the conversations or texts to learn from. More rows teach more reliably; a few hundred good "
        "ones are enough for a style. Good rows count for more than many. No effect on video memory.",
        unit="",
        raw_name="dataset_name",
        group="Setup",
        level="basic",
        min_length=1,
        max_length=4096,
    )
    validation_fraction: float = setting(
        0.05,
        label="Held out",
        help="The share of rows kept back to test on. More: a steadier measurement. Less: more to learn from; with 0 "
        "nothing shows when the model starts to memorise. Start with 0.05. No effect on video memory.",
        unit="share of rows",
        raw_name="test_size",
        group="Data",
        minimum=0,
        maximum=0.5,
    )
    group_by: str = setting(
        "",
        label="Keep together",
        help="A column whose rows are never parted: all rows of one customer or document are learnt, or all are held out. With "
        "it the test is honest where rows resemble one another; without it each row counts for itself. Start without. No "
        "effect on video memory.",
        unit="",
        raw_name="group_by",
        group="Data",
        note="name of a column, or nothing",
        max_length=200,
    )
    max_tokens: int = setting(
        1024,
        label="Max length",
        help="The longest row, in tokens; what is longer is cut. More: long rows stay whole. Less: less memory and "
        "faster. Start where nearly all rows fit. With the micro-batch the strongest effect on video memory.",
        unit="tokens",
        raw_name="max_length",
        group="Training",
        level="basic",
        minimum=16,
        maximum=MAX_CONTEXT_TOKENS,
    )
    packing: bool = setting(
        True,
        label="Packing",
        help="Lays short rows end to end so that no room is wasted; they cannot see one another. On: faster with short "
        "rows. Off: one row per line, the rest is padding. Leave it on. Keeps video memory even.",
        unit="",
        raw_name="packing",
        group="Data",
    )
    train_on: Literal["assistant", "last_answer", "everything"] = setting(
        "assistant",
        label="Train on",
        help="Which words are learnt: all of the assistant's, only its last answer, or the questions as well. More "
        "text teaches more of the domain, less keeps to the answers. Start with assistant. Hardly any video memory.",
        unit="",
        raw_name="assistant_only_loss",
        group="Data",
    )
    chat_template: Literal["own", "chatml", "alpaca", "vicuna", "plain"] = setting(
        "own",
        label="Chat template",
        help="How a chat is written out for a base that has no way of its own; the adapter keeps it. More markers part the turns "
        "more clearly, fewer suit a single task that is always the same. Start with own; with chatml where there is none. "
        "No effect on video memory.",
        unit="",
        raw_name="chat_template",
        group="Data",
    )


class Adapter(Section, frozen=True):
    """The shape of the overlay. The change to a weight is `(alpha / rank) B A` (Hu et al. 2021, section 4.1)."""

    method: Literal["lora"] = setting(
        "lora",
        label="Method",
        help="How the overlay is built. LoRA adds two thin matrices to each chosen layer and can be merged into the "
        "base afterwards. Its size, and with it the video memory, follows the rank and the targets.",
        unit="",
        raw_name="peft_type",
        group="Adapter",
    )
    rank: int = setting(
        16,
        label="Rank",
        help="How much room the overlay has to learn. More: new skills, larger file. Less: tone and format only, less "
        "memorising. Start with 16. Twice the rank is twice the file; a small effect on video memory.",
        unit="",
        raw_name="r",
        group="Training",
        level="basic",
        minimum=1,
        maximum=MAX_RANK,
    )
    alpha: int = setting(
        32,
        label="Alpha",
        help="How loudly the overlay speaks: its effect is multiplied by alpha / rank. More: stronger, less stable. "
        "Less: milder. Start with twice the rank; it follows the rank until you change it. No effect on video memory.",
        unit="",
        raw_name="lora_alpha",
        group="Adapter",
        minimum=1,
        maximum=4096,
    )
    dropout: float = setting(
        0.0,
        label="Dropout",
        help="The share of the overlay's inputs that is blanked at random in each step. More: memorises less, learns "
        "slower. Less: fastest. Start with 0; try 0.05 on small datasets. A little video memory when above 0.",
        unit="share of inputs",
        raw_name="lora_dropout",
        group="Adapter",
        minimum=0,
        maximum=0.9,
    )
    targets: Literal["all-linear", "attention"] | Annotated[Texts, Field(min_length=1)] = setting(
        "all-linear",
        label="Target modules",
        help="Which layers get an overlay. More layers: learns more at the same rank. Fewer: a smaller, milder overlay. "
        "Start with all-linear. Each target costs some video memory for its weights, gradients and optimiser.",
        unit="",
        raw_name="target_modules",
        group="Adapter",
        note="all-linear | attention | a list of module names",
    )
    rslora: bool = setting(
        False,
        label="Rank-stabilised",
        help="Scales by alpha / sqrt(rank) instead of alpha / rank, which keeps high ranks useful (Kalajdzievski 2023). "
        "On: stronger at the same alpha. Off: the usual scale. Try it from rank 64 on. No effect on video memory.",
        unit="",
        raw_name="use_rslora",
        group="Adapter",
    )
    dora: bool = setting(
        False,
        label="DoRA",
        help="Learns length and direction of each weight apart (Liu et al. 2024). On: sometimes better at low rank, "
        "clearly slower. Off: plain LoRA. Start without. Needs noticeably more video memory.",
        unit="",
        raw_name="use_dora",
        group="Adapter",
    )
    dtype: Literal["float32", "bfloat16"] = setting(
        "float32",
        label="Adapter type",
        help="How exactly the overlay is held while it learns. float32: small steps are not lost. bfloat16: half the video "
        "memory for overlay and gradients, but steps much smaller than a weight are rounded away. Start with float32.",
        unit="",
        raw_name="autocast_adapter_dtype",
        group="Adapter",
    )

    @model_validator(mode="before")
    @classmethod
    def _alpha_follows_rank(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and "alpha" not in raw and is_whole(raw.get("rank"), 1, MAX_RANK):
            return {**raw, "alpha": 2 * raw["rank"]}
        return raw
