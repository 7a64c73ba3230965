"""Is everything right on this device? Checks against the CPU, then speed, then some minutes of training.

Run by gpu_check.sh. Each check is one line of the page: what was held against what, and the numbers. A check
that fails does not keep the others from running; the exit code is 1 if any failed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from span_electra.accelerators import find_device
from span_electra.config import (
    ARCHITECTURES,
    OPTIMIZERS,
    ModelConfig,
    NetworkConfig,
    OptimizerConfig,
    TrainingConfig,
)
from span_electra.data_config import LoaderConfig
from span_electra.features.store import open_features
from span_electra.model.electra import SpanElectra
from span_electra.model.varlen import varlen_fault
from span_electra.pretraining.course import Course
from span_electra.pretraining.experiment import run_pretraining
from span_electra.pretraining.loader import Batches
from span_electra.pretraining.settings import PretrainingSettings
from span_electra.training import checkpoint
from span_electra.training.devices import Process
from span_electra.training.launch import launch
from span_electra.training.parallel import full_tensor, wrap_model

ROOT = Path(__file__).resolve().parent.parent
NETWORK = NetworkConfig(64, 2, 2, 128)
STEPS = 6  # of a short run: enough for momentum, clipping and the schedule to show
CLOSE = 2e-3  # relative; two devices add in other orders, and optimizers divide by small numbers


class Skipped(Exception):
    """A check that this machine cannot make, and why."""


@dataclass(frozen=True)
class Setup:
    """Where the checks find and leave things."""

    folder: Path
    device: str

    @property
    def features(self) -> str:
        return str(self.folder / "features" / "check.arrow")


def main() -> int:
    """Make all checks and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:1, ..., or cpu to try the script")
    parser.add_argument("--out", default="gpu_check.md", help="the page")
    parser.add_argument("--minutes", type=float, default=3.0, help="of training with the recipe; 0: none")
    flags = parser.parse_args()
    warnings.simplefilter("ignore")
    device = str(find_device(flags.device))
    with tempfile.TemporaryDirectory(prefix="span-electra-gpu-") as folder:
        setup = Setup(Path(folder), device)
        make_features(setup)
        rows = [attempt(name, check, setup) for name, check in checks(device)]
        speed = section("speed", measure_speed, setup, rows)
        training = section("recipe", lambda p: train_recipe(p, flags.minutes), setup, rows)
    page = render(device, rows, speed, training)
    Path(flags.out).write_text(page, encoding="utf-8")
    print(f"\nwrote {flags.out}")
    return int(any(verdict == "FAILED" for _, verdict, _, _ in rows))


def checks(device: str) -> list[tuple[str, Callable[[Setup], str]]]:
    """Name and function of each check."""
    found: list[tuple[str, Callable[[Setup], str]]] = []
    for architecture in ARCHITECTURES:
        found.append((f"{architecture}: losses and gradients", lambda p, a=architecture: gradients(p, a)))
        found.append((f"{architecture}: packed rows", lambda p, a=architecture: gradients(p, a, packed=True)))
        found.append((f"{architecture}: next tokens", lambda p, a=architecture: gradients(p, a, causal=True)))
    found.append(("packed rows by varlen attention", varlen))
    for name in OPTIMIZERS:
        found.append((f"{STEPS} clipped steps of {name}", lambda p, n=name: steps_of_optimizer(p, n)))
    found += [(f"precision {name}", lambda p, n=name: precision(p, n)) for name in ("bf16", "fp16")]
    found.append(("compiled layers", compiled))
    for name in ("ddp", "fsdp"):
        found.append((f"two processes, {name}", lambda p, n=name: two_processes(p, n)))
    for name in ("ddp", "fsdp"):
        found.append((f"two devices, {name}", lambda p, n=name: two_devices(p, n)))
    found.append(("killed and resumed, deterministic", killed_and_resumed))
    return found


def attempt(name: str, check: Callable[[Setup], str], setup: Setup) -> tuple[str, str, str, float]:
    """Make one check; returns name, verdict, what it says, and seconds."""
    began = time.perf_counter()
    try:
        verdict, said = "ok", check(setup)
    except Skipped as reason:
        verdict, said = "skipped", str(reason)
    except Exception as error:  # the page is worth most where something is broken
        first, *_, last = f"{type(error).__name__}: {error}".strip().splitlines() * 2
        # Of another process comes a heading with its traceback; then the last line says what it was.
        said = (last if first.endswith(":") else first)[:300].replace("|", "/")
        verdict = "FAILED"
    seconds = time.perf_counter() - began
    print(f"{verdict:8} {name}: {said} ({seconds:.0f} s)", flush=True)
    return name, verdict, said, seconds


