"""Talking: the rows of a reply by hand; the loop over a pipe and a person.

Run: pytest tests/inference/test_chat.py
"""

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from predictor_examples import LONGEST, finetuned

from argument import PredictArgs
from span_electra.config import ARCHITECTURES
from span_electra.errors import InputError
from span_electra.finetuning.turns import OWN_VOICE
from span_electra.inference.arguments import GenerationArguments
from span_electra.inference.chat import talk, text_of
from span_electra.inference.tasks import TaskPredictor
from span_electra.text.vocabulary import SPECIAL_TOKENS, assemble

ROOT = Path(__file__).resolve().parents[2]
TURNS = ["the cat", "sleeps on the mat", "dogs bark"]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def folder(request, tmp_path_factory):
    place = tmp_path_factory.mktemp("talker")
    finetuned(place, "film", "chat", architecture=request.param)
    return place


@pytest.fixture(scope="module")
def predictor(folder):
    return TaskPredictor.from_folder(folder, "cpu")


@torch.no_grad()
def by_hand(predictor, turns, most):
    """The likeliest tokens, one after another, of the row that training would have had."""
    vocabulary, network = predictor.vocabulary, predictor.network
    told = [vocabulary.tokenizer.encode(turn, add_special_tokens=False).ids for turn in turns]
    ids, types = [], []
    for number, turn in enumerate(told):
        ids += [vocabulary.sep_id, *turn]
        types += [OWN_VOICE ^ ((len(told) - number) % 2)] * (1 + len(turn))
    ids, types, answer = [*ids, vocabulary.sep_id], [*types, OWN_VOICE], []
    assert len(ids) <= LONGEST - most, "nothing may be cut here"
    for _ in range(most):
        ids_1L, types_1L = torch.tensor([ids + answer]), torch.tensor([types + [OWN_VOICE] * len(answer)])
        states_1LD = network.encoder(ids_1L, None, types_BL=types_1L, causal=True)
        logits_V = network.answer(1, states_1LD)[0, -1]
        logits_V[[0, 2, 3, 4, *range(vocabulary.size, len(logits_V))]] = -1e9
        if (token := int(logits_V.argmax())) == vocabulary.sep_id:
            break
        answer.append(token)
    return text_of(vocabulary, answer)


def test_a_greedy_reply_is_that_by_hand(predictor):
    greedy = replace(predictor, speech=GenerationArguments(max_new_tokens=4, temperature=0)).talker()
    found = [greedy(TURNS[-count:]) for count in (1, 2, 3)]
    assert found == [by_hand(predictor, TURNS[-count:], 4) for count in (1, 2, 3)]
    assert any(found) and len(set(found)) > 1


def test_a_reply_ends_where_the_end_is_other_special_tokens_too(predictor, monkeypatch):
    """GPT-2's tokenizer has one special token, <|endoftext|>, for all that it needs."""
    vocabulary = predictor.vocabulary
    one = replace(vocabulary.special, **dict.fromkeys(("cls", "unk", "pad"), vocabulary.special.sep))
    logits_V = torch.zeros(predictor.network.config.vocab_size)
    logits_V[vocabulary.tokenizer.token_to_id("cat")] = 1.0
    logits_V[[vocabulary.sep_id, vocabulary.mask_id]] = 5.0
    monkeypatch.setattr(
        predictor.network, "answer", lambda task, states_BD: logits_V.repeat(len(states_BD), 1)
    )
    shared = replace(predictor, vocabulary=replace(vocabulary, special=one))
    for asked in (predictor, shared):
        assert (
            replace(asked, speech=GenerationArguments(max_new_tokens=4, temperature=0)).talker()(TURNS[:1])
            == ""
        )


def test_long_talks_keep_the_newest_turns_and_room_for_the_reply(predictor):
    greedy = replace(predictor, speech=GenerationArguments(max_new_tokens=9, temperature=0)).talker()
    assert greedy(["bark bark bark"] * 7 + ["the cat", "sleeps"]) == greedy(["the cat", "sleeps"])
    assert greedy(["cat " * 99]) == greedy(["cat " * 5])


