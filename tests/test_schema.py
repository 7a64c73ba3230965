"""Classes of settings: inheritance, own defaults, older lines. Run: pytest tests/test_schema.py"""

import re
import subprocess
import sys
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import get_type_hints

import pytest
from shell_examples import SCHEMAS

from argument import JointTrainingConfig, VocabularyArgs
from span_electra.commandline import Parser, parse
from span_electra.compose import Layer, compose, leaves, preset_names
from span_electra.errors import InputError
from span_electra.schema import Settings, flatten, same, setting

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Rate(Settings):
    lr: float = setting(0.5, "rate", least=0)
    kind: str = setting("a", "kind", ("a", "b"))


@dataclass(frozen=True)
class Data(Settings):
    files: list[str] = setting([], "files")
    rows: int = setting(3, "rows", least=1)


@dataclass(frozen=True)
class DataArgs(Data):
    OLDER_NAMES = {"occu": ("rows",), "save_dir": ("outer.place",)}


@dataclass(frozen=True)
class Run(Settings):
    OLDER_NAMES = {"learningRate": ("rate.lr",), "device": ("data.files",)}

    rate: Rate = field(default_factory=Rate)
    data: DataArgs = field(default_factory=DataArgs)
    place: str = setting("here", "place")


def made_by(cls: type) -> Settings:
    """Its settings as scripts make them."""
    return compose(cls, [Layer("argument.py", cls.NAMED)])


def metadata(cls: type, name: str) -> dict:
    return next(entry.metadata for entry in fields(cls) if entry.name == name)


def test_nested_settings_become_dotted_keys():
    nested = {"model": {"generator": {"layers": 4}, "act": "gelu", "none": {}}, "seed": 1}
    flat = {"model.generator.layers": 4, "model.act": "gelu", "model.none": {}, "seed": 1}
    assert flatten(nested) == flat


def test_a_plain_line_gives_another_default_and_keeps_help_and_bounds():
    @dataclass(frozen=True)
    class Mine(Rate):
        lr = 0.25
        kind: str = "b"

    assert made_by(Mine) == Mine(0.25, "b") and metadata(Mine, "lr") == metadata(Rate, "lr")
    assert Mine() == Mine(0.5, "a") and Mine.NAMED == {"lr": 0.25, "kind": "b"} and not Rate.NAMED
    with pytest.raises(InputError, match="lr: -1 is too small"):
        Mine(lr=-1)


def test_the_lines_of_every_base_count():
    class Slow(Rate):
        lr = 0.25

    class Other(Rate):
        lr = 0.75
        kind = "b"
        speed = 3

    class Both(Slow, Other):
        pass

    assert Both.NAMED == {"lr": 0.25, "kind": "b"} and Both.UNKNOWN == ("speed",)


def test_lines_of_older_files_set_the_fields_they_mean():
    @dataclass(frozen=True)
    class Mine(DataArgs):
        self.files = "my text"  # noqa: F821  what older files wrote inside __init__
        self.occu = 7  # noqa: F821
        self.save_dir = "there"  # noqa: F821

    @dataclass(frozen=True)
    class MyRun(Run):
        data: Mine = field(default_factory=Mine)
        learningRate = 0.125

    made = made_by(MyRun)
    assert (made.data.files, made.data.rows, made.rate.lr, made.place) == (["my text"], 7, 0.125, "there")
    assert made.rate.kind == "a" and made_by(Run).rate.lr == 0.5


def test_an_own_line_wins_over_what_a_section_or_a_base_left():
    @dataclass(frozen=True)
    class Mine(DataArgs):
        save_dir = "there"

    @dataclass(frozen=True)
    class MyRun(Run):
        data: Mine = field(default_factory=Mine)
        place = "at home"

    @dataclass(frozen=True)
    class Again(MyRun):
        place: str = setting("anew", "place")

    assert made_by(MyRun).place == "at home" and made_by(Again).place == "anew"


