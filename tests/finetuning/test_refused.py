"""What a refused fine-tuning leaves: no new run, unless another command uses it by now, and no refused rows.

Run: pytest tests/finetuning/test_refused.py
"""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from finetune_examples import settings_of, write_task

from span_electra.errors import InputError
from span_electra.finetuning import stage
from span_electra.finetuning.arguments import TaskDataArguments
from span_electra.finetuning.stage import finetune, prepare
from span_electra.training.run_folder import locked

pytestmark = pytest.mark.usefixtures("here")

SINGLE = "SingleSenClassification"
PREPARED = TaskDataArguments(task_file="tasks.yaml", encoder="small", max_seq_len=32, workers=1)
ROWS, RUN = Path("small_prepared_data"), Path("run")


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """Fine-tune, and be refused by the first run, when something has happened meanwhile."""

    def run(meanwhile=lambda: None, **changes):
        def refuse(_):
            meanwhile()
            raise InputError("refused")

        settings = settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)}, epochs=1, **changes)
        monkeypatch.setattr(stage, "finetune_once", refuse)
        with pytest.raises(InputError, match="refused"):
            finetune(settings)

    return run


def test_a_new_run_goes_and_its_rows_stay_for_the_next(refused):
    refused(seeds=2)
    assert not RUN.exists() and (ROWS / "t/train.jsonl").is_file()


@pytest.mark.parametrize("place", ["run", "run/seed-1"])
def test_a_folder_that_another_process_holds_by_now_stays(place, refused):
    with ExitStack() as other:
        refused(lambda: other.enter_context(locked(Path(place))), seeds=2)
        assert Path(place, "run.lock").is_file()


def test_so_does_one_that_holds_a_file(refused):
    refused(lambda: RUN.mkdir(exist_ok=True) or Path(RUN, "notes.txt").write_text("mine"))
    assert Path(RUN, "notes.txt").is_file()


@pytest.mark.parametrize("begin", [prepare, finetune])
@pytest.mark.parametrize("stood", [False, True])
def test_rows_that_are_refused_are_never_put_in_place(stood, begin, tmp_path, monkeypatch):
    def refuse(made, tasks):
        assert made.tasks["t"].rows["train"] == 26, "asked of rows that are made"
        raise InputError("refused")

    settings = settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)})
    before = []
    if stood:  # of other settings: they would be replaced
        assert prepare(replace(PREPARED, max_seq_len=16)) == 0
        before = [(ROWS / name).read_text() for name in ("prepared.json", "t/train.jsonl")]
    monkeypatch.setattr(stage, "check_labels_differ", refuse)
    with pytest.raises(InputError, match="refused"):
        begin(settings if begin is finetune else PREPARED)
    assert not RUN.exists() and ROWS.exists() == stood
    if stood:
        assert [(ROWS / name).read_text() for name in ("prepared.json", "t/train.jsonl")] == before


def test_rows_that_went_while_they_were_thought_to_stand_are_missed_in_a_line(tmp_path, monkeypatch):
    from span_electra.finetuning import prepare as preparing

    settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)})
    put = preparing._put_in_place

    def put_after_another_was_refused(made, beside, fresh):
        (ROWS / "prepared.json").unlink(missing_ok=True)
        for path in ROWS.glob("t/*"):
            path.unlink()
        if ROWS.joinpath("t").exists():
            ROWS.joinpath("t").rmdir()
        return put(made, beside, fresh)

    assert prepare(PREPARED) == 0
    monkeypatch.setattr(preparing, "_put_in_place", put_after_another_was_refused)
    with pytest.raises(InputError, match="small_prepared_data: another command removed t meanwhile"):
        prepare(PREPARED)


@pytest.mark.parametrize("seeds", [1, 2])
def test_of_two_runs_of_one_second_the_second_is_refused(seeds, tmp_path, monkeypatch):
    settings = settings_of(tmp_path, {"t": write_task(tmp_path, SINGLE)}, out_dir=None, seeds=seeds)
    monkeypatch.setattr(stage.time, "strftime", lambda _: "finetune-now")
    place = Path("runs/finetune-now", *(["seed-0"] if seeds > 1 else []))
    with locked(place), pytest.raises(InputError, match=f"{place}: another run is writing there"):
        finetune(settings)
    assert [path for path in Path("runs").rglob("*") if path.is_file()] == [place / "run.lock"]


def test_a_default_folder_goes_again(refused):
    refused(out_dir=None)
    assert not Path("runs").exists()
