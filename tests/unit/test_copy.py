"""Binary COPY fields, byte by byte."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from db import copy


def test_a_halfvec_is_dimension_then_big_endian_half_floats() -> None:
    assert copy.halfvec(np.array([1.5, -2.0], np.float32)) == struct.pack(">HHee", 2, 0, 1.5, -2.0)


def test_a_two_dimensional_array_keeps_its_shape() -> None:
    data = copy.real_array(np.array([[1.0, 2.0, 3.0]], np.float32))
    assert struct.unpack(">iiiiiii", data[:28]) == (2, 0, 700, 1, 1, 3, 1)
    assert struct.unpack(">ififif", data[28:]) == (4, 1.0, 4, 2.0, 4, 3.0)


def test_a_boolean_is_one_byte() -> None:
    data = copy.stream((copy.boolean, copy.boolean), [(True, False)]).getvalue()
    assert data.removesuffix(copy.TRAILER).endswith(struct.pack(">hiBiB", 2, 1, 1, 1, 0))


def test_none_is_null_and_rows_of_another_length_are_refused() -> None:
    data = copy.stream((copy.bigint,), [(None,)]).getvalue()
    assert data.endswith(struct.pack(">hih", 1, -1, -1))
    with pytest.raises(ValueError, match="shorter"):
        copy.stream((copy.bigint, copy.text), [(1,)])
