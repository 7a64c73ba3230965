"""How fast users train on this device: through the trainer itself, its default settings first.

    python benchmarks/train_gpu.py                    on a GPU: some minutes, most of them for compilation
    python benchmarks/train_gpu.py --device cpu --presets tiny --rows 8 --steps 2     to try it without one

Each line is a run of joint_train_span_electra.py with a preset, so many rows in a batch, and the flags named,
on features of the default corpus (or --features FILE; --ways --pack_rows is for short documents). Writes
nothing that stays.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(ROOT)]

import electra_loops as loops  # noqa: E402
import torch  # noqa: E402
from torch.profiler import ProfilerActivity, profile  # noqa: E402

from argument import JointTrainingConfig  # noqa: E402
from span_electra.commandline import parse  # noqa: E402
from span_electra.errors import InputError, reason_of  # noqa: E402
from span_electra.features.store import open_features  # noqa: E402
from span_electra.pretraining.experiment import Pretraining  # noqa: E402
from span_electra.pretraining.stage import run_settings  # noqa: E402
from span_electra.training.run import run_training  # noqa: E402

WARM = 10  # steps before the clock starts: compilation, the allocator, the first reads
# Preset -> the least tokens a second asked for on an H100, and how many times the eager transformers loop's.
BARS = {"small": (1.7e6, 5.0), "base": (500e3, 5.0)}
WAYS = {
    "default": [],
    "--compile max": ["--compile", "max"],
    "--compile off": ["--compile", "off"],
    "--pack_rows": ["--pack_rows"],  # as many lines of the longest row's width as there are rows otherwise
}


# --- a run as users have it -----------------------------------------------------------------------------


class Measured(Pretraining):
    """The experiment of a run, which looks at the clock as steps begin."""

    steps = 0  # that are timed
    last: Measured

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.made, self.times = 0, {}
        self.kernels, self.busy, self.waits = 0, 0.0, 0
        self.model.register_forward_pre_hook(lambda *_: self.look())
        Measured.last = self

    def look(self) -> None:
        """Look at the clock; a step of these runs is one batch."""
        end = WARM + self.steps
        if self.made in (WARM, end):
            synchronize(self.process.device)
            self.times[self.made] = time.perf_counter()
        # After the timed steps, one for the profiler and one whose waits torch itself counts.
        if self.made == end + 1:
            self.profiler = profile(activities=activities(self.process.device))
            self.profiler.start()
        elif self.made == end + 2:
            synchronize(self.process.device)
            self.profiler.stop()
            self.kernels, self.busy = read_profile(self.profiler, self.process.device)
            self.warned = start_counting_waits(self.process.device)
        elif self.made == end + 3:
            self.waits = stop_counting_waits(self.process.device, self.warned)
        self.made += 1


def measure(
    preset: str, *, rows: int, way: list[str], features: str, device: str, steps: int
) -> dict[str, float]:
    """Train with these settings; returns tokens a second and what else was seen."""
    # Joint steps, which are the dear ones; a line of the log where the clock starts and where it stops.
    flags = (
        f"--preset {preset} --train_batch_size {rows} --device {device} --generator_first 0 --epochs 100000 "
        f"--max_steps {WARM + steps + 4} --log_steps {math.gcd(WARM, steps)} --eval_every 0 --save_every 0"
    ).split()
    flags += ["--train_file", features, *way]
    # So many rows, whatever a preset says of tokens; packed ones are counted in tokens alone.
    tokens = rows * open_features(features).header.max_seq_len if "--pack_rows" in way else 0
    flags += ["--batch_max_tokens", str(tokens)]
    settings = parse(JointTrainingConfig, "", flags)
    Measured.steps = steps
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        run = run_settings(settings, Path(folder, "run"), (features,), ())
        began = time.perf_counter()
        run_training(replace(run, silent=True), Measured)
        lines = [json.loads(line) for line in Path(folder, "run", "metrics.jsonl").read_text().splitlines()]
    seen = Measured.last
    told = {line["step"]: line for line in lines if line["split"] == "train"}
    first, last = told[WARM], told[WARM + steps]
    speed = (last["tokens"] - first["tokens"]) / (seen.times[WARM + steps] - seen.times[WARM])
    return {
        "speed": speed,
        # By the arithmetic of the last line's tokens, at the speed of all.
        "mfu": last.get("mfu", 0.0) * speed / last["tokens_per_second"],
        "start": seen.times[WARM] - began,
        "kernels": seen.kernels,
        "busy": seen.busy,
        "waits": seen.waits,
        "memory": torch.cuda.max_memory_allocated() / 2**30 if device.startswith("cuda") else 0.0,
    }


def synchronize(device: torch.device) -> None:
    """Wait for all that was asked of the device."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def activities(device: torch.device) -> list[ProfilerActivity]:
    """What the profiler looks at: kernels where there are any, else operators."""
    kinds = {"cuda": ProfilerActivity.CUDA, "xpu": ProfilerActivity.XPU}
    return [ProfilerActivity.CPU, *([kinds[device.type]] if device.type in kinds else [])]


