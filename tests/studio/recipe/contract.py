"""The recipe file as the outer contract prints it."""

CONTRACT = """\
schema = 1
name = "pirate"

[base]
id = "starter"              # name of a base on this computer, a folder, or a hub id
quantisation = "nf4"        # nf4 | fp4 | int8 | none
double_quantisation = true
compute_dtype = "bfloat16"

[data]
path = "examples/pirate.jsonl"
validation_fraction = 0.05
group_by = ""
max_tokens = 1024
packing = true
train_on = "assistant"      # assistant | last_answer | everything
chat_template = "own"       # own | chatml | alpaca | vicuna | plain

[adapter]
method = "lora"
rank = 16
alpha = 32
dropout = 0.0
targets = "all-linear"      # all-linear | attention | a list of module names
rslora = false
dora = false
dtype = "float32"

[training]
epochs = 3                  # or: steps = 200
micro_batch_tokens = 4096   # or: micro_batch_rows = 2
batch_rows = 16             # rows per optimizer step, whatever the micro-batch
learning_rate = 2e-4
schedule = "cosine"         # cosine | linear | constant
warmup_fraction = 0.03
optimizer = "paged_adamw_8bit"
weight_decay = 0.0
max_grad_norm = 1.0
seed = 42
compile = false

[memory]
checkpointing = "auto"      # auto | all | none | a number of layers
offload = false
keep_attention = false
reuse_weights = "auto"      # auto | always | never
embeddings_on_cpu = false

[keep]
checkpoint_every_steps = 50
checkpoints_kept = 2
evaluate_every_steps = 50
stop_after_worse_evaluations = 0
adapter_from = "last"       # last | best
sample_every_steps = 50
sample_prompts = ["Who are you?"]
"""
