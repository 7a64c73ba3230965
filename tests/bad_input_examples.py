"""Bad inputs for test_bad_inputs.py: files of every wrong kind, and the command lines that meet them."""

import bz2
import gzip
import json
import lzma
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from run_examples import small_run, write_rows

from span_electra.pretraining.experiment import run_pretraining

TEXT = "the small red cat sees a dog under the old tree and runs home.\n" * 40


def write_texts(bad: Path) -> None:
    """Texts that are none, each named after what is wrong with it."""
    files = {
        "empty.txt": b"",
        "blank.txt": b"\n\n\n",
        "latin1.txt": "caf\xe9 au lait\n".encode("latin-1"),
        "nul.txt": b"a\x00b\n",
        "utf16.txt": "the cat\n".encode("utf-16"),
        "picture.txt": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(range(256)),
        "cut.txt.gz": gzip.compress(os.urandom(5000))[:3000],
        "wrong.txt.gz": b"no gzip at all\n",
        "cut.txt.bz2": bz2.compress(os.urandom(5000))[:3000],
        "cut.txt.xz": lzma.compress(os.urandom(5000))[:3000],
        "wrong.txt.zst": b"no zstandard\n",
        "broken.jsonl": b'{"text": "a cat"}\n{"text": \n',
        "list.jsonl": b"[1, 2]\n",
        "field.jsonl": b'{"body": "a cat"}\n',
        "number.jsonl": b'{"text": 7}\n',
        "columns.tsv": b"label\ttext\n1\ta cat\nno text\n",
        "header.tsv": b"body\tlabel\na cat\t1\n",
        "wrong.parquet": b"PAR1 but not really PAR1",
        "words.csv": b"text\na cat\n",
    }
    for name, content in files.items():
        (bad / name).write_bytes(content)
    os.mkfifo(bad / "pipe")
    (bad / "loop").symlink_to("loop")
    (bad / "dangling").symlink_to("nowhere")
    pq.write_table(pa.table({"body": ["a cat"]}), bad / "field.parquet")
    pq.write_table(pa.table({"text": [1, 2]}), bad / "number.parquet")
    (bad / "nothing").mkdir()
    (bad / "hidden").mkdir()
    (bad / "hidden" / ".text.txt").write_text(TEXT)


def write_settings(bad: Path) -> None:
    """Config files that are none."""
    files = {
        "typo.json": '{"optimizer": {"lrr": 0.1}}',
        "section.json": '{"optimiser": {"lr": 0.1}}',
        "kind.json": '{"optimizer": {"lr": "fast"}}',
        "scalar.json": '{"optimizer": 3}',
        "list.json": "[1, 2]",
        "broken.json": '{"optimizer": {',
        "broken.yaml": "optimizer: [1, 2",
        "empty.json": "",
        "cycle.yaml": "optimizer: ${from_file:cycle.yaml}",
        "lost.yaml": "optimizer: ${from_file:nowhere.yaml}",
        "variable.yaml": "optimizer:\n  lr: ${oc.env:NO_SUCH_VARIABLE}",
        "resolver.yaml": "optimizer:\n  lr: ${eval:1+1}",
        "dangling.yaml": "optimizer:\n  lr: ${optimizer.nothing}",
        "object.yaml": 'optimizer: !!python/object/apply:os.system ["true"]',
        "settings.toml": "lr = 1",
        "deep.json": "[" * 100_000,
        "levels.json": '{"optimizer":' * 450 + "1" + "}" * 450,
        "itself.yaml": "optimizer: &a\n  lr: *a\n",
        "laughs.yaml": laughs(),
        "computed.yaml": "experiment_name: decode\nout_dir: ${oc.${experiment_name}:1}\n",
        "partial.yaml": "out_dir: a ${from_file:typo.json}",
        "endless.yaml": "optimizer: ${from_file:/dev/zero}",
        "folder.yaml": "optimizer: ${from_file:nothing}",
        "unclosed.yaml": "out_dir: '${oc.env:HOME'",
        "two.yaml": "workers: 1\n---\nworkers: 2\n",
        "tab.yaml": "optimizer:\n\tlr: 1\n",
        "list-key.yaml": "? [1, 2]\n: 3\n",
        "no-section.json": '{"lr": 0.1}',
        "null-section.json": '{"optimizer": null}',
        "pairs.json": '{"optimizer": {"betas": [{"a": 1}, {"b": 2}]}}',
        "nan.json": '{"optimizer": {"lr": NaN}}',
        "infinite.json": '{"training": {"max_steps": Infinity}}',
        "digits.json": '{"training": {"epochs": 1' + "0" * 5000 + "}}",
        "half.json": '{"training": {"epochs": 1.5}}',
        "yes.json": '{"training": {"epochs": true}}',
        "perhaps.json": '{"training": {"deterministic": "perhaps"}}',
        "nul.json": '{"train_data": {"train_file": ["a\\u0000b"]}}',
    }
    for name, content in files.items():
        (bad / name).write_text(content)
    (bad / "binary.json").write_bytes(b"\xff\xfe\x00\x01")


