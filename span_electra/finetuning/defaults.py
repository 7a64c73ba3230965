"""What lies under the user's own settings: those of a run that is gone on with, or concluded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from span_electra.compose import Layer, compose, config_file, peek
from span_electra.errors import InputError
from span_electra.finetuning.arguments import FinetuningArguments
from span_electra.schema import Values
from span_electra.storage import CONFIG

WHICH = ("load_saved_model", "resume_train", "finetune", "conclude")  # which run, and what is to become of it
BEGUN = ("encoder", "from_scratch", "network")  # what a run began from, which is behind it
# Flags that a conclusion reads, those about files of settings among them; all others are about training.
CONCLUSION_READS = (
    *(*WHICH, "config_file", "preset", "print_config", "task_file", "data_dir", "monitor"),
    *("max_seq_len", "do_lower_case", "workers", "eval_batch_size", "device", "device_ids", "silent"),
)
OF_ROWS = ("max_seq_len", "do_lower_case")  # what rows that are prepared already have of their own


def stack_layers(given: Values, layers: list[Layer]) -> list[Layer]:
    """All layers of a fine-tuning's settings, lowest first; `layers` are the user's own.

    The settings of a run that is resumed or concluded lie over those of argument.py and under files and
    flags; of a folder of seeds those of the first one, from which the others differ by the seed alone.
    Raises InputError for flags that nothing would read, whatever value they give.
    """
    layers = _with_saved_run(given, layers)
    if "network" in given:
        _check_network(layers)
    of_rows = [name for name in OF_ROWS if name in given]
    if of_rows:
        from span_electra.finetuning.prepared import is_prepared, open_prepared
        from span_electra.finetuning.prepared_notes import check_made_so

        said = peek(FinetuningArguments, layers, ["data_dir", *of_rows])
        data_dir = said.pop("data_dir", FinetuningArguments().data_dir)
        if is_prepared(data_dir):
            check_made_so(open_prepared(data_dir), said)
    return layers


def _check_network(layers: list[Layer]) -> None:
    """Refuse --network where the encoder is one network, which would be taken whatever its name."""
    from span_electra.hub.opening import open_model
    from span_electra.hub.weights import PARTS

    said = peek(FinetuningArguments, layers, ["load_saved_model", "encoder", "network"])
    encoder = said.get("load_saved_model") or said.get("encoder")
    if encoder and said["network"] in PARTS:  # another name is refused with the other settings
        open_model(encoder).check_part(said["network"])


def _with_saved_run(given: Values, layers: list[Layer]) -> list[Layer]:
    """The layers, with the settings of the run that is resumed or concluded, if one is."""
    # Before any settings are made: which run is meant decides what flags and files lie on.
    named = [
        replace(layer, values={name: layer.values[name] for name in WHICH if name in layer.values})
        for layer in layers
    ]
    asked = compose(FinetuningArguments, named)
    if not asked.load_saved_model or not (asked.resume_train or asked.conclude):
        return layers
    for other in BEGUN:
        if given.get(other):
            raise InputError(f"--{other}: a saved run goes on as it began; leave it out, or start a new run")
    if asked.conclude and given.get("out_dir"):
        raise InputError("--out_dir: --conclude writes into the run itself; leave it out")
    unread = [name for name in given if name not in CONCLUSION_READS]
    if asked.conclude and unread:
        name = unread[0].rpartition(".")[2]
        raise InputError(f"--{name}: --conclude trains no more, and does not read it; leave it out")
    from span_electra.hub.runs import run_of  # late: with it comes torch, for which --help need not wait

    run = run_of(Path(asked.load_saved_model))
    stored = saved_settings(runs_in(run)[0] if asked.conclude else run)
    return [layers[0], stored, *layers[1:]]


def runs_in(folder: Path) -> list[Path]:
    """The runs of a folder: that of each seed, in the order they were made in, or the folder itself."""
    from span_electra.hub.runs import SEEDS

    return sorted((path.parent for path in folder.glob(f"{SEEDS}/{CONFIG}")), key=by_number) or [folder]


def by_number(seed: Path) -> tuple[int, str]:
    """Where the folder of a seed stands among others. Example: seed-2, seed-10"""
    return len(seed.name), seed.name


def saved_settings(run: Path) -> Layer:
    """The settings that a run of fine-tuning has kept, but for its folder, which may have moved."""
    from span_electra.hub.runs import is_finetuned
    from span_electra.training import checkpoint

    of_tasks = is_finetuned(run) or not any(checkpoint.in_run(run))  # that there is none is told later
    if not (run / CONFIG).is_file() or not of_tasks:
        raise InputError(f"{run}: no run of fine-tuning; name its folder with --load_saved_model")
    stored = config_file(run / CONFIG)
    kept = {name: value for name, value in stored.values.items() if name not in (*WHICH, "out_dir")}
    return replace(stored, values=kept)
