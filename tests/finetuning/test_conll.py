"""Files with a token a line. Run: pytest tests/finetuning/test_conll.py"""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from task_examples import write

from span_electra.errors import InputError
from span_electra.finetuning.conll import LIST, read_conll


def read(path, token=0, tag=-1):
    return [(sentence.words, sentence.tags) for sentence in read_conll(path, token, tag)]


CONLL_2003 = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O

-DOCSTART- -X- -X- O

Peter NNP B-NP B-PER
"""
CONLL_U = """# global.columns = ID FORM UPOS
# newdoc
# sent_id = 1
# text = Dámelo ya
1-2\tDámelo\t_
1\tDá\tVERB
2\tmelo\tPRON
2.1\tquiero\tVERB
3\tya\tADV

# sent_id = 2
1\t#\tSYM
"""


def test_the_columns_of_the_field_s_files(tmp_path):
    path = write(tmp_path, "a.txt", CONLL_2003)
    assert read(path) == [(("EU", "rejects"), ("B-ORG", "O")), (("Peter",), ("B-PER",))]
    assert read(path, tag=1) == [(("EU", "rejects"), ("NNP", "VBZ")), (("Peter",), ("NNP",))]
    path = write(tmp_path, "a.conllu", CONLL_U)
    assert read(path, 1, 2) == [(("Dá", "melo", "ya"), ("VERB", "PRON", "ADV")), (("#",), ("SYM",))]
    with pytest.raises(InputError, match=r"a.conllu: .*write columns: \{text: 2, label: 4\}"):
        read(path)


@pytest.mark.parametrize("gap", [" ", "\t"])
def test_a_token_may_begin_with_the_sign_of_comments(gap, tmp_path):
    lines = ["# a comment of several words", "#sale O", "# O", "at O", "", "#", "#2 B-X", "# id = 7", "it O"]
    text = "\n".join(line.replace(" ", gap) if len(line.split()) == 2 else line for line in lines)
    assert read(write(tmp_path, "a.txt", text)) == [
        (("#sale", "#", "at"), ("O", "O", "O")), (("#2", "it"), ("B-X", "O")),
    ]  # fmt: skip
    # Whatever words of comments such a token begins with, or in a file with tabs its tag is.
    for token in ("#x=5", "#newdocs", "#newpar", "#newdoc", "#begin", "#=", "#a="):
        line = f"at O\n{token} B-X\n".replace(" ", gap)
        assert read(write(tmp_path, "a.txt", line)) == [(("at", token), ("O", "B-X"))], token
    for tag in ("newdoc", "newpar", "x=5"):
        line = f"at O\n# {tag}\n".replace(" ", gap)
        both = (("at", "#"), ("O", tag)) if gap == "\t" or "=" in tag else (("at",), ("O",))
        assert read(write(tmp_path, "a.txt", line)) == [both]


def test_what_is_no_token_is_refused_by_line(tmp_path):
    for text, problem in (
        ("a b O\nc O\n", "line 2: 2 columns where 3, as in line 1, belong"),
        ("a\nb\n", "line 1: 1 column where 2 or more belong"),
        ("\xa0\na O\n", "line 1: 1 column where 2 or more belong"),
        ("\f\na O\n", "line 1: 1 column where 2 or more belong"),
        ("a\tO\nb\tN\tB\n", "line 2: 3 columns where 2, as in line 1, belong"),
        ("a\tO\n \tO\n", "line 2: an empty token or tag"),
        ("a\tO\n\tO\n", "line 2: an empty token or tag"),
        ("a\tO\nb\t \n", "line 2: an empty token or tag"),
        ("a\tO\nb\t\n", "line 2: an empty token or tag"),
        ("1\tO O\tMy name\n", "line 1: 'My name' is no token and no tag"),
        ("1\t['O','O']\t['My','name'\n", "line 1: .* is no token and no tag; mend the row, or"),
        ("1 ['O', 'O'] ['My', 'name']\n", "line 1: .* is no token and no tag"),
        ("word pos ner\na b O\n", r"line 1: looks like a header \(word, pos, ner\)"),
    ):
        with pytest.raises(InputError, match=f"a.txt: {problem}"):
            read(write(tmp_path, "a.txt", text))
    with pytest.raises(InputError, match="line 1: 3 columns where 5 or more belong"):
        read(write(tmp_path, "a.txt", "a b O\n"), tag=4)


WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=4)
WORDS = WORDS.filter(lambda word: not LIST.match(word))


TOKENS = ['["', "['", "[", "[,", '"]', "[1]", "[1,2-a]pyridine", "[3,", "[a,b]", "\u3000", "\xa0"]


@pytest.mark.parametrize("token", TOKENS)
def test_brackets_and_quotes_are_tokens_and_lists_are_none(tmp_path, token):
    assert read(write(tmp_path, "a.txt", f"a\tO\n{token}\tO\n")) == [(("a", token), ("O", "O"))]
    # With its lemma between, as in CoNLL-U.
    assert read(write(tmp_path, "c.txt", f"a\ta\tO\n{token}\t{token}\tO\n")) == [(("a", token), ("O", "O"))]
    for line in ("['O', 'O']\t['two', 'words']", "[O, O]\t[two, words]", "['O',\t'O']", "x\t[O, O]"):
        with pytest.raises(InputError, match="is no token and no tag"):
            read(write(tmp_path, "b.txt", f"a\tO\n{line}\n"))
    with pytest.raises(InputError, match="is no token and no tag"):
        read(write(tmp_path, "b.txt", "a b c d O\n7 [O, O] [two, words]\n"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(st.lists(st.lists(st.tuples(WORDS, WORDS, WORDS), min_size=1), min_size=1), st.sampled_from("\t "))
def test_tokens_in_are_tokens_out(tmp_path, sentences, gap):
    # A word that begins with the comments' sign is a token wherever the columns are those of the others.
    sentences = [[("w", "x", "y"), *sentence] for sentence in sentences]
    text = "\n\n".join("\n".join(gap.join(token) for token in sentence) for sentence in sentences)
    found = read(write(tmp_path, "a.txt", text))
    wanted = [tuple(zip(*sentence, strict=True)) for sentence in sentences]
    assert found == [(words, tags) for words, _, tags in wanted]
