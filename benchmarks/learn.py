"""What makes a small model learn: recipes side by side at equal processor time, on the same held-out masks.

    python benchmarks/learn.py --text "my text" --minutes 2                        all arms, a core each
    python benchmarks/learn.py --text "my text" --minutes 10 --arms quick adamw --seeds 3
    python benchmarks/learn.py --text "my text" --preset tiny --arms quick spans   a smaller recipe's arms
    python benchmarks/learn.py --list                                              what an arm changes

Reads a folder of text with a `valid.txt`, which is held out; with --eval FOLDER also minimal pairs (blimp/)
and misspelt words (spelling/), neither of which is trained on. Writes vocabulary, features and runs into
--work_dir, and goes on with what it finds there of the same text and recipes. An arm is a preset and what it
changes of it. How many steps it may make follows from a short trial: processor time, not time, so that a busy
machine does not favour an arm; every arm's schedule is laid over its own number of steps.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

TRIAL_STEPS = (20, 80)  # of two trials whose difference is the cost of a step, free of what a start costs
HELD_OUT = "0: mask_ratio=0.15 max_span_len=1 whole_words=false"  # the masks that every arm is scored on
HELD_OUT_SEED = 77  # of no training run, so that its masks are nobody's own
PAIR_EVERY = 16  # of the minimal pairs, unless --full: 4,188 of BLiMP's 67,000
SPELLING_LINES = 2000  # of each set, unless --full

SINGLE_30 = "0: mask_ratio=0.3 max_span_len=1 whole_words=false"
SINGLE_25 = "0: mask_ratio=0.25 max_span_len=1 whole_words=false"
LATER_12 = "0.8: mask_ratio=0.12 max_span_len=1 whole_words=false"
SPANS = "mask_ratio=0.2 max_span_len=10 geometric_p=0.2 whole_words=true"

# How the text is cut into rows: flags of create_feature_SE.py.
ROWS = {
    "sentences": ("--respect_sentences", "--short_chunk_prob", 0.3),
    "cut anywhere": (),
    "cut anywhere, many short": ("--short_chunk_prob", 0.6),
    "documents": ("--respect_documents",),
}

MASKS_ALONE = {"model.next_token_share": 0.0, "model.next_token_candidates": 0}

# An arm: what it changes of the recipe (--preset, or the preset named by `preset`), by dotted keys; on rows
# that begin with sentences, or on those of ROWS that `rows` names.
ARMS: dict[str, dict[str, Any]] = {
    "quick": {},
    # The preset tiny as it was before: ELECTRA's layers, spans, AdamW, both networks from the first step.
    "electra": {
        "preset": "default",
        "rows": "cut anywhere",
        "model.embedding_size": 128,
        "model.generator": {
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 256,
        },
        "model.discriminator": {
            "hidden_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 512,
        },
        "model.hidden_dropout_prob": 0.0,
        "model.attention_probs_dropout_prob": 0.0,
        "model.initialization": "local",
        "train_data.train_batch_size": 16,
    },
    "tiny": {"preset": "tiny"},
    **{f"rows {rows}": {"rows": rows} for rows in list(ROWS)[1:]},
    # Of masks alone: a generator by itself cannot leave them out, as a preset may for its first steps.
    "generator alone": {
        "model.objective": "generator",
        "model.generator_first": 0.0,
        **MASKS_ALONE,
    },
    "joint from the start": {"model.generator_first": 0.0, **MASKS_ALONE},
    "next tokens": {"model.next_token_share": 1.0},
    "no next tokens": MASKS_ALONE,
    "next tokens from all": {"model.next_token_candidates": 0},
    "temperature 1": {"model.temperature": 1.0},
    "temperature 2": {"model.temperature": 2.0},
    "weight 50": {"model.discriminator_weight": 50.0},
    "no misspelt words": {"train_data.spelling_noise": 0.0},
    "a tenth misspelt": {"train_data.spelling_noise": 0.1},
    "no pairs": {"train_data.paired_rows": 0.0},
    "weight 5": {"model.discriminator_weight": 5.0},
    "embeddings at .002": {"optimizer.embedding_lr": 2e-3},
    "no local start": {"model.initialization": "normal"},
    "no frequencies": {"model.output_bias": "zeros"},
    "adamw": {"optimizer.optimizer": "adamw", "optimizer.lr": 2e-3},
    "float32": {"training.precision": "fp32"},
    "spans": {"train_data.masking_schedule": [f"0: {SPANS}"]},
    "spans later": {"train_data.masking_schedule": [SINGLE_30, f"0.6: {SPANS}"]},
    "15% masked": {"train_data.masking_schedule": [HELD_OUT]},
    "25% masked": {"train_data.masking_schedule": [SINGLE_25]},
    "fewer masks later": {"train_data.masking_schedule": [SINGLE_25, LATER_12]},
}


@dataclass(frozen=True)
class Workspace:
    """Where an arm's files are, and what it may use."""

    folder: Path
    text: Path
    preset: str
    minutes: float
    threads: int

    @property
    def data(self) -> Path:
        """Where the vocabulary and the rows of this text lie, beside those of others."""
        return self.folder / f"text-{digest(sizes_of(self.text))}"


