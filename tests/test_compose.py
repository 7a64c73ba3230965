"""Composition of settings. Run: pytest tests/test_compose.py"""

import json
from dataclasses import dataclass, field
from functools import reduce

import pytest

from span_electra.compose import Layer, compose, config_file, dump, leaves, peek, preset
from span_electra.config import OptimizerConfig
from span_electra.data_config import LoaderConfig
from span_electra.errors import InputError
from span_electra.schema import Settings, check_fields, flatten, setting


@dataclass(frozen=True)
class Everything(Settings):
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    files: list[str] = setting([], "some files")

    def __post_init__(self) -> None:
        check_fields(self)


def write(path, content) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_later_layers_win_and_untouched_keys_stay():
    low, high = (
        Layer("low", {"optimizer": {"lr": 1.0, "momentum": 0.5}}),
        Layer("high", {"optimizer": {"lr": 2}}),
    )
    made = compose(Everything, [low, high])
    assert (made.optimizer.lr, made.optimizer.momentum, made.loader) == (2.0, 0.5, LoaderConfig())


def test_what_is_printed_is_a_config_file_again(tmp_path):
    made = compose(Everything, [Layer("x", {"optimizer": {"betas": [0.8, 0.99]}, "files": ["a b", "ü"]})])
    again = compose(Everything, [config_file(write(tmp_path / "printed.json", dump(made)))])
    assert again == made


def test_a_file_includes_others_relative_to_itself_in_lists_too(tmp_path, monkeypatch):
    write(tmp_path / "parts/optimizer.yaml", "lr: ${from_file:deeper/rate.json}\nschedule: cosine\n")
    write(tmp_path / "parts/deeper/rate.json", "0.25")
    write(tmp_path / "central/name.yaml", "from the central folder")
    monkeypatch.setenv("SPAN_ELECTRA_CONFIG_DIR", str(tmp_path / "central"))
    whole = {"optimizer": "${from_file:parts/optimizer.yaml}", "files": ["first", "${from_file:name.yaml}"]}
    made = compose(Everything, [config_file(write(tmp_path / "whole.json", whole))])
    assert (made.optimizer.lr, made.optimizer.schedule) == (0.25, "cosine")
    assert made.files == ["first", "from the central folder"]


def test_environment_values_are_cast_and_default(tmp_path, monkeypatch):
    monkeypatch.setenv("TEST_LR", "3e-4")
    monkeypatch.delenv("TEST_BATCH", raising=False)
    text = "optimizer: {lr: '${oc.env:TEST_LR}'}\nloader: {batch_size: '${oc.env:TEST_BATCH,64}'}\n"
    made = compose(Everything, [config_file(write(tmp_path / "env.yaml", text))])
    assert (made.optimizer.lr, made.loader.batch_size) == (3e-4, 64)


def test_what_is_peeked_at_is_what_will_be(monkeypatch):
    monkeypatch.setenv("TEST_LR", "3e-4")
    low = Layer("low", {"optimizer": {"lr": 1.0, "momentum": "0.5"}, "loader": {"seed": 3}})
    texts = {"lr": "${oc.env:TEST_LR}", "warmup": "${oc.env:TEST_WARMUP,7}", "decay": "${loader.seed}"}
    layers = [low, Layer("high", {"optimizer": texts, "files": "a"})]
    names = [*(f"optimizer.{name}" for name in ("lr", "momentum", "warmup", "decay", "optimizer")), "files"]
    seen, made = peek(Everything, layers, names), compose(Everything, layers)
    assert seen.pop("files") == made.files == ["a"]
    assert seen == {key: getattr(made.optimizer, key.partition(".")[2]) for key in names[:4]}
    assert peek(Everything, layers, ["loader.workers"]) == {}


@pytest.mark.parametrize(
    "values", [{"optimizer": {"lr": "fast"}}, {"optimiser": {}}, {"files": "${oc.env:TEST_NONE}"}]
)
def test_what_cannot_be_peeked_at_is_refused_in_the_words_of_all_settings(values):
    layers = [Layer("mine.json", values | {"loader": {"seed": 1}})]
    with pytest.raises(InputError) as peeked:
        peek(Everything, layers, ["loader.seed", "files"])
    with pytest.raises(InputError) as composed:
        compose(Everything, layers)
    assert str(peeked.value) == str(composed.value) and "mine.json" in str(peeked.value)


