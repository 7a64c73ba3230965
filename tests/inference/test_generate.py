"""Continuing a prompt: filters by hand, draws by chi-square, beams by exhaustion and against transformers.

Run: pytest tests/inference/test_generate.py
"""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from span_electra.errors import InputError
from span_electra.finetuning.turns import never_said
from span_electra.inference.arguments import GenerationArguments
from span_electra.inference.generate import block_ngrams, filter_top_k, filter_top_p, generate

NEVER = -math.inf
END = 3
# After token t (row) comes token v (column) with this probability. From 0, greedy takes 1 and regrets it.
CHAIN_TV = torch.tensor([[0.0, 0.6, 0.4, 0.0], [0.0, 0.4, 0.3, 0.3], [0.05, 0.05, 0.0, 0.9], [0.25] * 4])


def chain(table_TV):
    """A network that looks at the last token only."""
    return lambda ids_BL: table_TV.log()[ids_BL[:, -1]]


def constant(*probabilities):
    return lambda ids_BL: torch.tensor(probabilities).log().repeat(len(ids_BL), 1)


def scrambled(ids_BL):
    """20 logits that depend on the last two tokens, the same in every run."""
    key_B1 = ids_BL[:, -1:] * 31 + ids_BL[:, -2:-1] * 17
    return 3 * torch.sin(key_B1 * 12.9898 + torch.arange(20) * 78.233)


def settings_of(**others):
    """Fitted to the rows, but drawing from all tokens."""
    return GenerationArguments(**{"max_new_tokens": 40, "top_p": 1.0} | others)


def greedy(**others):
    return settings_of(temperature=0.0, **others)


# --- filters --------------------------------------------------------------------------------------------


def test_top_k_keeps_the_k_largest():
    logits_BV = torch.tensor([[1.0, 3.0, 2.0, 0.0], [0.0, 5.0, 5.0, 5.0]])
    assert filter_top_k(logits_BV, 2).tolist() == [[NEVER, 3, 2, NEVER], [NEVER, 5, 5, 5]]
    assert filter_top_k(logits_BV, None).equal(logits_BV) and filter_top_k(logits_BV, 9).equal(logits_BV)


@pytest.mark.parametrize("p, kept", [(0.01, [1]), (0.5, [1]), (0.51, [1, 2]), (0.85, [0, 1, 2])])
def test_top_p_keeps_the_fewest_that_have_the_share(p, kept):
    logits_BV = torch.tensor([[0.125, 0.5, 0.25, 0.125]]).log()
    filtered_BV = filter_top_p(logits_BV, p)
    assert (filtered_BV[0] > NEVER).nonzero().flatten().tolist() == kept
    assert filtered_BV[0, kept].equal(logits_BV[0, kept])


def test_top_p_of_1_keeps_even_what_rounding_hides():
    logits_BV = torch.tensor([[0.0, -40.0, -80.0]])
    assert filter_top_p(logits_BV, 1.0).equal(logits_BV)


@pytest.mark.parametrize(
    "ids, size, blocked",
    [([5, 6, 5], 2, [6]), ([5, 6, 5, 7, 5], 2, [6, 7]), ([1, 2, 3, 1, 2], 3, [3]), ([1, 2, 3, 1, 2], 4, [])]
    + [([5, 6], 1, [5, 6]), ([4, 4], 2, [4]), ([5], 2, []), ([5, 6, 5], 0, [])],
)
def test_an_ngram_that_has_been_is_blocked(ids, size, blocked):
    blocked_BV = block_ngrams(torch.zeros(1, 8), torch.tensor([ids]), size)
    assert (blocked_BV[0] == NEVER).nonzero().flatten().tolist() == blocked


def test_rows_are_filtered_each_by_itself():
    ids_BL = torch.tensor([[5, 6, 5], [6, 5, 6]])
    assert (block_ngrams(torch.zeros(2, 8), ids_BL, 2) == NEVER).nonzero().tolist() == [[0, 6], [1, 5]]


# --- greedy, ends, windows ------------------------------------------------------------------------------


