"""The settings of SpanELECTRA: one frozen dataclass a topic, checked as soon as it is made.

Reading files, composing, merging and printing is `compose.py`; flags are `commandline.py`. A field's help
and choices stand in its metadata, so that the command line, the checks and the reader share one source.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, field, fields
from typing import Any

from span_electra.errors import InputError

LARGEST = 2**63 - 1  # what numpy and torch hold; also no sensible number of anything is larger


def setting(
    default: Any, help: str, choices: tuple = (), least: float | None = None, most: float = LARGEST
) -> Any:
    """A dataclass field with its default, its help, and what values it may take."""
    metadata = {"help": help, "choices": choices, "least": least, "most": most}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def check_fields(settings: Any) -> None:
    """Refuse a value that its field's choices, least or most value forbid, and an empty or infinite one.

    Raises InputError naming the key, the value and the nearest allowed one.
    """
    for entry in fields(settings):
        value, choices = getattr(settings, entry.name), entry.metadata.get("choices")
        if choices and value not in choices:
            nearest = difflib.get_close_matches(str(value), [str(choice) for choice in choices], 1, 0.0)[0]
            allowed = ", ".join(str(choice) for choice in choices)
            raise InputError(f"{entry.name}: {value!r} is not one of {allowed}; did you mean {nearest!r}?")
        least, most = entry.metadata.get("least"), entry.metadata.get("most", LARGEST)
        for item in value if isinstance(value, list) else [value]:
            _check_item(entry.name, item, least, most)


def _check_item(name: str, value: Any, least: float | None, most: float) -> None:
    if isinstance(value, dict | list):
        raise InputError(f"{name}: {value!r} stands where one value belongs; give a number or a text")
    if isinstance(value, str) and (not value.strip() or "\0" in value):
        raise InputError(f"{name}: {value!r} is no usable text; give another, or leave the setting out")
    if isinstance(value, int | float):
        if isinstance(value, float) and math.isnan(value):
            raise InputError(f"{name}: nan is no number; give one")
        if least is not None and value < least:
            raise InputError(f"{name}: {value} is too small; the least is {least}")
        if value > most or value == -math.inf:
            raise InputError(f"{name}: {value} is too large; the most is {most}")


def check_share(name: str, value: float, highest: float = 1.0) -> None:
    """Refuse a probability or share outside [0, highest)."""
    if not 0.0 <= value < highest:
        raise InputError(f"{name}: {value} is no share; give a number of at least 0 and below {highest}")


# --- text to features ---------------------------------------------------------------------------------

LONGEST_ROW = 65535  # tokens; span places in feature files are uint16


@dataclass(frozen=True)
class MaskingConfig:
    """How spans are hidden (SpanBERT section 3.1, with an exact budget)."""

    mask_ratio: float = setting(0.2, "share of a chunk's content tokens that is hidden")
    max_span_len: int = setting(20, "longest span, in whole words", least=1, most=LONGEST_ROW)
    geometric_p: float = setting(0.2, "p of the geometric law of span lengths: P(l) ~ p (1 - p)^(l - 1)")
    whole_words: bool = setting(True, "spans are of whole words; else of single tokens, wherever a word ends")
    # Kept by whoever reads features made by an earlier law; no setting of a user.
    law: int = setting(2, "where words begin and spans lie: 1 as in features of format 1, 2", (1, 2))

    def __post_init__(self) -> None:
        check_fields(self)
        # Above one half, spans that do not touch can run out of places.
        if not 0.0 <= self.mask_ratio <= 0.5:
            raise InputError(f"mask_ratio: {self.mask_ratio:g} is not a share from 0 to 0.5; give one")
        if not 0.0 < self.geometric_p <= 1.0:
            raise InputError(
                f"geometric_p: {self.geometric_p:g} must be above 0 and at most 1; 1 hides single words"
            )


@dataclass(frozen=True)
class MaskingPhase:
    """From where in a run which law of spans holds."""

    begin: float  # step; at most 1: share of all steps
    settings: dict[str, float | int | bool]  # of MaskingConfig; what is not named is as in the features


MASKING_KEYS = {"mask_ratio": float, "max_span_len": int, "geometric_p": float, "whole_words": bool}


def masking_phases(lines: list[str]) -> tuple[MaskingPhase, ...]:
    """Read a `masking_schedule`: from which step, or share of all steps, which settings of masking hold.

    Example: ["0: mask_ratio=0.3 max_span_len=1 whole_words=false", "0.5: max_span_len=3", "0.8: "]
    hides single tokens for half of the run, then spans of at most three words, and then as the features say.

    Raises InputError naming the line that cannot be read, or whose turn is not after the one before.
    """
    phases: list[MaskingPhase] = []
    for line in lines:
        begin, _, rest = line.partition(":")
        try:
            place = float(begin)
            values = dict(item.split("=") for item in rest.split())
            settings = {key: _masking_value(MASKING_KEYS[key], text) for key, text in values.items()}
        except (ValueError, KeyError):
            raise InputError(
                f"masking_schedule: {line!r} is no phase; write it as '0.5: mask_ratio=0.2 max_span_len=3', "
                f"with any of {', '.join(MASKING_KEYS)}"
            ) from None
        if not phases and place != 0:
            raise InputError(f"masking_schedule: the first phase begins at {begin.strip()}; it must be 0")
        if not (0 <= place < math.inf) or (phases and place <= phases[-1].begin):
            raise InputError(f"masking_schedule: {line!r} does not begin after the phase before it")
        MaskingConfig(**settings)  # refuses what no law allows
        phases.append(MaskingPhase(place, settings))
    return tuple(phases)


def _masking_value(kind: type, text: str) -> float | int | bool:
    return {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)


@dataclass(frozen=True)
class ChunkConfig:
    """How the stream of tokens is cut into rows."""

    max_seq_len: int = setting(
        512, "tokens of the longest row, [CLS] and [SEP] included", least=3, most=LONGEST_ROW
    )
    short_chunk_prob: float = setting(0.05, "share of chunks cut to a random shorter length")
    respect_documents: bool = setting(False, "blank lines end a document; no chunk crosses one")

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0.0 <= self.short_chunk_prob <= 1.0:
            raise InputError(
                f"short_chunk_prob: {self.short_chunk_prob:g} is not a share from 0 to 1; give one"
            )


# --- the model ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NetworkConfig:
    """The size of one encoder."""

    hidden_size: int = setting(256, "width of the encoder", least=1)
    num_hidden_layers: int = setting(12, "layers", least=1, most=1000)
    num_attention_heads: int = setting(4, "attention heads; must divide hidden_size", least=1)
    intermediate_size: int = setting(1024, "width of the feed-forward part", least=1)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.hidden_size % self.num_attention_heads:
            raise InputError(
                f"num_attention_heads: {self.num_attention_heads} does not divide hidden_size "
                f"{self.hidden_size}; choose a divisor"
            )


ARCHITECTURES = ("electra", "modern")
ACTIVATIONS = ("gelu", "gelu_new", "relu", "silu")
SHARING = ("auto", "embeddings", "gdes", "none")
OBJECTIVES = ("joint", "generator", "discriminator")
INITIALIZATIONS = ("normal", "local")


@dataclass(frozen=True)
class ModelConfig:
    """Generator, discriminator, what they share, and what they are trained for."""

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
    generator: NetworkConfig = field(default_factory=lambda: NetworkConfig(128, 12, 2, 512))
    discriminator: NetworkConfig = field(default_factory=lambda: NetworkConfig(512, 12, 8, 2048))
    hidden_act: str = setting("gelu", "activation of the feed-forward parts", ACTIVATIONS)
    hidden_dropout_prob: float = setting(0.1, "dropout of hidden states")
    attention_probs_dropout_prob: float = setting(0.1, "dropout of attention probabilities")
    layer_norm_eps: float = setting(1e-12, "epsilon of LayerNorm", least=0)
    rope_theta: float = setting(10_000.0, "modern: base of the rotary positions' wavelengths", least=1)
    local_attention: int = setting(
        0, "modern: tokens that a local layer sees, half to each side; 0: all layers see all", least=0
    )
    global_attention_every: int = setting(
        3, "modern: with local_attention, each so-manieth layer sees all", least=1
    )
    initialization: str = setting(
        "normal",
        "what weights start from; normal: ELECTRA's truncated normal; local: first heads look at the "
        "neighbours, so that little text is enough to leave the plateau",
        INITIALIZATIONS,
    )
    initializer_range: float = setting(
        0.02, "deviation of the truncated normal that weights start from", least=0
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
    generator_weight: float = setting(1.0, "weight of the generator's loss", least=0)
    discriminator_weight: float = setting(50.0, "weight of the discriminator's loss (ELECTRA: 50)", least=0)
    use_SBGO: bool = setting(False, "add the generator's span-boundary objective")
    use_SBPO: bool = setting(False, "add the discriminator's span-boundary objective")
    span_boundary_weight: float = setting(1.0, "weight of each span-boundary loss", least=0)
    average_span_predictions: bool = setting(False, "average span-boundary predictions into the heads' own")
    sampling: str = setting("sample", "how replacements are drawn", ("sample", "argmax"))
    temperature: float = setting(1.0, "temperature of the sampling; below 1 is bolder")

    def __post_init__(self) -> None:
        check_fields(self)
        check_share("hidden_dropout_prob", self.hidden_dropout_prob)
        check_share("attention_probs_dropout_prob", self.attention_probs_dropout_prob)
        check_share("generator_first", self.generator_first)
        if self.generator_first and self.objective != "joint":
            raise InputError(
                f"generator_first: objective {self.objective} trains one network; leave it out, or take joint"
            )
        if self.average_span_predictions and not (self.use_SBGO or self.use_SBPO):
            raise InputError("average_span_predictions: nothing to average; set use_SBGO or use_SBPO too")
        for name in ("generator", "discriminator"):
            head_size = getattr(self, name).hidden_size // getattr(self, name).num_attention_heads
            if self.architecture == "modern" and head_size % 2:
                raise InputError(
                    f"{name}.num_attention_heads: heads would be {head_size} wide, and rotary positions need "
                    "an even width; choose another number"
                )
        if self.temperature <= 0:
            raise InputError(f"temperature: {self.temperature} must be above 0; use sampling argmax for 0")


# --- training -----------------------------------------------------------------------------------------

OPTIMIZERS = ("adamw", "adam", "radam", "lamb", "sgd", "muon")
SCHEDULES = ("linear", "cosine", "step", "constant", "wsd")


@dataclass(frozen=True)
class OptimizerConfig:
    """Optimizer, learning rates and their course."""

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
    weight_decay: float = setting(0.01, "weight decay, on matrices only", least=0)
    betas: list[float] = setting([0.9, 0.999], "Adam's decay rates")
    epsilon: float = setting(1e-6, "Adam's epsilon", least=0)
    momentum: float = setting(0.9, "momentum of sgd and muon", least=0, most=1)
    max_gradient_norm: float = setting(1.0, "gradients are clipped to this norm; 0: never", least=0)
    schedule: str = setting("linear", "course of the learning rate after warm-up", SCHEDULES)
    warmup: float = setting(0.1, "warm-up steps; a value of at most 1 is a share of all steps", least=0)
    step_size: float = setting(0.3, "step: steps (or share of all) between two cuts", least=0)
    step_factor: float = setting(0.1, "step: what a cut multiplies the rate by", least=0)
    decay: float = setting(0.2, "wsd: steps (or share of all) of the final decay", least=0)

    def __post_init__(self) -> None:
        check_fields(self)
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
    number, _, unit = text.strip().replace(",", "").partition(" ")
    unit = unit.strip() or "steps"
    unit = unit if unit.endswith("s") else f"{unit}s"
    try:
        if unit in UNITS and 0 <= float(number) < float("inf"):
            return Interval(float(number), unit)
    except ValueError:
        pass  # no number: refused below
    raise InputError(f"{name}: {text!r} is no interval; give a number and one of {', '.join(UNITS)}")


PRECISIONS = ("auto", "fp32", "bf16", "fp16")
PARALLEL = ("ddp", "dp", "fsdp")
FREEZABLE = ("embeddings", "generator", "discriminator")


@dataclass(frozen=True)
class TrainingConfig:
    """How long, how wide, on what, and how often to tell, try and keep."""

    epochs: int = setting(1, "passes over the rows", least=1)
    max_steps: int = setting(0, "stop after so many optimizer steps; 0: epochs alone decide", least=0)
    max_minutes: float = setting(0.0, "stop in time, with a checkpoint; 0: no limit", least=0)
    gradient_accumulation_steps: int = setting(1, "batches whose gradients make one optimizer step", least=1)
    seed: int = setting(0, "seed of weights, order, masks, samples and dropout", least=0)
    device: str = setting("auto", "auto, cpu, cuda, cuda:1, mps or xpu")
    device_ids: list[int] = setting([], "one process for each of these devices; none: the first alone")
    parallel: str = setting("ddp", "how several devices share the work", PARALLEL)
    precision: str = setting("auto", "auto: bf16 on a GPU that has it, else fp32", PRECISIONS)
    compile: str = setting("auto", "torch.compile; auto: on a GPU", ("auto", "on", "off"))
    activation_checkpointing: bool = setting(False, "recompute activations: less memory, more time")
    deterministic: bool = setting(False, "the same bits from run to run on a GPU too, more slowly")
    freeze: list[str] = setting([], "parts that do not learn: embeddings, generator, discriminator")
    log_steps: int = setting(50, "steps between two lines of the log; 0: none", least=0)
    eval_every: str = setting(
        "1 epoch", "validate every so many steps, samples, epochs or minutes; 0: at the end"
    )
    save_every: str = setting("1 epoch", "checkpoint each: any of these, or evaluations; 0: at the end")
    save_last: int = setting(2, "newest checkpoints to keep", least=1)
    save_top_k: int = setting(1, "best checkpoints to keep besides", least=0)
    monitor: str = setting("discriminator_f1", "validation metric that says which is best")
    monitor_mode: str = setting("max", "whether more or less of it is better", ("max", "min"))

    def __post_init__(self) -> None:
        check_fields(self)
        if interval("eval_every", self.eval_every).unit == "evaluations":
            raise InputError("eval_every: evaluations cannot time themselves; give steps, epochs or minutes")
        interval("save_every", self.save_every)
        for part in self.freeze:
            if part not in FREEZABLE:
                raise InputError(f"freeze: {part!r} is no part; choose from {', '.join(FREEZABLE)}")
        if len(set(self.device_ids)) != len(self.device_ids) or any(number < 0 for number in self.device_ids):
            raise InputError(f"device_ids: {list(self.device_ids)} must be different numbers from 0")


@dataclass(frozen=True)
class LoaderConfig:
    """How rows become batches."""

    batch_size: int = setting(32, "rows of a batch, all processes together", least=1)
    batch_max_tokens: int = setting(0, "padded tokens of a batch, all processes; 0: rows decide", least=0)
    bucket_span: int = setting(64, "batches whose rows are sorted by length together", least=1)
    masking: str = setting(
        "dynamic", "dynamic: new spans each epoch; static: the file's", ("dynamic", "static")
    )
    seed: int = setting(0, "seed of order, masks and samples", least=0)
    workers: int = setting(1, "threads that prepare batches ahead", least=0)
    masking_schedule: list[str] = setting(
        [],
        "the law of spans by phases, each 'BEGIN: settings' with BEGIN a step or a share of all steps: "
        "'0: mask_ratio=0.3 max_span_len=1 whole_words=false' '0.5: max_span_len=3'; none: the features' law",
    )

    spelling_noise: float = setting(
        0.0, "share of the words that are misspelt, for the discriminator to find, wherever it learns"
    )

    def __post_init__(self) -> None:
        check_fields(self)
        check_share("spelling_noise", self.spelling_noise)
        if masking_phases(self.masking_schedule) and self.masking == "static":
            raise InputError("masking_schedule: draws new spans; leave out --masking static")
