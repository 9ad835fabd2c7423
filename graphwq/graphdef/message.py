"""A small message of a checkpoint, cut into its fields: no proto class is at hand for these."""

from __future__ import annotations

from typing import Dict, List, Tuple, Union

from graphwq.graphdef.wire import (
    FIXED32,
    LENGTH_DELIMITED,
    VARINT,
    Buffer,
    WireError,
    fields,
    read_varint,
    text,
)

Value = Union[int, memoryview]


class Message:
    """The fields of one message; of a field that is not there, the default of protobuf 3."""

    def __init__(self, data: Buffer) -> None:
        self._data = memoryview(data)
        self._fields: Dict[int, List[Value]] = {}
        for number, wire_type, _, value, end in fields(self._data):
            found: Value = self._data[value:end]
            if wire_type == VARINT:
                found = read_varint(self._data, value, end)[0] & ((1 << 64) - 1)
            elif wire_type == FIXED32:
                found = int.from_bytes(self._data[value:end], "little")
            elif wire_type != LENGTH_DELIMITED:
                continue
            self._fields.setdefault(number, []).append(found)

    def has(self, number: int) -> bool:
        """Whether the field is there."""
        return number in self._fields

    def number(self, number: int) -> int:
        """A field that holds a number; of one that occurs twice the last."""
        value = self._fields.get(number, [0])[-1]
        if not isinstance(value, int):
            raise WireError(f"field {number} is no number")
        return value - (1 << 64) if value >> 63 else value

    def buffers(self, number: int) -> Tuple[memoryview, ...]:
        """The bytes of a repeated field of messages, strings or bytes."""
        found = tuple(item for item in self._fields.get(number, ()) if isinstance(item, memoryview))
        if len(found) != len(self._fields.get(number, ())):
            raise WireError(f"field {number} is a number")
        return found

    def buffer(self, number: int) -> memoryview:
        """The bytes of a field, empty where it is not there."""
        found = self.buffers(number)
        return found[-1] if found else memoryview(b"")

    def messages(self, number: int) -> Tuple[Message, ...]:
        """A repeated field of messages."""
        return tuple(Message(item) for item in self.buffers(number))

    def text(self, number: int, what: str) -> str:
        """A field that holds text; ``what`` stands in the error."""
        found = self.buffer(number)
        return text(found, 0, len(found), what)
