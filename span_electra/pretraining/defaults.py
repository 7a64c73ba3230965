"""What lies under the user's own settings: a resumed run's, or a small model's where nobody named a size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from span_electra.commandline import leaf
from span_electra.compose import Layer, config_file, peek, preset, section_of
from span_electra.counted import counted
from span_electra.errors import InputError
from span_electra.pretraining.arguments import PretrainingArguments
from span_electra.schema import Values
from span_electra.storage import CONFIG
from span_electra.text.default_files import feature_path

EFFICIENCY = 0.5  # of the processors' matrix peak that training reaches, see docs/benchmarks.md
SAMPLE_TOKENS = 2_300_000  # of the default corpus, where no features are there to count
PREFIX = PretrainingArguments.output_prefix
SIZES = ("hidden_size", "num_hidden_layers")  # of a network: who names one of these has a model in mind


def stack_layers(given: Values, layers: list[Layer]) -> list[Layer]:
    """All layers of a pretraining's settings, lowest first; `layers` are the user's own.

    Our presets' epochs give way to a run by the clock, whose time decides alone, their masking_schedule to
    static masks, which need none, and any tokens of a batch to rows that a layer above names. A resumed
    run's settings lie over those of argument.py and under the flags. Where no sizes are named and there is no
    accelerator, configs/tiny.json lies under everything; configs/continue.json lies over it where weights are
    gone on with, and the run's first lines tell its settings.
    """
    stacked = _stacked(given, layers)
    said = peek(PretrainingArguments, stacked, ("training.by_clock", "train_data.masking"))
    if said.get("training.by_clock"):
        stacked = [_without(layer, "training", "epochs") for layer in stacked]
    if said.get("train_data.masking") == "static":
        stacked = [_without(layer, "train_data", "masking_schedule") for layer in stacked]
    return _with_named_rows(stacked)


def _with_named_rows(layers: list[Layer]) -> list[Layer]:
    """The same layers, with no tokens of a batch below the last that names rows and not tokens.

    Beside tokens rows decide nothing: --train_batch_size would be passed over without a word. Flags, of which
    each is a layer, count as one: who gives both means both.
    """
    data = [section_of(layer, "train_data") for layer in layers]
    rows, tokens = (
        max((number for number, values in enumerate(data) if name in values), default=-1)
        for name in ("train_batch_size", "batch_max_tokens")
    )
    if not 0 <= tokens < rows or layers[tokens].source.startswith("--"):
        return layers
    decided = Layer(layers[rows].source, {"train_data": {"batch_max_tokens": 0}})
    return [*layers[:rows], decided, *layers[rows:]]


def _without(layer: Layer, section: str, name: str) -> Layer:
    """A layer of ours without a setting; a user's as it is, so that what excludes the other is refused."""
    values = section_of(layer, section)
    if not layer.is_preset or name not in values:
        return layer
    rest = {key: value for key, value in values.items() if key != name}
    return replace(layer, values=layer.values | {section: rest})


def _stacked(given: Values, layers: list[Layer]) -> list[Layer]:
    from span_electra.pretraining.stage import resumed_run

    # Before any settings are made: which run is meant decides what flags and files lie on.
    said = peek(PretrainingArguments, layers, ("resume", "checkpoint_path", "output_prefix", "init_from"))
    resume, checkpoint_path = said.get("resume"), said.get("checkpoint_path")
    for other in ("init_from", "generator_path", "initial_optimizer", "preset", "train_data.add_tokens"):
        if given.get(other) and (resume or checkpoint_path):
            raise InputError(
                f"--{leaf(other)}: a resumed run goes on as it was; leave it out, or start a new run"
            )
    run = resumed_run(resume, checkpoint_path, said.get("output_prefix", PREFIX))
    if run is not None:
        refuse_other_folder(run, layers[1:])
        path = run / CONFIG
        if not path.is_file():
            raise InputError(f"{path}: not there; is {run} the folder of a run?")
        # Named from here on: the latest is looked for once, where the user's own settings say.
        found = [Layer("--resume", {"resume": str(run)})] if resume == "latest" else []
        # Between the defaults and the flags: what is given on the command line is meant for now; its folder
        # left out, since it may have moved, and one that is named must be another.
        stored = config_file(path)
        values = {key: value for key, value in stored.values.items() if key != "out_dir"}
        return [layers[0], replace(stored, values=values), *layers[1:], *found]
    small = not (any(names_sizes(layer.values) for layer in layers) or has_accelerator())
    if said.get("init_from"):
        # Rates for weights at random would in a hundred steps undo much of what these have learned.
        return [*([preset("tiny")] if small else []), preset("continue"), *layers]
    return [replace(preset("tiny"), note=lambda: tiny_note(layers)), *layers] if small else layers


def refuse_other_folder(run: Path, layers: list[Layer]) -> None:
    """Raise InputError where layers name another folder than the one of the run that is gone on with."""
    own, names = run.absolute(), ("experiment_name", "output_prefix", "out_dir")
    name, prefix, out_dir = map(peek(PretrainingArguments, layers, names).get, names)
    # Every file that --print_config wrote has the default, and means nothing by it.
    prefix = None if prefix == PREFIX else prefix
    other = Path(prefix or own.parent, name or own.name).resolve() != own.resolve()
    if other and not out_dir:  # which decides alone, as for a new run
        said = f"experiment_name: {name}" if name else f"output_prefix: {prefix}"
        raise InputError(f"{said}: a resumed run keeps its folder; give --out_dir to go on in another")


def tiny_note(layers: list[Layer]) -> str:
    """That tiny was taken, what the full size would cost, and how to have it."""
    hours = estimated_hours(layers)
    time = f"{hours:,.0f} hours" if hours >= 2 else counted(max(1, round(60 * hours)), "minute")
    return (
        "no sizes named and no accelerator found: taking those of configs/tiny.json. The full size, about "
        f"{time} here: --preset default, or --config_file configs/default.json"
    )


def names_sizes(values: Values) -> bool:
    """Whether settings say how large a network is."""
    model = values.get("model")
    networks = [model.get(name) for name in ("generator", "discriminator")] if isinstance(model, dict) else []
    return any(isinstance(network, dict) and set(network) & set(SIZES) for network in networks)


def estimated_hours(layers: list[Layer]) -> float:
    """How long the full size would train here on what `layers` name, from the speed of one matrix product."""
    from span_electra.accelerators import find_device
    from span_electra.features.header import read_header
    from span_electra.model.flops import training_flops
    from span_electra.training.clock import matrix_peak
    from span_electra.training.devices import Process

    # The header alone: an estimate must not cost what it estimates.
    said = peek(PretrainingArguments, layers, ("train_data.train_file", "training.epochs"))
    file = (said.get("train_data.train_file") or [feature_path("train")])[0]
    header = read_header(file) if Path(file).is_file() else None
    tokens = header.tokens if header else SAMPLE_TOKENS
    size = header.vocab_size if header else 10_000
    model = replace(PretrainingArguments().model, vocab_size=size)
    epochs = said.get("training.epochs") or 1
    # Measured rather than looked up: what matters is this machine now, with what else runs on it.
    peak = matrix_peak(Process(find_device("cpu")))
    per_token = training_flops(model, header.max_seq_len if header else 512)
    return tokens * epochs * per_token / (EFFICIENCY * peak) / 3600


def has_accelerator() -> bool:
    """Whether torch sees a device that computes faster than the processor."""
    from span_electra.accelerators import find_device

    return find_device("auto").type != "cpu"
