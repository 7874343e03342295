"""Categories of sources (the shipped 47) and of label files; found by slug, id, name or folder
name.
"""

from __future__ import annotations

import csv
import difflib
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from db.errors import UsageError
from db.labels import LabelSet
from producer.sources import separators

SHIPPED = Path(__file__).with_name("labels") / "rutube.csv"

_ID = re.compile(r"([0-9]{1,9})(?:\.0*)?")
_NUMBER = re.compile(r"[+-]?[0-9]+(?:[.,][0-9]*)?")
_FOLDER = re.compile(r"([0-9]{1,9})(?:\.0*)?_(.+)")
#: How alike two names are of which one is taken for a slip of the other: "filsm" and "films" are
#: 0.8 alike, "cats" and "art" 0.57.
_SLIP = 0.75


@dataclass(frozen=True)
class Category:
    """One category. `names` are other spellings it is found by: English and Russian in the shipped
    set.
    """

    slug: str
    id: int | None
    names: tuple[str, ...]


def _key(text: str) -> str:
    """What two spellings of one category share: not case, `_`, `-`, spaces or Unicode form."""
    return " ".join(re.sub(r"[_\-\s]+", " ", unicodedata.normalize("NFC", text)).casefold().split())


def looks_like_id(text: str) -> bool:
    """Whether a text is a number, so that it can only be meant as a category's id."""
    return _NUMBER.fullmatch(text.strip()) is not None


def looks_like_folder(text: str) -> bool:
    """Whether a text has the form `48.0_films` of a category folder."""
    return _FOLDER.fullmatch(text) is not None


def parse_id(text: str) -> int:
    """`48` or `48.0` as an int. Raises `ValueError` for everything else."""
    match = _ID.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a category id; write a whole number, for example 48")
    return int(match[1])


@dataclass(frozen=True)
class Categories:
    """All categories one can choose from, in their order.

    `numbered` are those of a label file: they lend their ids to sources that say numbers, and
    nothing else, so that a video's category does not depend on which label set is scored. So a
    video can have one, and it can be asked for.
    """

    all: tuple[Category, ...]
    numbered: tuple[Category, ...] = ()

    @cached_property
    def _by_key(self) -> dict[str, Category]:
        keys = {_key(category.slug): category for category in self.all}
        for category in self.all:
            for name in category.names:
                keys.setdefault(_key(name), category)  # a slug wins over another category's name
        return keys

    @cached_property
    def _by_id(self) -> dict[int, Category]:
        """By id, without ids that mean one category here and another one in the label file."""
        own = {category.id: category for category in self.all if category.id is not None}
        lent = {category.id: category for category in self.numbered if category.id is not None}
        same = {
            number
            for number in own.keys() & lent.keys()
            if self._by_key.get(_key(lent[number].slug)) == own[number]
        }
        return {
            number: own.get(number) or lent[number] for number in (own.keys() ^ lent.keys()) | same
        }

    def find(self, text: str) -> Category | None:
        """The category with this slug, name, id (`48`, `48.0`) or folder name (`48.0_films`)."""
        text = text.strip()
        if found := self._by_key.get(_key(text)):
            return found
        if match := _ID.fullmatch(text):
            return self._by_id.get(int(match[1]))
        if match := _FOLDER.fullmatch(text):
            named = self._by_key.get(_key(match[2]))
            # 48.0_serials contradicts itself; six shipped categories have no id to compare with
            return named if named is not None and named.id in (None, int(match[1])) else None
        return None

    def has_label(self, name: str) -> bool:
        """Whether the label file has a category of exactly this name."""
        return any(label.slug == name for label in self.numbered)

    def suggest(self, text: str, others: Iterable[str] = ()) -> list[str]:
        """Up to three names near a text that nobody knows, nearest first: names that begin with it,
        that are like it, that hold it. `others`: names beside these categories' own.
        """
        wanted, names = _wanted(text), self._names(others)
        near = sorted((key for key in names if wanted and key.startswith(wanted)), key=len)
        near += difflib.get_close_matches(wanted, names, n=6)
        near += [key for key in names if wanted and wanted in key]
        return list(dict.fromkeys(names[key] for key in near))[:3]

    def slip_of(self, text: str, others: Iterable[str] = ()) -> str | None:
        """The name that a text was probably meant to be; None for one that is like no other."""
        names = self._names(others)
        near = difflib.get_close_matches(_wanted(text), names, n=1, cutoff=_SLIP)
        return names[near[0]] if near else None

    def _names(self, others: Iterable[str]) -> dict[str, str]:
        """All names by their key, those of these categories before others."""
        names = {key: category.slug for key, category in self._by_key.items()}
        for name in (*(label.slug for label in self.numbered), *others):
            names.setdefault(_key(name), name)
        return names


def _wanted(text: str) -> str:
    """What a text says beside an id."""
    folder = _FOLDER.fullmatch(text.strip())
    return _key(folder[2] if folder else text)


@cache
def load_shipped() -> Categories:
    """The 47 example categories with their English and Russian names."""
    with SHIPPED.open(encoding="utf-8", newline="") as file:
        return Categories(
            tuple(
                Category(
                    row["category"],
                    parse_id(row["id"]) if row["id"] else None,
                    (row["name_en"], row["name_ru"]),
                )
                for row in csv.DictReader(file)
            )
        )


def label_sets_shipped() -> tuple[LabelSet, LabelSet, LabelSet]:
    """The three sets scored by default: English prompts, Russian prompts, bare English names."""
    categories = load_shipped().all
    slugs = tuple(category.slug for category in categories)
    english = tuple(category.names[0] for category in categories)
    russian = tuple(category.names[1] for category in categories)
    return (
        LabelSet("en", tuple(f"Video belongs to category '{name}'" for name in english), slugs),
        LabelSet("ru", tuple(f"Видео принадлежит категории '{name}'" for name in russian), slugs),
        LabelSet("names", english, slugs),
    )


