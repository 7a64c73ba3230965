"""Evaluation as a whole: from a folder to tables, JSON and the report.

Run: pytest tests/evaluation/test_stage.py
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from network_examples import by_hand, exported, frequencies, random_model, spotter, vocabulary_of_words
from run_examples import small_run, write_rows

from argument import EvaluateArgs
from span_electra.errors import InputError
from span_electra.evaluation.spelling import read_pair, sets_below
from span_electra.evaluation.stage import evaluate, spelling_scores, table_text
from span_electra.hub.folders import read_weights
from span_electra.pretraining.experiment import run_pretraining
from span_electra.report.page import make_page
from span_electra.report.scores import Table
from span_electra.training import checkpoint

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tried(tmp_path):
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / "a.jsonl").write_text('{"sentence_good": "the cat", "sentence_bad": "cat the"}\n')
    (tmp_path / "text.txt").write_text("the cat sleeps on the mat\n" * 30)
    for split in ("dev", "test"):
        (tmp_path / "spelling" / split).mkdir(parents=True)
        (tmp_path / "spelling" / split / "corrupt.txt").write_text("the cta\nmat\n")
        (tmp_path / "spelling" / split / "correct.txt").write_text("0 1\n0\n")
    return tmp_path


def write_texts(folder, corrupted, clean):
    folder.mkdir(parents=True)
    (folder / "corrupt.txt").write_text("".join(line + "\n" for line in corrupted))
    (folder / "correct.txt").write_text("".join(line + "\n" for line in clean))


def run(folder, pairs=(), **more):
    return "".join(evaluate(EvaluateArgs(model=str(folder), pairs=list(pairs), **more)))


def test_everything_lands_in_one_file_and_later_calls_add_to_it(tried):
    exported(tried / "model")
    said = run(tried / "model", [str(tried / "pairs")], spelling=str(tried / "spelling"))
    assert "minimal pairs · by field" in said and "area under curve" in said
    target = tried / "model" / "evaluation.json"
    assert said.endswith(str(target))
    run(tried / "model", text=str(tried / "text.txt"))
    found = json.loads(target.read_text())
    assert {"evaluated", "minimal pairs", "spelling", "held-out text"} <= set(found)
    assert set(found["minimal pairs"]["by field"]["all"]) >= {"discriminator", "pll", "pll_l2r, 95%"}


def test_held_out_text_is_read_as_text_for_features_is(tried, capsys):
    exported(tried / "model")

    def found(path, **reading):
        run(tried / "model", text=str(tried / path), **reading)
        return json.loads((tried / "model" / "evaluation.json").read_text())["held-out text"]

    lines = ["the cat sleeps on the mat", "the \ufffd barks"] * 30
    whole = "\n".join(lines)
    (tried / "a.txt").write_bytes(whole.encode().replace("\ufffd".encode(), b"\xff"))
    (tried / "b.txt").write_text(whole, encoding="utf-8")
    (tried / "c.jsonl").write_text("".join(json.dumps({"body": line}) + "\n" for line in lines))
    with pytest.raises(InputError, match="a.txt: line 2 is not UTF-8 .*--errors replace"):
        found("a.txt")
    with pytest.raises(InputError, match="row 1 has no field 'text'.*--text_field"):
        found("c.jsonl")
    with_replaced = found("a.txt", errors="replace")
    assert "a.txt: 30 characters are U+FFFD" in capsys.readouterr().err
    assert with_replaced == found("b.txt") == found("c.jsonl", text_field="body")


def test_what_is_done_is_kept_where_a_later_part_is_refused(tried):
    exported(tried / "model")
    with pytest.raises(InputError, match="missing.txt"):
        run(tried / "model", [str(tried / "pairs")], text="missing.txt")
    assert "minimal pairs" in json.loads((tried / "model" / "evaluation.json").read_text())


def test_clean_text_alone_is_corrected_and_may_begin_with_a_blank_line(tmp_path):
    for split in ("dev", "test"):
        write_texts(tmp_path / split / "sec", ["", "the cta"], ["", "the cat"])
    networks = by_hand(frequencies({"cat": 5.0}), spotter({"##t": 1.0}))
    found = spelling_scores(networks, tmp_path, 3)
    assert list(found) == ["spelling correction"]
    assert found["spelling correction"]["sec"]["correction F1"] == 1.0


def test_lines_with_errors_are_found_by_their_words_by_hand(tmp_path):
    for split in ("dev", "test"):
        write_texts(
            tmp_path / split / "words", ["the cats", "dogs on", "the mat", "dog"], ["0 1", "0 1", "0 0", "0"]
        )
    (tmp_path / "test" / "words" / "correct.txt").write_text("1 0\n0 1\n0 0\n0\n")
    # Found: cats and on; in test the first line is wrong in another word, but wrong it is.
    networks = by_hand(discriminator=spotter({"cats": 3.0, "on": 3.0}))
    row = spelling_scores(networks, tmp_path, 0)["spelling"]["words"]
    assert (row["F1"], row["sequence F1"], row["sequences"]) == (0.5, 1.0, 4)
    assert row["sequence F1 of calling all wrong"] == pytest.approx(2 * 2 / (4 + 2))


def test_clean_texts_are_what_correction_is_scored_on_by_hand(tmp_path):
    for split in ("dev", "test"):
        write_texts(tmp_path / split / "words", ["the cta"], ["0 1"])
    write_texts(tmp_path / "dev" / "sec", ["the cta"] * 2, ["the cat"] * 2)
    lines = ["the cta", "the dgo", "the cat", "cta"]
    write_texts(tmp_path / "test" / "sec", lines, ["the cat", "the dog", "the cat", "unread"])
    # 't' and 'g' inside a word are odd: p = .73; 'cat' is the likeliest word, and near enough to 'cta' alone.
    networks = by_hand(frequencies({"cat": 5.0}), spotter({"##t": 1.0, "##g": 1.0}))
    found = spelling_scores(networks, tmp_path, 3)
    assert list(found["spelling"]) == ["words"]
    row = found["spelling correction"]["sec"]
    assert (row["first lines"], row["threshold"]) == (3, 0.5)
    assert (row["precision"], row["recall"], row["correction F1"]) == (1.0, 1.0, 1.0)
    assert row["mean normalised edit distance"] == 0.0
    assert row["distance of leaving all as it is"] == pytest.approx((2 / 7 + 2 / 7 + 0) / 3)


def test_the_threshold_of_correction_is_the_best_of_dev(tmp_path):
    # Here p is .4: the usual threshold changes nothing.
    for split in ("dev", "test"):
        write_texts(tmp_path / split / "words", ["the cta"], ["0 1"])
        write_texts(tmp_path / split / "sec", ["the cta"], ["the cat"])
    networks = by_hand(frequencies({"cat": 5.0}), spotter({"##t": -0.4}))
    row = spelling_scores(networks, tmp_path, 1)["spelling correction"]["sec"]
    assert (row["threshold"], row["correction F1"]) == (0.3, 1.0)


def test_without_a_generator_or_with_no_lines_asked_for_nothing_is_corrected(tried):
    write_texts(tried / "spelling" / "test" / "sec", ["the cta"], ["the cat"])
    exported(tried / "model")
    out = tried / "scores.json"
    said = run(tried / "model" / "discriminator", spelling=str(tried / "spelling"), out_file=str(out))
    assert "sequence F1" in said and "spelling correction" not in json.loads(out.read_text())
    assert "correction F1" not in run(tried / "model", spelling=str(tried / "spelling"), correction_rows=0)
    assert "correction F1" in run(tried / "model", spelling=str(tried / "spelling"))
    assert set(json.loads((tried / "model" / "evaluation.json").read_text())) == {
        "evaluated",
        "evaluated on",
        "spelling",
        "spelling correction",
    }


def test_texts_that_are_no_pairs_are_named(tmp_path):
    write_texts(tmp_path / "sec", ["a", "b"], ["a"])
    assert sets_below(tmp_path, labelled=False) == {"sec": tmp_path / "sec"}
    with pytest.raises(InputError, match="correct.txt: ends before .*corrupt.txt; both need as many"):
        read_pair(tmp_path / "sec")


def test_numbers_of_other_weights_do_not_mix(tried):
    exported(tried / "model")
    run(tried / "model", [str(tried / "pairs")])
    exported(tried / "model", seed=1)
    said = run(tried / "model", text=str(tried / "text.txt"))
    assert said.endswith("(in place of what stood there of other weights)")
    assert "minimal pairs" not in json.loads((tried / "model" / "evaluation.json").read_text())


def test_scores_of_the_same_pairs_are_put_together_and_those_of_others_are_told(tried):
    exported(tried / "model")
    target, pairs = tried / "model" / "evaluation.json", str(tried / "pairs")
    run(tried / "model", [pairs])
    whole = json.loads(target.read_text())
    target.unlink()
    run(tried / "model", [pairs], scores=["pll_l2r", "pll"])
    assert run(tried / "model", [f"{pairs}/"], scores=["discriminator"]).endswith(str(target))
    assert json.loads(target.read_text()) == whole
    assert whole["evaluated on"]["minimal pairs"].startswith(f"{pairs}, ")
    (tried / "pairs" / "a.jsonl").write_text('{"sentence_good": "the dog", "sentence_bad": "dog the"}\n')
    said = run(tried / "model", [pairs], scores=["pll"])
    assert said.endswith(f"(in place of those of {whole['evaluated on']['minimal pairs']})")
    assert "discriminator" not in json.loads(target.read_text())["minimal pairs"]["by field"]["all"]


def test_what_data_numbers_are_of_stands_beside_them_and_what_others_they_replace_is_said(tried):
    exported(tried / "model")
    target, first, second = tried / "model" / "evaluation.json", tried / "text.txt", tried / "b.txt"
    second.write_text("the dog barks on the mat\n" * 30)
    assert run(tried / "model", text=str(first)).endswith(str(target))
    assert run(tried / "model", text=str(first)).endswith(str(target))
    more = {"text": str(second), "spelling": str(tried / "spelling")}
    assert run(tried / "model", **more).endswith(f"{target}  (in place of those of {first})")
    found = json.loads(target.read_text())
    names = {"held-out text", "calibration of the discriminator", "spelling"}
    assert set(found["evaluated on"]) == names and found["evaluated on"]["held-out text"] == str(second)
    del found["evaluated on"]
    target.write_text(json.dumps(found))
    said = run(tried / "model", text=str(second))
    assert said.endswith("(in place of those of data that an earlier version did not name)")


def test_two_calls_at_a_time_keep_both_their_numbers(tried):
    exported(tried / "model")
    first = evaluate(EvaluateArgs(model=str(tried / "model"), pairs=[str(tried / "pairs")]))
    next(first)  # it has begun, and ends after the second
    run(tried / "model", text=str(tried / "text.txt"))
    list(first)
    assert {"minimal pairs", "held-out text"} <= set(
        json.loads((tried / "model" / "evaluation.json").read_text())
    )


def test_where_the_numbers_go_is_looked_at_before_they_are_made(tried, monkeypatch):
    exported(tried / "model")
    run(tried / "model", [str(tried / "pairs")], out_file=str(tried / "new" / "scores.json"))
    assert (tried / "new" / "scores.json").is_file()
    with pytest.raises(InputError):
        next(
            evaluate(EvaluateArgs(model="nowhere", text="x", out_file=str(tried / "other" / "a" / "b.json")))
        )
    assert not (tried / "other").exists(), "a command that is refused leaves no folder"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match="new: cannot be written; name another --out_file"):
        next(evaluate(EvaluateArgs(model="nowhere", text="x", out_file=str(tried / "new" / "scores.json"))))


def test_a_single_network_gives_what_it_can_and_its_folder_stays_as_it_is(tried):
    exported(tried / "model")
    before = sorted((tried / "model" / "discriminator").iterdir())
    out = str(tried / "scores.json")
    run(tried / "model" / "discriminator", [str(tried / "pairs")], out_file=out)
    assert sorted((tried / "model" / "discriminator").iterdir()) == before
    assert set(json.loads((tried / "scores.json").read_text())["minimal pairs"]["by field"]["all"]) == {
        "pairs",
        "discriminator",
        "discriminator, 95%",
    }
    with pytest.raises(InputError, match="needs a generator"):
        run(tried / "model" / "discriminator", [str(tried / "pairs")], scores=["pll"], out_file=out)


def test_a_network_in_torchs_own_file_is_scored(tried):
    exported(tried / "model")
    place, out = tried / "model" / "discriminator", tried / "scores.json"
    torch.save(
        {name: weight.clone() for name, weight in read_weights(place).items()}, place / "pytorch_model.bin"
    )
    (place / "model.safetensors").unlink()
    run(place, [str(tried / "pairs")], out_file=str(out))
    assert json.loads(out.read_text())["evaluated"]["weights"]


def test_an_unfinished_run_is_scored_at_its_checkpoint_and_its_report_shows_it(tried):
    features = write_rows(tried / "rows.arrow")
    settings = small_run(features, tried / "run", epochs=1)
    run_pretraining(replace(settings, config_json='{"model": {}}'))
    (tried / "pairs" / "a.jsonl").write_text('{"sentence_good": "w1 w2", "sentence_bad": "w2 w1"}\n')
    assert f"report_SE.py {tried / 'run'}" in run(tried / "run", [str(tried / "pairs")])
    assert "by field" in make_page([str(tried / "run")]).read_text(encoding="utf-8")


def saved_at(folder, step):
    """A checkpoint of a run that goes on: of two steps the weights differ."""
    model, vocabulary = random_model(step), vocabulary_of_words()
    meta = {"model": asdict(model.config), "mask_id": vocabulary.mask_id}
    saved = checkpoint.save(folder, step, model.state_dict(), {}, meta)
    (folder / "tokenizer.json").write_text(vocabulary.to_json())
    return saved


def test_all_numbers_of_a_run_that_goes_on_meanwhile_are_of_one_checkpoint(tried):
    for name in ("alone", "living"):
        saved = saved_at(tried / name, 1)
    more = {"pairs": [str(tried / "pairs")], "text": str(tried / "text.txt")}
    run(tried / "alone", **more)
    going = evaluate(EvaluateArgs(model=str(tried / "living"), **more))
    next(going)  # the pairs are done
    saved_at(tried / "living", 2)
    shutil.rmtree(saved)
    list(going)
    files = (tried / name / "evaluation.json" for name in ("alone", "living"))
    alone, living = (json.loads(path.read_text()) for path in files)
    assert living["held-out text"] == alone["held-out text"]
    assert living["evaluated"]["weights"] == alone["evaluated"]["weights"]


def test_what_cannot_be_done_is_refused(tried):
    exported(tried / "model")
    with pytest.raises(InputError, match="nothing to evaluate on"):
        run(tried / "model")
    with pytest.raises(InputError, match="'plll' is not one of"):
        run(tried / "model", [str(tried / "pairs")], scores=["plll"])
    (tried / "mine.json").write_text('{"thesis": 1}')
    with pytest.raises(InputError, match="no evaluation of ours"):
        run(tried / "model", [str(tried / "pairs")], out_file=str(tried / "mine.json"))
    assert (tried / "mine.json").read_text() == '{"thesis": 1}'


def test_a_table_in_a_terminal():
    table = Table("spelling", ("", "F1"), (("realistic", "0.612"), ("all", "0.5")), 3)
    assert (
        table_text(table)
        == "spelling\n                F1\n  realistic  0.612\n  all          0.5\n  and 3 more\n"
    )


def test_the_script(tried):
    exported(tried / "model")
    command = [sys.executable, str(ROOT / "evaluate_SE.py"), str(tried / "model"), "--batch_size", "4"]
    done = subprocess.run(
        [*command, "--pairs", str(tried / "pairs"), "--device", "cpu"],
        capture_output=True,
        text=True,
        cwd=tried,
    )
    assert done.returncode == 0, done.stderr
    assert "minimal pairs" in done.stdout
    wrong = subprocess.run(
        [*command[:2], "nowhere", "--text", "x"], capture_output=True, text=True, cwd=tried
    )
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
