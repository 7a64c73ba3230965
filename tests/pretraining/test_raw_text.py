"""Features from raw text, kept beside it and found again by hash.

Run: pytest tests/pretraining/test_raw_text.py
"""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argument import JointTrainingConfig
from span_electra.data_config import VocabularyConfig
from span_electra.features.store import open_features
from span_electra.pretraining.arguments import PretrainingArguments
from span_electra.pretraining.raw_text import build_from_raw
from span_electra.storage import link_or_copy
from span_electra.text.vocabulary_builder import build_vocabulary

MADE, ALREADY = "tokens in,", "made already, from the same text with the same settings"


@pytest.fixture
def arguments(tmp_path, monkeypatch) -> PretrainingArguments:
    """Settings of a run on a small text, in an empty place."""
    monkeypatch.chdir(tmp_path)
    Path("text").mkdir()
    Path("text/a.txt").write_text("the cat sat on the mat.\n" * 40)
    build_vocabulary("text", "vocab", "trial", VocabularyConfig(vocab_size=270, min_fre=1))
    chosen = JointTrainingConfig()
    return replace(chosen, train_data=replace(chosen.train_data, max_seq_len=16))


def build(arguments: PretrainingArguments, run: str, **data: object) -> Path:
    changed = replace(arguments, train_data=replace(arguments.train_data, **data))
    with ExitStack() as stack:
        path = Path(build_from_raw(changed, Path(run), "train", "text", stack))
        assert open_features(path).rows
    return path


def test_the_same_text_and_settings_are_found_by_another_run_and_told(arguments, capsys):
    assert build(arguments, "runs/a", save_features=True) == Path("runs/a/features/train.arrow")
    first = capsys.readouterr().out
    assert MADE in first and ALREADY not in first
    assert build(arguments, "runs/b", save_features=True) == Path("runs/b/features/train.arrow")
    assert ALREADY in capsys.readouterr().out
    kept = build(arguments, "runs/c")  # asked for or not, what is there is used
    assert ALREADY in capsys.readouterr().out and kept.parent.name == ".text.features"
    assert not Path("runs/c").exists()


@pytest.mark.parametrize("change", ["text", "seed", "length", "masking", "vocabulary"])
def test_another_text_or_setting_is_made_anew_and_earlier_runs_keep_theirs(arguments, capsys, change):
    before = build(arguments, "runs/a", save_features=True).read_bytes()
    capsys.readouterr()
    more: dict[str, object] = {"length": {"max_seq_len": 12}, "masking": {"mask_ratio": 0.3}}.get(change, {})
    if change == "text":
        Path("text/a.txt").write_text("the mat sat on the cat.\n" * 40)
    if change == "seed":
        arguments = replace(arguments, training=replace(arguments.training, seed=1))
    if change == "vocabulary":
        build_vocabulary("text", "other", "trial", VocabularyConfig(vocab_size=265, min_fre=1))
        more = {"vocab_file": "other/trial BPE-vocab.json"}
    after = build(arguments, "runs/b", save_features=True, **more)
    assert MADE in (said := capsys.readouterr().out) and ALREADY not in said
    assert after.read_bytes() != before
    assert Path("runs/a/features/train.arrow").read_bytes() == before


def test_what_is_kept_nowhere_is_named_nowhere(arguments, capsys):
    path = build(arguments, "runs/a")
    said = "".join(capsys.readouterr())
    assert not path.exists() and str(path.parent) not in said
    assert "--save_features keeps them" in said
    # First of all: who breaks it off should know before that hours of it are lost.
    assert said.startswith("note: text: its features lie where temporary") and "finished parts too" in said
    assert sorted(entry.name for entry in Path().iterdir()) == ["text", "vocab"]


def test_tokenized_text_is_kept_and_taken_again(arguments, capsys):
    build(arguments, "runs/a", save_tokenized_text=True)
    tokens = Path("runs/a/tokenized/train.txt").read_text()
    assert "[CLS] the" in tokens or "[CLS] Ġthe" in tokens
    capsys.readouterr()
    build(arguments, "runs/b", save_tokenized_text=True)
    said = capsys.readouterr().out
    assert ALREADY in said and "the tokenized text, made already" in said
    assert Path("runs/b/tokenized/train.txt").read_text() == tokens
    Path("text/a.txt").write_text("on the mat sat the cat.\n" * 40)
    build(arguments, "runs/c", save_tokenized_text=True)
    assert Path("runs/c/tokenized/train.txt").read_text() != tokens
    assert Path("runs/a/tokenized/train.txt").read_text() == tokens


def test_tokens_are_never_of_an_older_text(arguments, capsys):
    build(arguments, "runs/a", save_features=True, save_tokenized_text=True)
    Path("text/a.txt").write_text("on the mat sat the cat.\n" * 40)
    build(arguments, "runs/b")  # makes the features that are kept anew, and no tokens
    build(arguments, "runs/c", save_tokenized_text=True)
    tokens = Path("runs/c/tokenized/train.txt").read_text()
    assert ALREADY in capsys.readouterr().out and tokens != Path("runs/a/tokenized/train.txt").read_text()


def test_a_folder_of_splits_is_not_learned_from_as_one_without_a_word(arguments, capsys):
    build(arguments, "runs/a")
    assert "all splits" not in capsys.readouterr().out
    for split in ("train", "test"):
        Path(f"text/{split}.txt").write_text("the cat sat on the mat.\n" * 40)
    build(arguments, "runs/a")
    assert "note: text/test.txt, text/train.txt: all splits go into one" in capsys.readouterr().out


@pytest.mark.parametrize("kept", ["save_features", "save_tokenized_text"])
def test_where_nothing_may_be_written_beside_the_text_the_run_alone_keeps(
    arguments, capsys, monkeypatch, kept
):
    monkeypatch.setattr("span_electra.pretraining.raw_text.os.access", lambda path, mode: False)
    assert build(arguments, "runs/a", **{kept: True}) == Path("runs/a/features/train.arrow")
    assert not Path(".text.features").exists()
    capsys.readouterr()
    build(arguments, "runs/a")  # resumed
    assert ALREADY in capsys.readouterr().out


@settings(max_examples=10, deadline=None)
@given(st.binary(max_size=20), st.binary(max_size=20))
def test_a_second_place_keeps_its_file(tmp_path_factory, first, second):
    place = tmp_path_factory.mktemp("place")
    source, target = place / "a", place / "b" / "c"
    source.write_bytes(first)
    link_or_copy(source, target)
    other = place / "new"
    other.write_bytes(second)
    other.replace(source)
    assert target.read_bytes() == first
