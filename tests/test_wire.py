"""graphdef/wire.py: cutting a protobuf message into fields without losing a byte."""

from __future__ import annotations

from typing import List, Tuple

import pytest
from google.protobuf.internal import encoder
from hypothesis import given
from hypothesis import strategies as st
from strategies import UNKNOWN_FIELDS, graph_bytes, padded_varint

from graphwq.errors import InputError
from graphwq.graphdef import wire


def _encoded(value: int) -> bytes:
    parts: List[bytes] = []
    encoder._EncodeVarint(parts.append, value)
    return b"".join(parts)


@given(st.integers(0, 2**64 - 1))
def test_varint_is_the_encoding_of_protobuf(value: int) -> None:
    """``varint`` writes the bytes that protobuf's own encoder writes."""
    assert wire.varint(value) == _encoded(value)


@given(st.integers(0, 2**63 - 1), st.binary(max_size=3))
def test_read_varint_gives_back_the_number_and_the_place_behind_it(value: int, rest: bytes) -> None:
    """Reading inverts writing, whatever follows."""
    data = wire.varint(value)
    assert wire.read_varint(data + rest, 0, len(data + rest)) == (value, len(data))


@given(st.integers(0, 2**31 - 1), st.integers(1, 4))
def test_read_varint_accepts_superfluous_bytes(value: int, padding: int) -> None:
    """A number written with more bytes than needed is the same number."""
    data = padded_varint(value, padding)
    assert len(data) == len(wire.varint(value)) + padding
    assert wire.read_varint(data, 0, len(data)) == (value, len(data))


def test_read_varint_starts_at_the_position_it_is_given() -> None:
    """Bytes before the position are not looked at."""
    assert wire.read_varint(b"\xff\xff\x96\x01", 2, 4) == (150, 4)


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff\xff\xff"])
def test_a_number_that_is_cut_off_is_an_error(data: bytes) -> None:
    """A varint that runs past the end says so; the bytes behind the end are not read."""
    with pytest.raises(wire.WireError, match="ends inside a number"):
        wire.read_varint(data + b"\x01", 0, len(data))


def test_a_number_of_ten_bytes_is_legal_and_one_of_eleven_is_not() -> None:
    """protobuf writes negative int64 with ten bytes; nothing legal is longer."""
    assert wire.read_varint(b"\xff" * 9 + b"\x01", 0, 10) == (2**64 - 1, 10)
    with pytest.raises(wire.WireError, match="more than ten bytes"):
        wire.read_varint(b"\x80" * 10 + b"\x01", 0, 11)


def test_wire_errors_are_input_errors() -> None:
    """A damaged file is the user's to mend."""
    assert issubclass(wire.WireError, InputError)


def test_fields_of_every_wire_type() -> None:
    """Number, type, tag, value and end of each field are where the encoding guide puts them."""
    data = b"\x08\x96\x01" + b"\x11" + b"a" * 8 + b"\x1a\x03abc" + b"\x25" + b"b" * 4
    assert list(wire.fields(data)) == [
        (1, wire.VARINT, 0, 1, 3),
        (2, wire.FIXED64, 3, 4, 12),
        (3, wire.LENGTH_DELIMITED, 12, 14, 17),
        (4, wire.FIXED32, 17, 18, 22),
    ]


def test_fields_of_nothing() -> None:
    """An empty message has no fields."""
    assert list(wire.fields(b"")) == []


def test_fields_of_a_part_of_the_buffer() -> None:
    """Only ``position..end`` is read, and offsets count from the start of the buffer."""
    data = b"\xff\xff\x0a\x01x\xff"
    assert list(wire.fields(data, 2, 5)) == [(1, wire.LENGTH_DELIMITED, 2, 4, 5)]
    assert list(wire.fields(data, 3, 3)) == []


def test_fields_with_long_tags_and_padded_lengths() -> None:
    """Field numbers above 15 take two tag bytes; a length may have superfluous bytes."""
    data = padded_varint(1000 << 3 | 2) + b"\x83\x80\x00abc" + b"\x8a\x00\x01x"
    assert list(wire.fields(data)) == [
        (1000, wire.LENGTH_DELIMITED, 0, 5, 8),
        (1, wire.LENGTH_DELIMITED, 8, 11, 12),
    ]


