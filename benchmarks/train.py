"""Training speed and memory, ours against the loop as one would write it with transformers.

    python benchmarks/train.py                  on the CPU: about 5 minutes
    python benchmarks/train_gpu.py              on a GPU

Reads nothing, writes nothing; features are made up in memory. Needs torch, transformers, numpy, tokenizers
and numba. Each loop runs in a process of its own (so its allocator and its memory are its own); their steps
alternate, so that whatever else the machine does touches both alike. Figures are medians; ratios come last.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import time
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

BATCH_ROWS = 32  # on the CPU
CPU_SETTINGS = {  # name -> dropout, are documents respected, the least ratio that is asked for
    "continuous, dropout 0.1": (0.1, False, 1.5),
    "continuous, dropout 0": (0.0, False, 1.2),
    "documents respected, dropout 0": (0.0, True, 1.35),
}
MEMORY_BAR = 0.65


# --- one loop in its process --------------------------------------------------------------------------


def contestant(pipe, kind: str, settings: dict) -> None:
    """Obey the parent: `step` -> (seconds, tokens); `memory` -> (before the loop, peak) in MB; `profile`."""
    import torch

    warnings.simplefilter("ignore")
    if settings["device"] == "cpu":
        torch.set_num_threads(settings["threads"])
    import electra_loops as loops

    if kind == "rival":
        import transformers

        transformers.ElectraForMaskedLM  # noqa: B018  (loads the module, which is lazy)
    before = resident("VmRSS")
    config = getattr(loops, settings["model"])(settings["dropout"])
    lengths_R = loops.row_lengths(settings["documents"], settings["tokens"])
    features = loops.MadeUpFeatures(lengths_R, config.vocab_size)
    maker = loops.Ours if kind == "ours" else loops.Rival
    loop = maker(config, features, settings["rows"], settings["device"], documents=settings["documents"])
    while (order := pipe.recv()) != "end":
        if order == "step":
            begun = time.perf_counter()
            tokens = loop.step()
            pipe.send((time.perf_counter() - begun, tokens))
        elif order == "memory":
            pipe.send((before, resident("VmHWM")))
        elif order == "profile":
            pipe.send(profile_step(loop))
    pipe.send("ended")


def resident(kind: str) -> float:
    """This process's memory now (VmRSS) or at its highest (VmHWM), in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(kind):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"/proc/self/status has no {kind}")


KINDS = {  # what an operator's own time is counted as
    "matrix products": ("addmm", "mm", "linear", "matmul"),
    "attention": ("attend", "bmm", "softmax", "scaled_dot_product", "flash_attention", "baddbmm"),
    "dropout, residual, norm": ("drop", "layer_norm", "layernorm", "bernoulli"),
    "activation": ("gelu",),
    "loss": ("cross_entropy", "nll", "log_softmax", "binary_cross"),
    "optimizer, clipping": ("adam", "foreach", "_norm", "lerp", "addcdiv", "addcmul", "sqrt"),
    "copies, sums": ("copy", "add", "mul", "sum", "cat", "clone", "fill", "zero", "contiguous"),
    "embedding, gather": ("embedding", "index", "gather", "scatter"),
}


def kind_of(operator: str) -> str:
    """Example: aten::addmm -> matrix products; AttendBackward -> attention."""
    name = operator.lower().removeprefix("aten::")
    for kind in ("attention", "dropout, residual, norm", "loss", "optimizer, clipping", "activation"):
        if any(word in name for word in KINDS[kind]):
            return kind
    for kind, words in KINDS.items():
        if any(word in name for word in words):
            return kind
    return "rest"


