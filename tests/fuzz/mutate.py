"""Mutators that know what they damage: fields of messages, tokens of JSON, entries of tables.

Each is ``mutate(data, random) -> bytes``; ``None`` means that the data has lost its form and only
bytes are left to mutate.
"""

from __future__ import annotations

import io
import json
import zipfile
from random import Random
from typing import Any, Callable, List, Optional, Tuple

from checkpoints import table

from fuzz.files import pack, unpack
from fuzz.messages import SCHEMA, Tree, parse, to_bytes, walk
from graphwq.errors import InputError
from graphwq.graphdef.sstable import entries
from graphwq.graphdef.wire import FIXED32, FIXED64, LENGTH_DELIMITED, VARINT

Mutator = Callable[[bytes, Random], Optional[bytes]]

_NUMBERS = [
    0,
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    14,
    19,
    32,
    64,
    127,
    128,
    255,
    256,
    2**15,
    2**16,
    2**28,
    2**31 - 1,
]
_NUMBERS += [2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64 - 2, 2**64 - 5]
_WORDS = (
    b"Const Identity Placeholder MatMul Conv2D DepthwiseConv2dNative Conv2DBackpropInput Conv3D "
    b"BatchMatMul BatchMatMulV2 Gather GatherV2 ResourceGather Einsum Mul Add AddV2 BiasAdd Cast "
    b"Reshape Transpose ExpandDims Squeeze Split SplitV Slice StridedSlice ConcatV2 Pack Unpack "
    b"Switch Merge Enter Exit NextIteration VariableV2 VarHandleOp ReadVariableOp Assign "
    b"AssignVariableOp If While PartitionedCall StatefulPartitionedCall NoOp IdentityN "
    b"StopGradient FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsPerChannel Dequantize "
    b"LSTMBlockCell BlockLSTM "
    b"_FusedConv2D FusedPadConv2D RestoreV2 SaveV2 HashTableV2 FusedBatchNorm Relu Softmax "
    b"dtype value T Tparams Tindices shape strides padding data_format SAME VALID NHWC NCHW f body "
    b"cond then_branch else_branch transpose_a transpose_b adj_x adj_y axis N num_split equation "
    b"_class loc:@w ab,bc->ac is_constant frame_name SrcT DstT Tin Tout dtypes explicit_paddings"
).split()


def _word(random: Random, words: List[bytes]) -> bytes:
    return random.choice(words) if words and random.random() < 0.6 else random.choice(_WORDS)


def _other_text(value: bytes, random: Random, words: List[bytes]) -> bytes:
    kind = random.randrange(8)
    if kind == 0:
        return b"^" + value
    if kind == 1:
        return value.rpartition(b":")[0] or value + b":" + str(random.choice([0, 1, 7])).encode()
    if kind == 2:
        return value[: random.randrange(len(value) + 1)]
    if kind == 3 and len(value) < 3000:
        return value * 2
    if kind == 4 and value:
        place = random.randrange(len(value))
        return value[:place] + bytes([random.randrange(256)]) + value[place + 1 :]
    if kind == 5:
        return b""
    return _word(random, words)


def _other_number(value: int, random: Random) -> int:
    kind = random.randrange(4)
    if kind == 0:
        return value + random.choice([-1, 1, 2, 8])
    if kind == 1:
        return value ^ (1 << random.randrange(64))
    return random.choice(_NUMBERS)


def _copied(tree: Tree) -> Tree:
    return [[n, w, _copied(v) if isinstance(v, list) else v] for n, w, v in tree]


def message(kind: str) -> Mutator:
    """The mutator of a message: fields go, come twice, change places, numbers, texts."""

    def mutate(data: bytes, random: Random) -> Optional[bytes]:
        tree = parse(data, kind)
        if not tree:
            return None
        for _ in range(random.choice([1, 1, 1, 2, 3, 5])):
            places = list(walk(tree, kind))
            if places:
                _mutate_field(places, random)
        return to_bytes(tree)

    return mutate


