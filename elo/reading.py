"""A table on its way to votes: which rows are still in, why the others are not, and codes for its labels."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from elo.errors import VotesError
from elo.sources import Source, arrow, plain_text

TRUTHS = {
    **dict.fromkeys(("true", "t", "1", "yes"), True),
    **dict.fromkeys(("false", "f", "0", "no"), False),
}


@dataclass(eq=False)
class Reading:
    """A table on its way to votes: which rows are still in (`kept`), and why the others are not.

    weight  (n,) how many votes each row stands for; None: one each
    """

    source: Source
    columns: dict[str, str]
    table: pa.Table
    skip: bool
    kept: np.ndarray
    left_out: dict[str, int] = field(default_factory=dict)
    weight: np.ndarray | None = None

    @property
    def n(self) -> int:
        """The number of rows, in or out."""
        return self.table.num_rows

    def __contains__(self, name: str) -> bool:
        """Tell whether the source has the column that we call `name`."""
        return name in self.columns

    def column(self, name: str) -> pa.ChunkedArray:
        """Return a column by our name."""
        return self.table.column(name)

    def drop(self, out: np.ndarray, reason: str) -> None:
        """Leave out the rows of the mask that are still in, and count their votes."""
        out = out & self.kept
        if out.any():
            number = int(out.sum() if self.weight is None else self.weight[out].sum())
            self.left_out[reason] = self.left_out.get(reason, 0) + number
            self.kept &= ~out

    def refuse(self, wrong: np.ndarray, name: str, expected: str) -> None:
        """Raise at the first row of the mask that is still in; with `skip`, leave all of them out."""
        wrong = wrong & self.kept
        if not wrong.any():
            return
        theirs = self.columns[name]
        if self.skip:
            self.drop(wrong, f"unreadable {theirs}")
            return
        row = int(wrong.argmax())
        found = self.column(name)[row].as_py()
        shown = "nothing" if found is None or found != found or found == "" else repr(str(found))
        raise VotesError(f"{self.source.place(row)}, column {theirs}: found {shown}, expected {expected}")


def truths(reading: Reading, name: str) -> np.ndarray:
    """(n,) bool of a column of true and false; nothing is false."""
    codes, texts = encode(reading.column(name))
    truth = np.array([TRUTHS.get(text.lower(), -1) for text in texts] + [0], dtype=np.int8)[codes]
    reading.refuse(truth < 0, name, "true or false")
    return truth == 1


def numbers(reading: Reading, name: str) -> np.ndarray:
    """(n,) whole numbers of a column of counts; nothing is 0."""
    codes, texts = encode(reading.column(name))
    read = [int(text) if text.isdecimal() else -1 for text in texts]
    number = np.array([*read, 0], dtype=np.int64)[codes]
    reading.refuse(number < 0, name, "a whole number of votes, 0 or more")
    return np.maximum(number, 0)


def decimals(reading: Reading, name: str) -> np.ndarray:
    """(n,) float of a column of numbers; nothing is NaN."""
    if pa.types.is_floating(reading.column(name).type):
        return reading.column(name).cast(pa.float64()).fill_null(np.nan).to_numpy()
    codes, texts = encode(reading.column(name))
    read = pd.to_numeric(pd.Series(texts, dtype=object), errors="coerce").to_numpy(dtype=float)
    reading.refuse(np.append(np.isnan(read), False)[codes], name, "a number")
    return np.append(read, np.nan)[codes]


def in_time(reading: Reading) -> tuple[np.ndarray | None, str]:
    """Order of the rows by time (seconds or ISO 8601), stable; None where it is the order of the source."""
    if "tstamp" not in reading:
        return None, "file"
    written = reading.column("tstamp")
    if pa.types.is_dictionary(written.type):
        written = written.cast(written.type.value_type)
    missing = written.is_null(nan_is_null=True).to_numpy()
    if pa.types.is_string(written.type) or pa.types.is_large_string(written.type):
        missing |= pc.equal(written.fill_null(""), "").to_numpy()
    if missing[reading.kept].all():
        return None, "file"
    reading.refuse(missing, "tstamp", "a time, as other rows have one")
    if pa.types.is_timestamp(written.type):
        times = written.cast(pa.timestamp("ns", written.type.tz)).cast(pa.int64()).fill_null(0).to_numpy()
    else:
        times = _seconds(written.to_pandas(), reading.kept)
        reading.refuse(np.isnan(times), "tstamp", "a time: seconds since 1970 or ISO 8601")
    if (times[1:] >= times[:-1]).all():
        return None, "tstamp"
    return np.argsort(times, kind="stable"), "tstamp"


def _seconds(written: pd.Series, kept: np.ndarray) -> np.ndarray:
    times = pd.to_numeric(written, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    if np.isnan(times[kept]).all():
        dates = pd.to_datetime(written.astype(str), utc=True, format="ISO8601", errors="coerce")
        times = dates.dt.as_unit("ns").astype("int64").to_numpy(dtype=float)
        times[dates.isna().to_numpy()] = np.nan
    return times


def indices(column: pa.ChunkedArray) -> tuple[np.ndarray, pa.Array]:
    """Codes (-1: missing) and the distinct values they stand for."""
    if pa.types.is_null(column.type):
        return np.full(len(column), -1), pa.array([], pa.string())
    if pa.types.is_nested(column.type):
        column = pa.chunked_array([arrow([None if v is None else str(v) for v in column.to_pylist()])])
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    encoded = column.unify_dictionaries().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):  # no rows
        encoded = encoded.chunk(0)
    return encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False), encoded.dictionary


def encode(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """Codes (-1: missing) and their labels as stripped text; 3, 3.0 and "3" are one label."""
    codes, found = indices(column)
    labels: dict[str, int] = {}
    recode = []
    for value in found.to_pylist():
        text = "" if value is None or value != value else plain_text(value)  # NaN is no label
        recode.append(labels.setdefault(text, len(labels)) if text else -1)
    if recode == list(range(len(recode))):
        return codes, list(labels)
    return np.array([*recode, -1], dtype=codes.dtype)[codes], list(labels)