@dataclass(frozen=True)
class _Label:
    """One prompt of a label file."""

    line: int
    category: str
    prompt: str
    id: int | None = None
    name: str = ""


def label_sets_from_file(path: Path) -> LabelSet:
    """The prompts of a `--labels` file as a set named after the file.

    A CSV file with columns `category` and `prompt` (optional `id`, `name`; others are ignored),
    several rows of one category being several prompts of it; or a text file with one name a line.
    The first line decides which. Raises `UsageError`: unreadable, not UTF-8, no labels, a row
    without category or prompt, an id that is no number, a prompt twice, a category in two spellings
    or with two ids, an id twice, fewer than two categories.
    """
    labels = _read_labels(path)
    return LabelSet(
        path.stem,
        tuple(label.prompt for label in labels),
        tuple(label.category for label in labels),
    )


def categories_from_label_file(path: Path) -> Categories:
    """The categories of a `--labels` file. Raises `UsageError` as `label_sets_from_file` does."""
    labels = _read_labels(path)
    ids = {label.category: label.id for label in labels if label.id is not None}
    names: dict[str, list[str]] = {label.category: [] for label in labels}
    for label in labels:
        if label.name:
            names[label.category].append(label.name)
    return Categories(
        tuple(Category(slug, ids.get(slug), tuple(found)) for slug, found in names.items())
    )


def _read_labels(path: Path) -> list[_Label]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"{path} line {line}: not UTF-8 text; save the label file as UTF-8"
        ) from error
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; --labels takes a CSV or text file") from error
    lines = list(
        io.StringIO(text, newline="")
    )  # str.splitlines would also split at U+2028 and form feeds
    head = next(
        (i for i, line in enumerate(lines) if line.strip() and not line.startswith("#")), None
    )
    if head is None:
        raise UsageError(
            f"{path} holds no labels; write columns category,prompt or one name a line"
        )
    separator = separators.stated(lines[head])
    head += separator is not None
    separator, names = _columns(lines[head] if head < len(lines) else "", separator)
    is_csv = len(names) > 1 and not {"category", "prompt"}.isdisjoint(names)
    labels = list(_csv_labels(path, lines, head, separator) if is_csv else _text_labels(lines))
    _check_labels(path, labels)
    return labels


def _columns(line: str, separator: str | None) -> tuple[str, list[str]]:
    """The separator of a label file's first line, unless it was stated, and its columns, in small
    letters. A line that is no row of a table is one name.
    """
    try:
        if separator is not None:
            return separator, [name.lower() for name in separators.cells(line, separator)]
        separator, names = separators.header(
            line, ",", lambda names: {"category", "prompt"} <= {name.lower() for name in names}
        )
    except csv.Error:
        return ",", [line]
    return separator, [name.lower() for name in names]


def _text_labels(lines: list[str]) -> Iterator[_Label]:
    for number, line in enumerate(lines, 1):
        name = line.strip()
        if name and not line.startswith("#"):
            yield _Label(number, name, name)


def _csv_labels(path: Path, lines: list[str], head: int, separator: str) -> Iterator[_Label]:
    reader = csv.reader(lines[head:], delimiter=separator)
    try:
        header = [name.strip().lower() for name in next(reader)]
        if missing := [name for name in ("category", "prompt") if name not in header]:
            found = ", ".join(header)
            raise UsageError(f"{path} line {head + 1}: no column {missing[0]} (found: {found})")
        for cells in reader:
            if any(cell.strip() for cell in cells):
                row = dict(zip(header, (cell.strip() for cell in cells), strict=False))
                yield _csv_label(path, head + reader.line_num, row)
    except csv.Error as error:
        raise UsageError(f"{path} line {head + reader.line_num}: {error}") from error


def _csv_label(path: Path, line: int, row: dict[str, str]) -> _Label:
    where = f"{path} line {line}"
    for column in ("category", "prompt"):
        if not row.get(column):
            raise UsageError(f"{where}: no {column}; every row needs a category and a prompt")
    try:
        category_id = parse_id(row["id"]) if row.get("id") else None
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error
    return _Label(line, row["category"], row["prompt"], category_id, row.get("name", ""))


def _check_labels(path: Path, labels: list[_Label]) -> None:
    """`UsageError` for what would silently make another set than the user means."""
    spellings: dict[str, _Label] = {}
    owners: dict[int, str] = {}
    ids: dict[str, int] = {}
    prompts: set[tuple[str, str]] = set()
    for label in labels:
        where = f"{path} line {label.line}"
        if "\0" in label.category + label.prompt:
            raise UsageError(f"{where}: a NUL character; save the label file as UTF-8 text")
        first = spellings.setdefault(_key(label.category), label)
        if first.category != label.category:
            raise UsageError(
                f"{where}: {label.category!r} was written {first.category!r} in line {first.line}"
            )
        if (label.category, label.prompt) in prompts:
            raise UsageError(
                f"{where}: prompt {label.prompt!r} of {label.category!r} stands here twice; remove "
                "one"
            )
        prompts.add((label.category, label.prompt))
        if label.id is not None and owners.setdefault(label.id, label.category) != label.category:
            raise UsageError(f"{where}: id {label.id} belongs to {owners[label.id]!r} already")
        if label.id is not None and ids.setdefault(label.category, label.id) != label.id:
            raise UsageError(
                f"{where}: {label.category!r} has id {ids[label.category]} already, not {label.id}"
            )
    if len(spellings) < 2:
        raise UsageError(f"{path} holds {len(spellings)} category; tags choose between two or more")
