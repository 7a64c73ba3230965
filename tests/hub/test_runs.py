"""Which runs are the newest, which are fine-tuned, and which talk. Run: pytest tests/hub/test_runs.py

The best checkpoint: tests/finetuning/test_take_pretrained.py.
"""

import os

import pytest
from network_examples import exported
from predictor_examples import finetuned

from span_electra.errors import InputError
from span_electra.hub.opening import open_model
from span_electra.hub.runs import heads_of, is_finetuned, newest, newest_run, newest_talker


def saved_at(folder, seconds):
    """Let a run's checkpoints be of this time."""
    for meta in folder.glob("checkpoints/*/meta.json"):
        os.utime(meta, (seconds, seconds))


@pytest.fixture
def runs(tmp_path):
    for place, names in (("one/seed-3", ["chat"]), ("two", ["film", "tags"]), ("three", ["chat", "film"])):
        (tmp_path / place).mkdir(parents=True)
        finetuned(tmp_path / place, *names)
    exported(tmp_path / "pretrained")
    return tmp_path


def test_which_folders_are_fine_tuned(runs):
    assert is_finetuned(runs / "two") and is_finetuned(runs / "two/checkpoints/step-00000001")
    assert not is_finetuned(runs / "pretrained") and not is_finetuned(runs / "nowhere")
    for opener in (is_finetuned, open_model):
        with pytest.raises(InputError, match="one: holds a run of each seed; name one, such as .*one/seed-3"):
            opener(runs / "one")
    for damage in ("not JSON", "[" * 100_000, "[]"):
        (runs / "two/checkpoints/step-00000001/meta.json").write_text(damage)
        assert heads_of(runs / "two") == [], "what is damaged is found when it is opened"


def test_newest_is_what_was_saved_last_whatever_was_written_into_it_since(runs):
    talkers = runs / "one/seed-3", runs / "three"
    for older, newer in (talkers, talkers[::-1]):
        saved_at(older, 1000)
        saved_at(newer, 2000)
        os.utime(older, (9000, 9000))  # a report was written there
        assert newest(talkers) == newest_talker(runs) == newer
    assert newest_run(runs) == runs / "pretrained", "it alone holds exported networks"
    assert newest([]) is None


def test_where_there_is_none_it_says_what_to_name(runs):
    with pytest.raises(InputError, match="none in .*; name a run or an exported folder"):
        newest_run(runs / "two")
    with pytest.raises(InputError, match="none in .* that talks"):
        newest_talker(runs / "two")


def test_which_run_is_taken_where_none_was_named_is_told(runs, capsys):
    newest_run(runs)
    assert capsys.readouterr().err == f"note: no model named; {runs}/pretrained is taken, the newest\n"
    newest_talker(runs)
    assert "is taken, the newest that talks\n" in capsys.readouterr().err