def test_the_largest_field_number_is_legal() -> None:
    """2^29 - 1 is the last field number that protobuf has."""
    data = wire.tag(2**29 - 1, wire.VARINT) + b"\x00"
    assert [item[:2] for item in wire.fields(data)] == [(2**29 - 1, wire.VARINT)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x00\x01", "field number 0 at byte 0"),
        (b"\x08\x01\x02", "field number 0 at byte 2"),
        (wire.varint(2**29 << 3) + b"\x01", "field number 536870912"),
        (b"\x0b", "wire type 3 at byte 0"),
        (b"\x0c", "wire type 4"),
        (b"\x0e\x01", "wire type 6"),
        (b"\x0f\x01", "wire type 7"),
        (b"\x08", "ends inside a number"),
        (b"\x0a", "ends inside a field"),
        (b"\x0a\x02x", "claims to end at byte 4, the data ends at 3"),
        (b"\x0a\xff\xff\xff\xff\x0f", "claims to end"),
        (b"\x0a\x80", "ends inside a number"),
        (b"\x09\x01\x02\x03", "claims to end at byte 9"),
        (b"\x0d\x01\x02\x03", "claims to end at byte 5"),
        (b"\x88", "ends inside a number"),
    ],
)
def test_bytes_that_are_no_message(data: bytes, message: str) -> None:
    """Each way in which bytes fail to be fields has a message that names the place."""
    with pytest.raises(wire.WireError, match=message):
        list(wire.fields(data))


def test_a_field_may_not_reach_beyond_its_message() -> None:
    """A sub-message that claims bytes of its parent is refused although the buffer has them."""
    with pytest.raises(wire.WireError, match="the data ends at 3"):
        list(wire.fields(b"\x0a\x02xyz", 0, 3))


@given(graph_bytes())
def test_fields_tile_the_message(data: bytes) -> None:
    """Every byte belongs to exactly one field: the fields joined are the message."""
    found = list(wire.fields(data))
    assert b"".join(data[begin:end] for _, _, begin, _, end in found) == data
    assert [item[2] for item in found] == [0, *(item[4] for item in found)][: len(found)]


@pytest.mark.parametrize("data", UNKNOWN_FIELDS)
def test_unknown_fields_are_cut_like_known_ones(data: bytes) -> None:
    """A field number that no message has is no error."""
    ((number, _, begin, _, end),) = wire.fields(data)
    assert number >= 1000
    assert (begin, end) == (0, len(data))


@given(st.integers(1, 2**29 - 1), st.binary(max_size=300))
def test_delimited_is_read_back(number: int, payload: bytes) -> None:
    """``delimited`` writes one field whose payload is the payload."""
    data = wire.delimited(number, payload)
    ((found, wire_type, _, value, end),) = wire.fields(data)
    assert (found, wire_type) == (number, wire.LENGTH_DELIMITED)
    assert data[value:end] == payload
    assert data == wire.header(number, len(payload)) + payload


def test_fields_are_offsets_into_a_memoryview_too() -> None:
    """The same offsets come out of bytes and of a view, so nothing has to be copied."""
    data = b"\x0a\x03abc\x10\x05"
    assert list(wire.fields(memoryview(data))) == list(wire.fields(data))


@pytest.mark.parametrize(
    ("data", "expected"), [(b"abc", "abc"), ("\u5377\u79ef".encode(), "\u5377\u79ef"), (b"", "")]
)
def test_text_decodes_utf8(data: bytes, expected: str) -> None:
    """Strings are UTF-8, in bytes and in views."""
    assert wire.text(data, 0, len(data), "a name") == expected
    assert wire.text(memoryview(data), 0, len(data), "a name") == expected


@pytest.mark.parametrize("data", [b"\xff", b"\xc3", b"\xed\xa0\x80"])
def test_text_that_is_not_utf8(data: bytes) -> None:
    """The message says which text it is and where; half a surrogate pair is no text either."""
    with pytest.raises(wire.WireError, match="a node's name at byte 2 is not UTF-8"):
        wire.text(b"ab" + data, 2, 2 + len(data), "a node's name")


def _cut(data: bytes) -> List[Tuple[int, bytes]]:
    return [(number, data[value:end]) for number, _, _, value, end in wire.fields(data)]


def test_order_of_the_file_is_kept() -> None:
    """Fields come in file order, repeated ones too."""
    data = b"\x12\x01b\x0a\x01a\x12\x01c"
    assert _cut(data) == [(2, b"b"), (1, b"a"), (2, b"c")]
