"""Bad inputs to every script: exit 2, one line that names what and the way out, nothing new on the disk.

Run: pytest tests/test_bad_inputs.py
"""

import bz2
import gzip
import json
import lzma
import os
import shutil
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from run_examples import small_run, write_rows

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import create_feature_SE  # noqa: E402
import create_vocab_SE  # noqa: E402
import export_SE  # noqa: E402
import joint_train_span_electra  # noqa: E402
import report_SE  # noqa: E402
from span_electra.commandline import run_script  # noqa: E402
from span_electra.training.run import run_training  # noqa: E402

MAIN = {
    "vocab": create_vocab_SE.main,
    "feature": create_feature_SE.main,
    "train": joint_train_span_electra.main,
    "export": export_SE.main,
    "report": report_SE.main,
}
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
    }
    for name, content in files.items():
        (bad / name).write_text(content)
    (bad / "binary.json").write_bytes(b"\xff\xfe\x00\x01")


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
    }
    for name, content in files.items():
        (bad / name).write_text(content)


def write_features(place: Path, bad: Path) -> None:
    """Feature files that are none, and a whole run to be broken."""
    whole = write_rows(place / "rows.arrow")
    write_rows(place / "other.arrow", prefix="v")
    settings = json.dumps({"model": {"embedding_size": 16}})
    run_training(replace(small_run(whole, place / "run"), config_json=settings))
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
    (bad / "full").mkdir()
    (bad / "full" / "thesis.txt").write_text("do not write over me")
    (bad / "taken" / "generator").mkdir(parents=True)
    (bad / "taken" / "generator" / "thesis.txt").write_text("do not write over me")
    (bad / "file").write_text("not a folder")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with good and bad files of every kind; cases run in it and must leave it as it is."""
    place = tmp_path_factory.mktemp("a place")
    bad = place / "bad"
    bad.mkdir()
    (place / "data").mkdir()
    (place / "data" / "train.txt").write_text(TEXT)
    write_texts(bad)
    write_settings(bad)
    for kind in ("BPE", "BERT"):
        folder, size = ("vocab", "280") if kind == "BPE" else ("words", "60")
        flags = ["--out_dir", folder, "--tokenizer_type", kind, "--vocab_size", size, "--min_fre", "1"]
        assert attempt(place, "vocab", flags) == 0
    write_vocabularies(place, bad)
    write_features(place, bad)
    return place


def attempt(place: Path, script: str, flags: list[str]) -> int:
    """Run a script's main in `place` as its command line would; return its exit code."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.chdir(place)
        patch.setattr(sys, "argv", [script, *flags])
        patch.setattr(warnings, "formatwarning", warnings.formatwarning)
        with pytest.raises(SystemExit) as end:
            run_script(MAIN[script])
    return end.value.code


def disk(place: Path) -> dict[str, tuple[int, int]]:
    """Every file's size and time of change, every folder's presence."""
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns) if path.is_file() else (0, 0)
        for path in place.rglob("*")
    }


IN, OUT = ["--in_file"], ["--out_file", "out.arrow"]
BPE = ["--tokenizer_type", "BPE", "--vocab_file"]
GOOD = ["--preset", "tiny", "--train_file", "rows.arrow", "--out_dir", "out"]
CASES = [  # script, flags, what the line must name
    ("vocab", ["--data_dir", "nowhere"], "nowhere"),
    ("vocab", ["--data_dir", "bad/nothing"], "bad/nothing"),
    ("vocab", ["--data_dir", "bad/hidden"], "bad/hidden"),
    ("vocab", ["--data_dir", "bad/empty.txt"], "empty.txt"),
    ("vocab", ["--data_dir", "bad/blank.txt"], "--vocab_size"),
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
    ("feature", [*BPE, "nowhere.json", *OUT], "nowhere.json"),
    ("feature", [*BPE, "bad/BPE-list.json", *OUT], "BPE-list.json"),
    ("feature", [*BPE, "bad/BPE-broken.json", *OUT], "BPE-broken.json"),
    (
        "feature",
        [*BPE, "bad/BPE-lacking.json", "--merges_file", "vocab/trial BPE-merges.txt", *OUT],
        "[MASK]",
    ),
    (
        "feature",
        [*BPE, "bad/BPE-twice.json", "--merges_file", "vocab/trial BPE-merges.txt", *OUT],
        "BPE-twice",
    ),
    ("feature", [*BPE, "bad/BPE-gaps.json", "--merges_file", "vocab/trial BPE-merges.txt", *OUT], "BPE-gaps"),
    ("feature", [*BPE, "bad/BPE-text.json", "--merges_file", "vocab/trial BPE-merges.txt", *OUT], "BPE-text"),
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
    ("train", [*GOOD, "--vocab_size", "20"], "20"),
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
            "binary.json"
        ).split()
    ),
    ("export", [], "--checkpoint_path"),
    ("export", ["--checkpoint_path", "nowhere", "--out_dir", "out"], "nowhere"),
    ("export", ["--checkpoint_path", "bad/nothing", "--out_dir", "out"], "bad/nothing"),
    ("export", ["--checkpoint_path", "CUT", "--out_dir", "out"], "cut-checkpoint"),
    ("export", ["--checkpoint_path", "PICKLED", "--out_dir", "out"], "pickled-checkpoint"),
    ("export", ["--checkpoint_path", "UNMARKED", "--out_dir", "out"], "unmarked-checkpoint"),
    ("export", ["--checkpoint_path", "WHOLE", "--out_dir", "bad/taken"], "bad/taken"),
    ("report", [], "run"),
    ("report", ["nowhere"], "nowhere"),
    ("report", ["bad/full"], "bad/full"),
    ("report", ["bad/file"], "bad/file"),
]


def spelled_out(place: Path, flag: str) -> str:
    """The path of a checkpoint that a case names by a word in capitals."""
    folder = {"WHOLE": place / "run"}.get(flag, place / "bad" / f"{flag.lower()}-checkpoint")
    return str(max((folder / "checkpoints").iterdir())) if flag.isupper() and flag.isalpha() else flag


@pytest.mark.parametrize(
    ("script", "flags", "named"),
    CASES,
    ids=[f"{number}-{case[0]}-{case[2]}" for number, case in enumerate(CASES)],
)
def test_a_bad_input_is_refused_in_one_line_and_leaves_nothing(place, capfd, script, flags, named):
    if script == "export":
        flags = [
            spelled_out(place, flag) if flag in ("CUT", "PICKLED", "UNMARKED", "WHOLE") else flag
            for flag in flags
        ]
    before = disk(place)
    code = attempt(place, script, flags)
    lines = [line for line in capfd.readouterr().err.splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith(("warning: ", "features: "))]  # not the bar's
    assert code == 2, said
    assert len(said) == 1 and said[0].startswith("error: "), said
    assert named in said[0], said
    assert "Traceback" not in said[0] and len(said[0]) < 500
    assert disk(place) == before
