"""Reviews from a CSV file or a pasted list, and the scored table as a CSV to download."""

import csv
import io

import pandas as pd

COLUMNS = ("text", "review")  # the names under which a file's reviews are looked for
SEPARATORS = ",;\t"  # Excel writes semicolons where the comma is the decimal sign
MOST_MEGABYTES = 5  # minutes of work on two cores
MOST_REVIEWS = 10_000
# What makes a spreadsheet take a cell for a formula (OWASP, "CSV injection").
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


class UnusableInput(ValueError):
    """Input that can't be scored: the message says what is wrong and what to do."""


def from_csv(content: bytes) -> tuple[pd.DataFrame, str]:
    """Read a CSV file; returns it, every cell as it was written, and its column of reviews.

    The standard library's reader keeps "007", "NA" and empty cells as they are, and refuses a row
    of the wrong length, where pandas would guess.

    Raises
    ------
    UnusableInput
        If the file is empty, too large, not UTF-8, not a CSV or has no column of reviews.
    """
    if len(content) > MOST_MEGABYTES * 10**6:
        raise UnusableInput(
            f"The file has {len(content) / 10**6:.1f} MB, and at most {MOST_MEGABYTES} MB are "
            "scored here: split it into smaller files."
        )
    text = _decode(content)
    if not text.strip():
        raise UnusableInput("The file is empty: choose one with a column text or review.")
    header = text.splitlines()[0]
    separator = max(SEPARATORS, key=lambda mark: _fields(header, mark))
    csv.field_size_limit(MOST_MEGABYTES * 10**6)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows = []
    try:
        for row in reader:
            if rows and row and len(row) != len(rows[0]):
                raise UnusableInput(
                    f"Line {reader.line_num} has {len(row)} fields and the first line has "
                    f"{len(rows[0])}: put double quotes around reviews that hold a separator."
                )
            if row:
                rows.append(row)
    except csv.Error as error:
        raise UnusableInput(
            f"Line {reader.line_num} is not CSV ({error}): write a double quote inside a review "
            "twice, and close every quote."
        ) from None
    names, rows = rows[0], rows[1:]
    if len(set(names)) < len(names):
        raise UnusableInput(f"Two columns have the same name: {', '.join(names)}. Rename one.")
    known = {name.strip().lower(): name for name in reversed(names)}
    column = next((known[name] for name in COLUMNS if name in known), None)
    if column is None:
        raise UnusableInput(
            f"No column is called text or review; the file has {', '.join(map(repr, names))}. "
            "Rename the one that holds the reviews."
        )
    table = pd.DataFrame(rows, columns=names, dtype=str)
    _check_reviews(table[column])
    return table, column


def from_list(text: str) -> tuple[pd.DataFrame, str]:
    """Read a list of one review a line; lines without text are left out."""
    table = pd.DataFrame({"text": [line for line in text.splitlines() if line.strip()]}, dtype=str)
    if len(text.encode(errors="replace")) > MOST_MEGABYTES * 10**6:
        raise UnusableInput(f"The list is over {MOST_MEGABYTES} MB: paste a part of it.")
    _check_reviews(table["text"])
    return table, "text"


def to_csv(table: pd.DataFrame) -> tuple[bytes, int]:
    """Write a table as CSV; returns it and how many cells were made safe for a spreadsheet.

    A review may be written by anyone, and one that begins with "=" runs as a formula when the file
    is opened in a spreadsheet. Such cells get an apostrophe in front, which makes them text;
    numbers, as "-1.5", stay numbers. The byte order mark tells Excel that the file is UTF-8.
    """
    risky = table.map(_is_formula)
    safe = table.map(lambda cell: f"'{cell}" if _is_formula(cell) else cell)
    safe.columns = [f"'{name}" if _is_formula(name) else name for name in table.columns]
    return safe.to_csv(index=False).encode("utf-8-sig", errors="replace"), int(risky.sum().sum())


def add_column(table: pd.DataFrame, name: str, values) -> str:
    """Add a column in place, under another name where `name` is taken; returns the name."""
    while name in table:
        name += "_new"
    table[name] = values
    return name


def _decode(content: bytes) -> str:
    if content.startswith(b"PK\x03\x04"):
        raise UnusableInput(
            "This is an Excel workbook, not a CSV: save it as CSV UTF-8 (Save As, file type)."
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UnusableInput(
            f"Line {line} is not UTF-8. Save the file as UTF-8: in Excel as CSV UTF-8, in an "
            "editor under Save with Encoding."
        ) from None


def _fields(line: str, separator: str) -> int:
    return len(next(csv.reader([line], delimiter=separator), []))


def _check_reviews(reviews: pd.Series) -> None:
    if not len(reviews):
        raise UnusableInput("There are no reviews: the column has a name and no rows.")
    if len(reviews) > MOST_REVIEWS:
        raise UnusableInput(
            f"{len(reviews):,} reviews are more than the {MOST_REVIEWS:,} that are scored at once: "
            "split them."
        )
    if not reviews.str.strip().any():
        raise UnusableInput("Every review is empty: there is nothing to score.")


def _is_formula(cell) -> bool:
    if not isinstance(cell, str) or not cell.startswith(FORMULA):
        return False
    try:
        float(cell)
    except ValueError:
        return True
    return False
