"""What is compiled, and that a machine which cannot compile trains all the same.

Run: pytest tests/training/test_compilation.py
"""

import functools
from dataclasses import replace

import pytest
import torch
from model_examples import MASK, batch_of, small_config
from run_examples import small_run, write_rows
from torch import nn

from span_electra import accelerators
from span_electra.config import NetworkConfig, OptimizerConfig, TrainingConfig
from span_electra.data_config import LoaderConfig
from span_electra.errors import InputError
from span_electra.model.batch import TALLY
from span_electra.model.electra import SpanElectra
from span_electra.pretraining import experiment as pretraining
from span_electra.training import compilation, step
from span_electra.training.compilation import compile_layers, compiler_fault, compiles
from span_electra.training.devices import Process
from span_electra.training.launch import launch
from span_electra.training.optim import Optimizers
from span_electra.training.parallel import wrap_model
from span_electra.training.step import Counters

CPU = torch.device("cpu")
# While it traces, torch looks at gradients that are none, and makes objects that it warns of.
TORCH_WARNS = pytest.mark.filterwarnings("ignore:The .grad attribute", "ignore:.*should not be instantiated")
DEEP = {"generator": NetworkConfig(8, 5, 2, 16), "discriminator": NetworkConfig(16, 7, 4, 24)}
HONEST_COMPILE = torch.compile


@pytest.fixture
def with_gpus(monkeypatch):
    monkeypatch.setattr(accelerators, "count_devices", lambda kind: {"cpu": 1, "cuda": 2}.get(kind, 0))


def test_layers_are_compiled_on_gpus_alone(with_gpus):
    assert compiles(TrainingConfig())
    assert not compiles(TrainingConfig(device="cpu"))
    assert not compiles(TrainingConfig(compile="off"))


def test_compilation_on_a_cpu_is_refused_in_a_line():
    with pytest.raises(InputError, match="compile: on gains nothing on a CPU.*auto or off") as caught:
        compiles(TrainingConfig(compile="on", device="cpu"))
    assert "\n" not in str(caught.value)


