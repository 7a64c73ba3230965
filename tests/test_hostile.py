"""What strangers put into files is never executed, never followed elsewhere, never unpacked without end.

Run: pytest tests/test_hostile.py. Pickles and links in checkpoints are in test_checkpoint.py, manifests of
shards in test_store.py, markup in the report's texts in report/test_page.py.
"""

import gzip
import json
import lzma
import pickle
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feature_examples import VOCABULARY, make
from run_examples import small_run, write_rows

ROOT = Path(__file__).resolve().parent.parent
DEEP = 100_000
BOMB = 3 << 30  # bytes, once unpacked
MEMORY = 2 << 30  # bytes of addresses that the command may use


class Payload:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path):
    """A file that must not come to be."""
    path = tmp_path / "it-ran"
    yield path
    assert not path.exists(), "the payload ran"


def refused(script: str, *flags: object, memory: int = 0) -> str:
    """Run the script; it must end with code 2 and one line that is an error, which is returned."""
    limit = (lambda: resource.setrlimit(resource.RLIMIT_AS, (memory, memory))) if memory else None
    variables = {"OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, ROOT / script, *map(str, flags)]
    done = subprocess.run(command, capture_output=True, text=True, env=variables, preexec_fn=limit)
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2 and len(said) == 1 and "Traceback" not in done.stderr, done.stderr[-2000:]
    return said[0]


def vocabulary_flags(tmp_path):
    tokens = sorted(VOCABULARY.tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    (tmp_path / "v BERT-vocab.txt").write_text("".join(f"{token}\n" for token, _ in tokens))
    return ["--tokenizer_type", "BERT", "--vocab_file", tmp_path / "v BERT-vocab.txt"]


TRAIN, FEATURE = "joint_train_span_electra.py", "create_feature_SE.py"


def test_a_pickle_in_the_place_of_any_input_does_not_run(tmp_path, mark):
    bad = tmp_path / "bad"
    bad.write_bytes(pickle.dumps(Payload(mark)))
    whole = write_rows(tmp_path / "rows.arrow")
    names = {"features": "f.arrow", "config": "c.json", "words": "x BPE-vocab.json"}
    for name in names.values():
        shutil.copy(bad, tmp_path / name)
    out = ["--out_dir", tmp_path / "o"]
    refused(TRAIN, "--preset=tiny", *out, "--train_file", tmp_path / "f.arrow")
    refused(TRAIN, f"--config_file={tmp_path / 'c.json'}", *out, "--train_file", whole)
    refused(FEATURE, "--in_file", whole, "--vocab_file", tmp_path / "x BPE-vocab.json")
    flags = [*vocabulary_flags(tmp_path), "--out_file", tmp_path / "o.arrow"]
    refused(FEATURE, "--in_file", bad, *flags)


@pytest.mark.parametrize(
    "text",
    [
        "training:\n  device: !!python/object/apply:pathlib.Path.touch [{mark}]\n",
        "training:\n  device: !!python/object/new:os.system ['touch {mark}']\n",
        "training:\n  device: ${{python:open('{mark}', 'w')}}\n",
        "training:\n  device: ${{oc.decode:'{mark}'}}\n",
    ],
)
def test_a_config_that_wants_to_run_something_is_refused(tmp_path, mark, text):
    (tmp_path / "c.yaml").write_text(text.format(mark=mark))
    assert "c.yaml" in refused(TRAIN, "--config_file", tmp_path / "c.yaml")


def test_an_exported_folder_with_code_or_a_pickle_is_refused(tmp_path, mark):
    features = write_rows(tmp_path / "rows.arrow")
    folder = tmp_path / "exported" / "discriminator"
    folder.mkdir(parents=True)
    (folder / "code.py").write_text(f"open({str(mark)!r}, 'w')")
    described = {"model_type": "electra", "auto_map": {"AutoModel": "code.Model"}, "hidden_size": 32}
    (folder / "config.json").write_text(json.dumps(described))
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(mark)))
    flags = ["--preset", "tiny", "--train_file", features, "--out_dir", tmp_path / "o"]
    refused(TRAIN, *flags, "--init_from", tmp_path / "exported")


