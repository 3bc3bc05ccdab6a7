"""Rows as one web page that needs no network: solutions with charts, filters, sorting and search.

The page is viewer/page.html with its style sheet, its script and the rows. Text of a row cannot become markup
or code, for three reasons: the rows are JSON without any "<" in a script element that is never executed;
viewer.js puts text into the page as text only; and the content security policy allows just the style sheet
and the script whose hashes it contains, no network, and no HTML made from strings.
"""

from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

import orjson

from erprm_cli import __version__
from erprm_cli.errors import RowError
from erprm_cli.evaluation.candidates import EVERY_ROW, prm_names
from erprm_cli.io.bad_rows import BadRows
from erprm_cli.io.files import read_text
from erprm_cli.io.reading import read_rows
from erprm_cli.reports import solutions
from erprm_cli.rows.row import Row
from erprm_cli.terminal.text import one_line, visible

POLICY = (
    "default-src 'none'; script-src {script}; style-src {style}; base-uri 'none'; form-action 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
ID_CHARACTERS = 200


class ComparedScores:
    """The scores of another PRM for the same solutions, read from a file and kept in memory."""

    def __init__(self, source: str) -> None:
        """Read the rows of the file `source`; a bad row is an error. Raises UserError."""
        self.source = source
        self.prm: str | None = None
        self.unmatched = 0  # solutions that `source` does not have
        bad = BadRows(remedy=EVERY_ROW)
        rows = read_rows(source, lambda row: _check_scored(solutions.check(row)), bad)
        self._rows = {_key(row): row for row in rows}
        for row in self._rows.values():
            self.prm = self.prm or _prm(row)

    def check(self, row: Row) -> Row:
        """Check that a solution has scores, and that it is the same one here. Raises RowError."""
        other = self._rows.get(_key(_check_scored(row)))
        if other is not None and other["steps"] != row["steps"]:
            raise RowError(f"its steps differ in {self.source}; a comparison needs the same solutions")
        return row

    def scores(self, row: Row) -> list[float] | None:
        """Return the scores of the same solution here; if there are none, count it in `unmatched`."""
        other = self._rows.get(_key(row))
        if other is None:
            self.unmatched += 1
            return None
        return list(other["scores"])


class SolutionsPage:
    """The page of the rows of one file, with the scores of another file beside theirs if there is one."""

    def __init__(self, source: str, other: ComparedScores | None = None) -> None:
        self.source = source
        self.other = other
        self.prm: str | None = None
        self.count = 0

    def check(self, row: Row) -> Row:
        """Check a row of any stage; for a comparison it needs scores. Raises RowError."""
        row = solutions.check(row)
        return row if self.other is None else self.other.check(row)

    def parts(self, rows: Iterable[Row]) -> Iterator[bytes]:
        """Yield the page of checked rows, part by part: however many there are, one is in memory."""
        return (part.encode() for part in self._parts(rows))

    def _parts(self, rows: Iterable[Row]) -> Iterator[str]:
        script, style = _viewer_file("viewer.js"), _viewer_file("viewer.css")
        policy = POLICY.format(script=_hash_source(script), style=_hash_source(style))
        sources = [self.source] if self.other is None else [self.source, self.other.source]
        names = ["stdin" if source == "-" else Path(source).name for source in sources]
        title = escape(visible(" and ".join(names)))
        before, _, after = _viewer_file("page.html").partition("$data")
        yield Template(before).substitute(policy=policy, title=title, version=__version__, style=style)
        yield '{"rows":['
        for row in rows:
            yield ",\n" * bool(self.count) + _json(self._record(row))
            self.count += 1
            self.prm = self.prm or _prm(row)
        scores = ["score"] if self.other is None else prm_names([self, self.other])
        yield f'],"columns":{_json(["label", "k/K", *scores])}}}'
        yield Template(after).substitute(script=script)

    def _record(self, row: Row) -> Row:
        """Return what the page shows of a row; viewer.js explains the fields."""
        columns = {column.name: column for column in solutions.columns(row)}
        values: list[Sequence[float | None] | None]
        values = [columns[name].values if name in columns else None for name in ("label", "k/K", "score")]
        values[0] = values[0] or _labels_by_people(row)
        if self.other is not None:
            values.append(self.other.scores(row))
        reasoning, answer = solutions.around_steps(row)
        return {
            "id": one_line(str(row.get("id", "")), ID_CHARACTERS),
            "sample": row.get("sample"),
            "origin": [visible(name) for name in solutions.origin(row)],
            "problem": visible(row["problem"]),
            "reasoning": visible(reasoning),
            "steps": [visible(step) for step in row.get("steps") or []],
            "answer": visible(answer),
            "values": values,
            "intervals": solutions.label_intervals(row) if "label" in columns else None,
            "counts": columns["k/K"].cells if "k/K" in columns else None,
            "error": solutions.first_error(row),
            "correct": solutions.is_correct(row),
            "facts": [(title, visible(text)) for title, text in solutions.facts(row)],
        }


def _labels_by_people(row: Row) -> list[float | None] | None:
    """Return labels [L] by ProcessBench's label: 1 before the first wrong step, 0 there, then unknown."""
    error = solutions.labelled_error(row)
    if error is None:
        return None
    if error < 0:
        return [1.0] * len(row["steps"])
    return [1.0] * error + [0.0] + [None] * (len(row["steps"]) - error - 1)


def _check_scored(row: Row) -> Row:
    if row.get("scores") is None:
        raise RowError("no 'scores'; `erprm score` writes them")
    return row


def _key(row: Row) -> tuple[object, object]:
    """Return what identifies a solution; rows of ProcessBench have no sample."""
    return row.get("id"), row.get("sample")


def _prm(row: Row) -> str | None:
    return row["prm"] if isinstance(row.get("prm"), str) else None


def _json(value: object) -> str:
    """Return `value` as JSON that cannot end the script element in which it is, nor begin a comment there."""
    return orjson.dumps(value).decode().replace("<", "\\u003c")


def _viewer_file(name: str) -> str:
    return read_text(Path(str(files("erprm_cli.reports"))) / "viewer" / name)


def _hash_source(text: str) -> str:
    """Return the source expression of a content security policy that allows just this text."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