# --- data -----------------------------------------------------------------------------------------------


def run_script(script: str, *arguments: object, threads: int = 1, folder: Path | None = None) -> float:
    """Run a script of the pipeline, in `folder` or here; return its processor seconds, its children's too."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, str(ROOT / script), *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{script} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def held_out_rows(workspace: Workspace) -> Path:
    """The held-out features, made once; cut anywhere, so that no arm meets the rows that it is used to."""
    return made_rows(workspace, workspace.text / "valid.txt", "valid.arrow", ())


def training_rows(workspace: Workspace, rows: str) -> Path:
    """The features that an arm trains on, made once."""
    source = workspace.data / "text"
    if not source.exists():
        # valid.txt is held out, and samples of the rest would come twice.
        ignored = shutil.ignore_patterns("valid.txt", "sample_*", "index.tsv", ".*")
        shutil.copytree(workspace.text, source, ignore=ignored)
    name = rows.replace(",", "").replace(" ", "-")
    return made_rows(workspace, source, f"train-{name}-{digest(ROWS[rows])}.arrow", ROWS[rows])


def made_rows(workspace: Workspace, source: Path, name: str, flags: tuple[object, ...]) -> Path:
    """Features of `source`, of the one vocabulary of all arms; what stands there is taken as it is."""
    path, vocabulary = workspace.data / name, workspace.data / "vocab"
    if path.is_file():
        return path
    files = [vocabulary / f"learn BPE-{part}" for part in ("vocab.json", "merges.txt")]
    if not files[0].is_file():
        text = workspace.data / "text"
        run_script("create_vocab_SE.py", "--data_dir", text, "--out_dir", vocabulary, "--model_name", "learn")
    run_script(
        "create_feature_SE.py",
        *("--in_file", source, "--out_file", path, "--max_seq_len", 128, *flags),
        *("--vocab_file", files[0], "--merges_file", files[1]),
    )
    return path


# --- training -------------------------------------------------------------------------------------------


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """Settings by dotted keys as a config file has them: {"model.lr": 1} -> {"model": {"lr": 1}}."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *path, last = key.split(".")
        inner = tree
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return tree


def digest(content: object) -> str:
    """A few letters for what JSON can say, by which a file's name tells one state of it from another."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def sizes_of(path: Path) -> list[tuple[str, int]]:
    """The file that a path names, or all below it, each with its bytes: what tells one text from another."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [(file.relative_to(path).as_posix(), file.stat().st_size) for file in files if file.is_file()]


def train_arm(name: str, seed: int, workspace: Workspace) -> tuple[Path, dict[str, float]]:
    """Train an arm for its processor minutes; return its run and what it took."""
    changes = dict(ARMS[name])
    preset, rows = changes.pop("preset", workspace.preset), changes.pop("rows", next(iter(ROWS)))
    # By what the arm is, not its name alone: one that was edited would be told by the numbers of before.
    recipe = json.loads((ROOT / f"configs/{preset}.json").read_text(encoding="utf-8"))
    asked = {"recipe": recipe, "changes": changes, "rows": [rows, ROWS[rows]], "threads": workspace.threads}
    asked["text"] = sizes_of(workspace.text)
    arm = f"{preset}-{name.replace(' ', '-')}-{digest(asked)}"
    run = workspace.folder / f"{arm}-{workspace.minutes:g}min-seed{seed}"
    if (run / "took.json").is_file():
        return run, json.loads((run / "took.json").read_text())
    workspace.folder.mkdir(parents=True, exist_ok=True)
    config = workspace.folder / f"{run.name}.json"
    config.write_text(json.dumps(nested(changes)))
    training, held_out = training_rows(workspace, rows), held_out_rows(workspace)

    def train(out: Path, steps: int) -> float:
        shutil.rmtree(out, ignore_errors=True)
        return run_script(
            "joint_train_span_electra.py",
            *("--preset", preset, "--config_file", config, "--train_file", training),
            *("--valid_file", held_out, "--valid_occur", 64, "--eval_every", 0, "--save_every", 0),
            *("--epochs", 1000, "--max_steps", steps, "--seed", seed, "--out_dir", out),
            threads=workspace.threads,
        )

    cost = workspace.folder / f"{arm}-step.json"  # of all seeds
    if not cost.is_file():
        few, more = (train(workspace.folder / f"{arm}-trial", steps) for steps in TRIAL_STEPS)
        cost.write_text(json.dumps((more - few) / (TRIAL_STEPS[1] - TRIAL_STEPS[0])))
    step = json.loads(cost.read_text())
    steps = max(1, round(workspace.minutes * 60 / step))
    seconds = train(run, steps)
    took = {"steps": steps, "minutes": seconds / 60, "ms a step": 1000 * step}
    (run / "took.json").write_text(json.dumps(took))
    return run, took


# --- scores ---------------------------------------------------------------------------------------------


