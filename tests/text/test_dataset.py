"""Laws of data sets: their rows are those of a file with the same texts, and come batch by batch.

Run: pytest tests/text/test_dataset.py
"""

import json
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from span_electra.data_config import ChunkConfig, MaskingConfig, TextConfig, VocabularyConfig
from span_electra.errors import InputError
from span_electra.features.build import build_features
from span_electra.features.header import wanted_features
from span_electra.features.store import open_features
from span_electra.pretraining.arguments import PretrainingArguments, TrainDataArguments
from span_electra.pretraining.raw_text import build_from_raw
from span_electra.text.clean import read_block
from span_electra.text.corpus import cut_blocks, hash_source
from span_electra.text.dataset import BATCH, OpenDataset, is_dataset, open_dataset
from span_electra.text.default_files import find_splits, plan_features
from span_electra.text.inputs import find_inputs
from span_electra.text.vocabulary_builder import build_vocabulary

datasets = pytest.importorskip("datasets")
TEXTS = ["one", None, "caf\u00e9\n\nthree", " ", "", *(f"row {number}" for number in range(BATCH))]
MADE = ("jsonl", "parquet", "saved", "saved splits")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def make(folder, form, texts=TEXTS, column="text"):
    """A folder with a data set of one form; return how it is named."""
    data = datasets.Dataset.from_dict({"id": list(range(len(texts))), column: texts})
    folder.mkdir()
    if form == "jsonl":
        rows = ({"id": number, column: text} for number, text in enumerate(texts))
        (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif form == "parquet":
        data.to_parquet(folder / "train.parquet", batch_size=100)
    else:
        splits = datasets.DatasetDict(train=data, test=data.select([0]))
        (splits if form == "saved splits" else data).save_to_disk(folder)
        return str(folder)  # needs no prefix
    return f"hf:{folder}"


def read(paths, chunk_size=1000, field="text"):
    inputs, sources = find_inputs(paths, field), []
    blocks = list(cut_blocks(inputs, chunk_size, sources))
    assert sum(block.consumed for block in blocks) == inputs.size
    assert [source.sha256 for source in sources] == [hash_source(file, field) for file in inputs.files]
    return [read_block(block, TextConfig(text_field=field)) for block in blocks]


@pytest.mark.parametrize("form", MADE)
def test_rows_are_those_of_a_file_with_the_same_texts(tmp_path, form):
    make(tmp_path / "plain", "jsonl", column="body")
    named = make(tmp_path / "set:of mine", form, column="body")
    for chunk_size in (1, 7, BATCH, 10**6):
        # .jsonl is cut by its bytes too, but never so early.
        assert read(named, chunk_size, "body") == read(tmp_path / "plain", chunk_size, "body")
    (file,) = find_inputs([named, named]).files
    assert find_inputs(file.path).files == (file,), "the name of what was chosen does not choose it again"


def test_a_saved_folder_is_one_wherever_it_lies(tmp_path):
    data = tmp_path / "data"
    make(data, "saved", TEXTS[:3])
    assert find_splits(data) == ({"train": [data]}, [])
    (tmp_path / "all").mkdir()
    for split in ("train", "valid"):
        make(tmp_path / "all" / split, "saved", TEXTS[:3])
    assert [file.kind for file in find_inputs(tmp_path / "all").files] == ["dataset"] * 2
    assert not is_dataset("hf://datasets/a/b/c.txt") and is_dataset("hf:a/b")


@pytest.mark.parametrize("form", MADE)
def test_rows_are_pulled_as_blocks_need_them(tmp_path, form, monkeypatch):
    pulled, texts_of = [], OpenDataset.texts

    def counted(self, text_field):
        for texts, share in texts_of(self, text_field):
            pulled.append(len(texts))
            yield texts, share

    monkeypatch.setattr(OpenDataset, "texts", counted)
    inputs = find_inputs(make(tmp_path / "set", form, TEXTS * 8))
    for block in cut_blocks(inputs, 100):
        assert sum(pulled) < block.pieces[-1].end + BATCH


def test_splits_and_configurations_are_chosen_by_name(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    for split in ("train", "validation"):
        (folder / f"{split}.jsonl").write_text(json.dumps({"text": split}) + "\n")
    assert read(f"hf:{folder}:validation") == read(f"hf:{folder}:default:validation") == [b"validation\n\n"]
    inputs = find_inputs(f"hf:{folder}")
    assert inputs.files[0].path == f"hf:{folder}:default:train"
    assert "train is read, not validation" in inputs.notes[0]
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: small\n  data_files: train.jsonl\n"
        "- config_name: large\n  data_files: [train.jsonl, validation.jsonl]\n---\n"
    )
    assert read(f"hf:{folder}:large") == [b"train\n\nvalidation\n\n"]
    with pytest.raises(InputError, match="small"):
        find_inputs(f"hf:{folder}")  # two, and none named


def test_of_saved_splits_one_is_read_and_no_other_is_said_to_be(tmp_path):
    named = make(tmp_path / "set", "saved splits")
    assert read(f"hf:{named}:test") == [b"one\n\n"]
    assert "train is read, not test" in find_inputs(named).notes[0]
    assert plan_features([named])[1] == []
    assert len(plan_features([f"{named}/train", f"{named}/test"])[1]) == 1, "named outright both are read"


REFUSED = {
    "no such split": ("hf:{folder}:dev", "no split 'dev'.*there are train.*hf:NAME:split"),
    "too many words": ("hf:{folder}:a:b:c", "is not hf:NAME"),
    "no name": ("hf:", "is not hf:NAME"),
    "empty folder": ("hf:{folder}/empty", "datasets cannot read it"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_there_is_refused_in_one_line(tmp_path, case):
    make(tmp_path / "set", "jsonl")
    (tmp_path / "set" / "empty").mkdir()
    name, message = REFUSED[case]
    with pytest.raises(InputError, match=message) as refusal:
        find_inputs(name.format(folder=tmp_path / "set"))
    assert "\n" not in str(refusal.value)


def test_a_hub_that_cannot_be_reached_is_told_at_once(monkeypatch, caplog):
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", "http://127.0.0.1:9")  # where nobody listens
    with pytest.raises(InputError, match="hf:me/books:train: no folder me/books here.*cannot be reached"):
        open_dataset("hf:me/books:train")
    assert "Retrying" not in caplog.text
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="OfflineModeIsEnabled"):
        open_dataset("hf:me/books:train")


@pytest.mark.parametrize("form", MADE)
def test_columns_are_checked_by_name_and_type(tmp_path, form):
    named = make(tmp_path / "set", form)
    for field, message in (("body", "no column 'body' .there are id, text"), ("id", "'id' holds int64")):
        with pytest.raises(InputError, match=f"{message}.*--text_field"):
            read(named, field=field)


def test_damaged_rows_are_refused_by_name(tmp_path):
    named = make(tmp_path / "set", "jsonl")
    with (tmp_path / "set" / "train.jsonl").open("a") as file:
        file.write("{no json\n")
    with pytest.raises(InputError, match="set:default:train: datasets cannot read it"):
        read(named)


def test_without_the_library_the_way_out_is_named(tmp_path, monkeypatch):
    named = make(tmp_path / "set", "saved")
    monkeypatch.setitem(sys.modules, "datasets", None)
    for name in (named, "hf:anything"):
        with pytest.raises(InputError, match=r"pip install datasets"):
            open_dataset(name)


def test_vocabularies_features_and_raw_text_of_training_come_from_it(tmp_path, monkeypatch):
    """The same files as the same rows in a .jsonl file give, through each of the three ways in."""
    monkeypatch.chdir(tmp_path)
    texts = [line for line in Path(__file__).read_text().splitlines() if line.strip()]
    settings, made = VocabularyConfig(vocab_size=300, text_field="body"), []
    for form in ("jsonl", "saved splits"):
        named = make(tmp_path / form, form, texts, column="body")
        named = f"{tmp_path / form}/train.jsonl" if form == "jsonl" else named
        vocabulary, _, _ = build_vocabulary(named, f"{form} vocab", "trial", settings)
        rows = wanted_features(vocabulary, ChunkConfig(32), MaskingConfig(), reading=settings)
        build_features([named], vocabulary, f"{form}.arrow", rows)
        data = TrainDataArguments(
            vocab_file=f"{form} vocab/trial BPE-vocab.json",
            raw_text_dir=named,
            text_field="body",
            max_seq_len=32,
            save_features=True,
        )
        arguments = PretrainingArguments(train_data=data)
        with ExitStack() as stack:
            raw = build_from_raw(arguments, tmp_path / f"{form} run", "train", named, stack)
        made.append([vocabulary.sha256, *(open_features(path) for path in (f"{form}.arrow", raw))])
    (vocabulary, features, raw), (vocabulary_2, features_2, raw_2) = made
    assert vocabulary == vocabulary_2 and features.rows == raw.rows > 100
    for one, other in ((features, features_2), (raw, raw_2)):
        assert (one.gather(np.arange(one.rows), 32) == other.gather(np.arange(one.rows), 32)).all()
