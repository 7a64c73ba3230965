"""The settings of models and training: one frozen dataclass a topic, checked as soon as it is made.

Each setting stands here once, or in the room it is of, with its default, its help and its bounds; argument.py
composes the scripts' settings from these by inheritance. What a class of settings is: `schema.py`; reading
files, composing and printing: `compose.py`; flags: `commandline.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from span_electra.errors import InputError
from span_electra.schema import Settings, check_share, setting

# --- the model ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NetworkConfig(Settings):
    """The size of one encoder."""

    hidden_size: int = setting(256, "width of the encoder", least=1)
    num_hidden_layers: int = setting(12, "layers", least=1, most=1000)
    num_attention_heads: int = setting(4, "attention heads; must divide hidden_size", least=1)
    intermediate_size: int = setting(1024, "width of the feed-forward part", least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden_size % self.num_attention_heads:
            raise InputError(
                f"num_attention_heads: {self.num_attention_heads} does not divide hidden_size "
                f"{self.hidden_size}; choose a divisor"
            )


ARCHITECTURES = ("electra", "modern")
ACTIVATIONS = ("gelu", "gelu_new", "relu", "silu")
SHARING = ("auto", "embeddings", "gdes", "none")
OBJECTIVES = ("joint", "generator", "discriminator")


@dataclass(frozen=True)
class ModelConfig(Settings):
    """Generator, discriminator, what they share, and what they are trained for."""

    READ_WITH = {"temperature": ("sampling", "sample")}
    READ_WITH |= dict.fromkeys(
        ("local_attention", "global_attention_every", "rope_theta"), ("architecture", "modern")
    )
    READ_WITH |= dict.fromkeys(
        ("sequence_weight", "sequence_crop", "sequence_temperature"), ("sequence_objective", "contrastive")
    )

    architecture: str = setting(
        "electra",
        "electra: ELECTRA's layers; modern: ModernBERT's (pre-norm, rotary positions, GeGLU), which learn "
        "more from little text",
        ARCHITECTURES,
    )
    vocab_size: int | None = setting(None, "rows of the embedding table; null: the vocabulary's size")
    embedding_size: int = setting(256, "width of the embeddings; projected where an encoder differs", least=1)
    max_position_embeddings: int = setting(512, "longest row the model can read, in tokens", least=3)
    type_vocab_size: int = setting(2, "token types; exported models need 2 for sentence pairs", least=1)
    # Generators of a quarter to half of the discriminator's width taught it most (ELECTRA, section 3.2).
    generator: NetworkConfig = field(default_factory=lambda: NetworkConfig(128, 12, 2, 512))
    discriminator: NetworkConfig = field(default_factory=lambda: NetworkConfig(512, 12, 8, 2048))
    dim_final_feedforward: int = setting(
        0, "width of the layer in the discriminator's head; 0: the discriminator's own", least=0
    )
    hidden_act: str = setting("gelu", "activation of the feed-forward parts", ACTIVATIONS)
    # Both as in BERT and ELECTRA.
    hidden_dropout_prob: float = setting(0.1, "dropout of hidden states")
    attention_probs_dropout_prob: float = setting(0.1, "dropout of attention probabilities")
    # BERT's and ELECTRA's; ModernBERT has 1e-5.
    layer_norm_eps: float = setting(1e-12, "epsilon of LayerNorm", least=1e-30)
    # RoFormer's. ModernBERT's global layers, which read 8,192 tokens, have 160,000.
    rope_theta: float = setting(10_000.0, "modern: base of the rotary positions' wavelengths", least=1)
    local_attention: int = setting(
        0, "modern: tokens that a local layer sees, half to each side; 0: all layers see all", least=0
    )
    # As in ModernBERT; the first layer is global, so that one of a single layer sees all.
    global_attention_every: int = setting(
        3, "modern: with local_attention, the layers that see all: every 3rd, say", least=1
    )
    initialization: str = setting(
        "normal",
        "what weights start from; normal: ELECTRA's truncated normal; local: first heads look at the "
        "neighbours, so that little text is enough to leave the plateau",
        ("normal", "local"),
    )
    initializer_range: float = setting(
        0.02, "deviation of the truncated normal that weights start from", least=1e-9
    )
    output_bias: str = setting(
        "zeros",
        "what the generator's output bias starts from; frequencies: the logarithm of each token's share of "
        "the text, which spares learning it",
        ("zeros", "frequencies"),
    )
    embedding_sharing: str = setting(
        "auto",
        "embeddings: one tensor for both networks; gdes: discriminator adds its own change to the "
        "generator's, without gradient (DeBERTaV3); auto: embeddings, and the encoder if sizes agree",
        SHARING,
    )
    objective: str = setting("joint", "which networks are trained", OBJECTIVES)
    generator_first: float = setting(
        0.0, "joint: share of the run's steps in which the generator learns alone; it costs the least there"
    )
    next_token_share: float = setting(
        0.0,
        "share of the generator's steps alone that predict next tokens, not masked ones (GPT-BERT's hybrid)",
    )
    next_token_candidates: int = setting(0, "tokens that next tokens are predicted among; 0: all", least=0)
    generator_weight: float = setting(1.0, "weight of the generator's loss", least=0)
    # Large, since a loss of two classes is small beside one of a whole vocabulary.
    discriminator_weight: float = setting(50.0, "weight of the discriminator's loss (ELECTRA: 50)", least=0)
    use_SBGO: bool = setting(False, "add the generator's span-boundary objective")
    use_SBPO: bool = setting(False, "add the discriminator's span-boundary objective")
    span_boundary_weight: float = setting(1.0, "weight of each span-boundary loss", least=0)
    sequence_objective: str = setting(
        "none",
        "contrastive: the discriminator's [CLS] of a corrupted row and that of a crop of the original agree, "
        "against the batch's others (COCO-LM)",
        ("none", "contrastive"),
    )
    sequence_weight: float = setting(1.0, "weight of the sequence objective's loss (COCO-LM: 1)", least=0)
    sequence_crop: float = setting(0.9, "share of a row's content that a crop keeps (COCO-LM: 0.9)")
    sequence_temperature: float = setting(1.0, "what cosines are divided by (COCO-LM: 1)", above=0)
    average_span_predictions: bool = setting(False, "average SBGO's predictions into the generator's own")
    sampling: str = setting("sample", "how replacements are drawn", ("sample", "argmax"))
    temperature: float = setting(
        1.0, "of the sampling; below 1: likelier tokens, above 1: more varied; for 0 use argmax", above=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("hidden_dropout_prob", self.hidden_dropout_prob)
        check_share("attention_probs_dropout_prob", self.attention_probs_dropout_prob)
        check_share("generator_first", self.generator_first)
        if not 0 <= self.next_token_share <= 1:
            raise InputError(
                f"next_token_share: {self.next_token_share} is no share; give a number from 0 to 1"
            )
        if self.next_token_share == 1 and self.objective == "generator":
            raise InputError(
                "next_token_share: 1 leaves objective generator no step that learns masked tokens; give less"
            )
        if self.next_token_share and (
            self.objective == "discriminator" or (self.objective == "joint" and not self.generator_first)
        ):
            raise InputError(
                "next_token_share: applies only while the generator trains alone; set generator_first above "
                "0, or next_token_share to 0"
            )
        check_share("sequence_crop", self.sequence_crop)
        if self.sequence_objective != "none" and self.objective == "generator":
            raise InputError(
                "sequence_objective: is the discriminator's, which objective generator leaves out"
            )
        if self.average_span_predictions and not (self.use_SBGO or self.use_SBPO):  # SBPO alone: older runs
            raise InputError("average_span_predictions: nothing to average; set use_SBGO too")
        for name in ("generator", "discriminator"):
            # Columns of a head are turned in pairs.
            head_size = getattr(self, name).hidden_size // getattr(self, name).num_attention_heads
            if self.architecture == "modern" and head_size % 2:
                raise InputError(
                    f"{name}.num_attention_heads: heads would be {head_size} wide, and rotary positions need "
                    "an even width; choose another number"
                )
        self._check_head()

    def _check_head(self) -> None:
        """Refuse a head that the stock class, whose head is as wide as its layers, could not compute."""
        width, whole = self.dim_final_feedforward, self.discriminator.hidden_size
        if width > whole:
            raise InputError(
                f"dim_final_feedforward: {width} is more than discriminator.hidden_size {whole}, which is "
                "what exported heads are wide; choose at most that"
            )
        # Through a norm, only whole copies of the layer come out as the one.
        if width and whole % width and self.architecture == "modern":
            raise InputError(
                f"dim_final_feedforward: {width} does not divide discriminator.hidden_size {whole}, as it "
                "must in architecture modern to be exported; choose a divisor"
            )


# --- training -----------------------------------------------------------------------------------------

# What users of an optimizer expect where they name no rate or epsilon; adamw keeps ELECTRA's own.
OPTIMIZER_DEFAULTS = {
    "adamw": {"lr": 5e-4, "epsilon": 1e-6},
    "sgd": {"lr": 0.1},
    "adam": {"lr": 1e-3, "epsilon": 1e-8},
    "radam": {"lr": 1e-3, "epsilon": 1e-8},
    "lamb": {"lr": 1e-3, "epsilon": 1e-6},
}
OPTIMIZERS = ("adamw", "adam", "radam", "lamb", "sgd", "muon")
SCHEDULES = ("linear", "cosine", "step", "constant", "wsd")


@dataclass(frozen=True)
class OptimizerConfig(Settings):
    """Optimizer, learning rates and their course."""

    READ_WITH = {"adamw_lr": ("optimizer", "muon"), "momentum": ("optimizer", "sgd", "muon")}
    READ_WITH |= {"decay": ("schedule", "wsd")}
    READ_WITH |= dict.fromkeys(("step_size", "step_factor"), ("schedule", "step"))

    optimizer: str = setting("adamw", "the optimizer", OPTIMIZERS)
    lr: float = setting(5e-4, "peak learning rate", least=0)
    generator_lr: float | None = setting(None, "the generator's own peak rate; null: lr", least=0)
    discriminator_lr: float | None = setting(None, "the discriminator's own; null: lr", least=0)
    adamw_lr: float | None = setting(
        None, "muon: peak rate of what AdamW trains, embeddings, heads, norms and biases; null: lr", least=0
    )
    embedding_lr: float | None = setting(
        None, "peak rate of the embedding tables; null: that of the parameters beside them", least=0
    )
    # Decay, betas, epsilon and the norm are ELECTRA's.
    weight_decay: float = setting(0.01, "weight decay, on matrices only", least=0)
    betas: list[float] = setting([0.9, 0.999], "Adam's decay rates")
    epsilon: float = setting(1e-6, "Adam's epsilon", least=1e-16)
    momentum: float = setting(0.9, "momentum of sgd and muon", least=0, most=1)
    max_gradient_norm: float = setting(1.0, "gradients are clipped to this norm; 0: never", least=0)
    schedule: str = setting(
        "linear", "course of the rate after warm-up; wsd: steady, then decay", SCHEDULES, group="schedule"
    )
    warmup: float = setting(
        0.1, "warm-up steps; a value of at most 1 is a share of all steps", least=0, group="schedule"
    )
    step_size: float = setting(
        0.3, "step: steps (or share of all) between two cuts", least=0, group="schedule"
    )
    step_factor: float = setting(0.1, "step: what a cut multiplies the rate by", least=0, group="schedule")
    decay: float = setting(0.2, "wsd: steps (or share of all) of the final decay", least=0, group="schedule")

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.betas) != 2 or not all(0.0 <= beta < 1.0 for beta in self.betas):
            raise InputError(f"betas: {list(self.betas)} must be two numbers of at least 0 and below 1")


UNITS = ("steps", "samples", "epochs", "evaluations", "minutes")


@dataclass(frozen=True)
class Interval:
    """How often something is done; a number of 0: never on the way."""

    number: float
    unit: str


def interval(name: str, text: str) -> Interval:
    """Read an interval. Examples: 500 -> 500 steps; 1 epoch; 20,000 samples; 0.5 epochs; 15 minutes; 0

    Raises InputError naming the setting.
    """
    number, _, unit = text.strip().partition(" ")
    number = re.sub(r"(?<=\d)(?<!^0),(?=\d{3}\b)", "", number)  # of thousands; 0,5 would become a 5
    unit = unit.strip() or "steps"
    unit = unit if unit.endswith("s") else f"{unit}s"
    # float() takes "nan" and "inf" too, which no comparison lets through.
    try:
        if unit in UNITS and 0 <= float(number) < float("inf"):
            return Interval(float(number), unit)
    except ValueError:
        pass  # no number: refused below
    raise InputError(f"{name}: {text!r} is no interval; give a number and one of {', '.join(UNITS)}")


# accelerators.py has them as types of torch, which --help does not load.
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
PARALLEL = ("ddp", "dp", "fsdp")
FREEZABLE = ("embeddings", "generator", "discriminator")


@dataclass(frozen=True)
class DurationConfig(Settings):
    """How long is trained."""

    epochs: int = setting(1, "passes over the rows", least=1, group="schedule")
    max_steps: int = setting(
        0, "stop after so many optimizer steps; 0: epochs alone decide", least=0, group="schedule"
    )
    max_minutes: float = setting(
        0.0, "minutes of this start, with --by_clock of the whole run; 0: no limit", least=0, group="schedule"
    )


@dataclass(frozen=True)
class DeviceConfig(Settings):
    """On what is trained, and how exactly."""

    device: str = setting("auto", "auto, cpu, cuda, cuda:1, mps or xpu", group="devices")
    device_ids: list[int] = setting(
        [], "one process for each of these devices; none: the first alone", group="devices"
    )
    precision: str = setting("auto", "auto: bf16 where it is faster, else fp32", PRECISIONS, group="devices")
    activation_checkpointing: bool = setting(
        False, "recompute activations: less memory, more time", group="devices"
    )
    deterministic: bool = setting(
        False, "the same bits from run to run on a GPU too, more slowly", group="devices"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        # Whether they are there is asked on the machine that trains, not where settings are read.
        if len(set(self.device_ids)) != len(self.device_ids) or any(number < 0 for number in self.device_ids):
            raise InputError(f"device_ids: {list(self.device_ids)} must be different numbers from 0")


@dataclass(frozen=True)
class CadenceConfig(Settings):
    """When lines are logged and held-out rows looked at, and which checkpoints are kept for it."""

    log_per_epoch: int = setting(0, "lines of the log an epoch; 0: a number of steps decides", least=0)
    num_epoch_digits: int = setting(1, "digits of the epoch's number in a line", least=1, most=9)
    eval_per_epoch: int = setting(0, "validations an epoch; 0: eval_every decides", least=0)
    eval_every: str = setting(
        "1 epoch", "validate every so many steps, samples, epochs or minutes; 0: at the end"
    )
    save_top_k: int = setting(1, "best checkpoints to keep besides the newest", least=0)
    monitor: str = setting("discriminator_f1", "validation metric that says which is best")
    track: str | None = setting(
        None,
        "follow the run there too, besides TensorBoard",
        (None, "wandb", "mlflow", "trackio"),
        group="run",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if interval("eval_every", self.eval_every).unit == "evaluations":
            raise InputError("eval_every: evaluations cannot time themselves; give steps, epochs or minutes")

    def eval_interval(self) -> Interval:
        """How often to validate."""
        if self.eval_per_epoch:
            return Interval(1 / self.eval_per_epoch, "epochs")
        return interval("eval_every", self.eval_every)

    def log_interval(self, steps: int) -> Interval:
        """How often to log, where `steps` is the number of steps between two lines; 0: never."""
        if self.log_per_epoch:
            return Interval(1 / self.log_per_epoch, "epochs")
        return Interval(steps, "steps")


@dataclass(frozen=True)
class TrainingConfig(DurationConfig, DeviceConfig, CadenceConfig):
    """How long, how wide, on what, and how often to log, validate and save."""

    gradient_accumulation_steps: int = setting(
        1, "batches whose gradients make one optimizer step", least=1, group="optimization"
    )
    by_clock: bool = setting(
        False, "lay the schedule over max_minutes, in as many epochs as it takes", group="schedule"
    )
    seed: int = setting(0, "seed of weights, order, masks, samples and dropout", least=0)
    parallel: str = setting("ddp", "how devices share the work (dp: as ddp)", PARALLEL, group="devices")
    sharded_checkpoints: bool = setting(
        False, "with fsdp: every process writes its share of a checkpoint, none gathers it", group="devices"
    )
    compile: str = setting(
        "auto",
        "torch.compile; auto: on a GPU; max: CUDA graphs and tuned kernels too, after minutes of search",
        ("auto", "on", "max", "off"),
        group="devices",
    )
    freeze: list[str] = setting(
        [], "parts that do not learn: embeddings, generator, discriminator", group="optimization"
    )
    log_steps: int = setting(50, "steps between two lines of the log; 0: none", least=0)
    save_every: str = setting(
        "1 epoch", "a checkpoint every so many steps, samples, epochs, minutes or evaluations; 0: at the end"
    )
    # Two: the newest may turn out to be damaged, and a run then goes on from the one before.
    save_last: int = setting(2, "newest checkpoints to keep", least=1)
    monitor_mode: str = setting(
        "auto",
        "whether more or less of it is better; auto: less of a loss or perplexity",
        ("auto", "max", "min"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        interval("save_every", self.save_every)
        if self.by_clock and (not self.max_minutes or self.epochs != 1 or self.max_steps):
            raise InputError(
                "by_clock: give max_minutes, which decides alone; leave epochs and max_steps out, or take "
                "back what other settings say of them by --epochs 1 --max_steps 0"
            )
        for part in self.freeze:
            if part not in FREEZABLE:
                raise InputError(f"freeze: {part!r} is no part; choose from {', '.join(FREEZABLE)}")