def held_out_scores(run: Path, valid: Path) -> dict[str, float]:
    """Loss (nats) and accuracy of the generator on the held-out rows: 15% single tokens, and long spans."""
    loss, accuracy = masked_scores(run, valid, HELD_OUT)
    span_loss, span_accuracy = masked_scores(run, valid, f"0: {SPANS}")
    return {"loss": loss, "accuracy": accuracy, "loss, spans": span_loss, "accuracy, spans": span_accuracy}


def masked_scores(run: Path, valid: Path, phase: str) -> tuple[float, float]:
    """Loss (nats) and accuracy of the generator on rows that are masked by a phase of masking_schedule."""
    import torch

    from span_electra.data_config import LoaderConfig, masking_phases
    from span_electra.features.store import open_features
    from span_electra.hub.opening import load_model
    from span_electra.pretraining.course import Course, masking_schedule
    from span_electra.pretraining.loader import Batches
    from span_electra.training import checkpoint

    model, features = load_model(checkpoint.latest(run)).eval(), open_features(str(valid))
    schedule = masking_schedule(masking_phases([phase]), 1, features.header.masking)
    config = LoaderConfig(batch_size=64, seed=HELD_OUT_SEED)
    loss = correct = masked = 0.0
    with torch.no_grad():
        for batch in Batches(features, config, epoch=0, course=Course(schedule=schedule)):
            scores = model.generate(batch, sample=False).scores
            target_S = batch.original_BL.flatten().index_select(0, batch.slots_S)
            loss += scores.loss_S.sum().item()
            correct += (scores.likeliest_S == target_S).sum().item()
            masked += len(target_S)
    return loss / masked, correct / masked


def evaluation_scores(run: Path, tests: Path, folder: Path, full: bool) -> dict[str, float]:
    """Minimal pairs by both networks, and misspelt words found without fine-tuning."""
    from span_electra.evaluation.minimal_pairs import read_pairs, score_pairs
    from span_electra.evaluation.spelling import score_spelling
    from span_electra.hub.networks import open_networks

    networks, found = open_networks(run, batch_size=256), {}
    pairs = read_pairs([str(tests / "blimp")])
    names = ["pll"] + ["discriminator"] * (trains_discriminator(run))
    scored = score_pairs(networks, pairs if full else pairs[::PAIR_EVERY], names)
    overall = scored["by field"]["all"]
    found |= {f"BLiMP {name}": overall[name] for name in names}
    if trains_discriminator(run):
        sets = tests / "spelling"
        sets = sets if full else shortened(sets, folder / f"spelling-{digest(sizes_of(sets))}")
        found["spelling F1"] = max(row["F1"] for row in score_spelling(networks, sets).values())
    return found


def trains_discriminator(run: Path) -> bool:
    """Whether the run had a discriminator to train."""
    return json.loads((run / "config.json").read_text())["model"]["objective"] != "generator"


def shortened(source: Path, target: Path) -> Path:
    """The first lines of each spelling set by words, in a folder of their own."""
    for path in source.rglob("sed_words/**/c*.txt"):
        copy = target / path.relative_to(source)
        if not copy.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            lines = path.read_text(encoding="utf-8").split("\n")[:SPELLING_LINES]
            copy.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return target


# --- the table ------------------------------------------------------------------------------------------


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as a Markdown table; what a row lacks is a dash."""
    columns = list(dict.fromkeys(key for row in rows for key in row))

    def cell(value: Any) -> str:
        return f"{value:.3f}" if isinstance(value, float) else str(value)

    shown = [[cell(row.get(key, "-")) for key in columns] for row in rows]
    lines = [columns, ["---"] * len(columns), *shown]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--text", type=Path, help="folder of text, with a valid.txt")
    parser.add_argument("--eval", type=Path, help="folder with blimp/ and spelling/; none: losses alone")
    parser.add_argument("--work_dir", type=Path, default=Path("runs/learn"))
    parser.add_argument("--minutes", type=float, default=2.0, help="processor minutes of each arm")
    parser.add_argument("--threads", type=int, default=1, help="cores that an arm's training uses")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS), metavar="ARM")
    presets = sorted(path.stem for path in (ROOT / "configs").glob("*.json"))
    recipe = "the recipe that arms change; tiny: for few minutes"
    parser.add_argument("--preset", default="quick", choices=presets, help=recipe)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--full", action="store_true", help="all minimal pairs and all lines of spelling")
    parser.add_argument("--list", action="store_true", help="print the arms and stop")
    asked = parser.parse_args()
    if asked.list:
        print("\n".join(f"{name}: {json.dumps(changes)}" for name, changes in ARMS.items()))
        return
    if not asked.text or not (asked.text / "valid.txt").is_file():
        parser.error(f"--text {asked.text or ''}: name a folder of text with a valid.txt, which is held out")
    workspace = Workspace(asked.work_dir, asked.text, asked.preset, asked.minutes, asked.threads)
    rows = []
    for name in asked.arms:
        for seed in range(asked.seeds):
            run, took = train_arm(name, seed, workspace)
            row = {"arm": name, "seed": seed} | took | held_out_scores(run, held_out_rows(workspace))
            if asked.eval:
                row |= evaluation_scores(run, asked.eval, asked.work_dir, asked.full)
            rows.append(row)
            print(json.dumps(row), flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
