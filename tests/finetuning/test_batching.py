"""Batches from any start and in shares are the same; noise, candidates and windows by their keys.

Run: pytest tests/finetuning/test_batching.py
"""

import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from finetune_examples import sources_of, write_task
from network_examples import vocabulary_of_words
from task_examples import write
from task_network_examples import VOCABULARY, network_of, spec_of
from transformers import AutoTokenizer

from span_electra.errors import InputError
from span_electra.finetuning.batching import (
    PIECE,
    TEST_CANDIDATES,
    TaskBatches,
    TaskRows,
    check_replies,
    rows_and_targets,
    rows_of_candidates,
    turn_windows,
)
from span_electra.finetuning.encoding import TaskSpec
from span_electra.finetuning.export import export_task
from span_electra.finetuning.order import Order
from span_electra.finetuning.task import Task
from span_electra.finetuning.task_types import TASK_TYPES
from span_electra.model.multi_task import IGNORED

SINGLE = "SingleSenClassification"
DEALT = (*TASK_TYPES, "noisy")  # misspelt anew in each epoch


@pytest.fixture(params=DEALT)
def two(request, tmp_path):
    """A task of each type in turn, beside one of another."""
    noisy = request.param == "noisy"
    first = write_task(tmp_path, "SpellingWords" if noisy else request.param, "a")
    if noisy:
        write(tmp_path / "data", "clean.txt", "the cat sleeps on the mat\nthe dogs bark on the mat\n" * 13)
        first |= {"noise": {"kind": "artificial", "word_share": 0.5}}
        first["file_names"]["train"] = "clean.txt"
    return sources_of(tmp_path, {"a": first, "b": write_task(tmp_path, "NER", "b")})


def assert_same_batches(one, other):
    assert len(one) == len(other)
    for mine, theirs in zip(one, other, strict=True):
        assert mine.task == theirs.task and torch.equal(mine.rows_B, theirs.rows_B)
        assert torch.equal(mine.ids_BL, theirs.ids_BL) and torch.equal(mine.targets, theirs.targets)
        assert mine.target_total == theirs.target_total


@pytest.mark.parametrize("start", [0, 2, 5])
def test_from_a_batch_on_is_the_tail_of_the_whole(two, start):
    whole = list(TaskBatches(two, Order(8), 1, together=2))
    assert_same_batches(list(TaskBatches(two, Order(8), 1, start, together=2)), whole[start:])


