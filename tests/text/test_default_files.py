"""What is taken when nothing is named. Run: pytest tests/text/test_default_files.py"""

from pathlib import Path

import pytest

from span_electra.data_config import VocabularyFiles
from span_electra.errors import InputError
from span_electra.text.default_files import (
    after_features,
    choose_vocabulary,
    find_splits,
    find_vocabulary,
    plan_features,
    splits_beside,
)
from span_electra.text.inputs import find_inputs
from span_electra.text.vocabulary import SPECIAL_TOKENS, assemble


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")


def test_the_only_vocabulary_is_found_with_its_type_and_merges(tmp_path):
    touch(tmp_path, "my model BPE-vocab.json", "my model BPE-merges.txt", "tokenizer.json")
    found = find_vocabulary(vocab_file=tmp_path)
    assert (found.kind, found.vocab_file.name) == ("BPE", "my model BPE-vocab.json")
    assert found.merges_file.name == "my model BPE-merges.txt"


def test_a_named_folder_stands_for_the_vocabulary_in_it_and_an_absent_file_is_called_so(tmp_path):
    touch(tmp_path, "v/a BPE-vocab.json", "v/a BPE-merges.txt")
    assert find_vocabulary(vocab_file=tmp_path / "v").vocab_file.name == "a BPE-vocab.json"
    touch(tmp_path, "tokenizer.json")
    with pytest.raises(InputError, match="tokenizer.json: is a whole tokenizer; give it with --tokenizer"):
        find_vocabulary(vocab_file=tmp_path / "tokenizer.json")
    with pytest.raises(InputError, match="b.json: No such file"):
        find_vocabulary(vocab_file=tmp_path / "b.json")


def test_of_two_types_the_named_one_is_taken(tmp_path):
    touch(tmp_path, "a BPE-vocab.json", "a BPE-merges.txt", "a BERT-vocab.txt")
    assert find_vocabulary("BERT", tmp_path).vocab_file.name == "a BERT-vocab.txt"
    with pytest.raises(InputError, match="several vocabularies.*a BERT-vocab.txt.*--vocab_file"):
        find_vocabulary(vocab_file=tmp_path)


def test_without_a_vocabulary_the_way_out_is_named(tmp_path):
    with pytest.raises(InputError, match="create_vocab_SE.py"):
        find_vocabulary(vocab_file=tmp_path)
    touch(tmp_path, "x BPE-vocab.json")
    with pytest.raises(InputError, match="--merges_file"):
        find_vocabulary(vocab_file=tmp_path)


def test_splits_go_by_their_names(tmp_path):
    touch(tmp_path, *("train.txt", "train_2.jsonl.gz", "dev/a.txt", "notes.txt", ".hidden"))
    splits = {split: [path.name for path in paths] for split, paths in find_splits(tmp_path)[0].items()}
    assert splits == {"train": ["train.txt", "train_2.jsonl.gz"], "valid": ["dev"]}
    touch(tmp_path / "names", "valência.txt", "testé.txt", "devşirme.txt", "test语料.txt")
    splits = {
        split: [path.name for path in paths] for split, paths in find_splits(tmp_path / "names")[0].items()
    }
    assert splits == {"test": ["test语料.txt"]}, "a letter with an accent goes on with its word"
    touch(tmp_path / "more", "training.txt", "evaluation.txt", "testing.txt")
    assert set(find_splits(tmp_path / "more")[0]) == {"train", "valid", "test"}


def test_unnamed_files_are_all_train(tmp_path):
    touch(tmp_path, "b.txt", "a.txt", "trainer_notes.txt")
    splits, _ = find_splits(tmp_path)
    assert [path.name for path in splits["train"]] == ["a.txt", "b.txt", "trainer_notes.txt"]