def test_draws_differ_by_seed_and_turn_alone(predictor):
    talkers = [
        replace(predictor, speech=GenerationArguments(max_new_tokens=8, seed=seed)).talker()
        for seed in (0, 0, 99)
    ]
    assert talkers[0](TURNS) == talkers[1](TURNS) != talkers[2](TURNS)


def test_settings_fit_themselves_to_rows_and_beams():
    usual, beams = GenerationArguments(max_new_tokens=40, top_p=0.9), GenerationArguments(beams=3)
    assert GenerationArguments().fitted(128) == usual == usual.fitted(128)
    assert GenerationArguments(seed=3).fitted(16, turns=2) == replace(usual, max_new_tokens=8, seed=5)
    assert beams.fitted(128) == replace(beams, max_new_tokens=40, top_p=1.0)
    with pytest.raises(InputError, match="of 16 tokens; give 13 at most"):
        GenerationArguments(max_new_tokens=14).fitted(16)


def echo(turns):
    return f"{len(turns)} {turns[-1]}"


class Pipe(io.StringIO):
    """Standard input that is no terminal."""

    @property
    def buffer(self):
        return io.BytesIO(self.getvalue().encode())


def test_a_pipe_is_answered_to_its_end_and_its_blank_lines_are_no_turns(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", Pipe("Hello.\n\nWho?\n \nthis too\n"))
    talk(echo)
    assert capsys.readouterr().out == "1 Hello.\n3 Who?\n5 this too\n"


@pytest.mark.parametrize("flags", [{"in_file": "a.txt"}, {"output": "json"}, {"output": "text"}])
def test_what_a_talk_does_not_read_is_refused(flags):
    with pytest.raises(InputError, match="talk: .*; leave out in_file, out_file, output and serve"):
        PredictArgs(talk=True, **flags)


def test_a_reply_of_several_lines_is_one_answer_and_one_turn(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", Pipe("Hello.\nWho?\n"))
    seen = []
    talk(lambda turns: seen.append(list(turns)) or "Hi.\nBye.")
    assert capsys.readouterr().out == "Hi. Bye.\n" * 2
    assert seen[1] == ["Hello.", "Hi.\nBye.", "Who?"], "the network goes on from its own words"


def test_a_person_is_answered_and_every_turn_is_kept(monkeypatch, capsys):
    typed, seen = iter(["Hello.", "Who?", " "]), []
    monkeypatch.setattr("builtins.input", lambda prompt: next(typed))
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdin", terminal)
    talk(lambda turns: seen.append(list(turns)) or echo(turns))
    assert seen == [["Hello."], ["Hello.", "1 Hello.", "Who?"]]
    assert capsys.readouterr().out == "1 Hello.\n3 Who?\n"


def test_the_script_talks_through_a_pipe_before_it_ends(folder, predictor):
    flags = ["--talk", "--device", "cpu", "--max_new_tokens", "5", "--temperature", "0"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, str(ROOT / "predict_SE.py"), str(folder), *flags]
    greedy, turns = (
        replace(predictor, speech=GenerationArguments(max_new_tokens=5, temperature=0)).talker(),
        [],
    )
    with subprocess.Popen(command, text=True, **pipes) as running:
        for line in ("the cat", "dogs bark"):
            running.stdin.write(line + "\n")
            running.stdin.flush()
            turns.append(line)
            turns.append(greedy(turns))
            assert running.stdout.readline() == turns[-1] + "\n"
        running.stdin.close()
        assert running.wait(timeout=300) == 0, running.stderr.read()


@pytest.mark.parametrize("said", ["对不起，您的时间。", "I don't know, it's so.", "كيف حالك؟"])
def test_a_reply_of_wordpiece_is_written_as_people_write(said):
    tokens = [
        *SPECIAL_TOKENS,
        *"对不起，您的时间。,.'؟",
        "i",
        "don",
        "t",
        "know",
        "it",
        "s",
        "so",
        "كيف",
        "حالك",
    ]
    vocabulary = assemble("BERT", {token: number for number, token in enumerate(tokens)})
    ids = vocabulary.tokenizer.encode(said, add_special_tokens=False).ids
    assert vocabulary.unk_id not in ids
    assert text_of(vocabulary, [*ids, vocabulary.sep_id]) == said.lower() and text_of(vocabulary, []) == ""
