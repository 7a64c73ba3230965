"""Names that people bring from neighbouring systems, and what does it here.

One table a system. It feeds the hints behind unknown flags and keys, the older lines that argument.py takes,
and docs/from-elsewhere.md (`python -m span_electra.elsewhere > docs/from-elsewhere.md`); every row is run by
tests/test_elsewhere.py.

A row is (theirs, ours, note). Ours is a setting by its key or the end of it, a command, a path in a run's
folder, or nothing where the note says all.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

Row = tuple[str, str, str]
INTRODUCTION = """# From elsewhere

Names that users of neighbouring systems bring, and what does it here. Flags are written with hyphens or with
underscores. An unknown flag or key is answered from these tables; a setting is a flag (`--warmup 0.1`) and a
key of a config file (`optimizer: {warmup: 0.1}`, see `--print_config`).
"""

DISC, GEN = "model.discriminator", "model.generator"
TABLES: dict[str, list[Row]] = {
    "SpanELECTRA": [
        ("python create_vocab_SE.py --data_dir D --out_dir V --min_fre 2", "", "the same"),
        (
            "python create_feature_SE.py --in_file T --out_file F --workers 30 --chunk_size 1000000",
            *("", "the same; any name will do for a feature file"),
        ),
        ("python joint_train_span_electra.py --train_file F --out_dir R --lr 3e-5", "", "the same"),
        (
            "python jointTrainSpanElectra.py",
            "python joint_train_span_electra.py",
            "bare: as argument.py says",
        ),
        ("--device ids", "device_ids", "also `--device_ids 0,1`"),
        ("gen_hidden_size", f"{GEN}.hidden_size", ""),
        ("disc_hidden_size", f"{DISC}.hidden_size", ""),
        ("learningRate", "optimizer.lr", ""),
        ("save_dir", "out_dir", ""),
        ("device_id", "device_ids", ""),
        ("occu", "train_occur", "of Joint_validDataArgs: valid_occur"),
        ("use_SBO", "use_SBGO", "and use_SBPO"),
        ("generator_weight_path", "generator_path", ""),
        ("pad_token_id", "", "special tokens stand in the vocabulary; nothing to set"),
        ("mask_id", "", "special tokens stand in the vocabulary; nothing to set"),
        ("ignore_label", "", "padding is never learned from; nothing to set"),
        ("joint_train_stats.txt", "metrics.jsonl", "and tensorboard/"),
        ("jointSE_checkpoint_1.pt", "checkpoints/step-*/meta.json", "give the folder to --checkpoint_path"),
    ],
    "multi-task-NLP": [
        ("python data_preparation.py", "python prepare_tasks_SE.py --task_file T --data_dir D", ""),
        ("python train.py", "python finetune_SE.py --task_file T --data_dir D --out_dir R --epochs 3", ""),
        ("python run_inference.py", "python predict_SE.py --model R --in_file F --out_file O", ""),
        ("--grad_clip_value", "max_gradient_norm", ""),
        ("--num_of_warmup_steps", "warmup", ""),
        ("--learning_rate", "optimizer.lr", ""),
        ("--freeze_shared_model", "freeze_encoder", ""),
        ("--multithreaded", "workers", "a number of processes"),
        ("--saved_model_path", "load_saved_model", ""),
        ("--pred_file_path", "in_file", "of predict_SE.py"),
        ("--debug_mode", "", "log lines are told apart by their split in metrics.jsonl; nothing to set"),
        ("--log_file", "", "log.txt and metrics.jsonl in the run's folder; nothing to set"),
        ("--tensorboard", "", "curves are always in tensorboard/ of the run's folder; nothing to set"),
        (
            "multi_task_model_0_100.pt",
            "checkpoints/step-*/meta.json",
            "give the folder to --load_saved_model",
        ),
    ],
    "convmodel": [
        ("python trainer.py --print_config", "python joint_train_span_electra.py --print_config", ""),
        ("--config", "config_file", "JSON or YAML"),
        ("seed_everything", "seed", ""),
        ("max_epochs", "epochs", ""),
        ("accumulate_grad_batches", "gradient_accumulation_steps", "finetune_SE.py: grad_accumulation_steps"),
        ("gradient_clip_val", "max_gradient_norm", ""),
        ("val_check_interval", "eval_every", "such as '0.25 epochs' or '500 steps'"),
        ("num_warmup_steps", "warmup", ""),
        ("num_training_steps", "max_steps", ""),
        ("gpus", "device_ids", "their numbers, not how many"),
        ("devices", "device_ids", "their numbers, not how many"),
        ("accelerator", "device", "auto, cpu, cuda, cuda:1, mps or xpu"),
        ("strategy", "parallel", "ddp, dp or fsdp"),
        ("num_workers", "workers", ""),
        ("prefetch_factor", "workers", ""),
        ("block_size", "max_seq_len", ""),
        ("n_layer", f"{DISC}.num_hidden_layers", f"and {GEN}.num_hidden_layers"),
        ("n_head", f"{DISC}.num_attention_heads", f"and {GEN}.num_attention_heads"),
        ("n_embd", f"{DISC}.hidden_size", f"and {GEN}.hidden_size"),
        ("callbacks", "", "rates, best checkpoints and GPU memory are logged always; nothing to set"),
        ("ckpt_path", "checkpoint_path", ""),
        ("output_dir", "out_dir", ""),
        ("python export_model.py", "python export_SE.py --checkpoint_path C --out_dir E", ""),
        ("lightning_logs/version_0/config.yaml", "config.json", "goes to --config_file again"),
    ],
    "nsc spell_check": [
        (
            *("torchrun nsc/train.py --config C", "torchrun joint_train_span_electra.py --config_file C"),
            "or CONFIG=C ./train.sh, under SLURM too",
        ),
        ("nsc/train.py --resume DIR", "python joint_train_span_electra.py --resume DIR", ""),
        ("NSC_CONFIG_DIR", "SPAN_ELECTRA_CONFIG_DIR", "where ${from_file:...} looks next"),
        ("experiment_dir", "output_prefix", ""),
        ("datasets", "train_file", ""),
        ("dataset_limits", "train_occur", "a number a file"),
        ("val_splits", "valid_split", ""),
        ("batch_max_length", "batch_max_tokens", ""),
        ("mixed_precision", "precision", "auto, fp32, bf16 or fp16"),
        ("lr_scheduler", "schedule", "linear, cosine, step, constant or wsd"),
        ("variant", "", "a task is a task file of finetune_SE.py (docs/tasks.md)"),
        ("checkpoints/checkpoint_best.pt", "checkpoints/step-*/meta.json", "save_top_k of them are kept"),
    ],
    "kanachan bert phase1": [
        (
            *("python3 -m kanachan.training.bert.phase1.train", "python joint_train_span_electra.py"),
            "`key=value` becomes `--key value`",
        ),
        ("--training-data", "train_file", ""),
        ("--validation-data", "valid_file", ""),
        ("--training-batch-size", "train_batch_size", ""),
        ("--validation-batch-size", "valid_batch_size", "finetune_SE.py: eval_batch_size"),
        ("--model-preset", "preset", "tiny, quick, small, base, large: a file of configs/"),
        ("--dimension", f"{DISC}.hidden_size", f"and {GEN}.hidden_size"),
        ("--num-heads", f"{DISC}.num_attention_heads", f"and {GEN}.num_attention_heads"),
        (
            "--dim-final-feedforward",
            "dim_final_feedforward",
            "of the discriminator's head, at most as wide as it",
        ),
        ("--dim-feedforward", f"{DISC}.intermediate_size", f"and {GEN}.intermediate_size"),
        ("--num-layers", f"{DISC}.num_hidden_layers", f"and {GEN}.num_hidden_layers"),
        ("--activation-function", "hidden_act", ""),
        ("--position-encoder", "", "learned embeddings, or rotary with model.architecture modern"),
        ("--initial-encoder", "init_from", "finetune_SE.py: encoder"),
        ("--initial-decoder", "init_from", ""),
        ("--initial-model", "init_from", ""),
        ("--initial-model-prefix", "init_from", ""),
        ("--learning-rate", "optimizer.lr", ""),
        ("--checkpointing", "activation_checkpointing", ""),
        ("--num-epochs", "epochs", ""),
        ("--snapshot-interval", "save_every", "such as '20,000 samples'"),
        ("--amp-optimization-level", "precision", "auto, fp32, bf16 or fp16"),
        ("--amp-dtype", "precision", "auto, fp32, bf16 or fp16"),
        ("snapshots/encoder.1.pth", "checkpoints/step-*/meta.json", ""),
    ],
    "Trainer of transformers": [
        ("--per_device_train_batch_size", "train_batch_size", "of all devices together"),
        ("--per_device_eval_batch_size", "valid_batch_size", "finetune_SE.py: eval_batch_size"),
        ("--num_train_epochs", "epochs", ""),
        ("--warmup_ratio", "warmup", "a value of at most 1 is a share"),
        ("--warmup_steps", "warmup", ""),
        ("--lr_scheduler_type", "schedule", ""),
        ("--adam_epsilon", "epsilon", ""),
        ("--adam_beta1", "betas", "both: --betas 0.9 0.999"),
        ("--adam_beta2", "betas", "both: --betas 0.9 0.999"),
        ("--max_grad_norm", "max_gradient_norm", ""),
        ("--optim", "optimizer.optimizer", ""),
        ("--logging_steps", "log_steps", "finetune_SE.py: log_per_updates"),
        ("--eval_steps", "eval_every", ""),
        ("--eval_strategy", "eval_every", "such as '1 epoch' or '500 steps'"),
        ("--evaluation_strategy", "eval_every", "such as '1 epoch' or '500 steps'"),
        ("--save_steps", "save_every", "finetune_SE.py: save_per_updates"),
        ("--save_strategy", "save_every", "finetune_SE.py: save_per_updates"),
        ("--save_total_limit", "save_last", "finetune_SE.py: limit_save"),
        ("--metric_for_best_model", "monitor", ""),
        ("--greater_is_better", "monitor_mode", "max, min, or by the metric's name"),
        ("--load_best_model_at_end", "save_top_k", "best checkpoints stay beside the newest"),
        ("--gradient_checkpointing", "activation_checkpointing", ""),
        ("--dataloader_num_workers", "workers", ""),
        ("--resume_from_checkpoint", "resume", "finetune_SE.py: load_saved_model and resume_train"),
        ("--fp16", "precision", "--precision fp16"),
        ("--bf16", "precision", "--precision bf16"),
        ("--torch_compile", "compile", "auto, on, max or off"),
        ("--fsdp", "parallel", "--parallel fsdp"),
        ("--deepspeed", "parallel", "--parallel fsdp"),
        ("--model_name_or_path", "init_from", "finetune_SE.py: encoder"),
        ("--tokenizer_name", "tokenizer", ""),
        ("--dataset_name", "train_data.raw_text_dir", "hf:NAME"),
        ("--validation_file", "valid_file", ""),
        ("--max_seq_length", "max_seq_len", ""),
        ("--mlm_probability", "mask_ratio", ""),
        ("--run_name", "experiment_name", ""),
        ("--report_to", "track", "wandb, mlflow or trackio; TensorBoard is written always"),
        ("--logging_dir", "", "curves are always in tensorboard/ of the run's folder; nothing to set"),
        ("--do_train", "", "each script does its one thing; nothing to set"),
        ("--do_eval", "", "each script does its one thing; nothing to set"),
        ("--overwrite_output_dir", "", "nothing is ever overwritten; give another --out_dir"),
    ],
}

# Lines of older argument files: their names, and the fields that each sets. The first two were written once
# for all classes, at the top of the file.
GENERAL_DATA_NAMES = {name: (name,) for name in ("max_seq_len", "mask_ratio", "max_span_len")}
GENERAL_NAMES = {
    "hidden_size": (f"{GEN}.hidden_size", f"{DISC}.hidden_size"),
    "embedding_size": ("model.embedding_size",),
    "vocab_size": ("model.vocab_size",),
    "max_seq_len": ("model.max_position_embeddings",),
}
TRAIN_DATA_NAMES = {"out_dir": ("outer.out_dir",), "occu": ("train_occur",)}
VALID_DATA_NAMES = {"out_dir": ("outer.out_dir",), "occu": ("valid_occur",)}
TRAINING_NAMES = GENERAL_NAMES | {
    "gen_hidden_size": (f"{GEN}.hidden_size",),
    "disc_hidden_size": (f"{DISC}.hidden_size",),
    "max_seq_len": ("train_data.max_seq_len", "model.max_position_embeddings"),
    "mask_ratio": ("train_data.mask_ratio",),
    "max_span_len": ("train_data.max_span_len",),
    "use_SBO": ("model.use_SBGO", "model.use_SBPO"),
    "learningRate": ("optimizer.lr",),
    "generator_weight_path": ("generator_path",),
    "epochs": ("training.epochs",),
    "train_batch_size": ("train_data.train_batch_size",),
    "valid_batch_size": ("valid_data.valid_batch_size",),
    "save_dir": ("out_dir",),
    "device_id": ("training.device_ids",),
    "device_ids": ("training.device_ids",),
    "num_workers": ("workers",),
}


def plain(name: str) -> str:
    """A name without what people write differently: `--learning-rate`, `learningRate` -> learningrate."""
    return name.lstrip("-").replace("-", "").replace("_", "").replace(" ", "").lower()


TUNED = "finetune_SE.py: "  # begins a note on what a setting is called in that script

SYNONYMS = {  # of a name that several systems have, the first table's meaning: it is written last
    plain(theirs): (ours, note)
    for rows in reversed(TABLES.values())
    for theirs, ours, note in rows
    if theirs.split()[0] not in ("python", "python3", "torchrun")
}


def find_key(name: str, keys: Iterable[str]) -> str | None:
    """The key of `keys` that is `name` or ends with it, if there is one alone."""
    found = [key for key in keys if key == name or key.endswith(f".{name}")]
    return name if name in found else found[0] if len(found) == 1 else None


def meant(name: str, keys: Iterable[str]) -> tuple[str | None, str]:
    """The key that does here what `name` did elsewhere, or the nearest one, and what to say besides.

    `keys`: all settings of the script, dotted. (None, "") where nothing comes near.
    """
    keys, elsewhere = list(keys), ""
    bare = plain(name.rpartition(".")[2])
    # The whole path first, for a table may know it; then its end, as files of other systems nest otherwise.
    for wanted in (plain(name), bare):
        ours, note = SYNONYMS.get(wanted, ("", ""))
        key = find_key(ours, keys) if ours else None
        if ours and key is None:  # in fine-tuning it may have another name
            key, note, elsewhere = find_key(note.partition(TUNED)[2].split(" ")[0], keys), "", ours
        if key or (note and not ours):
            return key, note
        # The same word, written otherwise: trainBatchSize; and a key that belongs into a section.
        same = [key for key in keys if wanted in (plain(key), plain(key.rpartition(".")[2]))]
        if len(same) == 1:
            return same[0], ""
    if elsewhere:
        return None, f"that is {elsewhere}, which cannot be set here"
    ends = {key.rpartition(".")[2]: key for key in keys} | {key: key for key in keys}
    nearest = difflib.get_close_matches(name.lstrip("-").replace("-", "_"), list(ends), 1)
    return (ends[nearest[0]], "") if nearest else (None, "")


def markdown() -> str:
    """The page of all tables."""
    parts = [INTRODUCTION]
    for system, rows in TABLES.items():
        parts.append(f"\n## {system}\n\n| there | here | |\n|---|---|---|\n")
        for theirs, ours, note in rows:
            here = f"`{ours}`" if ours else ""
            parts.append(f"| `{theirs}` | {here} | {note} |\n")
    return "".join(parts)


if __name__ == "__main__":
    print(markdown(), end="")
