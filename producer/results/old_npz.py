"""An `.npz` of vectors as it is read: what the notebook wrote, or `reelvec export`. No pickle is
ever loaded: reading one can run code.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt

from db.errors import UsageError

BLOCK_ROWS = 4096
#: What float16 rounds to 0, and from where on it is infinite.
HALF_SMALLEST, HALF_INFINITY = 2.0**-25, 65520.0


class OldNpz:
    """`shape` [n, d] or [n, w, d] of its vectors. Raises `UsageError` for what is no such file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._archive = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            reason = getattr(error, "strerror", None) or "it is no .npz file"
            raise UsageError(f"{path} cannot be read: {reason}") from error
        with self._member("embeddings") as member:
            self.shape, self._dtype = self._head(member)
        if len(self.shape) not in (2, 3) or 0 in self.shape:
            raise self._wrong(
                f"embeddings have the shape {list(self.shape)}, not [videos, numbers] or [videos, "
                "windows, numbers]"
            )
        if self._dtype.kind not in "fiu":
            raise self._wrong(f"embeddings are {self._dtype}, not numbers")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._archive.close()

    def texts(self, name: str) -> list[str] | None:
        """One text for each row; None: the file says nothing of the kind."""
        found = self._array(name)
        return None if found is None else [str(value) for value in found.tolist()]

    def labels(self) -> list[int | None] | None:
        """Ids of categories, also where they are written `48.0`; None in it: none."""
        found = self._array("labels")
        if found is None or found.dtype.kind not in "fiu":
            return None
        whole = np.where(np.isfinite(found.astype(float)), found, -1).astype(np.int64)
        return [label if label >= 0 else None for label in whole.tolist()]

    def vectors(self) -> Iterator[npt.NDArray[np.float32]]:
        """float32 [block, d], the mean over windows, in the order of the file. Raises `UsageError`
        for a vector that has no direction once it is stored, and for probabilities.
        """
        row = int(np.prod(self.shape[1:])) * self._dtype.itemsize
        at = 0
        with self._member("embeddings") as member:
            self._head(member)
            while at < self.shape[0]:
                rows = min(BLOCK_ROWS, self.shape[0] - at)
                data = member.read(rows * row)
                if len(data) < rows * row:
                    raise self._wrong("embeddings end before their last row")
                block = np.frombuffer(data, self._dtype).reshape(rows, *self.shape[1:])
                yield self._checked(block.astype(np.float32), at)
                at += rows

    def _checked(self, block: npt.NDArray[np.float32], at: int) -> npt.NDArray[np.float32]:
        sums = block.sum(axis=-1)
        if np.all(block >= 0) and np.all(np.abs(sums - 1) < 1e-3):
            raise self._wrong("each row adds up to 1: these are probabilities, not vectors")
        found = block.mean(axis=1) if block.ndim == 3 else block
        largest = np.abs(found).max(axis=1)
        if np.any(bad := ~((largest > HALF_SMALLEST) & (largest < HALF_INFINITY))):
            row = at + int(np.argmax(bad))
            raise self._wrong(
                f"the vector of row {row} is all zeros or not finite, as float16, which vectors "
                "are stored as"
            )
        return found

    def _array(self, name: str) -> npt.NDArray[Any] | None:
        if f"{name}.npy" not in self._archive.namelist():
            return None
        with self._member(name) as member:
            try:
                found = np.lib.format.read_array(member, allow_pickle=False)
            except ValueError as error:
                raise self._unreadable(name, error) from error
        if found.shape != self.shape[:1]:
            raise self._wrong(f"{name} are {list(found.shape)}, the videos {self.shape[0]}")
        return found

    def _member(self, name: str) -> IO[bytes]:
        try:
            return self._archive.open(f"{name}.npy")
        except KeyError as error:
            held = ", ".join(self._archive.namelist()) or "nothing"
            raise self._wrong(f"it holds {held}, and no {name}.npy") from error

    def _head(self, member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
        try:
            version = np.lib.format.read_magic(member)
            read = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, by_column, dtype = read(member)
        except ValueError as error:
            raise self._unreadable("embeddings", error) from error
        if dtype.hasobject:
            raise self._unreadable("embeddings", ValueError("Object arrays"))
        if by_column:
            raise self._wrong("embeddings are stored by column: save np.ascontiguousarray of them")
        return shape, dtype

    def _unreadable(self, name: str, error: ValueError) -> UsageError:
        if "Object arrays" in str(error):
            return self._wrong(
                f"{name} are Python objects (pickles), which can run code when they are read: save "
                "them as plain numbers or texts"
            )
        return self._wrong(f"{name} cannot be read: {error}")

    def _wrong(self, what: str) -> UsageError:
        return UsageError(f"{self._path}: {what}")
