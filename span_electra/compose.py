"""Composing settings: defaults, presets, files that include files, environment, flags; checked and printed.

Precedence, lowest first: the schema's defaults, a preset (configs/<name>.json), a config file, the command
line. Files are JSON or YAML. Two interpolations are known, besides references to other keys:

  ${from_file:path}          the content of another file, relative to the including one,
                             else to the folder named by SPAN_ELECTRA_CONFIG_DIR
  ${oc.env:VARIABLE,default} an environment variable, cast to the type the schema asks for
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import Field, asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from span_electra.elsewhere import meant
from span_electra.errors import InputError
from span_electra.schema import Values, flatten
from span_electra.utf8 import read_text

HERE = Path(__file__).resolve().parent
# In an installed package the presets lie inside it, in a clone beside it.
PRESET_FOLDER = next(folder for folder in (HERE / "configs", HERE.parent / "configs") if folder.is_dir())
INCLUDE = re.compile(r"\$\{\s*from_file\s*:\s*(.+?)\s*\}")
RESOLVER = re.compile(r"\$\{\s*([\w.\-]+)\s*:")
COMPUTED = re.compile(r"\$\{[^:}]*\$\{")  # an interpolation whose name is made by another one
LARGEST_FILE = 16 << 20  # bytes
MOST_PROBLEMS = 12  # told at once of one file
DEEPEST, MOST_VALUES = 20, 1 << 20  # of a file of settings; ours have three levels and some hundred values
KNOWN_RESOLVERS = ("from_file", "oc.env")
TWICE = "stands there twice; leave one of them out"
NEEDED = {"int": "a number", "float": "a number", "bool": "true or false", "str": "a text"}
Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Layer:
    """Values that overlay the ones below them, and the name errors call them by."""

    source: str
    values: Values
    is_preset: bool = False  # settings of ours, over which what goes with a choice of the user's may be laid
    note: Callable[[], str] | None = None  # what the user should know of it, once all settings are accepted


def section_of(layer: Layer, name: str) -> Values:
    """What a layer says of a section."""
    section = layer.values.get(name)
    return section if isinstance(section, dict) else {}


def compose(schema: type[Settings], layers: list[Layer]) -> Settings:
    """Lay `layers` over the defaults of `schema`, later ones on top, and make the checked settings.

    Raises InputError naming the layer and the key for unknown keys, values of a wrong type, and variables
    that are not set.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    keys = list(leaves(schema))
    keys += dict.fromkeys(key.rpartition(".")[0] for key in keys if "." in key)  # the sections
    # Before OmegaConf looks: it stops at the first unknown key, and knows no names from elsewhere.
    for layer in layers:
        problems = _unknown_keys(schema, layer.values, keys)
        if problems:
            raise InputError(f"{layer.source}: {'; '.join(problems[:MOST_PROBLEMS])}")
        for key, value in flatten(layer.values).items():
            if "???" in (value if isinstance(value, list) else [value]):  # OmegaConf would pass over it
                raise InputError(
                    f"{layer.source}: {key}: '???' stands for a value still to be given; give it"
                )
    try:
        # Typed by the schema: OmegaConf then refuses a text where a number belongs.
        merged = OmegaConf.structured(schema)
    except OmegaConfBaseException as error:
        raise InputError(f"{schema.__module__}.py: {_first_line(error)}") from None
    for layer in layers:  # one by one, so that an error can name its layer
        try:
            merged = OmegaConf.merge(merged, _listed(schema, layer.values))
        except OmegaConfBaseException as error:
            raise InputError(f"{layer.source}: {_first_line(error)}") from None
    try:
        # Here interpolations are resolved, and each section's __post_init__ checks it.
        return OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise InputError(f"{layers[-1].source if layers else 'defaults'}: {_first_line(error)}") from None
    except InputError as error:
        # The check of one section knows its field, not the file that set it.
        field_name, _, rest = str(error).partition(":")
        source = _last_to_set(layers, field_name)
        if source is None:
            raise
        of_flag = source.startswith("--") and re.split(r"[-.]", source)[-1] == field_name
        raise InputError(f"{source}:{rest}" if of_flag else f"{source}: {error}") from None


