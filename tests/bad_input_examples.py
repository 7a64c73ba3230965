"""Bad inputs for test_bad_inputs.py: files of every wrong kind (command lines: bad_input_cases.py)."""

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
    for exported in (bad / "exported/generator", place / "run/exported/generator"):
        exported.mkdir(parents=True)
        for name in ("config.json", "model.safetensors"):
            (exported / name).write_text("{}")
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
    task = {"task_type": "SingleSenClassification", "file_names": {"train": "latin1.txt"}}
    (bad / "task.json").write_text(json.dumps({"t": task}))
    (bad / "full").mkdir()
    (bad / "full" / "thesis.txt").write_text("do not write over me")
    (bad / "taken" / "generator").mkdir(parents=True)
    (bad / "taken" / "generator" / "thesis.txt").write_text("do not write over me")
    (bad / "file").write_text("not a folder")
