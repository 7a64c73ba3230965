"""The GPU's part of train.py, and what can be said of it on a machine without one."""

from __future__ import annotations

import statistics
import time
import warnings

import electra_loops as loops
import torch
from torch.utils._python_dispatch import TorchDispatchMode

PEAK = {
    "H100": 989e12,
    "H200": 989e12,
    "A100": 312e12,
    "L4": 121e12,
}  # dense bf16 FLOP/s, from the data sheets
SHAPES = {  # name -> model, rows of a batch, the least tokens per second asked for on an H100
    "ELECTRA-Small at 128 tokens": ("small_model", 1024, 1.7e6),
    "ELECTRA-Base at 128 tokens": ("base_model", 256, 500e3),
}
MODES = ("default", "reduce-overhead", None)  # of torch.compile (the second: CUDA graphs); None: eager
RATIO_BAR, BUSY_BAR = 5.0, 0.95
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero")


class Operators(TorchDispatchMode):
    """Counts operators (on a GPU about one kernel each, until they are fused) and those that wait."""

    def __init__(self) -> None:
        super().__init__()
        self.all = self.waiting = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        boolean = name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        self.waiting += name in WAITS or boolean
        self.all += not func.is_view
        return func(*args, **(kwargs or {}))


def describe_step() -> None:
    """Print what a GPU's step would be made of: graph breaks, compilations, waits and operators."""
    from span_electra.config import LoaderConfig
    from span_electra.model.electra import SpanElectra
    from span_electra.pretraining.loader import Batches

    warnings.simplefilter("ignore")
    config = loops.small_model(0.1, vocab_size=1000)
    features = loops.MadeUpFeatures(loops.row_lengths(True, 100_000), config.vocab_size)
    loader = LoaderConfig(batch_size=8, batch_max_tokens=1024, workers=0)
    batches = list(Batches(features, loader, epoch=1, static_shapes=True))
    model = SpanElectra(config, loops.MASK).train()
    graphs = []

    def count(graph, _):
        graphs.append(len([node for node in graph.graph.nodes if node.op == "call_function"]))
        return graph.forward

    compiled = torch.compile(model, backend=count, fullgraph=True, dynamic=False)  # a break would raise
    shapes = set()
    for masked in batches[:40]:
        with torch.no_grad():
            compiled(masked)
        shapes.add((*masked.original_BL.shape, masked.attention_mask_BL is None))
    with Operators() as counted:
        model(batches[0]).loss.backward()
    print(
        f"for a GPU: 0 graph breaks, {len(graphs)} compilations for {len(shapes)} shapes in "
        f"{len(batches[:40])} batches of documents, {counted.waiting} waits for the device in a step, "
        f"{counted.all:,} operators forward and backward before fusion "
        f"({max(graphs):,} nodes in the forward graph)\n"
    )
    torch._dynamo.reset()


def time_steps(loop: object, steps: int, warm: int) -> tuple[float, float]:
    """Return tokens per second (median of three stretches) and peak memory in GB."""
    for _ in range(warm):
        loop.step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    speeds = []
    for _ in range(3):
        begun, tokens = time.perf_counter(), 0
        for _ in range(steps):
            tokens += loop.step()
        torch.cuda.synchronize()
        speeds.append(tokens / (time.perf_counter() - begun))
    return statistics.median(speeds), torch.cuda.max_memory_allocated() / 2**30


def busy_share(loop: object, steps: int = 8) -> tuple[float, list[str]]:
    """Return the share of time in which a kernel ran, and the kernels that took most."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        for _ in range(steps):
            loop.step()
        torch.cuda.synchronize()
    kernels = sorted(
        (event.time_range.start, event.time_range.end)
        for event in profiler.events()
        if event.device_type == DeviceType.CUDA
    )
    busy, reached = 0.0, kernels[0][0]
    for start, end in kernels:  # kernels of two streams may overlap: count covered time once
        busy += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    averages = [event for event in profiler.key_averages() if event.device_type == DeviceType.CUDA]
    averages.sort(key=lambda event: -event.self_device_time_total)
    total = sum(event.self_device_time_total for event in averages)
    top = [f"{e.self_device_time_total / total:.1%} {e.key[:60]} x{e.count // steps}" for e in averages[:12]]
    return busy / (reached - kernels[0][0]), top


def count_waits(loop: object) -> int:
    """How often the host waits for the device in one step, by torch's own account."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        loop.step()
    torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in said)


