"""Laws of text to features: conservation, identity with the library, same bytes always, nothing half-done.

Run: pytest tests/features/test_build.py
"""

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from feature_examples import build, text

from span_electra.data_config import ChunkConfig, MaskingConfig, TextConfig
from span_electra.errors import InputError
from span_electra.features import build as F
from span_electra.features.store import open_features
from span_electra.text.vocabulary import SPECIAL_TOKENS, Vocabulary, assemble
from span_electra.text.vocabulary_builder import VocabularyConfig, train


@pytest.fixture(scope="module", params=["BPE", "BERT"])
def vocabulary(request):
    return train([text(500).encode()], VocabularyConfig(tokenizer_type=request.param, vocab_size=400))


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text(text(300, 1))
    (tmp_path / "in" / "b.txt").write_text(text(7, 2))
    (tmp_path / "in" / "c.txt.gz").write_bytes(gzip.compress(text(150, 3).encode()))
    (tmp_path / "in" / "d.jsonl").write_text(
        "".join(json.dumps({"text": line}) + "\n" for line in text(60, 4).splitlines())
    )
    return tmp_path / "in"


def stream(path):
    """All content tokens in order."""
    features = open_features(path)
    rows = pa.ipc.open_file(pa.memory_map(str(path))).read_all()["input_ids"].to_pylist()
    assert all(row[0] == features.header.cls_id and row[-1] == features.header.sep_id for row in rows)
    return [token for row in rows for token in row[1:-1]]


def test_the_file_holds_the_library_s_ids_each_once_in_order(tmp_path, corpus, vocabulary):
    counts = build(corpus, vocabulary, tmp_path / "f.arrow")
    lines = (corpus / "a.txt").read_text() + (corpus / "b.txt").read_text() + text(150, 3) + text(60, 4)
    encodings = vocabulary.tokenizer.encode_batch(lines.splitlines(), add_special_tokens=False)
    expected = [token for encoding in encodings for token in encoding.ids]
    assert stream(tmp_path / "f.arrow") == expected
    assert counts.header.content == len(expected) == open_features(tmp_path / "f.arrow").header.content
    assert os.listdir(tmp_path) == ["in", "f.arrow"] or sorted(os.listdir(tmp_path)) == ["f.arrow", "in"]


def test_the_masks_keep_the_budget(tmp_path, corpus, vocabulary):
    build(corpus, vocabulary, tmp_path / "f.arrow", masking=MaskingConfig(mask_ratio=0.3))
    features = open_features(tmp_path / "f.arrow")
    spans, begin = features.spans(np.arange(features.rows)), 0
    for length, end in zip(features.lengths_R.tolist(), spans.row_ends_R, strict=True):
        assert spans.lengths_S[begin:end].sum() == round(0.3 * (length - 2))
        begin = end


def test_special_tokens_that_a_text_spells_out_are_told_and_not_hidden(tmp_path, vocabulary, capfd):
    ends = random.Random(0).choices([" [PAD]", "[SEP]", " [UNK]"], k=1000)
    lines = text(300).replace("e ", "e [MASK] ").split("\n")
    (tmp_path / "a.txt").write_text("\n".join(map("".join, zip(lines, ends, strict=False))))
    build(tmp_path / "a.txt", vocabulary, tmp_path / "f.arrow", progress=True)
    features, framing = open_features(tmp_path / "f.arrow"), vocabulary.framing_ids
    rows_R, special = (
        np.arange(features.rows),
        sum(token in framing for token in stream(tmp_path / "f.arrow")),
    )
    assert special > 500 and vocabulary.unk_id not in framing
    assert f"[PAD], [MASK]): {special:,}; they are not hidden" in capfd.readouterr().err
    ids_BL = features.gather(rows_R, 64)
    for spans in (features.spans(rows_R), features.sample_spans(rows_R, epoch=1, seed=0)):
        row_S = np.repeat(rows_R, np.diff(spans.row_ends_R, prepend=0))
        for row, start, size in zip(row_S, spans.starts_S, spans.lengths_S, strict=True):
            assert not np.isin(ids_BL[row, start : start + size], framing).any()


