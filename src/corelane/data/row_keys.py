"""Keys of checked rows: 128 bits for each, equal where the typed values of the named columns are equal.

What is hashed are checked values (numbers as float64, texts as categories, times in microseconds), so the same row has
the same key whether CSV or Parquet gave it. Of n rows that differ, two have the same key with a probability below
n^2 / 2^128: 3e-21 for a billion. Words are mixed with SplitMix64's finaliser (Steele, Lea, Flood 2014) in two lanes
that start differently, which is no cryptographic hash; large arrays and files go through BLAKE2b, which is one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from corelane.core.types import Array, IntArray

Words: TypeAlias = NDArray[np.uint64]

_STARTS: Words = np.array([[0x243F6A8885A308D3], [0x13198A2E03707344]], dtype=np.uint64)  # digits of pi
_NULLS: Words = np.array([[0xA4093822299F31D0], [0x082EFA98EC4E6C89]], dtype=np.uint64)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_WORD_BYTES = 8
_MAX_WORDS = 64  # of one array: from about here on a call of BLAKE2b for each costs less than passes over its words


def row_keys(rows: pa.RecordBatch, names: Sequence[str]) -> Words:
    """The keys of checked `rows` [n] over the columns `names`: uint64 [2, n]. Nulls are equal to each other."""
    keys = np.repeat(_STARTS, rows.num_rows, axis=1)
    for name in names:
        keys *= _GOLDEN
        keys += _column_keys(rows.column(name))
        _mix(keys)
    return keys


def _column_keys(column: pa.Array) -> Words:
    """[2, n] for a checked column of any kind."""
    if pa.types.is_dictionary(column.type):
        places = column.indices.fill_null(0).to_numpy(zero_copy_only=False)
        distinct = _column_keys(column.dictionary)
        keys = distinct[:, places] if distinct.size else np.zeros((2, len(places)), dtype=np.uint64)
    elif pa.types.is_floating(column.type):
        numbers = column.fill_null(0.0).to_numpy(zero_copy_only=False)
        keys = _hash_words((numbers + 0.0).view(np.uint64)[None])  # -0.0 is 0.0
    elif pa.types.is_timestamp(column.type):
        keys = _hash_words(column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False).view(np.uint64)[None])
    elif isinstance(column.type, pa.FixedShapeTensorType):
        keys = _hash_arrays(column.to_numpy_ndarray())
    elif pa.types.is_binary(column.type):
        keys = _hash_one_by_one([b"" if value is None else value for value in column.to_pylist()])
    else:
        keys = _hash_texts(column)
    if column.null_count:
        keys[:, column.is_null().to_numpy(zero_copy_only=False)] = _NULLS
    return keys


def _hash_words(words: Words) -> Words:
    """[2, n] for values of w words each, `words` [w, n]."""
    keys = np.repeat(_STARTS, words.shape[1], axis=1)
    for row in words:
        keys *= _GOLDEN
        keys += row
        _mix(keys)
    return keys


def _hash_texts(column: pa.Array) -> Words:
    """[2, n] for strings: their UTF-8 bytes eight at a time, those that are longer than what was read so far."""
    column = column.cast(pa.large_string())
    _, ends, data = column.buffers()
    offsets: IntArray = np.frombuffer(ends, dtype=np.int64)[column.offset : column.offset + len(column) + 1]
    starts, lengths = offsets[:-1], np.diff(offsets)
    padded = np.zeros((0 if data is None else data.size) + _WORD_BYTES, dtype=np.uint8)
    if data is not None:
        padded[: data.size] = np.frombuffer(data, dtype=np.uint8)
    words_at: Words = np.ndarray((len(padded) - _WORD_BYTES + 1,), dtype="<u8", buffer=padded.data, strides=(1,))
    masks = np.array([(1 << 8 * length) - 1 for length in range(_WORD_BYTES + 1)], dtype=np.uint64)
    keys = np.repeat(_STARTS, len(column), axis=1)
    keys += lengths.astype(np.uint64)  # so that a text and the same with zeros behind it differ
    longer: IntArray = np.arange(len(column))
    read = 0
    while len(longer := longer[lengths[longer] > read]):
        words = words_at[starts[longer] + read] & masks[np.minimum(lengths[longer] - read, _WORD_BYTES)]
        mixed = keys[:, longer] * _GOLDEN + words
        _mix(mixed)
        keys[:, longer] = mixed
        read += _WORD_BYTES
    return keys


def _hash_arrays(values: Array) -> Words:
    """[2, n] for arrays [n, ...] of one type and shape."""
    if values.dtype.kind == "f":
        values = values + np.zeros((), dtype=values.dtype)  # -0.0 is 0.0
    flat = np.ascontiguousarray(values).reshape(len(values), -1).view(np.uint8)
    if flat.shape[1] > _MAX_WORDS * _WORD_BYTES:
        return _hash_one_by_one([row.data for row in flat])
    width = -(-flat.shape[1] // _WORD_BYTES) * _WORD_BYTES
    padded = np.zeros((len(flat), width), dtype=np.uint8)
    padded[:, : flat.shape[1]] = flat
    return _hash_words(np.ascontiguousarray(padded.view(np.uint64).T))


def _hash_one_by_one(values: Sequence[bytes | memoryview]) -> Words:
    """[2, n] for values of many bytes."""
    digests = b"".join(hashlib.blake2b(value, digest_size=16).digest() for value in values)
    return np.frombuffer(digests, dtype=np.uint64).reshape(-1, 2).T.copy()


def _mix(words: Words) -> None:
    """The finaliser of SplitMix64, in place."""
    words ^= words >> np.uint64(30)
    words *= _FIRST
    words ^= words >> np.uint64(27)
    words *= _SECOND
    words ^= words >> np.uint64(31)