def section(
    name: str, check: Callable[[Setup], str], setup: Setup, rows: list[tuple[str, str, str, float]]
) -> str:
    """Make a check whose words get a section of the page; a line of the table says how it went."""
    name, verdict, said, seconds = attempt(name, check, setup)
    rows.append((name, verdict, "see below" if verdict == "ok" else said, seconds))
    return said if verdict == "ok" else ""


# --- data and short runs ------------------------------------------------------------------------------


def make_features(setup: Setup) -> None:
    """Vocabulary and features of the default corpus, as a new user makes them."""
    setup.folder.joinpath("features").mkdir()
    run_script(setup, "create_vocab_SE.py")
    text = sorted((setup.folder / "data").glob("train*"))[0]
    flags = ["--in_file", str(text), "--out_file", setup.features, "--max_seq_len", "128"]
    run_script(setup, "create_feature_SE.py", *flags)


def run_script(setup: Setup, script: str, *flags: str) -> str:
    """Run a script of the project in the checks' folder; returns what it printed."""
    command = [sys.executable, str(ROOT / script), *flags]
    done = subprocess.run(command, cwd=setup.folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{script} failed: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    return done.stdout


def model_config(architecture: str = "electra", vocab_size: int | None = None) -> ModelConfig:
    """A small model without dropout, whose random numbers differ between devices."""
    return ModelConfig(
        architecture=architecture,
        vocab_size=vocab_size,
        embedding_size=64,
        max_position_embeddings=128,
        generator=NETWORK,
        discriminator=replace(NETWORK, hidden_size=96),
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )


def short_run(setup: Setup, name: str, optimizer: OptimizerConfig | None = None, **training: object) -> Path:
    """Train STEPS steps from the first seed; returns the checkpoint's folder."""
    defaults = {
        "device": setup.device,
        "compile": "off",
        "precision": "fp32",
        "max_steps": STEPS,
        "log_steps": 1,
    }
    result = run_pretraining(
        PretrainingSettings(
            model=model_config(),
            optimizer=optimizer or OptimizerConfig(lr=1e-3, warmup=0.0),
            training=TrainingConfig(**(defaults | training)),
            train_loader=LoaderConfig(batch_size=16),
            valid_loader=LoaderConfig(batch_size=16),
            train_features=(setup.features,),
            train_rows=(320,),
            valid_split=(16.0,),
            out_dir=str(setup.folder / "runs" / name),
            silent=True,
        )
    )
    return Path(result.checkpoint)


def losses(saved: Path) -> list[float]:
    """The run's training losses, step by step."""
    lines = (saved.parent.parent / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row["loss"] for row in map(json.loads, lines) if row["split"] == "train"]


def within(value: float, bound: float, what: str) -> str:
    """Say a difference, or raise where it is above its bound."""
    if not value <= bound:
        raise AssertionError(f"{what} {value:.2e}, above {bound:.0e}")
    return f"{what} {value:.1e}"


# --- checks -------------------------------------------------------------------------------------------


def gradients(setup: Setup, architecture: str, *, packed: bool = False, causal: bool = False) -> str:
    """The loss of a batch and all gradients, against the CPU's; packed: here the rows share lines.

    The joint loss, or with `causal` that of the generator alone from left to right.
    """
    features = open_features(setup.features)
    rows = np.argsort(features.lengths_R)[:16] if packed else None  # the shortest
    course = Course(alone_until=1, next_token_share=1.0) if causal else Course()
    batch = apart = next(iter(Batches(features, LoaderConfig(16, workers=0), 0, rows=rows, course=course)))
    if packed:
        lines = LoaderConfig(batch_max_tokens=16 * features.header.max_seq_len, pack_rows=True, workers=0)
        batch = next(iter(Batches(features, lines, 0, rows=rows)))
    model = SpanElectra(model_config(architecture, features.header.vocab_size), features.header.mask_id)
    expected = gradients_on(model, apart, torch.device("cpu"))
    found = gradients_on(model, batch, torch.device(setup.device))
    gap = max(
        float((mine - theirs).norm() / theirs.norm().clamp(min=1e-6))
        for mine, theirs in zip(found[1], expected[1], strict=True)
    )
    loss = within(abs(found[0] - expected[0]) / expected[0], 1e-4, "loss differs by")
    return f"{loss}, {within(gap, 1e-2, 'gradients by at most')} (relative)"


def gradients_on(model: SpanElectra, batch: object, device: torch.device) -> tuple[float, list[torch.Tensor]]:
    model.to(device).zero_grad()
    output = model(batch.to(device))
    output.loss.backward()
    return output.loss.item(), [p.grad.cpu().clone() for p in model.parameters() if p.grad is not None]


def varlen(setup: Setup) -> str:
    """Rows that share lines, kept apart by torch's kernel for them: what it gives, against a mask's."""
    for dtype in (torch.bfloat16, torch.float16):
        if fault := varlen_fault(torch.device(setup.device), dtype, (32, 64)):
            raise Skipped(f"{dtype}: {fault}")  # training says so too, and takes the mask
    return "as by a mask, gradients too"


def steps_of_optimizer(setup: Setup, name: str) -> str:
    """A short run with the optimizer here and on the CPU."""
    optimizer = OptimizerConfig(name, lr=1e-3, warmup=0.0, max_gradient_norm=0.5)
    here = short_run(setup, f"{name}-here", optimizer)
    there = short_run(setup, f"{name}-cpu", optimizer, device="cpu")
    # A token drawn at the edge of two may fall otherwise: then losses part a little, and weights more.
    return within(relative(losses(here), losses(there)), CLOSE, "losses differ by at most")


def relative(one: list[float], other: list[float]) -> float:
    return max(abs(a - b) / abs(b) for a, b in zip(one, other, strict=True))


def precision(setup: Setup, name: str) -> str:
    """A short run in 16 bits against one in 32."""
    if setup.device == "cpu" and name == "fp16":
        raise Skipped("fp16 is for accelerators")
    here = losses(short_run(setup, name, precision=name))
    exact = losses(short_run(setup, f"{name}-exact"))
    return within(relative(here, exact), 0.03, "losses differ by at most")


def compiled(setup: Setup) -> str:
    """A short run with compiled layers against one without, and the seconds until step 10."""
    if not setup.device.startswith("cuda"):
        raise Skipped("layers are compiled on CUDA devices alone")
    began = time.perf_counter()
    on = short_run(setup, "compiled", compile="on", max_steps=10)
    seconds = time.perf_counter() - began
    off = short_run(setup, "eager", max_steps=10)
    return within(relative(losses(on), losses(off)), CLOSE, "losses differ by at most") + f"; {seconds:.0f} s"


def two_processes(setup: Setup, parallel: str) -> str:
    """Gradients of two processes at half the batch each, over gloo, against one at the whole batch."""
    try:
        gap = launch(partial(gap_of_two, setup, parallel), 2)[0]
    except RuntimeError as error:
        # Gloo is for CPUs: what it cannot send from a device is no fault of ours, and NCCL is not for one.
        said = str(error).strip().splitlines()[-1]
        lacking = any(words in said for words in ("not support", "unsupported", "not implemented"))
        if setup.device == "cpu" or not lacking:
            raise
        raise Skipped(f"gloo: {said[:200]}") from error
    return within(gap, 1e-4, "gradients differ by at most") + " (relative)"


def gap_of_two(setup: Setup, parallel: str, rank: int, world_size: int, store: str) -> float:
    """One process's part of `two_processes`; both may share one device, which NCCL does not allow."""
    process = Process(torch.device(setup.device), rank, world_size)
    torch.distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=world_size)
    features, loader = open_features(setup.features), LoaderConfig(batch_size=16, workers=0)
    config = model_config(vocab_size=features.header.vocab_size)
    alone = SpanElectra(config, features.header.mask_id).to(process.device)
    alone(next(iter(Batches(features, loader, 0))).to(process.device)).loss.backward()
    model = SpanElectra(config, features.header.mask_id).to(process.device)
    network = wrap_model(model, process, TrainingConfig(parallel=parallel))
    share = next(iter(Batches(features, loader, 0, rank=rank, world=world_size))).to(process.device)
    (network(share).loss * world_size).backward()
    gap = 0.0
    for mine, theirs in zip(model.parameters(), alone.parameters(), strict=True):
        found = full_tensor(mine.grad)
        gap = max(gap, float((found - theirs.grad).norm() / theirs.grad.norm().clamp(min=1e-6)))
    torch.distributed.destroy_process_group()
    return gap