def profile_step(loop) -> dict[str, float]:
    """Return the share of each kind of operator in one step's time."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        loop.step()
    shares: dict[str, float] = {}
    for event in profiler.key_averages():
        kind = kind_of(event.key)
        shares[kind] = shares.get(kind, 0.0) + event.self_cpu_time_total
    total = sum(shares.values())
    return {kind: share / total for kind, share in sorted(shares.items(), key=lambda pair: -pair[1])}


# --- both, in turn ------------------------------------------------------------------------------------


class Contest:
    """Both loops, each in its process, idle until told to step."""

    def __init__(self, settings: dict) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipes, self.processes = {}, []
        for kind in ("ours", "rival"):
            self.pipes[kind], theirs = context.Pipe()
            process = context.Process(target=contestant, args=(theirs, kind, settings), daemon=True)
            process.start()
            self.processes.append(process)

    def ask(self, kind: str, order: str):
        self.pipes[kind].send(order)
        return self.pipes[kind].recv()

    def end(self) -> None:
        for pipe in self.pipes.values():
            pipe.send("end")
            pipe.recv()
        for process in self.processes:
            process.join()


def alternate(settings: dict, steps: int) -> dict:
    """Let both step in turn; returns medians of tokens per second, memory, and a profile of ours."""
    contest = Contest(settings)
    for kind in contest.pipes:
        contest.ask(kind, "step")  # memory is taken into use, loops are compiled
    speeds, peaks = {"ours": [], "rival": []}, []
    for turn in range(steps):
        for kind in ("ours", "rival") if turn % 2 else ("rival", "ours"):
            seconds, tokens = contest.ask(kind, "step")
            speeds[kind].append(tokens / seconds)
        peaks.append(matrix_peak(settings["threads"]))
    record = {kind: statistics.median(values) for kind, values in speeds.items()}
    record["memory"] = {kind: contest.ask(kind, "memory") for kind in contest.pipes}
    record["profile"] = contest.ask("ours", "profile")
    record["peak"] = max(peaks)
    contest.end()
    return record


def matrix_peak(threads: int) -> float:
    """The machine's best matrix product at this moment, FLOP/s in float32."""
    import torch

    torch.set_num_threads(threads)
    left, right, best = torch.ones(2048, 1024), torch.ones(1024, 1024), float("inf")
    for _ in range(4):
        begun = time.perf_counter()
        torch.mm(left, right)
        best = min(best, time.perf_counter() - begun)
    return 2 * 2048 * 1024 * 1024 / best


def measure_cpu(steps: int, threads: int) -> list[str]:
    """Run all settings; prints tables as they come and returns the lines of the summary."""
    import electra_loops as loops

    from span_electra.model.flops import training_flops

    flops = training_flops(loops.small_model(0.0), loops.LENGTH)
    summary = []
    print(
        f"12x256 discriminator, 12x64 generator, {flops / 1e6:.1f} MFLOP a token, {BATCH_ROWS} x 128 tokens\n"
    )
    for name, (dropout, documents, bar) in CPU_SETTINGS.items():
        settings = {"model": "small_model", "dropout": dropout, "documents": documents}
        settings |= {"rows": BATCH_ROWS, "tokens": 300_000, "device": "cpu", "threads": threads}
        record = alternate(settings, steps)
        print(f"{name}: matrix peak {record['peak'] / 1e9:.0f} GFLOP/s, medians of {steps} steps each")
        for kind in ("rival", "ours"):
            before, peak = record["memory"][kind]
            print(
                f"  {kind:6} {record[kind]:8,.0f} tokens/s   MFU {record[kind] * flops / record['peak']:4.0%}"
                f"   peak memory {peak - before:6,.0f} MB above the {before:,.0f} MB of the imports"
            )
        shares = ", ".join(
            f"{kind} {share:.0%}" for kind, share in record["profile"].items() if share > 0.005
        )
        print(f"  our step: {shares}\n")
        ratio = record["ours"] / record["rival"]
        summary.append(f"speed, {name}: {ratio:.2f} times ({'meets' if ratio >= bar else 'MISSES'} {bar})")
        above = {kind: peak - before for kind, (before, peak) in record["memory"].items()}
        whole = {kind: peak for kind, (before, peak) in record["memory"].items()}
        share = above["ours"] / above["rival"]
        verdict = "meets" if share <= MEMORY_BAR else "MISSES"
        summary.append(
            f"peak memory, {name}: {share:.2f} above the imports ({verdict} {MEMORY_BAR}), "
            f"{whole['ours'] / whole['rival']:.2f} as whole processes"
        )
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--threads", type=int, default=len(os.sched_getaffinity(0)), help="of each loop (CPU)"
    )
    parser.add_argument("--steps", type=int, default=9, help="timed steps of each loop and setting (CPU)")
    options = parser.parse_args()
    import torch

    print(f"torch {torch.__version__}, {len(os.sched_getaffinity(0))} cores")
    summary = measure_cpu(options.steps, options.threads)
    print("\n".join(summary))


if __name__ == "__main__":
    main()