def test_greedy_takes_the_likeliest_and_stops_before_the_end():
    assert generate(chain(CHAIN_TV), [0], END, greedy(max_new_tokens=5)) == [1] * 5
    assert generate(chain(CHAIN_TV), [2], END, greedy()) == []


def test_a_tiny_temperature_is_greedy_whatever_the_seed():
    for seed in range(5):
        config = settings_of(temperature=1e-300, seed=seed, max_new_tokens=12)
        assert generate(scrambled, [1, 2], 19, config) == generate(
            scrambled, [1, 2], 19, greedy(max_new_tokens=12)
        )


def test_banned_tokens_never_come():
    assert generate(chain(CHAIN_TV), [0], END, greedy(), banned=[1]) == [2]
    for config in (greedy(), settings_of(), settings_of(beams=3)):
        assert generate(chain(CHAIN_TV), [0], END, config, banned=range(4)) == []
    drawn = generate(constant(0.5, 0.2, 0.2, 0.1), [0], END, settings_of(max_new_tokens=200), banned=[0, END])
    assert set(drawn) == {1, 2} and len(drawn) == 200


def test_broken_weights_are_named():
    with pytest.raises(InputError, match="not numbers"):
        generate(lambda ids_BL: torch.full((len(ids_BL), 4), math.nan), [0], END, greedy())


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"top_p": 0.0}, "top_p: 0.0 must be above 0"),
        ({"top_p": 1.5}, "top_p: 1.5 is too large"),
        ({"temperature": -1.0}, "temperature: -1.0 is too small"),
        ({"beams": 0}, "beams: 0 is too small"),
        ({"beams": 3, "top_k": 5}, "beams: 3 beams draw nothing"),
        ({"beams": 3, "temperature": 0.7}, "beams: 3 beams draw nothing"),
    ],
)
def test_settings_that_cannot_be_or_would_not_be_read_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        GenerationArguments(**wrong)


# --- draws ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config, expected",
    [
        ({}, [0.4, 0.3, 0.2, 0.1]),
        ({"top_k": 3}, [4 / 9, 3 / 9, 2 / 9, 0]),
        ({"top_p": 0.65}, [4 / 7, 3 / 7, 0, 0]),
        ({"top_k": 3, "top_p": 0.75}, [4 / 7, 3 / 7, 0, 0]),  # .7 of all, but .78 of the three kept
        ({"temperature": 0.5}, [16 / 30, 9 / 30, 4 / 30, 1 / 30]),
        ({"temperature": 0.5, "top_p": 0.8}, [16 / 25, 9 / 25, 0, 0]),
    ],
)
def test_draws_follow_the_renormalised_law(config, expected):
    drawn = generate(
        constant(0.4, 0.3, 0.2, 0.1), [0], -1, settings_of(max_new_tokens=2000, seed=3, **config)
    )
    counts = torch.bincount(torch.tensor(drawn), minlength=4)
    kept = torch.tensor(expected) > 0
    assert counts[~kept].sum() == 0
    assert (
        stats.chisquare(counts[kept], torch.tensor(expected, dtype=torch.float64)[kept] * 2000).pvalue > 1e-3
    )


def test_a_seed_is_a_text():
    texts = [generate(scrambled, [1, 2], 19, settings_of(seed=seed)) for seed in [0, 0, 1, 2]]
    assert texts[0] == texts[1] and len({tuple(text) for text in texts}) == 3
    state = torch.get_rng_state()
    generate(scrambled, [1, 2], 19, settings_of())
    assert state.equal(torch.get_rng_state()), "the global generator is nobody's business"


CONFIGS = [{"temperature": 0.0}, {}, {"beams": 3}]


@given(st.lists(st.integers(0, 18), min_size=2, max_size=12), st.integers(1, 3), st.sampled_from(CONFIGS))
@settings(deadline=None, max_examples=40)
def test_no_ngram_is_made_twice(prompt, size, config):
    config = settings_of(no_repeat_ngram=size, max_new_tokens=25, **config)
    ids = prompt + generate(scrambled, prompt, 19, config)
    runs = [tuple(ids[start : start + size]) for start in range(len(ids) - size + 1)]
    before = max(len(prompt) - size + 1, 0)  # what the prompt repeats itself is none of ours
    assert len(set(runs[before:])) == len(runs) - before and not set(runs[before:]) & set(runs[:before])