def test_a_line_too_long_to_encode_is_told_of_its_file(tmp_path, vocabulary, monkeypatch):
    monkeypatch.setattr("span_electra.text.encode.LONGEST_BY_LIBRARY", 9)
    (tmp_path / "a.txt").write_text("plain\n" * 9)
    (tmp_path / "b.txt").write_text("plain\nand [MASK] long\n")
    with pytest.raises(InputError, match="b.txt: a line of 15 characters"):
        build(tmp_path, vocabulary, tmp_path / "f.arrow")


def test_no_row_crosses_a_document_that_is_respected(tmp_path, vocabulary):
    documents = ["alpha beta gamma " * 3, "assert spans " * 40, "def"]
    (tmp_path / "a.txt").write_text("\n \n".join(documents))
    options = {"chunking": ChunkConfig(max_seq_len=32, short_chunk_prob=0, respect_documents=True)}
    build(tmp_path / "a.txt", vocabulary, tmp_path / "f.arrow", **options)
    sizes = [len(vocabulary.tokenizer.encode(line, add_special_tokens=False)) for line in documents]
    blank = len(vocabulary.tokenizer.encode(" ", add_special_tokens=False))
    sizes = [sizes[0] + blank, sizes[1] + blank, sizes[2]]
    expected = [part for size in sizes for part in [30] * (size // 30) + [size % 30] * (size % 30 > 0)]
    assert (open_features(tmp_path / "f.arrow").lengths_R - 2).tolist() == expected


@pytest.mark.parametrize("workers", [2, 30])
def test_same_bytes_for_any_number_of_processes(tmp_path, corpus, vocabulary, workers, monkeypatch):
    monkeypatch.setattr(F, "WORTH_A_PROCESS", 1)
    build(corpus, vocabulary, tmp_path / "one.arrow")
    build(corpus, vocabulary, tmp_path / "more.arrow", workers=workers)
    assert (tmp_path / "one.arrow").read_bytes() == (tmp_path / "more.arrow").read_bytes()


def fail_after(monkeypatch, parts):
    """Break the command off once so many parts are written."""
    make, made = F.writing_maker, []

    def breaking(settings):
        work = make(settings)

        def once(task):
            if len(made) == parts:
                raise KeyboardInterrupt
            made.append(task)
            return work(task)

        return once

    monkeypatch.setattr(F, "writing_maker", breaking)


def test_a_broken_off_command_goes_on_and_gives_the_same_bytes(tmp_path, corpus, vocabulary, capsys):
    build(corpus, vocabulary, tmp_path / "whole.arrow")
    with pytest.MonkeyPatch.context() as patch:
        fail_after(patch, 4)
        with pytest.raises(KeyboardInterrupt):
            build(corpus, vocabulary, tmp_path / "f.arrow")
    assert not (tmp_path / "f.arrow").exists()
    parts = sorted((tmp_path / ".f.arrow.parts").glob("part-*"))
    assert len(parts) == 4
    damaged = bytearray(parts[1].read_bytes())
    damaged[-200] ^= 1
    parts[1].write_bytes(damaged)
    build(corpus, vocabulary, tmp_path / "f.arrow", progress=True)
    assert "note: 3 of " in capsys.readouterr().err
    assert (tmp_path / "f.arrow").read_bytes() == (tmp_path / "whole.arrow").read_bytes()
    assert not (tmp_path / ".f.arrow.parts").exists()


def test_the_file_grows_while_parts_are_made(tmp_path, corpus, vocabulary, monkeypatch):
    make, sizes = F.writing_maker, []

    def watching(settings):
        work = make(settings)

        def watched(task):
            (growing,) = tmp_path.glob(".f.arrow.*.partial")
            sizes.append(growing.stat().st_size)
            return work(task)

        return watched

    monkeypatch.setattr(F, "writing_maker", watching)
    build(corpus, vocabulary, tmp_path / "f.arrow")
    assert sizes == sorted(sizes) and sizes[-1] > sizes[0] + (tmp_path / "f.arrow").stat().st_size / 3
    assert sorted(os.listdir(tmp_path)) == ["f.arrow", "in"]


def test_a_command_that_was_broken_off_beside_its_text_goes_on(tmp_path, corpus, vocabulary, capsys):
    build(corpus, vocabulary, tmp_path / "whole.arrow")
    with pytest.MonkeyPatch.context() as patch:
        fail_after(patch, 4)
        with pytest.raises(KeyboardInterrupt):
            build(corpus, vocabulary, corpus / "f.arrow")
    build(corpus, vocabulary, corpus / "f.arrow", progress=True)
    assert "note: 4 of " in capsys.readouterr().err
    assert (corpus / "f.arrow").read_bytes() == (tmp_path / "whole.arrow").read_bytes()


@pytest.mark.parametrize("change", ["text", "seed", "vocabulary"])
def test_parts_of_other_text_or_settings_are_made_again(tmp_path, corpus, vocabulary, capsys, change):
    with pytest.MonkeyPatch.context() as patch:
        fail_after(patch, 4)
        with pytest.raises(KeyboardInterrupt):
            build(corpus, vocabulary, tmp_path / "f.arrow")
    if change == "text":
        path = corpus / "a.txt"
        before = path.stat()
        path.write_text(path.read_text()[:-2] + "z\n")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # even behind an unchanged date
    if change == "vocabulary":
        other = json.loads(vocabulary.to_json())
        other["added_tokens"].append({**other["added_tokens"][0], "id": vocabulary.size, "content": "[NEW]"})
        vocabulary = Vocabulary.from_json(json.dumps(other))
    build(corpus, vocabulary, tmp_path / "f.arrow", seed=int(change == "seed"), progress=True)
    assert "finished before" not in capsys.readouterr().err


def test_parts_that_a_killed_command_left_go_with_the_next(tmp_path, corpus, vocabulary, monkeypatch, capsys):
    """It was killed when the features stood and their parts were being removed."""
    with monkeypatch.context() as patch:
        patch.setattr(F, "_remove_parts", lambda folder: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            build(corpus, vocabulary, tmp_path / "f.arrow")
    assert (tmp_path / "f.arrow").exists() and list((tmp_path / ".f.arrow.parts").glob("part-*"))
    build(corpus, vocabulary, tmp_path / "f.arrow", progress=True)
    assert "nothing to do" in capsys.readouterr().out
    assert sorted(os.listdir(tmp_path)) == ["f.arrow", "in"]


def test_what_is_made_already_is_left_and_what_is_not_is_made(tmp_path, corpus, vocabulary, capsys):
    out_file = tmp_path / "f.arrow"
    build(corpus, vocabulary, out_file)
    stamp = out_file.stat().st_mtime_ns
    build(corpus, vocabulary, out_file, progress=True)
    assert out_file.stat().st_mtime_ns == stamp and "nothing to do" in capsys.readouterr().out
    build(corpus, vocabulary, out_file, seed=1, progress=True)
    assert out_file.stat().st_mtime_ns != stamp and "will be replaced" in capsys.readouterr().err
    assert open_features(out_file).header.seed == 1
    (corpus / "b.txt").write_text(text(8, 9))
    build(corpus, vocabulary, out_file, seed=1, progress=True)
    out_file.write_bytes(out_file.read_bytes()[:-7])
    build(corpus, vocabulary, out_file, seed=1, progress=True)
    assert "nothing to do" not in capsys.readouterr().out


def test_features_of_other_settings_are_not_read_first(tmp_path, corpus, vocabulary, monkeypatch, capsys):
    build(corpus, vocabulary, tmp_path / "f.arrow")
    opened = []
    monkeypatch.setattr(
        F, "open_features", lambda *args, verify=None: opened.append(verify) or open_features(*args, verify)
    )
    build(corpus, vocabulary, tmp_path / "f.arrow", seed=1)
    assert opened == [False]
    build(corpus, vocabulary, tmp_path / "f.arrow", seed=1, progress=True)
    assert "nothing to do" in capsys.readouterr().out
    assert opened[1:] == [False, None]  # before they are called sound, every bit is read


def test_text_without_words_is_refused_and_leaves_nothing(tmp_path, vocabulary):
    (tmp_path / "a.txt").write_text("\n\n\n")
    with pytest.raises(InputError, match="a.txt: no text in it"):
        build(tmp_path / "a.txt", vocabulary, tmp_path / "f.arrow")
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_text_ends_the_command_by_name_without_output(tmp_path, corpus, vocabulary, workers, monkeypatch):
    monkeypatch.setattr(F, "WORTH_A_PROCESS", 1)
    with open(corpus / "a.txt", "ab") as file:
        file.write(b"\xff\n")
    with pytest.raises(InputError, match="a.txt: line .* is not UTF-8"):
        build(corpus, vocabulary, tmp_path / "f.arrow", workers=workers)
    assert not (tmp_path / "f.arrow").exists()
    assert build(corpus, vocabulary, tmp_path / "f.arrow", reading=TextConfig(errors="replace")).header.rows


def test_killed_anywhere_it_goes_on_to_the_same_bytes(tmp_path, corpus, vocabulary):
    script = """
        import sys
        from pathlib import Path
        from span_electra.data_config import ChunkConfig, MaskingConfig
        from span_electra.features import build as F
        from span_electra.features.header import wanted_features
        from span_electra.text.vocabulary import Vocabulary
        F.WORTH_A_PROCESS = 1
        vocabulary = Vocabulary.from_json(Path(sys.argv[1]).read_text())
        wanted = wanted_features(vocabulary, ChunkConfig(64), MaskingConfig(), chunk_size=5)
        F.build_features(sys.argv[2], vocabulary, sys.argv[3], wanted, workers=2, progress=False)
    """
    (tmp_path / "tokenizer.json").write_text(vocabulary.to_json())
    build(corpus, vocabulary, tmp_path / "whole.arrow", chunk_size=5)
    out_file, kills = tmp_path / "f.arrow", 0
    rng = random.Random(0)
    command = [sys.executable, "-c", textwrap.dedent(script), tmp_path / "tokenizer.json", corpus, out_file]
    parts = tmp_path / ".f.arrow.parts"
    while not out_file.exists() and kills < 3:
        wanted = len(list(parts.glob("part-*"))) + rng.randrange(1, 25) if parts.exists() else 5
        process = subprocess.Popen(command)
        while process.poll() is None and not (parts.exists() and len(list(parts.glob("part-*"))) >= wanted):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    # Its orphans, which end with their task, may still finish a part; the lock is gone with the command.
    build(corpus, vocabulary, out_file, chunk_size=5)
    assert out_file.read_bytes() == (tmp_path / "whole.arrow").read_bytes() and kills > 1


def test_two_commands_for_one_output_do_not_meet(tmp_path, corpus, vocabulary):
    script = """
        import sys, time
        from pathlib import Path
        from span_electra.features.build import _parts_folder
        with _parts_folder(Path(sys.argv[1])):
            print("locked", flush=True)
            sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(script), tmp_path / "f.arrow"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(InputError, match="f.arrow: another command is making it"):
            build(corpus, vocabulary, tmp_path / "f.arrow")
        other.stdin.close()


def test_other_programs_read_the_rows(tmp_path, corpus, vocabulary):
    datasets = pytest.importorskip("datasets")
    build(corpus, vocabulary, tmp_path / "f.arrow")
    rows = datasets.load_dataset(
        "arrow", data_files=str(tmp_path / "f.arrow"), cache_dir=str(tmp_path / "cache"), split="train"
    )
    assert [token for row in rows["input_ids"] for token in row[1:-1]] == stream(tmp_path / "f.arrow")


def test_features_of_an_earlier_format_are_left_and_it_is_said(tmp_path, corpus, vocabulary, capsys):
    out_file = tmp_path / "f.arrow"
    build(corpus, vocabulary, out_file, masking=MaskingConfig(format=1))
    before = out_file.read_bytes()
    build(corpus, vocabulary, out_file, progress=True)
    assert out_file.read_bytes() == before and open_features(out_file).header.format == 1
    assert "is of format 1, of an earlier version, and keeps its masks" in capsys.readouterr().err
    build(corpus, vocabulary, out_file, masking=MaskingConfig(0.3))
    assert open_features(out_file).header.format == 2


@pytest.mark.parametrize(
    "settings", [{"chunking": ChunkConfig(3)}, {"masking": MaskingConfig(mask_ratio=0.0)}]
)
def test_settings_that_hide_nothing_say_so(tmp_path, corpus, vocabulary, capsys, settings):
    counts = build(corpus, vocabulary, tmp_path / "f.arrow", progress=True, **settings)
    said = capsys.readouterr().err
    assert counts.header.masked == 0 and "no token is hidden" in said and "--max_seq_len" in said
    build(corpus, vocabulary, tmp_path / "g.arrow", progress=True)
    assert "no token is hidden" not in capsys.readouterr().err
    build(corpus, vocabulary, tmp_path / "h.arrow", **settings)
    assert capsys.readouterr() == ("", ""), "silent where nobody listens"


def test_text_that_the_vocabulary_does_not_know_is_told_with_its_characters(tmp_path, capsys):
    vocabulary = assemble("BERT", {token: number for number, token in enumerate([*SPECIAL_TOKENS, "a", "b"])})
    (tmp_path / "t.txt").write_text("a b a b 漢 漢 字\n" * 50)
    build(tmp_path / "t.txt", vocabulary, tmp_path / "f.arrow", chunking=ChunkConfig(16), progress=True)
    note = capsys.readouterr().err
    assert "42.9% of the characters are [UNK]" in note and "most often 漢 字" in note


def test_characters_that_were_replaced_are_told_of_their_file(tmp_path, vocabulary, capsys):
    for name, wrong in (("a", 1), ("b", 3)):
        (tmp_path / f"{name}.txt").write_bytes(b"plain text\n" * 9 + b"\xff\n" * wrong)
    reading = TextConfig(errors="replace")
    made = build(tmp_path, vocabulary, tmp_path / "f.arrow", reading=reading, progress=True)
    [note] = [note for note in made.notes if "U+FFFD" in note]
    assert note.startswith("4 characters are") and note.endswith("b.txt")
    assert f"note: {note}\n" in capsys.readouterr().err


def test_the_characters_told_are_those_of_the_text_that_is_unknown(tmp_path, capsys):
    vocabulary = assemble("BERT", {token: number for number, token in enumerate([*SPECIAL_TOKENS, "a", "b"])})
    (tmp_path / "a.txt").write_text("a b a b\n" * 99 + "é\n")
    (tmp_path / "b.txt").write_text("a b 漢\n" * 100)
    build([tmp_path / "a.txt", tmp_path / "b.txt"], vocabulary, tmp_path / "f", chunk_size=100, progress=True)
    note = capsys.readouterr().err
    assert "most often 漢;" in note and "é" not in note


def test_a_token_that_is_unknown_and_frames_rows_is_counted_in_the_text_alone(tmp_path, capsys):
    ids = {token: number for number, token in enumerate([*SPECIAL_TOKENS, "a", "b"])}
    one_for_all = replace(assemble("BERT", ids).special, cls="[UNK]", sep="[UNK]")
    vocabulary = Vocabulary(assemble("BERT", ids).tokenizer, "BERT", one_for_all)
    (tmp_path / "t.txt").write_text("a b a b\n" * 50)
    build(tmp_path / "t.txt", vocabulary, tmp_path / "f.arrow", progress=True)
    assert "[UNK]" not in capsys.readouterr().err