def test_json_nested_without_end_is_refused_everywhere(tmp_path):
    deep = "[" * DEEP + "]" * DEEP
    (tmp_path / "c.json").write_text(deep)
    (tmp_path / "t.jsonl").write_text('{"text": ' + deep + "}\n")
    (tmp_path / "x BPE-vocab.json").write_text(deep)
    (tmp_path / "x BPE-merges.txt").write_text("#version: 0.2\n")
    whole = write_rows(tmp_path / "rows.arrow")
    assert "c.json" in refused(TRAIN, "--config_file", tmp_path / "c.json", "--train_file", whole)
    out = ["--out_file", tmp_path / "o.arrow"]
    said = refused(FEATURE, "--in_file", tmp_path / "t.jsonl", *vocabulary_flags(tmp_path), *out)
    assert "t.jsonl" in said
    flags = ["--tokenizer_type", "BPE", "--vocab_file", tmp_path / "x BPE-vocab.json", *out]
    assert "x BPE-vocab.json" in refused(FEATURE, "--in_file", tmp_path / "t.jsonl", *flags)


def test_a_length_that_lies_is_not_believed(tmp_path):
    whole = Path(write_rows(tmp_path / "rows.arrow")).read_bytes()
    (tmp_path / "head.arrow").write_bytes(whole[:12] + b"\xff\xff\xff\x7f" + whole[16:])
    (tmp_path / "foot.arrow").write_bytes(whole[:-10] + b"\xff\xff\xff\x7f" + whole[-6:])
    for name in ("head.arrow", "foot.arrow"):
        flags = ["--preset", "tiny", "--train_file", tmp_path / name, "--out_dir", tmp_path / "o"]
        assert name in refused(TRAIN, *flags)
    lying = (1 << 62).to_bytes(8, "little") + b"{}"
    (tmp_path / "w.safetensors").write_bytes(lying)
    flags = ["--preset", "tiny", "--train_file", tmp_path / "rows.arrow", "--out_dir", tmp_path / "o"]
    assert "w.safetensors" in refused(TRAIN, *flags, "--init_from", tmp_path / "w.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gz", "xz", "zst"])
def test_a_bomb_is_refused_before_it_fills_the_memory(tmp_path, kind):
    path, piece = tmp_path / f"bomb.txt.{kind}", b"a" * (1 << 24)
    openers = {
        "gz": gzip.open,
        "xz": lzma.open,
        "zst": lambda *_: pa.CompressedOutputStream(str(path), "zstd"),
    }
    with openers[kind](path, "wb") as out:
        for _ in range(BOMB // len(piece)):
            out.write(piece)
    assert path.stat().st_size < 10 << 20
    flags = ["--in_file", path, *vocabulary_flags(tmp_path), "--out_file", tmp_path / "o.arrow"]
    assert path.name in refused(FEATURE, *flags, "--workers", "1", memory=MEMORY)


def test_a_parquet_file_may_not_name_another(tmp_path):
    pq.write_table(pa.table({"text": ["a cat"]}), tmp_path / "t.parquet")
    data = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(data[:-8] + b"\xff\xff\xff\x7fPAR1")
    flags = [*vocabulary_flags(tmp_path), "--out_file", tmp_path / "o.arrow"]
    assert "t.parquet" in refused(FEATURE, "--in_file", tmp_path / "t.parquet", *flags)


def test_every_flipped_kilobyte_of_a_feature_file_is_noticed(tmp_path):
    from span_electra.errors import InputError
    from span_electra.features.store import open_features

    make(tmp_path / "f.arrow", rows=600, seed=3)
    data = (tmp_path / "f.arrow").read_bytes()
    assert len(data) > 40 << 10
    for place in range(0, len(data), 1024):
        for name, changed in {
            "cut": data[:place],
            "flipped": data[:place] + bytes([data[place] ^ 1 << place // 1024 % 8]) + data[place + 1 :],
        }.items():
            (tmp_path / f"{name}.arrow").write_bytes(changed)
            with pytest.raises(InputError, match=name):
                open_features(tmp_path / f"{name}.arrow")


def test_a_run_folder_of_a_stranger_is_only_data(tmp_path, mark):
    from span_electra.pretraining.experiment import run_pretraining

    features = write_rows(tmp_path / "rows.arrow")
    result = run_pretraining(small_run(features, tmp_path / "run"))
    settings = Path(result.checkpoint, "meta.json")
    described = json.loads(settings.read_text())
    described["model"]["__reduce__"] = [f"touch {mark}"]
    settings.write_text(json.dumps(described))
    refused("export_SE.py", "--checkpoint_path", result.checkpoint, "--out_dir", tmp_path / "o")
    assert not (tmp_path / "o").exists()
