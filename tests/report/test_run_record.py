"""Laws of reading a run folder: what is there is shown, what is not is absent, nothing broken stops it.

Run: pytest tests/report/test_run_record.py
"""

import json

import pytest
from report_examples import make_run, metrics

from span_electra.errors import InputError
from span_electra.locks import locked
from span_electra.report.run_record import MOST_LINES, read_metrics, read_run, thin


def test_a_whole_run_is_read(tmp_path):
    run = read_run(make_run(tmp_path / "first"))
    assert (run.name, run.state, run.step) == ("first", "finished", 100)
    assert len(run.train) == len(run.valid) == 10
    assert run.latest("discriminator_f1", "valid") == 0.5 and run.latest("tokens_per_second", "valid") is None
    assert run.latest("tokens_per_second", "train") == 2000


def test_a_run_that_has_just_begun_needs_its_settings_alone(tmp_path):
    (tmp_path / "config.json").write_text('{"model": {}}')
    run = read_run(tmp_path)
    assert run.step == 0 and run.train == run.valid == run.examples == [] and run.statistics == {}


@pytest.mark.parametrize("content", [None, "[]", "{}", "{", '{"model": 3}', '{"model_type": "electra"}'])
def test_a_folder_that_is_no_run_is_refused_by_name(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=f"{tmp_path}.*name a run's out_dir"):
        read_run(tmp_path)


def test_broken_lines_are_passed_over_and_lines_come_by_step(tmp_path):
    good = [json.dumps(metrics(step, "train")) for step in (30, 10)]
    broken = ["{", "[1]", '{"step": "x"}', '{"step": NaN, "split": "train"}', "\x00\xff", ""]
    (tmp_path / "m").write_text("\n".join([*good, *broken, '{"step": 40, "spl']))
    train, valid = read_metrics(tmp_path / "m")
    assert [line["step"] for line in train] == [10, 30] and valid == []


def test_long_logs_are_thinned_evenly_and_keep_their_last_line():
    kept = thin(list(range(10 * MOST_LINES + 3)))
    assert len(kept) <= MOST_LINES and kept[-1] == 10 * MOST_LINES + 2
    assert len({after - before for before, after in zip(kept, kept[1:], strict=False)}) == 1
    assert thin([1, 2, 3]) == [1, 2, 3] and thin([]) == []


@pytest.mark.parametrize("end", ["\n", "", '\n{"step": 99999, "sp'], ids=["whole", "no newline", "killed"])
def test_a_long_log_keeps_its_newest_line(tmp_path, end):
    last = 2 * MOST_LINES + 1
    log = "\n".join(f'{{"step": {step}, "split": "train"}}' for step in range(last + 1))
    (tmp_path / "m").write_text(log + end)
    train, _ = read_metrics(tmp_path / "m")
    assert train[-1]["step"] == last and len(train) <= MOST_LINES + 1


def test_odd_contents_of_the_other_files_are_nothing(tmp_path):
    run = read_run(make_run(tmp_path / "r", examples={"a": 1}, statistics=[1], run=[2], evaluation=None))
    assert run.examples == [] and run.statistics == {} and run.state == "unknown" and run.evaluation is None


def test_a_run_that_nobody_writes_is_not_running(tmp_path):
    """A kill leaves what run.json said last."""
    run = make_run(tmp_path / "r", run={"state": "running", "step": 63})
    with locked(run / "run.lock", "run", "busy"):
        assert read_run(run).state == "running"
    assert read_run(run).state == "stopped"
    (run / "run.lock").unlink()
    assert read_run(run).state == "stopped"


def test_a_run_stopped_before_it_told_anything_knows_its_step(tmp_path):
    assert read_run(make_run(tmp_path / "r", lines=[], run={"state": "stopped", "step": 63})).step == 63
