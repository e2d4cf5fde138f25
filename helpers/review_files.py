"""Files of reviews in CSV, JSON Lines or Parquet, read and written a piece at a time."""

import contextlib
import csv
import itertools
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from helpers import TutorialError

SUFFIXES = (".csv", ".jsonl", ".parquet")
COLUMNS = ("text", "review")  # the names under which a file's reviews are looked for
SEPARATORS = ",;\t"  # Excel writes semicolons where the comma is the decimal sign
LONGEST_CELL = 1_000_000  # characters: where a quote is never closed, reading gives up after them

# What a column of JSON Lines becomes, by the types of its values. Any other holds JSON as text.
_TYPES = {
    frozenset(): pa.string(),
    frozenset([str]): pa.string(),
    frozenset([bool]): pa.bool_(),
    frozenset([int]): pa.int64(),
    frozenset([float]): pa.float64(),
    frozenset([int, float]): pa.float64(),
}
_Pieces = Iterator[tuple[pa.Table, list[tuple[int, str]]]]


@dataclass(frozen=True)
class Reviews:
    """A file that `inspect` has read through: its reviews are in `column`.

    `rows` rows have a review, `rejected` rows have none or can't be read.
    """

    path: Path
    schema: pa.Schema
    column: str
    rows: int
    rejected: int

    def pieces(self, size: int) -> _Pieces:
        """Yield for each `size` rows of the file a table of those with a review, and the others.

        The others are given by their number, from 1 and without the header and blank lines, and
        what is wrong with them.
        """
        return _pieces(self.path, self.schema, self.column, size)


def inspect(path: Path, size: int) -> Reviews:
    """Read a file through, `size` rows at a time, to see what there is to score.

    Raises
    ------
    TutorialError
        If the file can't be used; the message names the file and the cure.
    """
    if not path.is_file():
        raise TutorialError(f"There is no file {path}: correct the path.")
    check_suffix(path)
    if not path.stat().st_size:
        raise TutorialError(f"{path} is empty: it needs a column text and rows.")
    rows, rejected, first = 0, 0, None
    try:
        schema = _schema(path)
        column = _column(path, schema.names)
        for table, problems in _pieces(path, schema, column, size):
            rows, rejected = rows + len(table), rejected + len(problems)
            first = first or next(iter(problems), None)
    except UnicodeDecodeError:
        raise TutorialError(
            f"{path}{_broken_line(path)} is not UTF-8: save the file as UTF-8 and try again."
        ) from None
    except (pa.ArrowException, csv.Error, OSError) as error:
        raise TutorialError(f"{path} can't be read: {error}. Export it again.") from None
    if not rows + rejected:
        raise TutorialError(f"{path} is empty: it has columns but no rows.")
    if not rows:
        raise TutorialError(
            f"{path} has no review to score. Row {first[0]}, for one: {first[1]}. Correct the file."
        )
    return Reviews(path, schema, column, rows, rejected)


def write(path: Path, tables: Iterable[pa.Table], suffix: str) -> None:
    """Write tables of one schema, at least one, to a file of the format that `suffix` names."""
    tables = iter(tables)
    first = next(tables)
    tables = itertools.chain([first], tables)
    if suffix == ".parquet":
        with pq.ParquetWriter(path, first.schema) as parquet:
            for table in tables:
                parquet.write_table(table)
        return
    rows = itertools.chain.from_iterable(table.to_pylist() for table in tables)
    with open(path, "w", encoding="utf-8", newline="") as stream:
        if suffix == ".csv":
            lines = csv.writer(stream)
            lines.writerow(first.column_names)
            for row in rows:
                lines.writerow(_dumps(v) if isinstance(v, dict | list) else v for v in row.values())
        else:
            as_json = [field.name for field in first.schema if _holds_json(field)]
            for row in rows:
                parsed = {name: json.loads(row[name] or "null") for name in as_json}
                stream.write(_dumps(row | parsed) + "\n")


@contextlib.contextmanager
def replacing(path: Path, folder: Path) -> Iterator[Path]:
    """Yield a path in `folder`; the file written there becomes `path` if the block ends well."""
    partial = folder / f"{path.name}.partial"
    yield partial
    with open(partial, "r+b") as stream:
        os.fsync(stream.fileno())  # or a power cut may keep the name and lose the contents
    partial.replace(path)


def check_suffix(path: Path) -> None:
    """Refuse, with a TutorialError, a file whose name does not tell a known format."""
    if path.suffix.lower() not in SUFFIXES:
        raise TutorialError(
            f"{path} ends in {path.suffix or 'no suffix'}: name a {', '.join(SUFFIXES)} file."
        )


