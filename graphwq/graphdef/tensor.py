"""TensorProto <-> numpy, without copying ``tensor_content``.

Source of the rules: tensorflow/core/framework/tensor.proto and Tensor::FromProto. A tensor is held
either as ``tensor_content`` (raw little-endian bytes) or as a typed list in which the last value
repeats to fill the shape; a list without any value means zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import mul
from typing import Any, Dict, Optional, Sequence, Tuple

import numpy as np

from graphwq.errors import InputError
from graphwq.graphdef import dtypes
from graphwq.graphdef.wire import (
    LENGTH_DELIMITED,
    VARINT,
    Buffer,
    WireError,
    delimited,
    fields,
    header,
    read_varint,
    tag,
    varint,
)

_DTYPE, _SHAPE, _VERSION, _CONTENT = 1, 2, 3, 4
_SHAPE_DIM, _SHAPE_UNKNOWN_RANK, _DIM_SIZE = 2, 3, 1
#: No machine holds a larger constant; nor does TensorFlow read one.
_MAX_BYTES = 1 << 40
#: A list of a few values that stands for more bytes than this is a bomb and no constant...
_MAX_EXPANSION = 64 << 20
#: ...unless it is longer than one in so many of them.
_MAX_RATIO = 64
#: numpy 1 has no room for more axes (numpy 2 has, but the same file must read the same).
_MAX_RANK = 32

#: For each DataType the list that holds its values: field number and name.
_LISTS: Dict[int, Tuple[int, str]] = {
    dtypes.DT_FLOAT: (5, "float_val"),
    dtypes.DT_DOUBLE: (6, "double_val"),
    dtypes.DT_STRING: (8, "string_val"),
    dtypes.DT_COMPLEX64: (9, "scomplex_val"),
    dtypes.DT_INT64: (10, "int64_val"),
    dtypes.DT_BOOL: (11, "bool_val"),
    dtypes.DT_COMPLEX128: (12, "dcomplex_val"),
    dtypes.DT_HALF: (13, "half_val"),
    dtypes.DT_BFLOAT16: (13, "half_val"),
    dtypes.DT_UINT32: (16, "uint32_val"),
    dtypes.DT_UINT64: (17, "uint64_val"),
}
for _code in (
    dtypes.DT_INT32,
    dtypes.DT_INT16,
    dtypes.DT_INT8,
    dtypes.DT_UINT8,
    dtypes.DT_UINT16,
    dtypes.DT_QINT8,
    dtypes.DT_QUINT8,
    dtypes.DT_QINT16,
    dtypes.DT_QUINT16,
    dtypes.DT_QINT32,
):
    _LISTS[_code] = (7, "int_val")


@dataclass(frozen=True)
class Tensor:
    """A TensorProto, cut open but not decoded.

    Attributes:
        dtype: the DataType number.
        shape: the dimensions.
        content: the slice of ``tensor_content``, or None where the values are a typed list.
        raw: the bytes of the TensorProto; of a new constant only those before its content.
    """

    dtype: int
    shape: Tuple[int, ...]
    content: Optional[memoryview]
    raw: memoryview

    @property
    def size(self) -> int:
        """The number of elements that the shape declares."""
        return reduce(mul, self.shape, 1)

    @property
    def has_values(self) -> bool:
        """False where the shape declares elements and the file holds not one value."""
        if self.size == 0 or self.content is not None:
            return True
        wanted = _LISTS.get(self.dtype, (0, ""))[0]
        return any(field[0] == wanted and field[4] > field[3] for field in fields(self.raw))

    @property
    def listed(self) -> int:
        """The number of elements in the typed list (without ``tensor_content``)."""
        count = len(self._listed())
        return count // 2 if self.dtype in (dtypes.DT_COMPLEX64, dtypes.DT_COMPLEX128) else count

    def numpy(self) -> np.ndarray:
        """Decode to a read-only array of ``shape``.

        ``tensor_content`` is viewed in place; a list that repeats its last value is broadcast where
        it holds a single one, so a huge constant of one value costs no memory.

        Raises:
            InputError: the dtype has no numpy type, or the values do not fill the shape.
        """
        if len(self.shape) > _MAX_RANK:
            raise InputError(f"a tensor of {len(self.shape)} axes cannot be read, {_MAX_RANK} can")
        if self.dtype != dtypes.DT_STRING and self.dtype not in dtypes.NUMPY:
            raise InputError(f"a tensor of {dtypes.dtype_name(self.dtype)} cannot be read")
        try:
            if self.dtype == dtypes.DT_STRING:
                array = self._strings()
            elif self.content is not None:
                array = np.frombuffer(self.content, dtypes.NUMPY[self.dtype]).reshape(self.shape)
            else:
                array = self._from_list()
        except ValueError as error:  # more axes or larger sizes than numpy has room for
            raise InputError(
                f"a tensor of shape {list(self.shape)} cannot be read: {error}"
            ) from error
        array.flags.writeable = False
        return array

    def _from_list(self) -> np.ndarray:
        values = self._packed()
        if values is None:
            listed = self._listed()
            values = np.fromiter(listed, self._list_type(), len(listed))
        target = dtypes.NUMPY[self.dtype]
        if self.dtype in (dtypes.DT_HALF, dtypes.DT_BFLOAT16):
            values = values.astype(np.uint16).view(target)
        elif self.dtype in (dtypes.DT_COMPLEX64, dtypes.DT_COMPLEX128):
            if len(values) % 2:
                raise InputError("a complex number without its imaginary part: the file is damaged")
            values = values.view(target)
        else:
            values = values.astype(target)
        if values.size > self.size:
            raise InputError(
                f"a tensor of shape {list(self.shape)} lists {values.size} values, "
                f"{self.size} would fill it: the file is damaged"
            )
        if values.size == self.size:
            return values.reshape(self.shape)
        last = values[-1:] if values.size else np.zeros(1, target)
        if values.size <= 1:
            return np.broadcast_to(last.reshape(()), self.shape).view()
        self._check_expansion(values.size, target.itemsize)
        filled = np.concatenate([values, np.broadcast_to(last, (self.size - values.size,))])
        return filled.reshape(self.shape)

    def _check_expansion(self, listed: int, itemsize: int) -> None:
        if self.size * itemsize > max(_MAX_EXPANSION, _MAX_RATIO * listed * itemsize):
            raise InputError(
                f"a tensor of shape {list(self.shape)} lists {listed} values for {self.size} "
                "elements: too many to fill in"
            )

    def _list_type(self) -> np.dtype:
        listed = {
            dtypes.DT_FLOAT: np.float32,
            dtypes.DT_COMPLEX64: np.float32,
            dtypes.DT_DOUBLE: np.float64,
            dtypes.DT_COMPLEX128: np.float64,
            dtypes.DT_UINT64: np.uint64,
        }
        return np.dtype(listed.get(self.dtype, np.int64))

    def _packed(self) -> Optional[np.ndarray]:
        """A list that stands in the file as the bytes of an array, without a copy; else None."""
        wanted, kind = _LISTS[self.dtype][0], self._list_type()
        if kind.kind != "f":
            return None
        found = [field for field in fields(self.raw) if field[0] == wanted]
        if len(found) != 1 or found[0][1] != LENGTH_DELIMITED:
            return None
        data = self.raw[found[0][3] : found[0][4]]
        return None if len(data) % kind.itemsize else np.frombuffer(data, kind)

    def _listed(self) -> Sequence[Any]:
        values: Sequence[Any] = getattr(_parsed(self.raw), _LISTS[self.dtype][1])
        return values

    def _strings(self) -> np.ndarray:
        values = self._listed()
        if len(values) > max(self.size, 0):
            raise InputError(f"a string tensor of {self.size} elements lists {len(values)}")
        self._check_expansion(len(values), np.dtype(object).itemsize)
        array = np.empty(self.size, object)
        array[:] = values[-1] if values else b""
        array[: len(values)] = values
        return array.reshape(self.shape)


def _parsed(raw: Buffer) -> Any:
    """The TensorProto (imported here: graphs of tensor_content alone do without protobuf)."""
    from graphwq.graphdef.protos import DecodeError, TensorProto

    try:
        return TensorProto.FromString(bytes(raw))
    except DecodeError as error:
        raise WireError("a TensorProto cannot be parsed: the file is damaged") from error


def parse_shape(raw: Buffer) -> Optional[Tuple[int, ...]]:
    """Read a TensorShapeProto: the dimensions (-1 where unknown), or None for an unknown rank."""
    dims = []
    for number, wire_type, _, value, end in fields(raw):
        is_flag = number == _SHAPE_UNKNOWN_RANK and wire_type == VARINT
        if is_flag and read_varint(raw, value, end)[0]:
            return None
        if number == _SHAPE_DIM and wire_type == LENGTH_DELIMITED:
            size = 0
            for sub, sub_type, _, sub_value, sub_end in fields(raw, value, end):
                if sub == _DIM_SIZE and sub_type == VARINT:
                    size = read_varint(raw, sub_value, sub_end)[0] & ((1 << 64) - 1)
            dims.append(size - (1 << 64) if size >> 63 else size)
    return tuple(dims)


def parse_tensor(raw: memoryview, payload: Optional[memoryview] = None) -> Tensor:
    """Cut a TensorProto open; nothing is decoded and nothing copied.

    Args:
        raw: the message, up to its content where ``payload`` is given.
        payload: the ``tensor_content`` that ends the message and is kept elsewhere.

    Raises:
        InputError: not a TensorProto, a negative or absurd dimension, or ``tensor_content`` whose
            length does not match dtype and shape.
    """
    dtype, shape, content = 0, (), None  # type: int, Optional[Tuple[int, ...]], Optional[memoryview]
    size = len(raw) + (0 if payload is None else payload.nbytes)
    for number, wire_type, _, value, end in fields(raw, 0, size):
        if number == _DTYPE and wire_type == VARINT:
            dtype = read_varint(raw, value, end)[0]
        elif number == _SHAPE and wire_type == LENGTH_DELIMITED:
            more = parse_shape(raw[value:end])
            shape = None if more is None or shape is None else shape + more
        elif number == _CONTENT and wire_type == LENGTH_DELIMITED:
            content = raw[value:end] if end > value else None
    content = content if payload is None else payload
    if shape is None or any(dim < 0 for dim in shape):
        raise InputError(f"a constant must have a full shape, this one declares {shape}")
    tensor = Tensor(dtype, shape, content, raw)
    if tensor.size * _itemsize(dtype) > _MAX_BYTES:
        raise InputError(f"a constant of shape {list(shape)} is larger than any machine's memory")
    if content is not None and dtype in dtypes.NUMPY:
        needed = tensor.size * _itemsize(dtype)
        if needed != len(content):
            raise InputError(
                f"tensor_content has {len(content)} bytes, {dtypes.dtype_name(dtype)} "
                f"{list(shape)} needs {needed}"
            )
    return tensor


def _itemsize(dtype: int) -> int:
    return dtypes.NUMPY[dtype].itemsize if dtype in dtypes.NUMPY else 1


def encode_shape(shape: Tuple[int, ...]) -> bytes:
    """Encode a TensorShapeProto."""
    dims = []
    for dim in shape:
        size = tag(_DIM_SIZE, VARINT) + varint(dim if dim >= 0 else dim + (1 << 64))
        dims.append(delimited(_SHAPE_DIM, size))
    return b"".join(dims)


def encode_header(dtype: int, shape: Tuple[int, ...], content_size: int) -> bytes:
    """Encode a TensorProto up to its ``tensor_content``, whose bytes are to follow."""
    return (
        tag(_DTYPE, VARINT)
        + varint(dtype)
        + delimited(_SHAPE, encode_shape(shape))
        + (header(_CONTENT, content_size) if content_size else b"")
    )
