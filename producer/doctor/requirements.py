"""Installed versions against what the installed reelvec asks for. Pure; it reads only the forms
pyproject.toml uses.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

Version = tuple[int, ...]

_FORM = re.compile(r"(?P<name>[\w.-]+)(\[[^\]]*\])?(?P<bounds>[^;]*)(;(?P<marker>.*))?")
_EXTRA = re.compile(r"extra\s*==\s*[\"']([^\"']+)[\"']")
_BOUND = re.compile(r"(>=|<=|==|<|>)\s*([\d.]+)")
_COMPARE: dict[str, Callable[[Version, Version], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}


@dataclass(frozen=True)
class Requirement:
    """`name` must satisfy all `bounds`. `extra`: asked for by that extra only. `conditional`: for
    some platforms only.
    """

    name: str
    bounds: tuple[tuple[str, Version], ...]
    extra: str | None
    conditional: bool

    @property
    def bounds_text(self) -> str:
        return ",".join(f"{sign}{'.'.join(map(str, version))}" for sign, version in self.bounds)

    def allows(self, version: str) -> bool:
        return all(_COMPARE[sign](*_padded(numbers(version), bound)) for sign, bound in self.bounds)


def parse(line: str) -> Requirement:
    """One line of a distribution's requirements. Raises `ValueError`."""
    found = _FORM.fullmatch(line.strip())
    if found is None:
        raise ValueError(f"not a requirement: {line!r}")
    marker = found["marker"] or ""
    extra = _EXTRA.search(marker)
    bounds = tuple((sign, numbers(version)) for sign, version in _BOUND.findall(found["bounds"]))
    return Requirement(
        found["name"],
        bounds,
        extra[1] if extra else None,
        bool(_EXTRA.sub("", marker).strip(" ()")),
    )


def numbers(version: str) -> Version:
    """`2.13.0+cpu` and `2.13.0.post2` are (2, 13, 0)."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _padded(one: Version, other: Version) -> tuple[Version, Version]:
    """As many numbers on both sides: 6 is 6.0."""
    length = max(len(one), len(other))
    return one + (0,) * (length - len(one)), other + (0,) * (length - len(other))
