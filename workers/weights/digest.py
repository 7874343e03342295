"""The digest of weights: SHA-256 over every tensor's name, dtype, shape and bytes, in the order of
the names.

Files are read as the safetensors format lays them out (8 bytes of header length, a JSON header, the
tensors' bytes), so a digest needs no torch, and how a checkpoint is cut into files does not matter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from db.errors import RefusedConfigurationError

BLOCK_BYTES = 1 << 22


@dataclass(frozen=True)
class StoredTensor:
    """Where one tensor lies: bytes `[start, end)` of `path`. `dtype` is the format's word (F32,
    BF16, I64).
    """

    path: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def tensor_line(name: str, dtype: str, shape: Sequence[int]) -> bytes:
    return json.dumps([name, dtype, list(shape)]).encode()


def stored_tensors(files: Iterable[Path]) -> list[StoredTensor]:
    """The tensors of safetensors files, by name. Raises `RefusedConfigurationError` naming a
    damaged file.
    """
    found: list[StoredTensor] = []
    for path in files:
        try:
            found += _header(path)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RefusedConfigurationError(
                f"{path} is no whole safetensors file ({error}); copy it again"
            ) from error
    return sorted(found, key=lambda tensor: tensor.name)


def _header(path: Path) -> list[StoredTensor]:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= size - 8:
            raise ValueError(f"a header of {length} bytes in a file of {size}")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    tensors = []
    for name, facts in header.items():
        start, end = (8 + length + offset for offset in facts["data_offsets"])
        if end > size:
            raise ValueError(f"{name} ends at byte {end} of {size}")
        tensors.append(StoredTensor(path, name, facts["dtype"], tuple(facts["shape"]), start, end))
    return tensors


def stored_digest(tensors: Iterable[StoredTensor]) -> str:
    """Digest of tensors in files, in the order given (`stored_tensors` gives them by name)."""
    sha = hashlib.sha256()
    for tensor in tensors:
        sha.update(tensor_line(tensor.name, tensor.dtype, tensor.shape))
        with tensor.path.open("rb") as file:
            file.seek(tensor.start)
            left = tensor.end - tensor.start
            while left:
                block = file.read(min(BLOCK_BYTES, left))
                if not block:
                    raise RefusedConfigurationError(
                        f"{tensor.path} became shorter while it was read; copy it again"
                    )
                sha.update(block)
                left -= len(block)
    return sha.hexdigest()
