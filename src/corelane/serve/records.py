"""The typed protocol: rows as plain JSON records by column name in, labels with probabilities or values out."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson

from corelane.core.errors import RequestError
from corelane.data.schema import Column
from corelane.serve.columns import check_names, column_values
from corelane.serve.request import BARE, Envelope, Request, Response
from corelane.serve.server import ModelServer
from corelane.serve.values import short
from corelane.web.exchange import JSON, Headers
from corelane.web.tensors import HEADER


class RecordCodec:
    """Translates `{"rows": [{column: value, ...}, ...]}` for one model; errors name the row or column."""

    def __init__(self, server: ModelServer) -> None:
        self._columns = server.model.pipeline.schema.columns
        self._names = frozenset(column.name for column in self._columns)
        self._is_matrix = server.model.signature.matrix is not None
        self._records = server.predictor.records
        self._header = {"model": server.model.name, "version": server.model.version}

    def parse(self, body: bytes, envelope: Envelope = BARE) -> Request:
        """The request in `body`. Raises `RequestError` for whatever is not one of this model's."""
        if envelope.json_length is not None:
            raise RequestError(f"records must be JSON alone, got the header {HEADER}; leave it out")
        try:
            message = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise RequestError(f"the body must be JSON in UTF-8, got {error}") from error
        rows = message.get("rows") if type(message) is dict else None
        if type(rows) is not list or not rows or len(message) != 1:
            raise RequestError('the body must be {"rows": [{column: value, ...}, ...]} with at least one row')
        for index, row in enumerate(rows):
            if type(row) is not dict:
                raise RequestError(f"row {index} must be an object of values by column name, got {short(row)}")
            if row.keys() != self._names:
                check_names(list(row), sorted(self._names), f"row {index}: the column")
        columns = {column.name: _values(column, [row[column.name] for row in rows]) for column in self._columns}
        inputs = np.column_stack(list(columns.values())) if self._is_matrix else columns
        return Request(inputs, len(rows), len(body), envelope.deadline_s, wants_receipt=envelope.wants_receipt)

    def render(self, response: Response) -> tuple[bytes, Headers]:
        """`{"model", "version", "predictions": [...]}`, one prediction per row."""
        return orjson.dumps({**self._header, "predictions": self._records(response.outputs)}), JSON


def _values(column: Column, cells: list[Any]) -> Any:
    shape: tuple[int, ...] = (len(cells),)
    if column.kind == "array":
        bare = next((cell for cell in cells if column.shape and type(cell) is not list), None)
        if bare is not None:
            raise RequestError(f"{column.name!r} must be a list in each row, got {short(bare)}")
        shape = (len(cells), *_extent(cells[0], len(column.shape)))
    elif column.kind == "tensor" or (column.kind == "image" and type(cells[0]) is list):
        shape = (len(cells), *(column.shape if not column.resize else _extent(cells[0], len(column.shape))))
        if column.kind == "image" and column.shape[2] == 1 and not _is_nested(cells[0], 3):
            return column_values(column, cells, shape[:-1]).reshape(shape)  # type: ignore[union-attr]
    return column_values(column, cells, shape)


def _extent(cell: Any, rank: int) -> tuple[int, ...]:
    """The lengths of a nested list along `rank` axes, 1 where it is not nested so deep."""
    lengths = []
    for _ in range(rank):
        lengths.append(len(cell) if type(cell) is list else 1)
        cell = cell[0] if type(cell) is list and cell else None
    return tuple(lengths)


def _is_nested(cell: Any, depth: int) -> bool:
    for _ in range(depth - 1):
        if type(cell) is not list or not cell:
            return False
        cell = cell[0]
    return type(cell) is list
