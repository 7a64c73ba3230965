"""Any nested JSON of numbers -> tables: what evaluation.json holds, as the report shows it.

A mapping whose values are mappings with numbers is one table, a row each; single values go into a table of
their own. Deeper mappings become tables named by their path.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from span_electra.report.run_record import is_number

MOST_ROWS = 200  # of one table; 67 paradigms are shown whole, a list of every sentence is not


@dataclass(frozen=True)
class Table:
    """A table to show: the first column names the row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left_off: int = 0


def tables_of(value: Any, title: str = "") -> list[Table]:
    """Turn nested JSON into tables.

    Example: {"BLiMP": {"agreement": {"accuracy": 0.71, "pairs": 900}, "ellipsis": {"accuracy": 0.6}}}
      -> Table("BLiMP", ("", "accuracy", "pairs"), (("agreement", "0.710", "900"), ("ellipsis", "0.600", "")))
    """
    if isinstance(value, list):
        value = {str(number): entry for number, entry in enumerate(value, 1)}
    if not isinstance(value, dict):
        return [] if value is None else [Table(title, ("", "value"), (("value", cell(value)),))]
    # One row for each of several mappings alike; a single one, or a mixture, is a table of its own.
    plain = {key: entry for key, entry in value.items() if not is_nested(entry)}
    records = {key: entry for key, entry in value.items() if is_record(entry)}
    if not alike(records):
        records = {}
    # Whatever a later evaluation writes is shown: the report knows shapes, not names.
    deeper = {key: entry for key, entry in value.items() if is_nested(entry) and key not in records}
    found = []
    if plain:
        found.append(table(title, ("", "value"), [(str(key), cell(entry)) for key, entry in plain.items()]))
    if records:
        found.append(record_table(title, records))
    for key, entry in deeper.items():
        found.extend(tables_of(entry, f"{title} · {key}" if title else str(key)))
    return found


def is_nested(value: Any) -> bool:
    """Whether a value is more than a cell."""
    return isinstance(value, dict) or (isinstance(value, list) and not is_interval(value))


def is_record(value: Any) -> bool:
    """Whether a value is a mapping of cells alone."""
    return isinstance(value, dict) and bool(value) and not any(map(is_nested, value.values()))


def alike(records: dict[str, dict]) -> bool:
    """Whether mappings are rows of one table: there are several, and they have keys in common."""
    return len(records) > 1 and bool(set.intersection(*map(set, records.values())))


def is_interval(value: Any) -> bool:
    """Whether a value is a pair of numbers, which an interval is."""
    return isinstance(value, list) and len(value) == 2 and all(map(is_number, value))


def record_table(title: str, records: dict[str, dict[str, Any]]) -> Table:
    """A row for each record; columns in the order they first come."""
    # Rows need not have the same keys: one of them may have a score that another was not asked for.
    columns = list(dict.fromkeys(str(key) for record in records.values() for key in record))
    rows = [
        (str(name), *(cell(record[key]) if key in record else "" for key in columns))
        for name, record in records.items()
    ]
    return table(title, ("", *columns), rows)


def table(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> Table:
    """A table of at most MOST_ROWS."""
    return Table(title, columns, tuple(rows[:MOST_ROWS]), max(0, len(rows) - MOST_ROWS))


def cell(value: Any) -> str:
    """Example: 0.70512 -> 0.705; 12000 -> 12,000; [0.68, 0.73] -> 0.680 to 0.730; None -> –"""
    if is_interval(value):
        return " to ".join(cell(bound) for bound in value)
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}"
    if is_number(value):
        return f"{value:,}"
    text = str(value)
    return text if len(text) <= 300 else text[:299] + "…"