def test_nothing_to_split_is_an_error(tmp_path):
    with pytest.raises(InputError, match="empty"):
        find_splits(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        find_splits(tmp_path / "absent")


def test_splits_that_would_go_into_one_file_are_told(tmp_path):
    def notes(named):
        return plan_features(named)[1]

    touch(tmp_path, "hidden/.a", "train.txt", "more/train/a.txt", "more/train/b.txt")
    one = [tmp_path / name for name in ("hidden", "train.txt", "more", "absent", "absent*")]
    assert notes([*one, "hf:me/books:test", "s3://bucket/test.txt"]) == []
    (tmp_path / "valid.csv").write_text("a,b\n")  # which is not read
    assert notes([tmp_path, tmp_path / "*"]) == []
    touch(tmp_path, "valid.txt")
    for named in ([tmp_path], [f"{tmp_path}/*.txt"], [tmp_path / "train.txt", tmp_path / "valid.txt"]):
        (note,) = notes(named)
        assert note.startswith(f"{tmp_path}/train.txt, {tmp_path}/valid.txt: all splits go into one file")
    touch(tmp_path, "other/test.txt")
    assert len(notes([tmp_path / "more", tmp_path / "other"])) == 1
    # What is passed over in a folder hides no split that the folder's own name tells.
    touch(tmp_path, "own/train/a.txt", "own/train/valid.csv", "own/valid/a.txt")
    assert len(notes([tmp_path / "own/train", tmp_path / "own/valid"])) == 1


@pytest.mark.parametrize(
    "named, split",
    [
        (["data/valid.txt"], "valid"),
        (["data/dev-1.txt", "data/dev*"], "valid"),
        (["data/valid.txt", "data/train.txt"], "train"),
        (["data/valid.txt", "data/notes.txt"], "train"),
        (["data"], "train"),
        (["test"], "test"),  # a folder's own name comes before those of what is in it
        (["more"], "test"),
        (["mixed"], "train"),  # a file that begins with the word makes no split of a folder
        (["hf:me/books:test"], "test"),
        (["hf:me/test"], "train"),
        (["s3://bucket/valid.jsonl", "https://host.org/val.txt?key=1"], "valid"),
    ],
)
def test_the_text_s_names_tell_where_its_features_go(tmp_path, monkeypatch, named, split):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, *(f"data/{name}.txt" for name in ("train", "valid", "dev-1", "notes")))
    touch(tmp_path, "test/a.txt", "more/test-1.txt", "more/test-2.txt", "mixed/b.txt")
    touch(tmp_path, "mixed/test results.txt")
    assert plan_features(named)[0] == {Path(f"features/{split}.arrow"): named}
    assert plan_features(named, "a.arrow")[0] == {"a.arrow": named}


def test_the_features_name_tells_which_split_they_are_of(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "data/train.txt", "data/dev.txt")
    for out_file, text, other in (
        ("elsewhere/valid.arrow", "data/dev.txt", "train"),
        ("elsewhere/train-1.arrow", "data/train.txt", "valid"),
        ("mine.arrow", "data/train.txt", "valid"),
    ):
        outputs, (note,) = plan_features([], out_file)
        assert outputs == {out_file: [Path(text)]}
        assert note.startswith(
            f"{out_file}: made of {text}, and not of {other}; name what is to be read with"
        )
    with pytest.raises(
        InputError, match=r"test.arrow: no text in data/ is of test .*train, valid.*--in_file"
    ):
        plan_features([], "test.arrow")
    outputs, notes = plan_features([])
    assert [path.name for path in outputs] == ["valid.arrow", "train.arrow"] and not notes
    Path("data/dev.txt").unlink()
    assert plan_features([], "mine.arrow") == ({"mine.arrow": [Path("data/train.txt")]}, [])


def test_files_of_no_split_are_told_where_others_are_of_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "data/notes.txt", "data/.hidden")
    assert find_splits()[1] == []
    touch(tmp_path, "data/train.txt")
    (note,) = find_splits()[1]
    assert note.startswith("data/: notes.txt: left out")


