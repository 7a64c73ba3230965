"""Laws of tables: their texts in order, and never more of them in memory than is worked on.

Run: pytest tests/text/test_tables.py
"""

import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from span_electra.errors import InputError
from span_electra.text.tables import check_column, parquet_texts

ROOT = Path(__file__).resolve().parents[2]
READERS = {
    "documents": "cut_blocks(find_inputs(path), 1000)",
    "rows of a task": "islice(read_table(Path(path), ['text']), 0, None, 1000)",
}
GROWTH = """
import sys
from itertools import islice
from pathlib import Path
from span_electra.finetuning.rows import read_table
from span_electra.text.corpus import cut_blocks
from span_electra.text.inputs import find_inputs

def memory():  # of this process, bytes that lie in no file
    line = next(line for line in Path("/proc/self/status").open() if line.startswith("RssAnon"))
    return int(line.split()[1]) << 10

path = sys.argv[1]
now_and_then = [memory() for _ in READER]
print(max(now_and_then) - now_and_then[0])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc tells of memory on Linux alone")
@pytest.mark.parametrize("reader", READERS)
def test_parquet_is_never_all_in_memory(tmp_path, reader):
    """pyarrow keeps the packed pages of all that one iteration passed, so each takes one group of rows."""
    schema = pa.schema({"text": pa.string()})
    with pq.ParquetWriter(tmp_path / "a.parquet", schema) as file:
        for _ in range(120):
            texts = [random.randbytes(500).hex() for _ in range(1000)]  # what packs well would hide it
            file.write_table(pa.table({"text": texts}))
    command = [sys.executable, "-c", GROWTH.replace("READER", READERS[reader]), str(tmp_path / "a.parquet")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 50 << 20, "of 120 MB of text, much lies in memory"


def test_rows_come_in_order_with_the_share_that_has_passed(tmp_path):
    texts = [str(number) if number % 7 else None for number in range(1300)]
    pq.write_table(pa.table({"id": range(1300), "text": texts}), tmp_path / "a.parquet", row_group_size=600)
    with (tmp_path / "a.parquet").open("rb") as raw:
        batches = list(parquet_texts("a.parquet", raw, "text"))
    assert [text for batch, _ in batches for text in batch] == texts
    shares = [share for _, share in batches]
    assert shares == sorted(shares) and shares[-1] == 1


def test_a_column_that_is_there_twice_is_refused():
    schema = pa.schema([("text", pa.string()), ("text", pa.string())])
    with pytest.raises(InputError, match="a.parquet: several columns are called 'text'"):
        check_column("a.parquet", schema, "text")