def test_a_single_value_serves_where_a_list_is_wanted():
    assert compose(Everything, [Layer("x", {"files": "one"})]).files == ["one"]


@dataclass(frozen=True)
class Words(Settings):
    track: str | None = setting(None, "a service", (None, "wandb"))
    sharing: str = setting("auto", "what is shared", ("auto", "none"))
    compile: str = setting("auto", "whether", ("auto", "max", "off"))
    name: str | None = setting(None, "a name")
    steps: int = setting(1, "a number")
    files: list[str] = setting(["a"], "some files")


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("track: none", None), ("track: None", None), ("track: NULL", None), ("sharing: none", "none"),
        ("compile: off", "off"), ("name: none", None), ("name: no", "no"), ("name: 007", "007"),
        ("name: 2024-01-01", "2024-01-01"), ("name: 10:30", "10:30"), ("files: none", []),
        ("files: [none]", []), ("files: [none, b]", ["none", "b"]), ("steps: 1_000", 1000),
    ],
)  # fmt: skip
def test_words_of_a_file_mean_what_they_mean_as_flags(line, value, tmp_path):
    layers = [config_file(write(tmp_path / "a.yaml", line))]
    key = line.partition(":")[0]
    assert getattr(compose(Words, layers), key) == peek(Words, layers, [key])[key] == value


@pytest.mark.parametrize("line", ["name: 1.10", "name: 1e5", "files: [a, 1.10]"])
def test_a_number_that_would_not_be_written_as_it_was_is_asked_for_in_quotes(line, tmp_path):
    with pytest.raises(InputError, match=r"a.yaml: (name|files): (1.1|100000.0) is a number; .* in quotes"):
        compose(Words, [config_file(write(tmp_path / "a.yaml", line))])


@pytest.mark.parametrize(("line", "meant"), [("track: wand", "wandb"), ("compile: false", "off")])
def test_advice_on_words_of_a_file_can_be_followed(line, meant, tmp_path):
    with pytest.raises(InputError, match=f"a.yaml: .*did you mean '{meant}'") as caught:
        compose(Words, [config_file(write(tmp_path / "a.yaml", line))])
    assert "None" not in str(caught.value)


def is_list(entry):
    return "list" in str(entry.type)


@pytest.mark.parametrize("none", [None, [None]])
def test_null_in_a_file_empties_a_list(none):
    layers = [Layer("low", {"files": ["a"]}), Layer("high", {"files": none})]
    assert compose(Everything, layers).files == peek(Everything, layers, ["files"])["files"] == []


@pytest.mark.parametrize("key", [key for key, entry in leaves(Everything).items() if not is_list(entry)])
def test_null_is_no_value_or_the_key_is_said_to_be_needed(key):
    values = reduce(lambda value, name: {name: value}, reversed(key.split(".")), None)
    if "None" in str(leaves(Everything)[key].type):
        compose(Everything, [Layer("x.json", values)])
        return
    with pytest.raises(InputError) as caught:
        compose(Everything, [Layer("x.json", values)])
    assert str(caught.value).startswith(f"x.json: {key}: is needed; give ")


def test_dotted_keys_are_taken_apart_at_every_depth_and_in_included_files(tmp_path):
    write(tmp_path / "part.json", {"generator.hidden_size": 1})
    content = {"optimizer.lr": 2, "optimizer": {"warmup": 3}, "model": "${from_file:part.json}"}
    values = config_file(write(tmp_path / "whole.json", content)).values
    assert flatten(values) == {"optimizer.lr": 2, "optimizer.warmup": 3, "model.generator.hidden_size": 1}
    for key, value in flatten(values).items():
        assert reduce(lambda inner, name: inner[name], key.split("."), values) == value


def test_keys_of_a_section_that_is_none_are_answered_one_by_one(tmp_path):
    path = write(tmp_path / "theirs.json", {"trainer": {"momentun": 1, "learning-rate": 2}})
    with pytest.raises(InputError) as caught:
        compose(Everything, [config_file(path)])
    assert "'trainer.momentun'; did you mean 'optimizer.momentum'?" in str(caught.value)
    assert "'trainer.learning-rate'; did you mean 'optimizer.lr'?" in str(caught.value)