@pytest.mark.parametrize("given", ["a", ["a"], ("a",)])
def test_a_list_is_made_of_what_a_line_gives_anew_for_each_settings(given):
    @dataclass(frozen=True)
    class Mine(Data):
        files = given

    made_by(Mine).files.append("b")
    assert made_by(Mine).files == ["a"]


def test_a_line_that_has_no_meaning_here_is_answered_from_the_tables():
    @dataclass(frozen=True)
    class Mine(DataArgs):
        pad_token_id = 0

    with pytest.raises(InputError, match="no setting 'pad_token_id'; special tokens stand in the vocabulary"):
        Mine()


def test_an_unknown_line_is_refused_when_settings_are_made_and_names_the_right_one():
    @dataclass(frozen=True)
    class Mine(DataArgs):
        rwos = 4

    with pytest.raises(InputError, match=r"class Mine has no setting 'rwos'; did you mean 'rows'\?"):
        Mine()


def test_a_value_that_is_refused_does_not_fail_the_import():
    @dataclass(frozen=True)
    class MyRun(Run):
        learningRate = -1.0

    with pytest.raises(InputError, match="argument.py: lr: -1.0 is too small"):
        made_by(MyRun)


def test_a_part_is_taken_out_of_settings_that_inherit_it():
    @dataclass(frozen=True)
    class Both(Rate, Data):
        more: int = setting(1, "more")

    assert Rate.of(Both(lr=0.25, rows=9)) == Rate(0.25) and Data.of(Both(rows=9)) == Data(rows=9)


def test_the_same_field_elsewhere_has_the_same_default_bounds_and_help():
    @dataclass(frozen=True)
    class Other(Settings):
        train_rows: int = same(Data, "rows")

        more: int = same(Data, "rows", default=4)

    assert Other() == Other(3, 4)
    assert metadata(Other, "train_rows") == metadata(Other, "more") == metadata(Data, "rows")


def test_the_bound_itself_is_refused_of_what_must_be_above_it():
    @dataclass(frozen=True)
    class Share(Settings):
        p: float = setting(0.5, "share", above=0, most=1)
        q: float | None = setting(None, "another", above=0)

    @dataclass(frozen=True)
    class Elsewhere(Settings):
        p: float = same(Share, "p")

    assert Share(p=1, q=1e-300) and Elsewhere(p=1e-300)
    for cls, name, value in ((Share, "p", 0), (Share, "q", -1.5), (Elsewhere, "p", 0.0)):
        with pytest.raises(InputError, match=f"{name}: {value} must be above 0"):
            cls(**{name: value})


# The lines that the first document says to write into argument.py.
GENERAL = """
hidden_size= 256
embedding_size= 512
max_span_len= 10
mask_ratio= 0.1
vocab_size= 10000
max_seq_len = 64
"""
TRAIN = """
    self.tokenizer_type ='BPE'
    self.vocab_file= 'tok/trial BPE-vocab.json'
    self.raw_text_dir = 'wiki.train.tokens'
    self.out_dir = 'out/joint/'
    self.save_tokenized_text= True
    self.save_features = False
"""
VALID = """
    self.raw_text_dir = 'wiki.valid.tokens'
"""
CONFIG = """
    gen_hidden_size = 128
    embedding_size = 256
    disc_hidden_size = 512
    save_dir = 'out/joint/'
    device_id = 0
    generator_weight_path = 'runs/g'
    num_workers = 0
    epochs = 2
    learningRate = 4e-5
    train_batch_size = 8
    valid_batch_size = 9
"""
CHECK = """
from argument import JointTrainingConfig
from span_electra.commandline import Parser, parse
c = parse(JointTrainingConfig, '', [])
d, v, m = c.train_data, c.valid_data, c.model
assert (d.mask_ratio, d.max_span_len, d.max_seq_len, m.max_position_embeddings) == (.1, 10, 64, 64)
assert (m.vocab_size, m.embedding_size) == (10000, 256)
assert (m.generator.hidden_size, m.discriminator.hidden_size) == (128, 512)
assert (d.tokenizer_type, d.vocab_file) == ('BPE', 'tok/trial BPE-vocab.json')
assert d.raw_text_dir == 'wiki.train.tokens'
assert d.save_tokenized_text and not d.save_features and v.raw_text_dir == 'wiki.valid.tokens'
assert (c.out_dir, c.training.device_ids, c.workers, c.training.epochs) == ('out/joint/', [0], 0, 2)
assert c.generator_path == 'runs/g'
assert (c.optimizer.lr, d.train_batch_size, v.valid_batch_size) == (4e-5, 8, 9)
from span_electra.pretraining.defaults import names_sizes
assert names_sizes(JointTrainingConfig.NAMED)
help = ' '.join(Parser(JointTrainingConfig, '').format_help().split())
assert '[wiki.train.tokens]' in help and '[out/joint/]' in help
"""