def read_profile(profiler: profile, device: torch.device) -> tuple[int, float]:
    """How many kernels ran (on a CPU: operators), and the share of the time in which one did."""
    from torch.autograd import DeviceType

    if device.type == "cpu":
        return sum(event.name.startswith("aten::") for event in profiler.events()), 1.0
    on_device = [event.time_range for event in profiler.events() if event.device_type != DeviceType.CPU]
    ranges = sorted((each.start, each.end) for each in on_device)
    busy, reached = 0.0, ranges[0][0]
    for start, end in ranges:  # kernels of two streams may overlap: count covered time once
        busy += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return len(ranges), busy / max(reached - ranges[0][0], 1e-9)


def start_counting_waits(device: torch.device) -> tuple | None:
    """Let torch warn of every wait of the host for the device, in one step."""
    if device.type != "cuda":
        return None
    catcher = warnings.catch_warnings(record=True)
    said = catcher.__enter__()
    warnings.simplefilter("always")
    torch.cuda.set_sync_debug_mode("warn")
    return catcher, said


def stop_counting_waits(device: torch.device, counting: tuple | None) -> int:
    """How often the host waited in that step, by torch's own account."""
    if counting is None:
        return 0
    torch.cuda.set_sync_debug_mode("default")
    catcher, said = counting
    catcher.__exit__(None, None, None)
    return sum("synchroniz" in str(warning.message) for warning in said)


# --- beside the loop one would write --------------------------------------------------------------------


def rival_speed(preset: str, device: str, steps: int) -> float:
    """Tokens a second of the loop as one would write it with transformers, eager, with bf16."""
    config = {"small": loops.small_model, "base": loops.base_model}[preset](0.1)
    rows = 256
    features = loops.MadeUpFeatures(loops.row_lengths(False, 8 * rows * loops.LENGTH), config.vocab_size)
    rival = loops.Rival(config, features, rows, device)
    for _ in range(3):
        rival.step()
    synchronize(torch.device(device))
    began = time.perf_counter()
    tokens = sum(rival.step() for _ in range(steps))
    synchronize(torch.device(device))
    return tokens / (time.perf_counter() - began)


def measure_gpu(
    device: str, *, presets: list[str], rows: list[int], ways: list[str], steps: int, features: str
) -> None:
    """Print a line for each preset, batch and way, and how the best of a preset stands to its bars."""
    on_cuda, best = device.startswith("cuda"), dict.fromkeys(presets, 0.0)
    name = torch.cuda.get_device_name(device) if on_cuda else "cpu"
    print(f"{name}: joint steps through the trainer itself; on a CPU operators stand for kernels")
    print(f"{'preset, rows, flags':32}    tokens/s    MFU   kernels  waits  busy    GiB  s to step 10")
    for preset, batch, way in itertools.product(presets, rows, ways):
        if WAYS[way] == ["--compile", "max"] and not on_cuda:
            continue
        line = f"{f'{preset}, {batch}, {way}':32}"
        try:
            seen = measure(preset, rows=batch, way=WAYS[way], features=features, device=device, steps=steps)
        except (RuntimeError, InputError) as error:  # out of memory, too: the other lines still say something
            print(line, reason_of(error, 90), flush=True)
            continue
        finally:
            torch.compiler.reset()
        best[preset] = max(best[preset], seen["speed"])
        print(f"{line}{seen['speed']:12,.0f}{seen['mfu']:7.1%}{seen['kernels']:10,}{seen['waits']:7}"
              f"{seen['busy']:6.0%}{seen['memory']:7.1f}{seen['start']:14.0f}", flush=True)  # fmt: skip
    for preset in best.keys() & BARS.keys() if on_cuda else ():
        ratio = best[preset] / rival_speed(preset, device, steps)
        for value, least, what in zip(
            (best[preset], ratio),
            BARS[preset],
            ("tokens/s", "times the eager transformers loop"),
            strict=True,
        ):
            verdict = "meets" if value >= least else "MISSES"
            print(f"{preset}: {value:,.4g} {what} ({verdict} {least:,g})")


# --- the command -----------------------------------------------------------------------------------------


def default_features(folder: Path) -> str:
    """Vocabulary and features of the default corpus, as a new user makes them."""
    out = folder / "features" / "train.arrow"
    for command in ("create_vocab_SE.py", f"create_feature_SE.py --max_seq_len 128 --out_file {out}"):
        script, *flags = command.split()
        done = [sys.executable, str(ROOT / script), *flags]
        subprocess.run(done, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return str(out)


def main() -> None:
    """Measure what the flags ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--presets", nargs="+", default=["small", "small-modern", "base"])
    parser.add_argument("--rows", nargs="+", type=int, default=[128, 1024], help="of a batch")
    parser.add_argument("--ways", nargs="+", default=list(WAYS)[:3], choices=list(WAYS))
    parser.add_argument("--steps", type=int, default=30, help="that are timed, after the first ten")
    parser.add_argument("--features", help="a feature file; none: those of the default corpus")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        features = asked.features or default_features(Path(folder))
        measure_gpu(
            asked.device,
            presets=asked.presets,
            rows=asked.rows,
            ways=asked.ways,
            steps=asked.steps,
            features=os.path.abspath(features),
        )


if __name__ == "__main__":
    main()