def test_the_end_may_come_again():
    # The prompt already has 2 END; without an exception the answer could not end as that turn did.
    config = greedy(no_repeat_ngram=2, max_new_tokens=5)
    assert generate(chain(CHAIN_TV), [2, END, 0], END, config, banned=[1]) == [2]


# --- beams ----------------------------------------------------------------------------------------------


def score(table_TV, start, answer, most):
    """An answer's score by hand; it needs no end when it has the full length."""
    tokens = [start, *answer] + ([END] if len(answer) < most else [])
    total = table_TV.log()[tokens[:-1], tokens[1:]].sum().item()
    return total / (len(tokens) - 1)


def test_beams_find_what_greedy_misses():
    # 1 1 has .6 * .4 = .24; 2 END has .4 * .9 = .36 and is the best of all.
    assert generate(chain(CHAIN_TV), [0], END, greedy(max_new_tokens=2)) == [1, 1]
    config = settings_of(beams=2, max_new_tokens=2)
    assert generate(chain(CHAIN_TV), [0], END, config) == [2]


def test_enough_beams_are_an_exhaustive_search():
    rng = torch.Generator().manual_seed(0)
    answers = [list(answer) for size in range(4) for answer in itertools.product(range(3), repeat=size)]
    differing = 0
    for _ in range(10):
        table_TV = torch.randn(4, 4, generator=rng, dtype=torch.float64).mul(1.5).softmax(1)
        config = settings_of(beams=64, max_new_tokens=3)
        found = generate(chain(table_TV), [0], END, config)
        scores = {tuple(answer): score(table_TV, 0, answer, 3) for answer in answers}
        assert scores[tuple(found)] == pytest.approx(max(scores.values())), "orders of one chain may tie"
        differing += found != generate(chain(table_TV), [0], END, greedy(max_new_tokens=3))
    assert differing, "greedy would have done"


# --- the same as transformers ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def electra():
    from transformers import ElectraConfig, ElectraForCausalLM

    torch.manual_seed(0)
    config = ElectraConfig(
        vocab_size=40, hidden_size=16, embedding_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64, is_decoder=True, initializer_range=1.0,
    )  # fmt: skip
    model = ElectraForCausalLM(config).eval()
    model.generator_lm_head.bias.data[END] = 3.0  # so that some answers end by themselves
    return model


PROMPTS = [[5, 9, 11], [7], [30, 31, 30, 31, 8], [12, 13, 14, 15]]


@pytest.mark.parametrize(
    "others",
    [
        {},
        {"no_repeat_ngram": 1},
        {"no_repeat_ngram": 2},
        {"beams": 3},
        {"beams": 5, "no_repeat_ngram": 2},
    ],
    ids=str,
)
def test_answers_are_those_of_transformers(electra, others):
    def next_logits(ids_BL):
        return electra(ids_BL).logits[:, -1]

    config = greedy(max_new_tokens=10, **others)
    vocabulary = SimpleNamespace(cls_id=0, pad_id=2, mask_id=4, unk_id=1, sep_id=END, size=38)
    banned = never_said(vocabulary, electra.config.vocab_size)
    ended = 0  # END is not in the prompts: there transformers would let n-grams forbid it
    for prompt in PROMPTS:
        theirs = electra.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), do_sample=False,
            max_new_tokens=10, num_beams=config.beams, early_stopping=False,
            no_repeat_ngram_size=config.no_repeat_ngram, eos_token_id=END, pad_token_id=0,
            suppress_tokens=banned,
        )[0, len(prompt) :].tolist()  # fmt: skip
        theirs = theirs[: theirs.index(END)] if END in theirs else theirs
        ours = generate(next_logits, prompt, END, config, banned)
        assert ours == theirs, prompt
        ended += len(ours) < 10
    assert ended, "no answer ended by itself: the end was never tried"