def laughs() -> str:
    """Eight lines of YAML that stand for 9 to the power of 9 values."""
    lines = ["a: &a [" + ", ".join(["ha"] * 9) + "]"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} [" + ", ".join([f"*{before}"] * 9) + "]")
    return "\n".join(lines)


def write_vocabularies(place: Path, bad: Path) -> None:
    """Vocabularies that are none, or do not belong to their merges."""
    words = json.loads((place / "vocab/trial BPE-vocab.json").read_text())
    lacking = {word: number for word, number in words.items() if word != "[MASK]"}
    files = {
        "BPE-list.json": "[]",
        "BPE-broken.json": "{",
        "BPE-lacking.json": json.dumps(lacking),
        "BPE-twice.json": json.dumps(dict.fromkeys(words, 3)),
        "BPE-gaps.json": json.dumps({word: 2 * number for word, number in words.items()}),
        "BPE-text.json": json.dumps({word: str(number) for word, number in words.items()}),
        "BPE-foreign-merges.txt": "#version: 0.2\nqq zz\n",
        "BPE-broken-merges.txt": "#version: 0.2\none two three\n",
        "BERT-lacking.txt": "[CLS]\n[SEP]\nthe\n",
        "BERT-empty.txt": "",
        "BERT-twice.txt": "[CLS]\n[SEP]\n[PAD]\n[MASK]\n[UNK]\na\na\n",
        "BPE-deep.json": '{"a":' * 100_000,
        "BPE-half.json": json.dumps({**words, "\ud800": len(words)}),
        "BPE-bool.json": json.dumps({**words, "true": True}),
        "alone BPE-vocab.json": json.dumps(words),
        "BPE-empty-merges.txt": "",
        "BPE-long-merges.txt": "a" * 1_000_000,
    }
    for name, content in files.items():
        (bad / name).write_text(content)