@pytest.mark.parametrize(
    "names, held",
    [
        (["wiki.train.raw", "wiki.valid.raw", "wiki.test.raw"], ["wiki.test.raw", "wiki.valid.raw"]),
        (["de-test.txt", "de.txt"], ["de-test.txt"]),
        (["corpus_dev.txt"], ["corpus_dev.txt"]),
        (["latest.txt", "contest.txt", "testament.txt", "wiki.train.raw", "the testé.txt"], []),
    ],
)
def test_a_split_in_a_later_word_of_a_name_is_told(names, held, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, *(f"data/{name}" for name in names))
    files = [f"data/{name}" for name in names]
    for outputs, notes in (plan_features([]), plan_features(files), plan_features(["data"], "mine.arrow")):
        assert len(outputs) == 1 and len(notes) == bool(held)
        for note in notes:
            assert ": read for training, as only a name's first word tells a split; rename" in note
            assert {*note.partition(": ")[0].split(", ")} == {f"data/{name}" for name in held}
    assert plan_features(files, "features/test.arrow")[1] == [], "whose name says what it is for"
    touch(tmp_path, "data/train.txt")
    (note,) = plan_features([])[1]
    assert "left out" in note, "beside files of a split"


def test_what_holds_no_text_is_of_no_split_and_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "data/a.txt", "data/labels.csv", "data/my BPE-merges.txt")
    Path("data/train.arrow").write_bytes(b"ARROW1\0\0" + b"\xff" * 8 + b"span_electra")
    Path("data/empty.txt").touch()
    splits, notes = find_splits()
    assert splits == {"train": [Path("data/a.txt")]}
    said = "\n".join(notes)
    for words in ("labels.csv: a table", "empty.txt: empty", "train.arrow: features", "of a vocabulary"):
        assert words in said
    Path("data/a.txt").unlink()
    with pytest.raises(InputError, match="empty.txt: empty"):
        find_inputs(find_splits()[0]["train"])


@pytest.mark.parametrize(
    "flags, words",
    [
        ({"mask_token": "<m>"}, "mask_token: '<m>' is for a --tokenizer"),
        ({"tokenizer": "t.json", "merges_file": "m.txt"}, "merges_file: t.json brings its own"),
        ({"tokenizer": "t.json", "tokenizer_type": "BPE"}, "t.json is no BPE tokenizer .it is BERT"),
    ],
)
def test_flags_that_would_do_nothing_are_refused(flags, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = assemble("BERT", {token: number for number, token in enumerate(SPECIAL_TOKENS)})
    Path("t.json").write_text(made.to_json())
    with pytest.raises(InputError, match=words):
        choose_vocabulary(VocabularyFiles(**flags))
    assert choose_vocabulary(VocabularyFiles(tokenizer="t.json", tokenizer_type="BERT")).kind == "BERT"


def test_what_was_just_made_is_trained_on_not_what_stood_beside_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "features/train.arrow", "features/valid.arrow")
    mine = Path("features/mine.arrow")
    assert after_features([mine], 128, 512) == ["--train_file", mine]
    assert after_features([Path("features/valid.arrow")], 128, 512) == []  # beside the default train.arrow
    assert after_features([Path("elsewhere/valid.arrow")], 128, 512) is None


@pytest.mark.parametrize("folder", ["features", "elsewhere"])
def test_a_split_beside_that_does_not_fit_is_not_taken(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train, valid = (Path(folder, f"{split}.arrow") for split in ("train", "valid"))
    touch(tmp_path, str(train), str(valid))
    assert splits_beside([train]) == [valid] and splits_beside([valid]) == [train]
    assert splits_beside([train, valid]) == splits_beside([Path(folder, "mine.arrow")]) == []
    # A bare trainer would find both.
    assert after_features([train], 128, 512, unfit=[valid]) == ["--train_file", train]
    assert after_features([valid], 128, 512, unfit=[train]) is None
    both = [] if folder == "features" else ["--train_file", train, "--valid_file", valid]
    assert after_features([train, valid], 128, 512) == after_features([train], 128, 512) == both