REFUSED = {
    "unknown key": (
        "optimizer: {momentun: 1}",
        ["unknown key 'optimizer.momentun'", "did you mean 'momentum'"],
    ),
    "wrong type": ("optimizer: {lr: fast}", ["optimizer.lr", "fast"]),
    "not a section": ("optimizer: 3", ["optimizer is a section"]),
    "no such choice": ("optimizer: {schedule: linaer}", ["'linaer'", "did you mean 'linear'"]),
    "out of range": ("loader: {batch_size: 0}", ["batch_size: 0 is too small"]),
    "unset variable": ("optimizer: {lr: '${oc.env:SURELY_UNSET}'}", ["optimizer.lr", "SURELY_UNSET"]),
    "missing include": ("optimizer: '${from_file:nowhere.json}'", ["nowhere.json"]),
    "foreign resolver": ("files: ['${oc.decode:1}']", ["oc.decode", "not known"]),
    "python tag": ("files: !!python/object/apply:os.system ['touch hacked']", ["not valid"]),
    "no mapping": ("- 1\n- 2", ["holds no settings"]),
    "broken": ("{", ["not valid JSON or YAML"]),
    "bare reference": ("optimizer: {lr: ${oc.env:LR}}", ["put ${...} in quotes"]),
    "a tag of no value": ("optimizer: {lr: !!bool abc}", ["not valid"]),
    "a value to be given": ("optimizer: {lr: '???'}", ["optimizer.lr: '???' stands for a value still to be"]),
    "one of a list": ("files: [a, '???']", ["files: '???' stands for"]),
    "a key both ways": ("optimizer: {lr: 1}\noptimizer.lr: 2", ["optimizer.lr stands there twice"]),
    "a section both ways": ("optimizer: 1\noptimizer.lr: 2", ["optimizer stands there twice"]),
    "null in a list": ("files: [a, null]", ["files[1]: null stands in the list"]),
    "a key twice": ("optimizer: {lr: 1}\nfiles: [a]\noptimizer: {lr: 2}", ["optimizer stands there twice"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_file_is_refused_in_one_line_that_names_it(case, tmp_path):
    content, words = REFUSED[case]
    path = write(tmp_path / "bad.yaml", content)
    with pytest.raises(InputError) as caught:
        compose(Everything, [config_file(path)])
    message = str(caught.value)
    assert path in message and "\n" not in message
    assert all(word in message for word in words), message
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize(
    "phase, way_out",
    [
        ("0: mask_ratio=0.3", "write it in quotes: '0: mask_ratio=0.3'"),
        ("0.5:", "write it in quotes: '0.5: '"),
        ("{a: 1, b: 2}", "give a number or a text"),
        ("a: [b]", "give a number or a text"),
    ],
)
def test_a_text_that_yaml_takes_for_a_key_is_asked_for_in_quotes(phase, way_out, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(f"loader:\n  masking_schedule:\n    - {phase}\n")
    with pytest.raises(InputError, match=rf"mine.yaml: masking_schedule: {{.* one value belongs; {way_out}$"):
        compose(Everything, [config_file(path)])


def test_keys_written_twice_in_included_files_are_told_with_their_file(tmp_path):
    write(tmp_path / "part.json", '{"lr": 1,\t"lr": 2}')
    with pytest.raises(InputError, match="part.json: lr stands there twice"):
        config_file(write(tmp_path / "whole.yaml", "optimizer: '${from_file:part.json}'"))


def test_a_circle_of_inclusions_is_refused(tmp_path):
    write(tmp_path / "b.yaml", "'${from_file:a.yaml}'")
    with pytest.raises(InputError, match="includes itself"):
        config_file(write(tmp_path / "a.yaml", "optimizer: '${from_file:b.yaml}'"))


def test_an_unknown_preset_names_those_there_are():
    with pytest.raises(InputError, match="base, .*default, large, .*small, .*tiny"):
        preset("huge")


def test_leaves_name_every_setting_by_its_path():
    assert {"optimizer.lr", "loader.batch_size", "files"} <= set(leaves(Everything))