def peek(schema: type, layers: list[Layer], keys: Iterable[str]) -> Values:
    """What `layers` say of some settings, as they will be: resolved, and of the types that the schema has.

    For who must know them before all are made. Keys that no layer names are left out. Raises InputError as
    `compose` does, but for what the checks of sections refuse.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    flat = [flatten(layer.values) for layer in layers]
    said = {key: values[key] for key in keys for values in flat if key in values}
    if not said:
        return {}
    try:
        merged = OmegaConf.structured(schema)
        for layer in layers:
            merged = OmegaConf.merge(merged, _listed(schema, layer.values))
        found = ((key, OmegaConf.select(merged, key)) for key in said)
        return {key: list(value) if OmegaConf.is_list(value) else value for key, value in found}
    except (OmegaConfBaseException, KeyError, TypeError, AttributeError):
        compose(schema, layers)  # which says what is wrong, and where
        raise


def preset(name: str) -> Layer:
    """The layer of configs/<name>.json. Raises InputError naming the presets there are."""
    if name not in preset_names():
        raise InputError(f"--preset {name}: there is no such preset; choose from {', '.join(preset_names())}")
    return config_file(PRESET_FOLDER / f"{name}.json")


def preset_names() -> list[str]:
    """What --preset takes."""
    return sorted(path.stem for path in PRESET_FOLDER.glob("*.json"))


def config_file(path: str | Path) -> Layer:
    """The layer of one JSON or YAML file, its inclusions resolved. Raises InputError for what is wrong.

    A preset's file is that preset, by whichever flag it is named.
    """
    values = _nested(read_settings(path), str(path))
    presets = {(PRESET_FOLDER / f"{name}.json").resolve() for name in preset_names()}
    return Layer(str(path), values, is_preset=Path(path).resolve() in presets)


def read_settings(path: str | Path) -> Values:
    """The values of one JSON or YAML file, its inclusions resolved. Raises InputError for what is wrong."""
    values = _read(Path(path), ())
    if not isinstance(values, dict):
        raise InputError(f"{path}: holds no settings; write keys and values, as in configs/default.json")
    return values


def dump(settings: object) -> str:
    """The whole settings as JSON text, ready to be a config file again."""
    return json.dumps(asdict(settings), indent=2)


def leaves(schema: type, prefix: str = "") -> dict[str, Field]:
    """Dotted key -> dataclass field, for every setting of `schema` and of the sections in it."""
    found = {}
    hints = get_type_hints(schema)
    for entry in fields(schema):
        if is_dataclass(hints[entry.name]):
            found |= leaves(hints[entry.name], f"{prefix}{entry.name}.")
        else:
            found[prefix + entry.name] = entry
    return found


def _read(path: Path, including: tuple[Path, ...]) -> Any:
    """The plain content of a file, with what it includes in place."""
    import yaml

    from span_electra.plain_yaml import read_yaml

    absolute = Path(os.path.abspath(path))  # not resolve(): a link that leads to itself raises there
    if absolute in including:
        chain = " -> ".join(str(file) for file in (*including, absolute))
        raise InputError(f"{path}: includes itself ({chain}); break the circle")
    text = read_text(path, "give a file of settings, such as configs/default.json", LARGEST_FILE)
    try:
        content = json.loads(text) if path.suffix == ".json" else read_yaml(text)
        _check_tree(content)
        twice = _duplicates(text)
    # Of a value that its tag does not fit (!!bool abc) the library raises whatever its parts do.
    except (ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError, RecursionError) as error:
        cure = "put ${...} in quotes" if "${" in str(error) else "mend it there"  # braces are YAML's too
        raise InputError(f"{path}: not valid JSON or YAML ({_first_line(error)}); {cure}") from None
    if twice:
        raise InputError("; ".join(f"{path}: {key} {TWICE}" for key in twice[:MOST_PROBLEMS]))
    return _include(content, path, (*including, absolute))


def _duplicates(text: str) -> list[str]:
    """The dotted keys that are written twice, of which JSON and YAML silently keep the last."""
    import yaml

    # From the nodes of the tree: the values have lost the first of two equal keys already.
    try:
        # JSON may hold tabs, YAML not
        nodes = [("", yaml.compose(text.replace("\t", " "), Loader=yaml.SafeLoader))]
    except yaml.YAMLError:
        return []  # JSON that is no YAML
    found = []
    for prefix, node in nodes:  # which grows
        seen = set()
        for key, value in node.value if isinstance(node, yaml.MappingNode) else []:
            if str(key.value) in seen:
                found.append(f"{prefix}{key.value}")
            seen.add(str(key.value))
            nodes.append((f"{prefix}{key.value}.", value))
    return found


def _nested(values: Values, path: str, prefix: str = "") -> Values:
    """The same values with dotted keys taken apart. Raises InputError for a key that is given in both ways.

    Example: {"optimizer.lr": 1, "optimizer": {"warmup": 2}} -> {"optimizer": {"lr": 1, "warmup": 2}}
    """
    nested: Values = {}
    for key, value in values.items():
        *sections, name = str(key).split(".")
        if isinstance(value, dict):
            value = _nested(value, path, f"{prefix}{key}.")
        for section in reversed(sections):
            name, value = section, {name: value}
        _add(nested, {name if sections else key: value}, path, prefix)
    return nested


def _add(target: Values, values: Values, path: str, prefix: str) -> None:
    """Put nested `values` into `target`. Raises InputError for a key of both that is no section."""
    for key, value in values.items():
        if isinstance(target.get(key), dict) and isinstance(value, dict):
            _add(target[key], value, path, f"{prefix}{key}.")
        elif key in target:
            raise InputError(f"{path}: {prefix}{key} {TWICE}")
        else:
            target[key] = value


def _check_tree(content: Any) -> None:
    """Raise ValueError where values lie too deep or are too many, as aliases in YAML make them."""
    # Level by level, not by recursion, which a file could nest deeper than Python's stack.
    level, total = [content], 0
    for _ in range(DEEPEST):
        level = [
            item
            for value in level
            if isinstance(value, dict | list)
            for item in (value.values() if isinstance(value, dict) else value)
        ]
        total += len(level)
        if not level:
            return
        if total > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES} values")
    raise ValueError(f"nested more than {DEEPEST} levels deep")


def _include(value: Any, path: Path, including: tuple[Path, ...]) -> Any:
    if isinstance(value, dict):
        return {key: _include(item, path, including) for key, item in value.items()}
    if isinstance(value, list):
        return [_include(item, path, including) for item in value]
    if not isinstance(value, str):
        return value
    if COMPUTED.search(value):  # OmegaConf would make the name after we have looked at it
        raise InputError(f"{path}: {value!r}: a name inside ${{...}} must stand as it is; spell it out")
    # Whatever else some package has registered with OmegaConf is code, which a file must not call.
    for name in RESOLVER.findall(value):
        if name not in KNOWN_RESOLVERS:
            raise InputError(f"{path}: ${{{name}:...}} is not known; use from_file or oc.env")
    if included := INCLUDE.fullmatch(value.strip()):
        return _read(_included_path(included[1], path), including)
    if INCLUDE.search(value):
        raise InputError(f"{path}: {value!r}: from_file must be the whole value")
    return value


def _included_path(name: str, includer: Path) -> Path:
    # Beside the including file first: a set of files that was copied stays one.
    beside = includer.parent / name
    folder = os.environ.get("SPAN_ELECTRA_CONFIG_DIR")
    if not beside.exists() and folder and Path(folder, name).exists():
        return Path(folder, name)
    if not beside.exists():
        raise InputError(f"{includer}: includes {name}; put it beside, or in SPAN_ELECTRA_CONFIG_DIR")
    return beside


def _unknown_keys(schema: type, values: Values, keys: list[str], prefix: str = "") -> list[str]:
    """What is wrong with the keys of `values`, all of it, so that a file is mended in one go."""
    kinds = get_type_hints(schema)
    hints = {entry.name: kinds[entry.name] for entry in fields(schema)}
    problems = []
    for key, value in values.items():
        path = f"{prefix}{key}"
        # A name from another system is as likely as a slip of the pen; both are looked for.
        if key not in hints:
            # Of a section that is none each key by itself: files of other systems nest otherwise.
            for unknown in flatten({str(key): value}, prefix):
                ours, note = meant(unknown, keys)
                same_section = ours is not None and ours.rpartition(".")[0] == prefix.rstrip(".")
                hint = (
                    f"did you mean {(ours.rpartition('.')[2] if same_section else ours)!r}?" if ours else ""
                )
                note = f"({note})" if hint and note else note
                problems.append(
                    f"unknown key {unknown!r}; {f'{hint} {note}'.strip() or 'known are ' + ', '.join(hints)}"
                )
        elif is_dataclass(hints[key]) and isinstance(value, dict):
            problems += _unknown_keys(hints[key], value, keys, f"{path}.")
        elif is_dataclass(hints[key]):
            problems.append(f"{path} is a section; give it keys of its own")
        elif str in (hints[key], *get_args(hints[key])):
            # As text it would be another: 1.1 of 1.10, and 100000.0 of 1e5.
            problems += [
                f"{path}: {item} is a number; put what you wrote in quotes"
                for item in (value if isinstance(value, list) else [value])
                if isinstance(item, float)
            ]
    return problems


def _listed(schema: type, values: Values) -> Values:
    """The same values: a single one where the schema wants a list is a list of one, 'none' is none.

    Where it is a choice, or one of several in a list, none is a name as any.
    """
    hints, listed = get_type_hints(schema), {}
    choices = {entry.name: entry.metadata.get("choices", ()) for entry in fields(schema)}
    for key, value in values.items():
        if is_dataclass(hints[key]):
            listed[key] = _listed(hints[key], value)
        elif get_origin(hints[key]) is list:
            items = value if isinstance(value, list) else [value]
            listed[key] = [] if len(items) == 1 and _is_none(items[0]) else items
        else:
            listed[key] = None if _is_none(value) and value not in choices[key] else value
    return listed


def _is_none(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.lower() in ("none", "null"))


def _last_to_set(layers: list[Layer], leaf: str) -> str | None:
    setting = [each for each in layers if any(leaf in key.split(".") for key in flatten(each.values))]
    return setting[-1].source if setting else None


def _first_line(error: Exception) -> str:
    """The message in one line, with the key omegaconf puts on a line of its own."""
    text = str(error).replace('in "<unicode string>", ', "at ")  # the file's name stands before it
    wrong = re.search(r"Value '(.*)' of type '\w+' could not be converted to (Integer|Float)", text)
    if wrong:
        kind = "whole number" if wrong[2] == "Integer" else "number"
        text = text.replace(wrong[0], f"{wrong[1]!r} is no {kind}; give one")
    if wrong := re.search(r"Incompatible value 'None' for field of type '(\w+)'|.*is not Optional", text):
        text = text.replace(wrong[0], f"is needed; give {NEEDED.get(wrong[1], 'a value')}")
    text = re.sub(r"Invalid type assigned: NoneType .*", "null stands in the list; leave it out", text)
    key = re.search(r"full_key: (\S+)", text)
    first = " ".join(
        line.strip() for line in text.splitlines() if not re.match(r"\s*\w+_?(key|type)[:=]", line)
    )
    return f"{key[1]}: {first}" if key else first