def two_devices(setup: Setup, parallel: str) -> str:
    """A short run on two devices, over NCCL, against one on one."""
    if not setup.device.startswith("cuda") or torch.cuda.device_count() < 2:
        raise Skipped("needs two CUDA devices")
    two = short_run(setup, f"two-{parallel}", device="cuda", device_ids=[0, 1], parallel=parallel)
    one = short_run(setup, f"one-{parallel}")
    return within(relative(losses(two), losses(one)), CLOSE, "losses differ by at most")


def killed_and_resumed(setup: Setup) -> str:
    """A --deterministic run killed without warning and resumed against one that never stopped: equal bits."""
    straight = setup.folder / "runs" / "straight"
    broken = setup.folder / "runs" / "broken"
    flags = ["--preset", "tiny", "--train_file", setup.features, "--device", setup.device, "--compile", "off",
             "--deterministic", "--max_steps", "40", "--save_every", "10", "--save_last", "9"]  # fmt: skip
    run_script(setup, "joint_train_span_electra.py", *flags, "--out_dir", str(straight))
    command = [sys.executable, str(ROOT / "joint_train_span_electra.py"), *flags, "--out_dir", str(broken)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=setup.folder, **quiet)
    while process.poll() is None and not list((broken / "checkpoints").glob("step-*20")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run_script(setup, "joint_train_span_electra.py", "--resume", str(broken))
    first, second = (checkpoint.load(checkpoint.latest(run)).weights for run in (straight, broken))
    gap = max(float((first[name] - second[name]).abs().max()) for name in first)
    return within(gap, 0.0, "weights differ by at most")


# --- training, and the page ---------------------------------------------------------------------------


def measure_speed(setup: Setup) -> str:
    """What train_gpu.py prints of this device; of a CPU, of a tiny model, to try it."""
    os.environ.pop("NVIDIA_TF32_OVERRIDE", None)  # from here on with what users have
    flags = ["--device", setup.device, "--features", setup.features, "--ways", "default"]
    flags += ["--presets", "tiny", "--rows", "8", "--steps", "2"] if setup.device == "cpu" else []
    return run_script(setup, "benchmarks/train_gpu.py", *flags)


def train_recipe(setup: Setup, minutes: float) -> str:
    """Some minutes of the quick recipe, with the device's own defaults; returns its last lines."""
    if not minutes:
        raise Skipped("--minutes 0")
    recipe = ROOT / "configs/quick.json"
    run = setup.folder / "runs" / "recipe"
    flags = ["--config_file", str(recipe), "--train_file", setup.features, "--device", setup.device]
    flags += ["--max_minutes", str(minutes), "--out_dir", str(run)]
    run_script(setup, "joint_train_span_electra.py", *flags)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = {split: [row for row in rows if row["split"] == split][-1:] for split in ("train", "valid")}
    shown = [f"{key} {value:.4g}" for split in last.values() for row in split for key, value in row.items()
             if isinstance(value, float) and key in SHOWN]  # fmt: skip
    return f"{recipe.name}, {minutes:g} minutes: " + (", ".join(shown) or "too short for a line of the log")


SHOWN = {"loss", "generator_accuracy", "discriminator_f1", "tokens_per_second", "mfu", "tokens"}


def render(device: str, rows: list[tuple[str, str, str, float]], speed: str, training: str) -> str:
    """The page, in Markdown."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.processor() or "CPU"
    lines = [
        f"# Checks on {device} ({name})",
        "",
        f"Python {platform.python_version()}, torch {torch.__version__}, {os.cpu_count()} cores.",
        "",
        "| check | verdict | what was seen | seconds |",
        "|---|---|---|---|",
        *(f"| {name} | {verdict} | {said} | {seconds:.0f} |" for name, verdict, said, seconds in rows),
        "",
    ]
    if speed:
        lines += ["## Speed", "", "```", speed.rstrip(), "```", ""]
    if training:
        lines += ["## Training", "", training, ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