def test_a_machine_without_a_compiler_trains_without_it(monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("Failed to find C compiler. Please specify via CC environment variable.\nmore")

    monkeypatch.setattr(torch, "compile", broken)
    model = SpanElectra(small_config(), MASK)
    with pytest.warns(UserWarning, match=r"does not work here \(Failed to find C compiler.*going on"):
        compile_layers(model, CPU, TrainingConfig())
    assert model(batch_of()).loss.isfinite()


def count_graphs(graphs: list) -> None:
    """From here on torch.compile counts its graphs and runs them as they are."""

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    torch.compile = functools.partial(HONEST_COMPILE, backend=backend)


def graphs_of_a_step(parallel: str, rank: int, world: int, store: str) -> int:
    """How many graphs one training step compiles."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    graphs = []
    count_graphs(graphs)
    model = SpanElectra(small_config(**DEEP), MASK)
    compile_layers(model, CPU, TrainingConfig())
    graphs.clear()  # of the compiler's trial
    network = wrap_model(model, Process(CPU, rank, world), TrainingConfig(parallel=parallel))
    network(batch_of()).loss.backward()
    torch.distributed.destroy_process_group()
    return len(graphs)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_step_is_one_graph_for_all_layers_one_on_either_side_of_them_and_one_of_losses(parallel):
    assert launch(functools.partial(graphs_of_a_step, parallel), 2)[0] == 7  # two networks


@pytest.fixture
def graphs():
    """The graphs that torch.compile makes, which run as they are."""
    made = []
    count_graphs(made)
    yield made
    torch.compile = HONEST_COMPILE
    torch.compiler.reset()


@TORCH_WARNS
def test_what_is_compiled_computes_what_it_did(graphs, architecture):
    model, batch = SpanElectra(small_config(**DEEP), MASK).eval(), batch_of(padded=True)
    model(batch).loss.backward()
    expected = [weight.grad.clone() for weight in model.parameters()]
    model.zero_grad()
    assert compiler_fault(CPU) is None
    compile_layers(model, CPU, TrainingConfig())
    graphs.clear()  # of the compiler's trials
    model(batch).loss.backward()
    assert graphs
    for given, weight in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(given.grad, weight)


@TORCH_WARNS
def test_after_an_epoch_and_a_validation_nothing_is_compiled_again(
    graphs, architecture, tmp_path, monkeypatch
):
    monkeypatch.setattr(pretraining, "compiles", lambda config: True)
    features = write_rows(tmp_path / "rows.arrow", rows=97)
    loader = LoaderConfig(batch_max_tokens=260, bucket_span=3)
    settings = small_run(features, tmp_path / "run", loader=loader)
    changes = {"architecture": architecture, "local_attention": 4, "use_SBGO": True, "use_SBPO": True}
    changes |= {"average_span_predictions": True, "sequence_objective": "contrastive"}
    valid = LoaderConfig(5, masking="static")
    settings = replace(settings, model=replace(settings.model, **changes), valid_loader=valid)
    experiment = pretraining.Pretraining(settings, Process(CPU))
    model, shapes = experiment.model, set()
    compile_layers(model, CPU, TrainingConfig())
    graphs.clear()
    for epoch in range(3):
        stance = "fail_on_recompile" if epoch else "default"
        with torch.compiler.set_stance(stance):
            for batch in experiment.train_batches(epoch, 0):
                shapes.add((batch.original_BL.shape, batch.attention_mask_BL is None))
                model.train()(batch).loss.backward()
            model.eval()
            with torch.no_grad():
                experiment.validate(lambda: False, 0, 0, 0)
    # A network's layers, of one kind in each, and the three parts round them, and the losses; training and
    # validation. Crops are narrower rows for the discriminator: its layers and what comes before once more.
    assert len(shapes) <= 4 and len(graphs) <= 2 * (2 * (1 + 3) + 1 + 3) * len(shapes)


# --- CUDA graphs ----------------------------------------------------------------------------------------


def test_graphs_are_refused_where_weights_move(with_gpus):
    assert compiles(TrainingConfig(compile="max"))
    with pytest.raises(InputError, match="compile: max needs weights that stay.*fsdp moves them; use on, or"):
        compiles(TrainingConfig(compile="max", parallel="fsdp"))
    with pytest.raises(InputError, match="compile: max gains nothing on a CPU"):
        compiles(TrainingConfig(compile="max", device="cpu"))


@pytest.mark.parametrize("accumulated", [1, 2])
def test_gradients_that_are_added_to_leave_the_memory_of_a_graph(monkeypatch, accumulated):
    rounds = []
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: rounds.append(1))
    monkeypatch.setattr(nn.Module, "compile", lambda module, **options: modes.append(options["mode"]))
    monkeypatch.setattr(compilation, "compiler_fault", lambda device: None)
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    modes, made = [], {}
    model = SpanElectra(small_config(), MASK)
    for parameter in model.parameters():
        parameter.register_hook(lambda gradient, parameter=parameter: made.update({parameter: gradient}))
    config = TrainingConfig(compile="max", gradient_accumulation_steps=accumulated)
    compile_layers(model, CPU, config)
    assert set(modes) == {"max-autotune"}
    for _ in range(accumulated):
        model(batch_of()).loss.backward()
        if accumulated > 1:  # what a graph gave may be written over from now on
            assert all(parameter.grad is not gradient for parameter, gradient in made.items())
    assert len(rounds) == accumulated


@TORCH_WARNS
def test_other_rates_and_seeds_are_no_other_graphs(monkeypatch):
    # As on a GPU: dropout draws from torch's generator, whose seed is set before each step.
    monkeypatch.setattr(step, "uses_dropout_keys", lambda *_: False)
    ends, graphs = [], []
    for compiled in (False, True):
        model = SpanElectra(small_config(**DEEP, hidden_dropout_prob=0.2), MASK)
        if compiled:
            count_graphs(graphs)
            compile_layers(model, CPU, TrainingConfig())
        counts, process, optimizers = [], Process(CPU), Optimizers(model, OptimizerConfig("muon", lr=1e-2))
        counters, experiment = Counters.fresh(process, len(TALLY)), Plain()
        try:
            for key, multiplier in enumerate((0.1, 1.0, 0.5)):
                step.train_step(
                    experiment,
                    model,
                    [batch_of()],
                    optimizers=optimizers,
                    counters=counters,
                    process=process,
                    key=key,
                    lr_multiplier=multiplier,
                )
                counts.append(len(graphs))
        finally:
            torch.compile = HONEST_COMPILE
            torch.compiler.reset()
        assert len(set(counts)) == 1  # all were made in the first step
        ends.append([parameter.detach().clone() for parameter in model.parameters()])
    assert graphs and all(torch.allclose(*pair, atol=1e-6) for pair in zip(*ends, strict=True))


class Plain:
    """The experiment's part of a step."""

    def unused_parameters(self, batch):
        return ()