def parity() -> float:
    """The largest difference between the eager CPU loss and the compiled GPU loss, in float32, relative."""
    from span_electra.config import LoaderConfig
    from span_electra.model.electra import SpanElectra
    from span_electra.pretraining.loader import Batches

    config = loops.small_model(0.0, vocab_size=1000)
    features = loops.MadeUpFeatures(loops.row_lengths(True, 20_000), config.vocab_size)
    model = SpanElectra(config, loops.MASK)
    batches = list(Batches(features, LoaderConfig(batch_size=8, workers=0), 1, static_shapes=True))[:4]
    torch.set_float32_matmul_precision("highest")
    with torch.no_grad():
        expected = [model(masked).tally for masked in batches]
        model.cuda()
        given = [torch.compile(model)(masked.to("cuda")).tally.cpu() for masked in batches]
    torch.set_float32_matmul_precision("high")
    losses = [2, 4]  # generator_loss and discriminator_loss; a slot on the edge of a draw may fall otherwise
    return max(((a - b).abs() / a.abs())[losses].max().item() for a, b in zip(expected, given, strict=True))


def measure_shape(name: str, minutes: float) -> list[str]:
    """Measure one shape in every mode against the eager transformers loop; returns the summary's lines."""
    maker, rows, bar = SHAPES[name]
    config = getattr(loops, maker)(0.1)
    features = loops.MadeUpFeatures(loops.row_lengths(False, 24 * rows * loops.LENGTH), config.vocab_size)
    flops = loops.training_flops(config)
    card = torch.cuda.get_device_name()
    peak = next((value for key, value in PEAK.items() if key in card), None)
    print(f"\n{name}: {rows} rows, {flops / 1e6:.0f} MFLOP a token")
    # Rows are a multiple of the batch: a smaller last batch would be one more shape to compile.
    best, best_mode, busy, rival_speed = 0.0, None, 0.0, float("nan")
    until = time.perf_counter() + 60 * minutes
    for mode in ("rival", *MODES):
        if time.perf_counter() > until and mode not in ("rival", "default"):
            print(f"  {mode}: left out, time is short")
            continue
        torch._dynamo.reset()
        try:
            if mode == "rival":
                loop = loops.Rival(config, features, min(rows, 256), "cuda")
            else:
                loop = loops.Ours(config, features, rows, "cuda", False, compile_mode=mode)
            speed, memory = time_steps(loop, steps=10, warm=4)
        except RuntimeError as error:  # out of memory too; the other modes still tell something
            print(f"  {mode}: {str(error).splitlines()[0][:100]}")
            continue
        if mode == "rival":
            rival_speed = speed
        elif speed > best:
            best, best_mode = speed, mode
        mfu = f"MFU {speed * flops / peak:.1%}" if peak else "MFU unknown (no peak for this card)"
        print(f"  {mode or 'eager'!s:28} {speed:12,.0f} tokens/s   {mfu}   {memory:.1f} GB")
        if mode == "default":
            waits, (busy, top) = count_waits(loop), busy_share(loop)
            print(f"    waits for the device in a step: {waits}; GPU busy {busy:.1%} of the time")
            print("    " + "\n    ".join(top))
        del loop
        torch.cuda.empty_cache()
    lines = [f"{name}: {best:,.0f} tokens/s ({best_mode}; {'meets' if best >= bar else 'MISSES'} {bar:,.0f})"]
    lines.append(f"{name}: GPU busy {busy:.1%} ({'meets' if busy >= BUSY_BAR else 'MISSES'} {BUSY_BAR:.0%})")
    ratio = best / rival_speed
    verdict = "meets" if ratio >= RATIO_BAR else "MISSES"
    return [*lines, f"{name}: {ratio:.2f} times the eager transformers loop ({verdict} {RATIO_BAR})"]


def measure_gpu() -> list[str]:
    """Measure all shapes; returns the lines of the summary."""
    warnings.simplefilter("ignore")
    torch.set_float32_matmul_precision("high")
    print(f"{torch.cuda.get_device_name()}; losses differ from the CPU's by {parity():.1e} of themselves")
    summary = []
    for name in SHAPES:
        summary += measure_shape(name, minutes=2.5)
    return summary