def _mutate_field(places: List[Tuple[Tree, int, str]], random: Random) -> None:
    tree, index, kind = random.choice(places)
    number, wire_type, value = tree[index]
    action = random.randrange(12)
    if action == 0:
        del tree[index]
    elif action == 1:
        copy = [number, wire_type, _copied(value) if isinstance(value, list) else value]
        tree.insert(random.randrange(len(tree) + 1), copy)
    elif action == 2:
        other = random.randrange(len(tree))
        tree[index], tree[other] = tree[other], tree[index]
    elif action == 3:  # a field of the same kind of message from elsewhere
        found = random.choice([place for place in places if place[2] == kind])
        item = found[0][found[1]]
        tree[index] = [item[0], item[1], _copied(item[2]) if isinstance(item[2], list) else item[2]]
    elif action == 4:
        known = list(SCHEMA[kind]) + [1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 16, 17]
        tree[index] = [random.choice(known), wire_type, value]
        if isinstance(value, list):
            tree[index][2] = to_bytes(value)
    elif action == 5:
        new = [random.randrange(1, 18), VARINT, random.choice(_NUMBERS)]
        tree.insert(random.randrange(len(tree) + 1), new)
    elif action == 6 and isinstance(value, list) and len(value) > 1:
        random.shuffle(value)
    elif wire_type == VARINT:
        tree[index][2] = _other_number(value, random)
    elif wire_type in (FIXED32, FIXED64):
        special = [b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\0\0\0\x80", b"\x01\0\0\0", b"\xff" * 4]
        tree[index][2] = (random.choice(special) * 2)[: len(value)]
    elif isinstance(value, bytes):
        words = [p[0][p[1]][2] for p in places if p[0][p[1]][1] == LENGTH_DELIMITED]
        texts = [word for word in words if isinstance(word, bytes) and len(word) < 200]
        tree[index][2] = _other_text(value, random, texts)
    elif value:
        _mutate_field(
            [(value, random.randrange(len(value)), SCHEMA[kind].get(number, "Leaf"))], random
        )


_JSON_VALUES: List[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    3,
    8,
    9,
    64,
    2**31,
    2**63,
    -(2**70),
    0.5,
    1e308,
]
_JSON_VALUES += [
    "",
    "x",
    "w",
    "absmax",
    "group",
    "channel",
    "split",
    "rows",
    "whole",
    [],
    {},
    [[]],
    [0, 1],
]


def structured(data: bytes, random: Random) -> Optional[bytes]:
    """The mutator of JSON: values change their kind, keys go, lists grow."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    for _ in range(random.choice([1, 1, 2, 4])):
        places: List[Tuple[Any, Any]] = []
        _json_places(document, places)
        if not places:
            break
        holder, key = random.choice(places)
        action = random.randrange(7)
        if action == 0:
            del holder[key]
        elif action == 1:
            other, name = random.choice(places)
            holder[key] = json.loads(json.dumps(other[name]))
        elif action == 2 and isinstance(holder, list):
            holder.insert(key, json.loads(json.dumps(holder[key])))
        elif action == 3 and isinstance(holder[key], (int, float)):
            holder[key] = holder[key] + random.choice([-1, 1, 0.5])
        elif action == 4 and isinstance(holder[key], str):
            words = [w[k] for w, k in places if isinstance(w[k], str)]
            holder[key] = random.choice(words)
        else:
            holder[key] = json.loads(json.dumps(random.choice(_JSON_VALUES)))
    return json.dumps(document, ensure_ascii=random.random() < 0.5).encode("utf-8", "surrogatepass")


def _json_places(value: Any, places: List[Tuple[Any, Any]]) -> None:
    items = (
        list(value)
        if isinstance(value, dict)
        else range(len(value))
        if isinstance(value, list)
        else ()
    )
    for key in items:
        places.append((value, key))
        _json_places(value[key], places)


def archive(inner: Mutator) -> Mutator:
    """The mutator of a zip: members damaged and packed again with the right checksums."""

    def mutate(data: bytes, random: Random) -> Optional[bytes]:
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as source:
                members = [(item.filename, source.read(item)) for item in source.infolist()]
        except (
            zipfile.BadZipFile,
            OSError,
            ValueError,
            NotImplementedError,
            RuntimeError,
            EOFError,
        ):
            return None
        if not members:
            return None
        for _ in range(random.choice([1, 1, 2])):
            place = random.randrange(len(members))
            name, content = members[place]
            action = random.randrange(8)
            if action == 0:
                members[place] = (_other_text(name.encode(), random, []).decode("latin-1"), content)
            elif action == 1:
                members.insert(place, members[random.randrange(len(members))])
            elif action == 2 and len(members) > 1:
                del members[place]
            else:
                members[place] = (name, inner(content, random) or _bytes(content, random))
        out = io.BytesIO()
        method = random.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with zipfile.ZipFile(out, "w", method) as target:
                for name, content in members:
                    target.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
        return out.getvalue()

    return mutate


_NPY = [
    "<f4",
    "|O",
    "<i8",
    ">f4",
    "<U3",
    "|S4",
    "<f2",
    "|b1",
    "<c8",
    "<M8[s]",
    "|V4",
    "<f16",
    "<f8",
]
_NPY_SHAPES = [
    "()",
    "(0,)",
    "(1, 4)",
    "(-1,)",
    "(4, 1099511627776)",
    "(1,)",
    "(True,)",
    "(2.5,)",
    "None",
]


def npy(data: bytes, random: Random) -> Optional[bytes]:
    """The mutator of an ``.npy``: its header is a Python literal."""
    if data[:6] != b"\x93NUMPY" or len(data) < 10:
        return structured(data, random)
    length = int.from_bytes(data[8:10], "little")
    header, body = data[10 : 10 + length].decode("latin-1"), data[10 + length :]
    action = random.randrange(6)
    if action == 0:
        shape = random.choice(_NPY_SHAPES)
        begin = header.find("'shape'")
        header = header[:begin] + f"'shape': {shape}, }}"
    elif action == 1:
        begin, end = header.find("'descr'"), header.find("'fortran_order'")
        header = header[:begin] + f"'descr': {random.choice(_NPY)!r}, " + header[end:]
    elif action == 2:
        header = header.replace("False", "True", 1)
    elif action == 3:
        body = body[: random.randrange(len(body) + 1)]
    elif action == 4:
        body += body[:64] + b"\0"
    else:
        return _bytes(data, random)
    encoded = header.encode("latin-1")
    return data[:8] + len(encoded).to_bytes(2, "little") + encoded + body


def sorted_table(kind: str) -> Mutator:
    """The mutator of a checkpoint's table: entries change, and the checksums are made anew."""
    inner, header = message(kind), message("BundleHeader" if kind == "BundleEntry" else kind)

    def mutate(data: bytes, random: Random) -> Optional[bytes]:
        try:
            items = [(entry.key, bytes(entry.value)) for entry in entries(memoryview(data), False)]
        except InputError:
            return None
        if not items:
            return None
        for _ in range(random.choice([1, 1, 2, 3])):
            place = random.randrange(len(items))
            key, value = items[place]
            action = random.randrange(8)
            if action == 0:
                items[place] = (_other_text(key, random, [k for k, _ in items]), value)
            elif action == 1:
                items.append((key + b"x", value))
            elif action == 2 and len(items) > 1:
                del items[place]
            elif action == 3:
                items[place] = (key, random.choice(items)[1])
            else:
                change = inner if key else header
                items[place] = (key, change(value, random) or _bytes(value, random))
        return table(items, random.choice([16, 4096]), random.random() < 0.3)

    return mutate


def several(**mutators: Mutator) -> Mutator:
    """The mutator of a packed input: one of its files, by its name."""

    def mutate(data: bytes, random: Random) -> Optional[bytes]:
        files = unpack(data)
        known = [name for name in files if name in mutators]
        if not known:
            return None
        name = random.choice(known)
        if random.random() < 0.03:
            del files[name]
        else:
            files[name] = mutators[name](files[name], random) or _bytes(files[name], random)
        return pack(files)

    return mutate


def with_options(inner: Mutator) -> Mutator:
    """The mutator of an input whose first two bytes are options."""

    def mutate(data: bytes, random: Random) -> Optional[bytes]:
        if len(data) < 2:
            return None
        if random.random() < 0.15:
            return bytes([random.randrange(256), random.randrange(256)]) + data[2:]
        changed = inner(data[2:], random)
        return None if changed is None else data[:2] + changed

    return mutate


def behind_one_byte(inner: Mutator) -> Mutator:
    """The mutator of an input whose first byte is a choice."""

    def mutate(data: bytes, random: Random) -> Optional[bytes]:
        changed = inner(data[1:], random)
        return None if changed is None else data[:1] + changed

    return mutate


def either(kind: str) -> Mutator:
    """The mutator of what is JSON where it begins with a brace, and a message where not."""
    binary = message(kind)
    return lambda data, random: (structured if data[:1] == b"{" else binary)(data, random)


def _bytes(data: bytes, random: Random) -> bytes:
    """A few bytes changed, cut or put in."""
    out = bytearray(data)
    for _ in range(random.choice([1, 1, 2, 4])):
        place = random.randrange(len(out) + 1)
        action = random.randrange(5)
        if action == 0 and place < len(out):
            out[place] ^= 1 << random.randrange(8)
        elif action == 1 and place < len(out):
            out[place] = random.choice([0, 1, 0x7F, 0x80, 0xFF])
        elif action == 2:
            del out[place : place + random.randrange(1, 16)]
        elif action == 3:
            out[place:place] = bytes(random.randrange(256) for _ in range(random.randrange(1, 9)))
        else:
            out[place:place] = out[: random.randrange(1, 40)]
    return bytes(out)


def plain(data: bytes, random: Random) -> Optional[bytes]:
    """The mutator of what has no known form."""
    return _bytes(data, random)


_TOKENS = (
    b"node { } [ ] < > : , ; \"x\" 'y' # \n attr key value tensor tensor_shape dim size float_val "
    b"dtype: DT_FLOAT DT_INVALID DT_HALF library function versions -1 99999999999999999999 1e999 "
    b"nan inf true false 0x7f \\377 \\x tensor_content any_unknown_field [a.b/c.d]"
).split(b" ")


def tokens(data: bytes, random: Random) -> Optional[bytes]:
    """The mutator of text: tokens go, come twice, change places."""
    parts = data.split(b" ")
    for _ in range(random.choice([1, 1, 2, 4])):
        place = random.randrange(len(parts))
        action = random.randrange(5)
        if action == 0:
            del parts[place]
            parts = parts or [b""]
        elif action == 1:
            parts.insert(place, random.choice(_TOKENS))
        elif action == 2:
            parts[place] = random.choice(parts)
        elif action == 3:
            begin = random.randrange(len(parts))
            parts[place:place] = parts[begin : begin + random.randrange(1, 12)]
        else:
            parts[place] = _bytes(parts[place], random)
    return b" ".join(parts)


def once(mutator: Mutator, data: bytes, seed: int) -> bytes:
    """One mutation of an input, whatever it is."""
    random = Random(seed)
    changed = mutator(data, random) if random.random() < 0.85 else None
    return _bytes(data, random) if changed is None else changed