def learned(batch):
    """Each row of a batch, and each candidate of one: its number, its tokens, and what is learned of it."""
    if not len(batch.rows_B):
        return []
    targets = list(batch.targets)
    each = len(batch.ids_BL) // len(batch.rows_B)
    numbers = batch.rows_B.repeat_interleave(each).tolist()
    mask_BL = torch.ones_like(batch.ids_BL, dtype=torch.bool)
    mask_BL = mask_BL if batch.attention_mask_BL is None else batch.attention_mask_BL
    types_BL = torch.zeros_like(batch.ids_BL) if batch.types_BL is None else batch.types_BL
    rows = []
    for place, (number, seen_L) in enumerate(zip(numbers, mask_BL, strict=True)):
        target = targets[place // each]
        # Of tokens as many as the row has: a share is no wider than its own longest row.
        target = target[seen_L].tolist() if target.shape == seen_L.shape else target.tolist()
        rows.append((number, batch.ids_BL[place][seen_L].tolist(), types_BL[place][seen_L].tolist(), target))
    return rows


@pytest.mark.parametrize("world", [2, 3])
def test_shares_of_processes_are_the_batch_also_a_last_small_one(two, world):
    order = Order(5)  # 26 rows: the last batch has one
    whole = list(TaskBatches(two, order, 0))
    shares = [list(TaskBatches(two, order, 0, rank=rank, world=world)) for rank in range(world)]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert sorted(row for part in parts for row in learned(part)) == sorted(learned(batch))
        assert all(part.target_total == batch.target_total for part in parts)
    assert min(len(part.rows_B) for part in shares[-1]) == 0


def test_noise_differs_by_epoch_and_by_nothing_else(tmp_path):
    task = write_task(tmp_path, "SpellingWords") | {"noise": {"kind": "artificial", "word_share": 0.5}}
    write(tmp_path / "data", "clean.txt", "the cat sleeps on the mat\nthe dogs bark on the mat\n" * 5)
    task["file_names"]["train"] = "clean.txt"
    [source] = sources_of(tmp_path, {"t": task})
    assert "text" in source.stored(3)
    first = source.rows([3, 4], 0, 1)
    assert first == source.rows([3, 4], 0, 1) and first[1:] == source.rows([4], 0, 1)
    assert first != source.rows([3, 4], 0, 2)


@pytest.mark.parametrize("clean", [4, 2100])  # so many that they fill a chunk of their own
@pytest.mark.parametrize("order", [["clean.txt", "t/train"], ["t/train", "clean.txt"]])
def test_labelled_and_clean_files_of_one_split_each_teach(order, clean, tmp_path):
    task = write_task(tmp_path, "SpellingWords") | {"noise": {"kind": "artificial", "word_share": 0.5}}
    write(tmp_path / "data", "clean.txt", "the cat sleeps on the mat\n" * clean)
    task["file_names"]["train"] = order
    [source] = sources_of(tmp_path, {"t": task})
    stored = [source.stored(row) for row in range(len(source))]
    assert sum("text" in row for row in stored) == clean and sum("label" in row for row in stored) == 26
    rows = source.rows(range(len(source)), 0, 1)
    assert [row["uid"] for row in rows] == [row["uid"] for row in stored]
    assert all(len(row["label"]) == row["words"] for row in rows)
    assert all(row is not one for row, one in zip(rows, stored, strict=True) if "text" in one)


def test_the_true_reply_is_first_and_none_equals_it(tmp_path):
    [source] = sources_of(tmp_path, {"t": write_task(tmp_path, "ResponseSelection")}, "dev")
    rows_B = np.arange(len(source))
    rows = source.rows(rows_B, 0, 0)
    unpadded = rows_and_targets(source, rows_B, rows, 0, 0, training=False)
    again = rows_and_targets(source, rows_B, rows, 0, 0, training=False)
    assert unpadded.ids == again.ids and len(unpadded.ids) == TEST_CANDIDATES * len(source)
    for row, stored in enumerate(rows):
        group = unpadded.ids[row * TEST_CANDIDATES : (row + 1) * TEST_CANDIDATES]
        last = stored["turns"][-1]
        assert group[0][-1 - len(last) : -1] == last
        assert len(set(map(tuple, group))) == TEST_CANDIDATES


@pytest.mark.parametrize("question", [3, 30])
@pytest.mark.parametrize("reply", [3, 12, 30])
def test_question_and_reply_too_long_are_cut_as_the_stock_tokenizer_cuts_them(question, reply, tmp_path):
    """A reply is never ranked without what it answers."""
    spec = spec_of("ResponseSelection")
    texts = ["the cats sleep " * (question // 3), "dogs bark undo " * (reply // 3)]
    export_task(network_of("ResponseSelection"), 0, spec, VOCABULARY, tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    asked, said = (VOCABULARY.tokenizer.encode(text, add_special_tokens=False).ids for text in texts)
    for longest in (24, 25):
        spec = replace(spec, max_seq_len=longest)
        [row] = rows_of_candidates(spec, VOCABULARY.sep_id, [asked], [said])
        assert row.ids == tokenizer(*texts, truncation=True, max_length=longest)["input_ids"]


def test_turns_and_replies_are_read_apart_for_a_retrieval(tmp_path):
    [source] = sources_of(tmp_path, {"t": write_task(tmp_path, "ResponseRetrieval")}, "dev")
    rows_B = np.arange(len(source))
    rows = source.rows(rows_B, 0, 0)
    tested = rows_and_targets(source, rows_B, rows, 0, 0, training=False)
    sep_id, size = source.vocabulary.sep_id, TEST_CANDIDATES + 1
    for row, stored in enumerate(rows):
        before, truth, *others = tested.ids[row * size : (row + 1) * size]
        assert before == [sep_id] + [token for turn in stored["turns"][:-1] for token in (*turn, sep_id)]
        assert truth == [sep_id, *stored["turns"][-1], sep_id]
        assert len({tuple(reply) for reply in (truth, *others)}) == TEST_CANDIDATES
    trained = rows_and_targets(source, rows_B, rows, 0, 0, training=True)
    assert len(trained.ids) == 2 * len(source) and len(trained.targets) == len(source)


def test_a_file_is_searched_for_its_rows_a_piece_at_a_time(tmp_path):
    spec, rows = TaskSpec(Task("t", SINGLE, {}), ("no", "yes"), 32), 5
    line = json.dumps({"uid": "x" * (PIECE // 2 + 1), "label": 1}) + "\n"
    path = write(tmp_path, "long.jsonl", line * rows)
    tracemalloc.start()
    try:
        source = TaskRows(path, spec, vocabulary_of_words())
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert source.ends_R.tolist() == [len(line) * (row + 1) - 1 for row in range(rows)]
    assert source.stored(rows - 1)["label"] == 1
    assert most < 1.8 * PIECE < path.stat().st_size


def test_too_few_replies_are_refused_before_they_are_needed(tmp_path):
    task = write_task(tmp_path, "ResponseSelection")
    write(tmp_path / "data", "t/dev.tsv", '["the cat", "barks"]\n' * 20)
    [source] = sources_of(tmp_path, {"t": task}, "dev")
    with pytest.raises(InputError, match="1 different last turns, and 10"):
        check_replies(source, training=False)


def test_replies_to_choose_from_are_found_where_nearly_all_end_alike(tmp_path):
    task = write_task(tmp_path, "ResponseSelection")
    others = "".join(f'["the cat", "{"cat " * count}"]\n' for count in range(1, 11))
    write(tmp_path / "data", "t/dev.tsv", '["the cat", "barks"]\n' * 1000 + others)
    [source] = sources_of(tmp_path, {"t": task}, "dev")
    check_replies(source, training=False)
    rows_B = np.arange(990, 1010)
    tested = rows_and_targets(source, rows_B, source.rows(rows_B, 0, 0), 0, 0, training=False)
    for first in range(0, len(tested.ids), TEST_CANDIDATES):
        assert len(set(map(tuple, tested.ids[first : first + TEST_CANDIDATES]))) == TEST_CANDIDATES


def test_every_turn_of_a_conversation_is_in_one_window():
    dice = np.random.default_rng(0)
    for _ in range(200):
        turns = [[7] * int(length) for length in dice.integers(1, 15, dice.integers(1, 12))]
        windows = turn_windows(turns, 12)
        assert [n for begin, end in windows for n in range(begin, end)] == list(range(len(turns)))
        for begin, end in windows:
            assert end == begin + 1 or 1 + sum(len(turn) + 1 for turn in turns[begin:end]) <= 12


def test_every_turn_of_every_conversation_is_learnt_once_an_epoch(tmp_path):
    words = ["the", "cat", "sat"]
    talks = [[words[n % 3]] * (3 + n) for n in range(9)], [["cat"] * 40, ["the"]]
    lines = "".join(json.dumps([" ".join(turn) for turn in talk]) + "\n" for talk in talks)
    write(tmp_path / "data", "t/talk.jsonl", lines)
    task = {"task_type": "Conversation", "file_names": {"train": "t/talk.jsonl"}}
    [source] = sources_of(tmp_path, {"t": task})
    learnt = [batch for batch in TaskBatches([source], Order(batch_size=2), 3)]
    targets = sum(int((batch.targets != IGNORED).sum()) for batch in learnt)
    # Every token and the separator after every turn; of a turn that no row holds, a row of it.
    turns = [turn for row in range(2) for turn in source.stored(row)["turns"]]
    assert targets == sum(min(len(turn) + 1, 31) for turn in turns)
    assert sum(len(batch.rows_B) for batch in learnt) == len(source.windows_P) > len(talks)


@pytest.mark.parametrize("damage", [b"", b'{"uid": "1"', b"not json\n"])
def test_a_damaged_file_is_named(two, tmp_path, damage):
    path = tmp_path / "damaged.jsonl"
    path.write_bytes(damage)
    with pytest.raises(InputError, match="damaged.jsonl: .*run prepare_tasks_SE.py again"):
        TaskRows(path, two[0].spec, vocabulary_of_words())
