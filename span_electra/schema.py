"""What a class of settings is: fields with default, help and bounds, composed by inheritance.

A field stands in one class, with its default, its help and what it may be; whoever needs it inherits. A plain
line in the body of a subclass is kept in NAMED, which lies as the lowest layer under a script's settings:

    class Joint_trainDataArgs(TrainDataSettings):
        max_seq_len = 128                   # an own default
        self.raw_text_dir = "my text"       # the same, as older argument files wrote it

Names of older argument files (`learningRate`) set the fields that OLDER_NAMES gives for them. An unknown name
is an error once the settings are made: a misspelt default must not be passed over in silence.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, field, fields
from functools import reduce
from typing import Any, ClassVar, TypeVar

from span_electra.elsewhere import meant
from span_electra.errors import InputError, nearest

LARGEST = 2**63 - 1  # what numpy and torch hold; also no sensible number of anything is larger
Values = dict[str, Any]  # names -> values; a section is such a dictionary again
Kind = TypeVar("Kind", bound="Settings")


def setting(
    default: Any,
    help: str,
    choices: tuple = (),
    least: float | None = None,
    most: float = LARGEST,
    *,
    above: float | None = None,
    group: str = "",
    alone: str | None = None,
) -> Any:
    """A dataclass field with its default, its help, and what values it may take.

    `above`: a bound like `least` that is itself too small. `group`: the heading of --help under which it
    stands; else its section decides. `alone`: what a flag without a value means.
    """
    # Bounds stand beside the default, so that flags, config files and argument.py are checked by one law.
    metadata = {"help": help, "choices": choices, "least": least, "most": most}
    metadata |= {"above": above, "group": group, "alone": alone}
    if isinstance(default, list):  # made anew for each settings, which could else change each other's
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


# --- checks -------------------------------------------------------------------------------------------


def check_fields(settings: object) -> None:
    """Refuse a value that its field's choices, least or most value forbid, and an empty or infinite one.

    Raises InputError naming the key, the value and the nearest allowed one.
    """
    for entry in fields(settings):
        value, choices = getattr(settings, entry.name), entry.metadata.get("choices")
        if choices and value not in choices:
            # Cutoff 0: with few choices even a far one tells what kind of word is wanted.
            allowed = [shown(choice) for choice in choices]
            # Other systems have a truth value there.
            said_no = str(value).lower() in ("false", "no")
            off = [word for word in allowed if said_no and word in ("off", "none")]
            meant = off[0] if off else nearest(value, allowed, 0.0)
            raise InputError(
                f"{entry.name}: {value!r} is not one of {', '.join(allowed)}; did you mean {meant!r}?"
            )
        for item in value if isinstance(value, list) else [value]:
            _check_item(entry.name, item, entry.metadata)


def _check_item(name: str, value: object, bounds: Mapping[str, Any]) -> None:
    least, above, most = bounds.get("least"), bounds.get("above"), bounds.get("most", LARGEST)
    if isinstance(value, dict | list):
        way_out = "give a number or a text"
        if isinstance(value, dict) and len(value) == 1:
            key, inner = next(iter(value.items()))
            # YAML takes a phase of a masking_schedule for a key and its value.
            if not isinstance(inner, dict | list):
                way_out = f"write it in quotes: '{key}: {'' if inner is None else inner}'"
        raise InputError(f"{name}: {value!r} stands where one value belongs; {way_out}")
    if isinstance(value, str) and (not value.strip() or "\0" in value):
        raise InputError(f"{name}: {value!r} is no usable text; give another, or leave the setting out")
    if isinstance(value, int | float):
        if isinstance(value, float) and math.isnan(value):
            raise InputError(f"{name}: nan is no number; give one")
        if least is not None and value < least:
            raise InputError(f"{name}: {value} is too small; the least is {least}")
        if above is not None and value <= above:
            raise InputError(f"{name}: {value} must be above {above}")
        if value > most or value == -math.inf:
            raise InputError(f"{name}: {value} is too large; the most is {most}")


def shown(value: object) -> str:
    """A choice as flags and config files take it."""
    return "none" if value is None else str(value)


def check_share(name: str, value: float) -> None:
    """Refuse a share that leaves nothing: one outside [0, 1)."""
    if not 0.0 <= value < 1.0:
        raise InputError(f"{name}: {value} is no share; give a number of at least 0 and below 1.0")


# --- classes ------------------------------------------------------------------------------------------


class _Lines:
    """What `self` means in the body of a class of settings: `self.x = 1` there is the line `x = 1`."""

    def __init__(self, body: Values) -> None:
        vars(self)["body"] = body

    def __setattr__(self, name: str, value: object) -> None:
        self.body[name] = value


class _SettingsType(type):
    """Takes the plain lines of a class body, and keeps them as NAMED."""

    @classmethod
    def __prepare__(meta, name: str, bases: tuple[type, ...], **options: object) -> Values:
        # The body of a class runs with this mapping as its names, so that `self` can be one of them.
        body: Values = {}
        body["self"] = _Lines(body)
        return body

    def __new__(meta, name: str, bases: tuple[type, ...], body: Values, **options: object) -> type:
        # Only the body needs it; as an attribute it would look like a setting.
        body.pop("self", None)
        cls = super().__new__(meta, name, bases, body, **options)
        if bases:
            _take_lines(cls, body)
        return cls


class Settings(metaclass=_SettingsType):
    """The base of every class of settings; each is made a frozen dataclass by its own decorator."""

    # Name in an older argument file -> dotted paths of the fields it sets; "outer.x" is the field x of the
    # settings that this class is a section of.
    OLDER_NAMES: ClassVar[dict[str, tuple[str, ...]]] = {}
    # Such names that older files set once for all classes, at the top of the module.
    OLDER_MODULE_NAMES: ClassVar[dict[str, tuple[str, ...]]] = {}
    FIRST: ClassVar[tuple[str, ...]] = ()  # the flags most needed, first in --help
    HIDDEN: ClassVar[tuple[str, ...]] = ()  # keys of sections that say nothing here: known, but in no --help
    POSITIONAL: ClassVar[str] = ""  # the setting that what stands before all flags is the value of
    RAW_TEXT: ClassVar[tuple[str, ...]] = ()  # settings of raw text, where features are the usual way
    # A setting -> the one beside it without which nothing reads it; where values follow, it must have one of
    # these.
    READ_WITH: ClassVar[dict[str, tuple[str, ...]]] = {}
    # A setting by its dotted path -> the one whose model brings its value, after all settings are made.
    BROUGHT_BY: ClassVar[dict[str, str]] = {}
    NAMED: ClassVar[Values] = {}  # what lines of class bodies set, as nested values: a layer for `compose`
    UNKNOWN: ClassVar[tuple[str, ...]] = ()  # lines that set nothing

    def __post_init__(self) -> None:
        if self.UNKNOWN:
            raise InputError(_unknown_line(type(self)))
        check_fields(self)

    @classmethod
    def of(cls: type[Kind], settings: Settings) -> Kind:
        """The part of `settings` that is of this class; fields that they lack keep their defaults."""
        names = [entry.name for entry in fields(cls) if hasattr(settings, entry.name)]
        return cls(**{name: getattr(settings, name) for name in names})


def refuse_unread(settings: Settings, given: Iterable[str], flags: Mapping[str, str]) -> None:
    """Raise InputError for a setting of `given`, dotted paths, that nothing reads beside the others.

    flags: how a path is shown. By what was given, not by values: a default that is written out is meant too.
    What is given as none or off asks for nothing.
    """
    for key in sorted(given):
        section, _, name = key.rpartition(".")
        owner = reduce(getattr, section.split("."), settings) if section else settings
        value, rule = getattr(owner, name), owner.READ_WITH.get(name)
        if rule is None or value is None or value is False:
            continue
        other, *values = rule
        path = f"{section}.{other}" if section else other
        now, brought_by = getattr(owner, other), settings.BROUGHT_BY.get(path)
        if (now in values if values else now) or (brought_by and getattr(settings, brought_by)):
            continue
        reader = f"{flags.get(path, f'--{other}')} {' or '.join(values)}".rstrip()
        flag = flags.get(key, f"--{name}")
        raise InputError(f"{flag}: only {reader} reads it; leave it out, or give {reader}")


def flatten(values: Mapping[str, Any], prefix: str = "") -> Values:
    """Nested settings as dotted keys. Example: {"a": {"b": 1, "c": {}}} -> {"a.b": 1, "a.c": {}}"""
    flat = {}
    for key, value in values.items():
        nested = isinstance(value, Mapping) and value  # an empty one is all there is to say
        flat |= flatten(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat


def same(cls: type, name: str, **changes: object) -> Any:
    """A field like `name` of another class of settings, but for `changes` of what `setting` takes."""
    entry = next(entry for entry in fields(cls) if entry.name == name)
    default = entry.default_factory() if entry.default is MISSING else entry.default
    return setting(**{"default": default, **entry.metadata, **changes})


def _plain_lines(body: Values) -> Values:
    """The lines of a class body that give a plain value to a public name."""
    found = {}
    for name, value in body.items():
        is_value = not isinstance(value, Field | classmethod | staticmethod | property | type)
        if name[0] != "_" and not name.isupper() and is_value and not callable(value):
            found[name] = list(value) if isinstance(value, tuple) else value
    return found


def _take_lines(cls: type, body: Values) -> None:
    """Take the plain lines of its body out of a class, into NAMED; older names of its module too."""
    # Of the bases alone: the decorator that makes `cls` itself a dataclass runs after its metaclass.
    known = {name for base in cls.__mro__ for name in vars(base).get("__dataclass_fields__", {})}
    named: Values = {}
    for name, paths in cls.OLDER_MODULE_NAMES.items():
        if name in vars(sys.modules[cls.__module__]):
            _set(named, paths, vars(sys.modules[cls.__module__])[name])
    below = {name: dict(section.NAMED) for name, section in _sections(body).items() if section.NAMED}
    for lines in below.values():  # a line of a section's class may be meant for this one
        _merge(named, lines.pop("outer", {}))
    annotations, unknown = body.get("__annotations__", {}), []
    for name, value in _plain_lines(body).items():
        paths = (name,) if name in known else cls.OLDER_NAMES.get(name)
        if not paths and name in annotations:  # a new field
            continue
        # What stays in the class, its decorator would take for another default, without help and bounds.
        delattr(cls, name)
        annotations.pop(name, None)
        if paths:
            _set(named, paths, value)
        else:
            unknown.append(name)
    # Fields written out anew count as named too.
    anew = {name: value.default for name, value in body.items() if isinstance(value, Field) and name in known}
    anew = {name: value for name, value in anew.items() if value is not MISSING}
    # Of each base: by inheritance they would be those of the first alone.
    bases = [base for base in cls.__bases__ if issubclass(base, Settings)]
    cls.NAMED = _merge({}, *(base.NAMED for base in reversed(bases)), below, anew, named)
    cls.UNKNOWN = (*(name for base in bases for name in base.UNKNOWN), *unknown)


def _sections(body: Values) -> dict[str, type]:
    """The classes of settings that fields of this class body are made by."""
    made_by = {name: value.default_factory for name, value in body.items() if isinstance(value, Field)}
    return {name: maker for name, maker in made_by.items() if isinstance(maker, _SettingsType)}


def _set(values: Values, paths: tuple[str, ...], value: object) -> None:
    for path in paths:
        inner, *rest = path.split(".")
        if rest:
            _set(values.setdefault(inner, {}), (".".join(rest),), value)
        else:
            values[inner] = value


def _merge(target: Values, *others: Values) -> Values:
    """Lay `others` over `target`, later ones on top; returns `target`."""
    for other in others:
        for name, value in other.items():
            if isinstance(value, dict):
                _merge(target.setdefault(name, {}), value)
            else:
                target[name] = value
    return target


def _unknown_line(cls: type) -> str:
    name = cls.UNKNOWN[0]
    known = [entry.name for entry in fields(cls)] + list(cls.OLDER_NAMES)
    ours, note = meant(name, known)
    hint = f"did you mean {ours!r}?" if ours else note or f"known are {', '.join(sorted(known))}"
    return f"{cls.__module__}.py: class {cls.__name__} has no setting {name!r}; {hint}"
