"""Parquet files in memory, and rows of one without the rest of it."""

from collections.abc import Sequence
from itertools import accumulate

import pyarrow as pa
import pyarrow.parquet as pq


def table_bytes(table: pa.Table, row_group_rows: int | None = None) -> bytes:
    """Return a table as a Parquet file, in row groups of so many rows."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", row_group_size=row_group_rows)
    return bytes(sink.getvalue().to_pybytes())


def rows_of(
    file: pq.ParquetFile, start: int, stop: int, columns: Sequence[str] | None = None
) -> pa.Table:
    """Return rows [start, stop) of a file, or those of them that it has; `columns`: None for all.

    Only the row groups in which they lie are read.
    """
    sizes = [file.metadata.row_group(n).num_rows for n in range(file.metadata.num_row_groups)]
    ends = list(accumulate(sizes))
    wanted = [n for n, end in enumerate(ends) if end > start and end - sizes[n] < stop]
    table = file.read_row_groups(wanted, columns=None if columns is None else list(columns))
    first = ends[wanted[0]] - sizes[wanted[0]] if wanted else start
    return table.slice(start - first, stop - start)