def write_features(place: Path, bad: Path) -> None:
    """Feature files that are none, and a whole run to be broken."""
    whole = write_rows(place / "rows.arrow")
    write_rows(place / "other.arrow", prefix="v")
    settings = json.dumps({"model": {"embedding_size": 16}})
    run_pretraining(replace(small_run(whole, place / "run"), config_json=settings))
    data = Path(whole).read_bytes()
    (bad / "cut.arrow").write_bytes(data[: len(data) // 2])
    (bad / "empty.arrow").write_bytes(b"")
    (bad / "foreign.arrow").write_bytes(b"ARROW1\0\0 and then nothing of the kind")
    with pa.ipc.new_file(bad / "plain.arrow", pa.schema({"x": pa.int64()})) as out:
        out.write_table(pa.table({"x": [1]}))
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    (bad / "flipped.arrow").write_bytes(bytes(flipped))
    newest = max((place / "run/checkpoints").iterdir())
    for name in ("cut", "pickled", "unmarked"):
        shutil.copytree(newest, bad / f"{name}-checkpoint" / "checkpoints" / newest.name)
    for name, weights in (
        ("cut", (newest / "model.safetensors").read_bytes()[:500]),
        ("pickled", b"\x80\x04."),
    ):
        (bad / f"{name}-checkpoint" / "checkpoints" / newest.name / "model.safetensors").write_bytes(weights)
    (bad / "unmarked-checkpoint" / "checkpoints" / newest.name / "meta.json").unlink()
    (bad / "junk.safetensors").write_bytes(b"\xff" * 7 + b"\x7f" + b"x" * 100)
    (bad / "none.safetensors").write_bytes(b"")
    (bad / "pickle").mkdir()
    described = {"model_type": "electra", "architectures": ["ElectraForMaskedLM"]}
    (bad / "pickle" / "config.json").write_text(json.dumps(described))
    (bad / "pickle" / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    (bad / "deep-run").mkdir()
    (bad / "deep-run" / "config.json").write_text("[" * 100_000)
    for name, manifest in (("broken", "{"), ("leading-out", '{"shards": [{"file": "../../rows.arrow"}]}')):
        (bad / f"{name}-shards").mkdir()
        (bad / f"{name}-shards" / "manifest.json").write_text(manifest)
    (bad / "full").mkdir()
    (bad / "full" / "thesis.txt").write_text("do not write over me")
    (bad / "taken" / "generator").mkdir(parents=True)
    (bad / "taken" / "generator" / "thesis.txt").write_text("do not write over me")
    (bad / "file").write_text("not a folder")


# --- command lines -----------------------------------------------------------------------------------

IN, OUT = ["--in_file"], ["--out_file", "out.arrow"]
BPE = ["--tokenizer_type", "BPE", "--vocab_file"]
MERGES = ["--merges_file", "vocab/trial BPE-merges.txt"]
GOOD = ["--preset", "tiny", "--train_file", "rows.arrow", "--out_dir", "out"]
CASES = [  # script, flags, what the line must name
    ("vocab", ["--data_dir", "nowhere"], "nowhere"),
    ("vocab", ["--data_dir", "bad/nothing"], "bad/nothing"),
    ("vocab", ["--data_dir", "bad/hidden"], "bad/hidden"),
    ("vocab", ["--data_dir", "bad/empty.txt"], "empty.txt"),
    ("vocab", ["--data_dir", "bad/blank.txt"], "another vocabulary"),
    ("vocab", ["--data_dir", "bad/latin1.txt"], "latin1.txt"),
    ("vocab", ["--data_dir", "bad/utf16.txt"], "utf16.txt"),
    ("vocab", ["--data_dir", "bad/picture.txt"], "picture.txt"),
    ("vocab", ["--vocab_size", "90000"], "90000"),
    ("vocab", ["--vocab_size", "7"], "7"),
    ("vocab", ["--vocab_size", "many"], "many"),
    ("vocab", ["--vocab_size", "3"], "3"),
    ("vocab", ["--vocab_size", "1e4.5"], "1e4.5"),
    ("vocab", ["--min_fre", "0"], "0"),
    ("vocab", ["--tokenizer_type", "WordPiece"], "WordPiece"),
    ("vocab", ["--lowercase", "maybe"], "maybe"),
    ("vocab", ["--model_name", "../up"], "../up"),
    ("vocab", ["--model_name", "a\nb"], "model_name"),
    ("vocab", ["--model_name", "x" * 300], "model_name"),
    ("vocab", ["--min_fre", "9" * 30], "min_fre"),
    ("vocab", ["--vocab_size", "inf"], "inf"),
    ("vocab", ["--tokenizer_type", "BERT", "--vocab_size", "8"], "8"),
    ("vocab", ["--tokenizer_type", "BERT", "--vocab_size", "90000"], "90000"),
    ("vocab", ["--data_dir", ""], "data_dir"),
    ("vocab", ["--data_dir", "bad/pipe"], "bad/pipe"),
    ("vocab", ["--data_dir", "bad/loop"], "bad/loop"),
    ("vocab", ["--data_dir", "/dev/null"], "/dev/null"),
    ("vocab", ["--data_dir", "bad/cut.txt.gz"], "cut.txt.gz"),
    ("vocab", ["--vocab_size", "280", "--out_dir", "bad/file/x"], "bad/file/x"),
    ("vocab", ["--vocab_size"], "--vocab_size"),
    ("vocab", ["data"], "data"),
    ("vocab", ["--config_file", "bad/typo.json"], "typo.json"),
    ("vocab", ["--vocabsize", "300"], "--vocab_size"),
    ("vocab", ["--vocab_size", "280", "--out_dir", "bad/file"], "bad/file"),
    ("vocab", ["--preset", "huge"], "huge"),
    ("feature", [*IN, "nowhere.txt", *OUT], "nowhere.txt"),
    ("feature", [*IN, "nowhere/*.txt", *OUT], "nowhere/*.txt"),
    ("feature", [*IN, "bad/nothing", *OUT], "bad/nothing"),
    ("feature", [*IN, "bad/empty.txt", *OUT], "empty.txt"),
    ("feature", [*IN, "bad/blank.txt", *OUT], "blank.txt"),
    ("feature", [*IN, "bad/latin1.txt", *OUT], "latin1.txt"),
    ("feature", [*IN, "bad/nul.txt", *OUT], "nul.txt"),
    ("feature", [*IN, "bad/utf16.txt", *OUT], "utf16.txt"),
    ("feature", [*IN, "bad/picture.txt", *OUT], "picture.txt"),
    ("feature", [*IN, "bad/cut.txt.gz", *OUT], "cut.txt.gz"),
    ("feature", [*IN, "bad/wrong.txt.gz", *OUT], "wrong.txt.gz"),
    ("feature", [*IN, "bad/cut.txt.bz2", *OUT], "cut.txt.bz2"),
    ("feature", [*IN, "bad/cut.txt.xz", *OUT], "cut.txt.xz"),
    ("feature", [*IN, "bad/wrong.txt.zst", *OUT], "wrong.txt.zst"),
    ("feature", [*IN, "bad/broken.jsonl", *OUT], "broken.jsonl"),
    ("feature", [*IN, "bad/list.jsonl", *OUT], "list.jsonl"),
    ("feature", [*IN, "bad/field.jsonl", *OUT], "field.jsonl"),
    ("feature", [*IN, "bad/number.jsonl", *OUT], "number.jsonl"),
    ("feature", [*IN, "bad/columns.tsv", *OUT], "columns.tsv"),
    ("feature", [*IN, "bad/header.tsv", *OUT], "header.tsv"),
    ("feature", [*IN, "bad/wrong.parquet", *OUT], "wrong.parquet"),
    ("feature", [*IN, "bad/field.parquet", *OUT], "field.parquet"),
    ("feature", [*IN, "bad/number.parquet", *OUT], "number.parquet"),
    ("feature", [*IN, "s4://bucket/a.txt", *OUT], "s4"),
    ("feature", [*IN, "data/train.txt", "--out_file", "bad/file/x.arrow"], "bad/file"),
    ("feature", [*IN, "data/train.txt", "--out_file", "bad/full"], "bad/full"),
    ("feature", [*IN, "data/train.txt", "--out_file", "data/train.txt"], "data/train.txt"),
    ("feature", [*IN, "data/train.txt", "--out_file", "data"], "data"),
    ("feature", [*IN, "data/train.txt", "--out_file", ""], "out_file"),
    ("feature", [*IN, "data/train.txt", "--out_file", "new/" + "x" * 300], "new/xxx"),
    ("feature", [*IN, "data/train.txt", "--out_file", "s4://bucket/a.arrow"], "s4"),
    ("feature", [*IN, "data/train.txt", *OUT, "--shards", "10000"], "10000"),
    ("feature", [*IN, "rows.arrow", *OUT], "rows.arrow"),
    ("feature", [*IN, "bad/pipe", *OUT], "bad/pipe"),
    ("feature", [*IN, "bad/dangling", *OUT], "bad/dangling"),
    ("feature", [*IN, "/dev/zero", *OUT], "/dev/zero"),
    ("feature", [*IN, "bad/header.tsv", *OUT, "--text_field", "7"], "7"),
    ("feature", [*BPE, "bad/BPE-deep.json", *MERGES, *OUT], "BPE-deep.json"),
    ("feature", [*BPE, "bad/BPE-half.json", *MERGES, *OUT], "BPE-half.json"),
    ("feature", [*BPE, "bad/BPE-bool.json", *MERGES, *OUT], "BPE-bool.json"),
    ("feature", [*BPE, "bad/alone BPE-vocab.json", *OUT], "--merges_file"),
    ("feature", [*BPE, "vocab/trial BPE-vocab.json", "--merges_file", "bad/nothing", *OUT], "bad/nothing"),
    ("feature", [*BPE, "vocab/trial BPE-vocab.json", "--merges_file", "bad/BPE-empty-merges.txt"], "empty"),
    ("feature", [*BPE, "vocab/trial BPE-vocab.json", "--merges_file", "bad/BPE-long-merges.txt"], "long"),
    ("feature", ["--tokenizer_type", "BERT", "--vocab_file", "bad/BERT-twice.txt", *OUT], "BERT-twice.txt"),
    (
        "feature",
        ["--tokenizer_type", "BERT", "--vocab_file", "words/trial BERT-vocab.txt", *MERGES],
        "--merges_file",
    ),
    ("feature", [*BPE, "nowhere.json", *OUT], "nowhere.json"),
    ("feature", [*BPE, "bad/BPE-list.json", *OUT], "BPE-list.json"),
    ("feature", [*BPE, "bad/BPE-broken.json", *OUT], "BPE-broken.json"),
    (
        "feature",
        [*BPE, "bad/BPE-lacking.json", *MERGES, *OUT],
        "[MASK]",
    ),
    (
        "feature",
        [*BPE, "bad/BPE-twice.json", *MERGES, *OUT],
        "BPE-twice",
    ),
    ("feature", [*BPE, "bad/BPE-gaps.json", *MERGES, *OUT], "BPE-gaps"),
    ("feature", [*BPE, "bad/BPE-text.json", *MERGES, *OUT], "BPE-text"),
    (
        "feature",
        [*BPE, "vocab/trial BPE-vocab.json", "--merges_file", "bad/BPE-foreign-merges.txt", *OUT],
        "merges",
    ),
    (
        "feature",
        [*BPE, "vocab/trial BPE-vocab.json", "--merges_file", "bad/BPE-broken-merges.txt", *OUT],
        "merges",
    ),
    ("feature", [*BPE, "vocab/trial BPE-vocab.json", "--merges_file", "nowhere.txt", *OUT], "nowhere.txt"),
    ("feature", [*BPE, "words/trial BERT-vocab.txt", *OUT], "trial BERT-vocab.txt"),
    (
        "feature",
        ["--tokenizer_type", "BERT", "--vocab_file", "vocab/trial BPE-vocab.json", *OUT],
        "BPE-vocab.json",
    ),
    (
        "feature",
        ["--tokenizer_type", "BERT", "--vocab_file", "bad/BERT-lacking.txt", *OUT],
        "BERT-lacking.txt",
    ),
    ("feature", ["--tokenizer_type", "BERT", "--vocab_file", "bad/BERT-empty.txt", *OUT], "BERT-empty.txt"),
    ("feature", ["--tokenizer_type", "XLNET"], "XLNET"),
    ("feature", ["--max_seq_len", "2"], "2"),
    ("feature", ["--max_seq_len", "nan"], "nan"),
    ("feature", ["--max_seq_len", "70000"], "70000"),
    ("feature", ["--max_span_len", "1000000000"], "1000000000"),
    ("feature", ["--short_chunk_prob", "2"], "short_chunk_prob"),
    ("feature", ["--seed", "9" * 30], "seed"),
    ("feature", ["--errors", "ignore"], "ignore"),
    ("feature", ["--inspect", ""], "inspect"),
    ("feature", ["--inspect", "data"], "data"),
    ("feature", ["--mask_ratio", "1.2"], "1.2"),
    ("feature", ["--mask_ratio", "-0.1"], "-0.1"),
    ("feature", ["--mask_ratio", "nan"], "nan"),
    ("feature", ["--max_span_len", "0"], "0"),
    ("feature", ["--geometric_p", "1.5"], "1.5"),
    ("feature", ["--workers", "0"], "0"),
    ("feature", ["--chunk_size", "-5"], "-5"),
    ("feature", ["--shards", "-1"], "-1"),
    ("feature", ["--engine", "spark"], "spark"),
    ("feature", ["--seed", "-1"], "-1"),
    ("feature", ["--inspect", "nowhere.arrow"], "nowhere.arrow"),
    ("feature", ["--inspect", "bad/foreign.arrow"], "foreign.arrow"),
    ("feature", ["--inspect", "bad/plain.arrow"], "plain.arrow"),
    ("feature", ["--in_files", "data/train.txt"], "--in_file"),
    ("train", [*GOOD, "--train_file", "nowhere.arrow"], "nowhere.arrow"),
    ("train", [*GOOD, "--train_file", "bad/cut.arrow"], "cut.arrow"),
    ("train", [*GOOD, "--train_file", "bad/empty.arrow"], "empty.arrow"),
    ("train", [*GOOD, "--train_file", "bad/foreign.arrow"], "foreign.arrow"),
    ("train", [*GOOD, "--train_file", "bad/plain.arrow"], "plain.arrow"),
    ("train", [*GOOD, "--train_file", "bad/flipped.arrow"], "flipped.arrow"),
    ("train", [*GOOD, "--train_file", "data/train.txt"], "train.txt"),
    ("train", [*GOOD, "--train_file", "rows.arrow", "other.arrow"], "other.arrow"),
    ("train", [*GOOD, "--valid_file", "other.arrow"], "other.arrow"),
    ("train", [*GOOD, "--train_file", "bad/broken-shards"], "manifest.json"),
    ("train", [*GOOD, "--train_file", "bad/leading-out-shards"], "../../rows.arrow"),
    ("train", [*GOOD, "--train_file", ""], "train_file"),
    ("train", [*GOOD, "--valid_file", "bad/cut.arrow"], "cut.arrow"),
    ("train", [*GOOD, "--vocab_size", "20"], "20"),
    *(  # a number that is none, or far from any that makes sense
        ("train", [*GOOD, f"--{name}", value], name.rpartition(".")[2])
        for name, value in {
            "lr": "inf",
            "warmup": "inf",
            "weight_decay": "-1",
            "momentum": "2",
            "epsilon": "nan",
            "max_gradient_norm": "-1",
            "seed": "9" * 30,
            "max_steps": "-1",
            "max_minutes": "nan",
            "save_every": "1 fortnight",
            "eval_every": "2 evaluations",
            "save_last": "0",
            "save_top_k": "-1",
            "monitor_mode": "most",
            "precision": "fp8",
            "compile": "maybe",
            "parallel": "magic",
            "gradient_accumulation_steps": "9" * 30,
            "valid_split": "-0.5",
            "valid_occur": "-1",
            "bucket_span": "0",
            "embedding_size": "-8",
            "model.generator.num_hidden_layers": "99999999",
            "type_vocab_size": "0",
            "layer_norm_eps": "-1",
            "initializer_range": "nan",
            "embedding_sharing": "all",
            "discriminator_weight": "inf",
            "masking": "random",
            "initialization": "zero",
            "sampling": "beam",
            "batch_max_tokens": "-1",
            "log_steps": "-1",
            "step_size": "inf",
            "workers": "-1",
            "freeze": "all",
            "out_dir": "",
            "experiment_name": " ",
        }.items()
    ),  # fmt: skip
    ("train", [*GOOD, "--valid_split", "nan"], "valid_split"),
    ("train", [*GOOD, "--valid_split", "100000"], "100000"),
    ("train", [*GOOD, "--train_occur", "1", "2"], "train_occur"),
    ("train", [*GOOD, "--freeze", "generator", "discriminator"], "freeze"),
    ("train", [*GOOD, "--deterministic", "perhaps"], "perhaps"),
    ("train", [*GOOD, "--init_from", "bad/junk.safetensors"], "junk.safetensors"),
    ("train", [*GOOD, "--init_from", "bad/none.safetensors"], "none.safetensors"),
    ("train", [*GOOD, "--init_from", "bad/pickle"], "pickle"),
    ("train", [*GOOD, "--init_from", "data/train.txt"], "train.txt"),
    ("train", [*GOOD, "--init_from", "run"], "run"),
    ("train", [*GOOD, "--init_from", "WHOLE"], "step-"),
    ("train", ["--resume", "run/config.json"], "run/config.json"),
    ("train", ["--resume", "", "--train_file", "rows.arrow"], "resume"),
    ("train", ["--resume", "latest", "--output_prefix", "bad/file"], "bad/file"),
    ("train", ["--checkpoint_path", "run/checkpoints"], "run/checkpoints"),
    ("train", ["--config_file", "bad/nothing"], "bad/nothing"),
    ("train", ["--config_file", "/dev/zero"], "/dev/zero"),
    ("train", ["--config_file", "bad/endless.yaml"], "/dev/zero"),
    ("train", ["--config_file", "bad/folder.yaml"], "bad/nothing"),
    ("train", ["--preset", "../tiny"], "../tiny"),
    ("train", [*GOOD, "--max_position_embeddings", "8"], "max_position_embeddings"),
    ("train", [*GOOD, "--batch_max_tokens", "5"], "batch_max_tokens"),
    ("train", [*GOOD, "--model.generator.num_attention_heads", "7"], "7"),
    ("train", [*GOOD, "--hidden_act", "sine"], "sine"),
    ("train", [*GOOD, "--hidden_dropout_prob", "1.5"], "1.5"),
    ("train", [*GOOD, "--optimizer", "adamm"], "adamw"),
    ("train", [*GOOD, "--schedule", "quadratic"], "quadratic"),
    ("train", [*GOOD, "--lr", "fast"], "fast"),
    ("train", [*GOOD, "--lr", "nan"], "nan"),
    ("train", [*GOOD, "--betas", "0.9"], "betas"),
    ("train", [*GOOD, "--epochs", "-1"], "-1"),
    ("train", [*GOOD, "--epochs", "1.5"], "1.5"),
    ("train", [*GOOD, "--train_batch_size", "0"], "0"),
    ("train", [*GOOD, "--monitor", "beauty"], "beauty"),
    ("train", [*GOOD, "--freeze", "generator.nothing"], "generator.nothing"),
    ("train", [*GOOD, "--device", "cuda"], "cuda"),
    ("train", [*GOOD, "--device", "tpu"], "tpu"),
    ("train", [*GOOD, "--device_ids", "0", "0"], "device_ids"),
    ("train", [*GOOD, "--device_ids", "-1"], "-1"),
    ("train", [*GOOD, "--average_span_predictions"], "average_span_predictions"),
    ("train", [*GOOD, "--temperature", "0"], "temperature"),
    ("train", [*GOOD, "--objective", "discriminator"], "generator_path"),
    ("train", [*GOOD, "--init_from", "nowhere"], "nowhere"),
    ("train", [*GOOD, "--init_from", "bad/nothing"], "bad/nothing"),
    ("train", [*GOOD, "--generator_path", "nowhere"], "nowhere"),
    ("train", [*GOOD, "--out_dir", "bad/full"], "bad/full"),
    ("train", [*GOOD, "--out_dir", "bad/file"], "bad/file"),
    ("train", [*GOOD, "--out_dir", "run"], "--resume run"),
    ("train", [*GOOD, "--train_data.raw_text_dir", "nowhere", "--train_file"], "train_file"),
    ("train", ["--resume", "nowhere"], "nowhere"),
    ("train", ["--resume", "latest"], "latest"),
    ("train", ["--checkpoint_path", "bad/nothing"], "bad/nothing"),
    ("train", ["--resume", "run", "--checkpoint_path", "run"], "--checkpoint_path"),
    ("train", ["--resume", "run", "--preset", "tiny"], "--preset"),
    ("train", ["--preset", "huge"], "huge"),
    ("train", ["--learning_rate", "1"], "--learning_rate"),
    ("train", ["--config_file", "nowhere.json"], "nowhere.json"),
    *(
        ("train", ["--config_file", f"bad/{name}"], name)
        for name in (
            "typo.json section.json kind.json scalar.json list.json broken.json broken.yaml empty.json "
            "cycle.yaml lost.yaml variable.yaml resolver.yaml dangling.yaml object.yaml settings.toml "
            "binary.json deep.json levels.json itself.yaml laughs.yaml computed.yaml partial.yaml "
            "unclosed.yaml two.yaml tab.yaml list-key.yaml no-section.json null-section.json pairs.json "
            "nan.json infinite.json digits.json half.json yes.json perhaps.json nul.json loop dangling"
        ).split()
    ),
    ("export", [], "--checkpoint_path"),
    ("export", ["--checkpoint_path", "nowhere", "--out_dir", "out"], "nowhere"),
    ("export", ["--checkpoint_path", "bad/nothing", "--out_dir", "out"], "bad/nothing"),
    ("export", ["--checkpoint_path", "CUT", "--out_dir", "out"], "cut-checkpoint"),
    ("export", ["--checkpoint_path", "PICKLED", "--out_dir", "out"], "pickled-checkpoint"),
    ("export", ["--checkpoint_path", "UNMARKED", "--out_dir", "out"], "unmarked-checkpoint"),
    ("export", ["--checkpoint_path", "WHOLE", "--out_dir", "bad/taken"], "bad/taken"),
    ("export", ["--checkpoint_path", "run", "--out_dir", "out"], "meta.json"),
    ("export", ["--checkpoint_path", "data/train.txt", "--out_dir", "out"], "train.txt"),
    ("export", ["--checkpoint_path", "WHOLE"], "--out_dir"),
    ("export", ["--checkpoint_path", "WHOLE", "--out_dir", ""], "out_dir"),
    ("export", ["--checkpoint_path", "WHOLE", "--out_dir", "bad/file/x"], "bad/file/x"),
    ("report", ["run", "nowhere"], "nowhere"),
    ("report", ["bad/deep-run"], "bad/deep-run"),
    ("report", ["run", "--out_file", "data/train.txt"], "data/train.txt"),
    ("report", ["run", "--out_file", "nowhere/page.html"], "nowhere"),
    ("report", ["run", "--out_file", "bad/nothing"], "bad/nothing"),
    ("report", ["run", "--titel", "x"], "--titel"),
    ("predict", ["nowhere", "--in_file", "data/train.txt"], "nowhere"),
    ("predict", ["bad/pickle", "--in_file", "data/train.txt"], "bad/pickle"),
    ("predict", ["run", "--in_file", "nowhere.txt"], "nowhere.txt"),
    ("predict", ["run", "--in_file", "bad/latin1.txt"], "latin1.txt"),
    ("predict", ["run", "--in_file", "data/train.txt", "--threshold", "nan"], "threshold"),
    ("predict", ["run", "--in_file", "data/train.txt", "--task", "translate"], "translate"),
    ("predict", ["run", "--in_file", "data/train.txt", "--device", "tpu"], "tpu"),
    ("evaluate", ["nowhere", "--text", "data/train.txt"], "nowhere"),
    ("evaluate", ["bad/nothing", "--text", "data/train.txt"], "bad/nothing"),
    ("evaluate", ["run", "--text", "nowhere.txt"], "nowhere.txt"),
    ("evaluate", ["run", "--pairs", "bad/broken.jsonl"], "broken.jsonl"),
    ("evaluate", ["run", "--spelling", "bad/nothing"], "bad/nothing"),
    ("evaluate", ["run", "--pairs", "bad/broken.jsonl", "--scores", "guess"], "guess"),
    ("report", [], "run"),
    ("report", ["nowhere"], "nowhere"),
    ("report", ["bad/full"], "bad/full"),
    ("report", ["bad/file"], "bad/file"),
]