def test_the_document_s_lines_pasted_into_argument_py_do_what_they_say(tmp_path):
    text = (ROOT / "argument.py").read_text()
    assert "may stand here.\n" in text
    text = text.replace("may stand here.\n", "may stand here.\n" + GENERAL)
    for name, lines in (
        ("Joint_trainDataArgs", TRAIN),
        ("Joint_validDataArgs", VALID),
        ("JointTrainingConfig", CONFIG),
    ):
        text, count = re.subn(rf'(class {name}\(\w+\):\n    """.*?"""\n)', rf"\g<1>{lines}", text, flags=re.S)
        assert count == 1
    (tmp_path / "argument.py").write_text(text)
    program = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]" + CHECK
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def sections(schema, prefix=""):
    """The classes of settings in one, by their dotted paths; its own is "" """
    kinds = get_type_hints(schema)
    found = {prefix: schema}
    for entry in fields(schema):
        if is_dataclass(kinds[entry.name]):
            found |= sections(kinds[entry.name], f"{prefix}{entry.name}.")
    return found


SCRIPTS = [name for name in SCHEMAS if name.endswith(".py")]
READ_WITH = [
    (script, prefix, name)
    for script in SCRIPTS
    for prefix, kind in sections(SCHEMAS[script]).items()
    for name in kind.READ_WITH
]


@pytest.mark.parametrize(("script", "prefix", "name"), READ_WITH)
def test_a_flag_that_is_read_with_another_alone_is_refused_without_it(script, prefix, name):
    schema = SCHEMAS[script]
    kind, flags = sections(schema)[prefix], Parser(schema, "").flags
    (other, *values), usual = kind.READ_WITH[name], kind()
    flag, more = (
        [flags[prefix + key]] if isinstance(value, bool) else [flags[prefix + key], str(value or "1")]
        for key, value in ((name, getattr(usual, name)), (other, values[-1] if values else None))
    )
    more = more[:1] if isinstance(getattr(usual, other), bool) else more
    choices = leaves(schema)[prefix + other].metadata["choices"] if values else ()
    lacking = next(([flags[prefix + other], choice] for choice in choices if choice not in values), [])
    reader = f"{flags[prefix + other]} {' or '.join(values)}".rstrip()
    message = f"^{flag[0]}: only {reader} reads it; leave it out, or give {reader}$"
    with pytest.raises(InputError, match=message):
        parse(schema, "", [*flag, *lacking])  # a default that is said
    parse(schema, "", [*flag, *more])


def test_what_the_model_gone_on_with_decides_is_not_judged_and_off_asks_for_nothing():
    modern = ["--architecture", "electra", "--local_attention", "4"]
    with pytest.raises(InputError, match="--local_attention: only --architecture modern reads it"):
        parse(JointTrainingConfig, "", modern)
    parse(JointTrainingConfig, "", [*modern, "--init_from", "published"])
    for words in (["--no-lowercase"], ["--tokenizer_type", "BERT", "--lowercase"]):
        parse(VocabularyArgs, "", words)
    parse(JointTrainingConfig, "", ["--adamw_lr", "none"])
    # What presets say of another optimizer's is no word of the user's.
    for preset in preset_names():
        parse(JointTrainingConfig, "", ["--preset", preset, "--optimizer", "adamw", "--schedule", "linear"])