def _pieces(path: Path, schema: pa.Schema, column: str, size: int) -> _Pieces:
    row = 0
    for piece in _raw_pieces(path, size):
        if isinstance(piece, list):
            problems = [
                record if isinstance(record, str) else _problem(column, record.get(column))
                for record in piece
            ]
            good = [record for record, problem in zip(piece, problems, strict=True) if not problem]
            table = _table(good, schema)
        else:
            problems = [_problem(column, text) for text in piece[column].to_pylist()]
            table = piece.filter(pa.array([not problem for problem in problems]))
        yield table, [(row + i, problem) for i, problem in enumerate(problems, 1) if problem]
        row += len(problems)


def _raw_pieces(path: Path, size: int) -> Iterator[pa.Table | list[dict | str]]:
    """A file's rows, `size` at a time: a table of Parquet, else cells by name, or why not read."""
    if path.suffix.lower() == ".parquet":
        # A buffer keeps a row group, which may be the whole file, from being read at once.
        with pq.ParquetFile(path, buffer_size=2**16, pre_buffer=False) as file:
            for batch in file.iter_batches(size):
                yield pa.Table.from_batches([batch])
    else:
        records = _csv_records(path) if path.suffix.lower() == ".csv" else _json_records(path)
        while piece := list(itertools.islice(records, size)):
            yield piece


def _csv_records(path: Path) -> Iterator[dict | str]:
    with _csv_reader(path) as (names, reader):
        while True:
            start = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:  # the reader goes on with the next line
                lines = f"{start} to {reader.line_num}" if reader.line_num > start else start
                yield f"not CSV, line {lines}: {error}"
                continue
            if len(cells) == len(names):
                yield dict(zip(names, cells, strict=True))
            elif cells:
                yield f"it has {len(cells)} fields, the header {len(names)}"


@contextlib.contextmanager
def _csv_reader(path: Path):
    """The names of the columns, and a reader of the rows below.

    The standard library's reader leaves "007", "NA" and empty cells as they are and tells a row of
    the wrong length, where pandas guesses types and fills up.
    """
    csv.field_size_limit(LONGEST_CELL)
    with open(path, encoding="utf-8-sig", newline="") as stream:
        header = stream.readline()
        counts = {mark: len(next(csv.reader([header], delimiter=mark), [])) for mark in SEPARATORS}
        stream.seek(0)
        reader = csv.reader(stream, delimiter=max(counts, key=counts.get), strict=True)
        yield next((names for names in reader if names), []), reader


def _json_records(path: Path) -> Iterator[dict | str]:
    with open(path, encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                _dumps(record).encode()  # half a surrogate pair parses, and can't be written
            except UnicodeEncodeError:
                yield f"not Unicode, line {number}: half a surrogate pair"
            except (ValueError, RecursionError) as error:
                yield f"not JSON, line {number}: {getattr(error, 'msg', error)}"
            else:
                yield record if isinstance(record, dict) else f"not a JSON object, line {number}"


def _schema(path: Path) -> pa.Schema:
    if path.suffix.lower() == ".parquet":
        return pq.read_schema(path)
    if path.suffix.lower() == ".csv":
        with _csv_reader(path) as (names, _):
            return pa.schema([(name, pa.string()) for name in names])
    kinds: dict[str, set[type]] = {}
    for record in _json_records(path):
        for name, value in record.items() if isinstance(record, dict) else ():
            kinds.setdefault(name, set()).update(() if value is None else (_kind(value),))
    kinds[_column(path, list(kinds))] = {str}  # whatever its bad rows hold
    fields = []
    for name, found in kinds.items():
        kind = _TYPES.get(frozenset(found))
        mark = None if kind else {"values": "JSON"}
        fields.append(pa.field(name, kind or pa.string(), metadata=mark))
    return pa.schema(fields)


def _kind(value) -> type:
    too_large = isinstance(value, int) and not -(2**63) <= value < 2**63
    return object if too_large else type(value)


def _table(records: list[dict], schema: pa.Schema) -> pa.Table:
    arrays = []
    for field in schema:
        convert = _dumps if _holds_json(field) else float if field.type == pa.float64() else None
        values = [record.get(field.name) for record in records]
        if convert:
            values = [None if value is None else convert(value) for value in values]
        arrays.append(pa.array(values, field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def _column(path: Path, names: list[str]) -> str:
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise TutorialError(f"{path} has two columns {min(twice)!r}: rename one of them.")
    known = {name.strip().lower(): name for name in reversed(names)}
    column = next((known[name] for name in COLUMNS if name in known), None)
    if column is None:
        raise TutorialError(
            f"{path} has no column text or review, only {names}: rename the one with the reviews."
        )
    return column


def _problem(column: str, text) -> str:
    """What keeps a review from being scored, or nothing."""
    if text is None:
        return f"{column} is missing"
    if not isinstance(text, str):
        return f"{column} is not a string"
    return "" if text.strip() else f"{column} is empty"


def _holds_json(field: pa.Field) -> bool:
    return (field.metadata or {}).get(b"values") == b"JSON"


def _dumps(value) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _broken_line(path: Path) -> str:
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return f", line {number},"
    return ""
