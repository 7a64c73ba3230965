"""Small features and small runs for the tests of training."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import model_examples
import numpy as np
import torch
from feature_examples import write_features
from tokenizers import Tokenizer, models, pre_tokenizers

from span_electra.config import ModelConfig, NetworkConfig, OptimizerConfig, TrainingConfig
from span_electra.data_config import ChunkConfig, LoaderConfig, MaskingConfig
from span_electra.features.header import wanted_features
from span_electra.pretraining.settings import PretrainingSettings
from span_electra.text.vocabulary import Vocabulary
from span_electra.training import checkpoint, loop
from span_electra.training import step as step_module
from span_electra.training.log import RunLog

# Nothing here is worth a second thread; on a busy machine two would wait for each other most of the time.
torch.set_num_threads(1)

WORDS = 60
LONGEST = 24


def write_rows(path, rows=60, seed=0, prefix="w", longest=LONGEST):
    """Write features of `rows` rows of 3 to `longest` tokens, in which each word follows from the last."""
    special = ["[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]"]
    table = {
        token: number for number, token in enumerate([*special, *(f"{prefix}{i}" for i in range(WORDS))])
    }
    tokenizer = Tokenizer(models.WordPiece(table, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(special)
    vocabulary = Vocabulary.from_json(tokenizer.to_str())
    rng = np.random.default_rng(seed)
    lengths_R = rng.integers(3, longest + 1, rows)
    first_R = rng.integers(0, WORDS, rows)
    content = [
        5 + (first + np.arange(length - 2)) % WORDS for first, length in zip(first_R, lengths_R, strict=True)
    ]
    ids_T = np.concatenate([np.concatenate([[0], row, [1]]) for row in content]).astype(np.uint16)
    header = wanted_features(vocabulary, ChunkConfig(max_seq_len=longest), MaskingConfig(), seed=seed)
    write_features(path, header, vocabulary, [(ids_T, np.cumsum(lengths_R))], seed)
    return str(path)


def small_run(
    features, folder, dropout=0.1, optimizer=None, loader=None, valid=(0.1,), resume=None, **training
):
    """Settings of a run that takes about a second."""
    model = ModelConfig(
        architecture=model_examples.ARCHITECTURE,
        embedding_size=8,
        max_position_embeddings=LONGEST,
        generator=NetworkConfig(8, 1, 2, 16),
        discriminator=NetworkConfig(16, 1, 2, 32),
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    loader = loader or LoaderConfig(8)
    # What bf16 rounds away on the CPUs that are faster with it would hide what the tests look for.
    training = {"epochs": 3, "log_steps": 2, "precision": "fp32", "device": "cpu"} | training
    return PretrainingSettings(
        model,
        optimizer or OptimizerConfig(lr=5e-3),
        TrainingConfig(**training),
        loader,
        loader,
        train_features=(features,),
        out_dir=str(folder),
        valid_split=valid,
        resume_from=None if resume is None else str(resume),
    )


CLOCKS = ("tokens_per_second", "mfu", "time")


def lines_of(folder):
    lines = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in CLOCKS} for line in lines]


def assert_same_end(one, other):
    first, second = checkpoint.load(one.checkpoint), checkpoint.load(other.checkpoint)
    assert first.meta["step"] == second.meta["step"]
    for mine, theirs in ((first.weights, second.weights), (first.optimizer, second.optimizer)):
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def stop_at(monkeypatch, step, number=signal.SIGTERM):
    """Send this process a signal while it makes that step."""
    advance, made = RunLog.advance, []

    def advance_and_ask(log):
        made.append(1)
        if len(made) == step:
            os.kill(os.getpid(), number)
        advance(log)

    monkeypatch.setattr(RunLog, "advance", advance_and_ask)


def break_losses(monkeypatch, bad_steps):
    """Make the losses of these steps not finite."""
    honest, made = step_module.train_step, []

    def dishonest(experiment, network, batches, **rest):
        made.append(1)

        def broken(masked, dropout_key):
            output = network(masked, dropout_key=dropout_key)
            return replace(output, loss=output.loss * float("nan")) if len(made) in bad_steps else output

        return honest(experiment, broken, batches, **rest)

    monkeypatch.setattr(loop, "train_step", dishonest)


def assert_resumed_is_straight(run, tmp_path, monkeypatch, step):
    """`run(name, resume=...)`, stopped at the step and resumed in b, ends as it does in a in one go."""
    straight = run("a")
    with monkeypatch.context() as patch:
        stop_at(patch, step)
        assert run("b").state == "stopped"
    assert_same_end(straight, run("b", resume=tmp_path / "b"))
    assert lines_of(tmp_path / "a") == lines_of(tmp_path / "b")
    return straight
