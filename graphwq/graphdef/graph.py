"""GraphDef as a value: nodes and functions in file order over the bytes they came from.

Law: ``Graph.parse(b).to_bytes() == b`` for every graph, unknown fields, field order and unusual
encodings included, because every field that is not edited is written back as the slice it was.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple, TypeVar, Union

from graphwq.errors import InputError
from graphwq.graphdef.later import Later
from graphwq.graphdef.mapping import pieces
from graphwq.graphdef.node import Node, parse_node
from graphwq.graphdef.wire import (
    LENGTH_DELIMITED,
    Buffer,
    WireError,
    fields,
    header,
    read_varint,
    text,
)

_GRAPH_NODE, _GRAPH_LIBRARY = 1, 2
_LIBRARY_FUNCTION = 1
_FUNCTION_SIGNATURE, _FUNCTION_NODE, _FUNCTION_RETURN = 1, 3, 4
_SIGNATURE_NAME, _SIGNATURE_INPUT, _SIGNATURE_OUTPUT, _ARG_NAME = 1, 2, 3, 1
_KEY, _VALUE = 1, 2

_T = TypeVar("_T")

#: The name of the main graph among the scopes.
MAIN = ""


@dataclass(frozen=True)
class Function:
    """A FunctionDef of the graph's library.

    Attributes:
        name: of the signature.
        arguments: names of the input arguments, in order.
        returns: what each output returns, in order, written like an input of a node.
        layout: nodes and all other fields (as written) in file order.
        frame: the field as it stands in the file; None once a node has been replaced.
    """

    name: str
    arguments: Tuple[str, ...]
    returns: Tuple[str, ...]
    layout: Tuple[Union[Node, memoryview], ...]
    frame: Optional[memoryview] = None

    @property
    def nodes(self) -> Tuple[Node, ...]:
        """The nodes of the body."""
        return tuple(item for item in self.layout if isinstance(item, Node))


@dataclass(frozen=True)
class Library:
    """A FunctionDefLibrary: functions and other fields (gradients) in file order."""

    layout: Tuple[Union[Function, memoryview], ...]
    frame: Optional[memoryview] = None


@dataclass(frozen=True)
class Scope:
    """The main graph or one function body: a set of nodes that can name one another.

    Attributes:
        name: "" for the main graph, else the function's name.
        nodes: in file order.
        arguments, returns: of a function.
    """

    name: str
    nodes: Tuple[Node, ...]
    arguments: Tuple[str, ...] = ()
    returns: Tuple[str, ...] = ()


Item = Union[Node, Library, memoryview]
#: A piece of a serialized graph.
Part = Union[Buffer, Later]


@dataclass(frozen=True)
class Graph:
    """A GraphDef. ``layout`` holds every top-level field in file order."""

    layout: Tuple[Item, ...]

    @property
    def nodes(self) -> Tuple[Node, ...]:
        """The nodes of the main graph, in file order."""
        return self._once("nodes", self._nodes)

    def _nodes(self) -> Tuple[Node, ...]:
        return tuple(item for item in self.layout if isinstance(item, Node))

    def _once(self, key: str, make: Callable[[], _T]) -> _T:
        """What is made of the graph on first use and kept; a graph does not change."""
        known = self.__dict__
        if key + "()" not in known:
            known[key + "()"] = make()
        made: _T = known[key + "()"]
        return made

    @property
    def functions(self) -> Tuple[Function, ...]:
        """The functions of the library, in file order."""
        return tuple(
            function
            for item in self.layout
            if isinstance(item, Library)
            for function in item.layout
            if isinstance(function, Function)
        )

    @property
    def extra(self) -> Tuple[memoryview, ...]:
        """The other top-level fields (versions, unknown ones), as written."""
        return tuple(item for item in self.layout if isinstance(item, memoryview))

    @property
    def scopes(self) -> Tuple[Scope, ...]:
        """The main graph, then every function body."""
        return self._once("scopes", self._scopes)

    def _scopes(self) -> Tuple[Scope, ...]:
        bodies = tuple(Scope(f.name, f.nodes, f.arguments, f.returns) for f in self.functions)
        return (Scope(MAIN, self.nodes), *bodies)

    @property
    def digest(self) -> str:
        """sha256 of the serialized graph, in hex."""
        return self._once("digest", self._digest)

    def _digest(self) -> str:
        import hashlib  # takes 3 ms, for plans alone

        state = hashlib.sha256()
        for chunk in self.chunks():
            for piece in pieces(chunk):
                state.update(piece)
        return state.hexdigest()

    @property
    def nbytes(self) -> int:
        """Bytes of the serialized graph."""
        return self._once("nbytes", self._nbytes)

    def _nbytes(self) -> int:
        return sum(map(_nbytes, self.parts()))

    def chunks(self) -> Iterator[Buffer]:
        """The serialized graph in pieces, none of them copied; values not yet there are made."""
        for part in self.parts():
            yield part.read() if isinstance(part, Later) else part

    def parts(self) -> Iterator[Part]:
        """Like ``chunks``, but values that are not there yet are not made."""
        for item in self.layout:
            if isinstance(item, Node):
                yield from _node_parts(item, _GRAPH_NODE)
            elif isinstance(item, Library):
                yield from _library_parts(item)
            else:
                yield item

    def to_bytes(self) -> bytes:
        """The serialized graph."""
        return b"".join(self.chunks())

    def edited(self, replacements: Dict[str, Dict[str, Sequence[Node]]]) -> Graph:
        """Return the graph in which nodes are replaced by sequences of nodes, in place.

        Args:
            replacements: scope name -> node name -> the nodes that stand where it stood (none:
                the node is removed). Every other field is carried over as it is.
        """
        layout: List[Item] = []
        for item in self.layout:
            if isinstance(item, Library):
                layout.append(_edited_library(item, replacements))
            elif isinstance(item, Node):
                layout.extend(replacements.get(MAIN, {}).get(item.name, (item,)))
            else:
                layout.append(item)
        return Graph(tuple(layout))

    @classmethod
    def parse(cls, data: Buffer) -> Graph:
        """Read a serialized GraphDef; the graph keeps slices of ``data``.

        Raises:
            InputError: the bytes are not a GraphDef.
        """
        buffer = memoryview(data)
        layout: List[Item] = []
        for number, wire_type, begin, value, end in fields(buffer):
            if number in (_GRAPH_NODE, _GRAPH_LIBRARY) and wire_type != LENGTH_DELIMITED:
                raise WireError(f"field {number} at byte {begin} is not what a GraphDef has there")
            if number == _GRAPH_NODE:
                node = parse_node(buffer, value, end, begin)
                if not node.name or not node.op:
                    raise InputError(
                        f"the node at byte {begin} has no {'op' if node.name else 'name'}: "
                        "this is not a GraphDef"
                    )
                layout.append(node)
            elif number == _GRAPH_LIBRARY:
                layout.append(_parse_library(buffer, value, end, begin))
            else:
                layout.append(buffer[begin:end])
        return cls(tuple(layout))


def parse_function(data: Buffer) -> Function:
    """Read a serialized FunctionDef.

    Raises:
        InputError: the bytes are none.
    """
    buffer = memoryview(data)
    return replace(_parse_function(buffer, 0, len(buffer), 0), frame=None)


def _nbytes(part: Part) -> int:
    return part.nbytes if isinstance(part, (Later, memoryview)) else len(part)


def _node_parts(node: Node, number: int) -> Iterator[Part]:
    """A node as field ``number`` of the message around it."""
    frame = node.frame
    if frame is not None:
        first = frame[0] if frame[0] < 0x80 else read_varint(frame, 0, len(frame))[0]
        if first >> 3 == number:
            yield frame
            return
    yield header(number, node.nbytes) + bytes(node.raw)
    if node.payload is not None:
        yield node.payload


def _framed(number: int, parts: Sequence[Part]) -> Iterator[Part]:
    yield header(number, sum(map(_nbytes, parts)))
    yield from parts


def _function_parts(function: Function) -> Iterator[Part]:
    if function.frame is not None:
        yield function.frame
        return
    parts: List[Part] = []
    for item in function.layout:
        parts.extend(_node_parts(item, _FUNCTION_NODE) if isinstance(item, Node) else (item,))
    yield from _framed(_LIBRARY_FUNCTION, parts)


def _library_parts(library: Library) -> Iterator[Part]:
    if library.frame is not None:
        yield library.frame
        return
    parts: List[Part] = []
    for item in library.layout:
        parts.extend(_function_parts(item) if isinstance(item, Function) else (item,))
    yield from _framed(_GRAPH_LIBRARY, parts)


def _edited_library(
    library: Library, replacements: Dict[str, Dict[str, Sequence[Node]]]
) -> Library:
    layout: Tuple[Union[Function, memoryview], ...] = tuple(
        _edited_function(item, replacements.get(item.name, {}))
        if isinstance(item, Function)
        else item
        for item in library.layout
    )
    same = all(new is old for new, old in zip(layout, library.layout))
    return library if same else Library(layout)


def _edited_function(function: Function, replacements: Dict[str, Sequence[Node]]) -> Function:
    if not any(node.name in replacements for node in function.nodes):
        return function
    layout: List[Union[Node, memoryview]] = []
    for item in function.layout:
        if isinstance(item, Node):
            layout.extend(replacements.get(item.name, (item,)))
        else:
            layout.append(item)
    return replace(function, layout=tuple(layout), frame=None)


def _parse_library(buffer: memoryview, begin: int, end: int, frame_begin: int) -> Library:
    layout: List[Union[Function, memoryview]] = []
    for number, wire_type, start, value, stop in fields(buffer, begin, end):
        if number == _LIBRARY_FUNCTION and wire_type == LENGTH_DELIMITED:
            layout.append(_parse_function(buffer, value, stop, start))
        else:
            layout.append(buffer[start:stop])
    return Library(tuple(layout), buffer[frame_begin:end])


def _parse_function(buffer: memoryview, begin: int, end: int, frame_begin: int) -> Function:
    name = ""
    arguments: List[str] = []
    outputs: List[str] = []
    returns: Dict[str, str] = {}
    layout: List[Union[Node, memoryview]] = []
    for number, wire_type, start, value, stop in fields(buffer, begin, end):
        if number == _FUNCTION_NODE and wire_type == LENGTH_DELIMITED:
            layout.append(parse_node(buffer, value, stop, start))
            continue
        layout.append(buffer[start:stop])
        if wire_type != LENGTH_DELIMITED:
            continue
        if number == _FUNCTION_RETURN:
            texts = _texts(buffer, value, stop, "a function's return")
            returns[texts.get(_KEY, "")] = texts.get(_VALUE, "")
        elif number == _FUNCTION_SIGNATURE:
            named = _texts(buffer, value, stop, "a function's name", (_SIGNATURE_NAME,))
            name = named.get(_SIGNATURE_NAME, name)
            arguments += _argument_names(buffer, value, stop, _SIGNATURE_INPUT)
            outputs += _argument_names(buffer, value, stop, _SIGNATURE_OUTPUT)
    returned = tuple(returns.get(output, "") for output in outputs)
    return Function(name, tuple(arguments), returned, tuple(layout), buffer[frame_begin:end])


def _texts(
    buffer: memoryview, begin: int, end: int, what: str, wanted: Sequence[int] = (_KEY, _VALUE)
) -> Dict[int, str]:
    """The text fields of a message, by number; of one that occurs twice the last."""
    return {
        number: text(buffer, value, stop, what)
        for number, wire_type, _, value, stop in fields(buffer, begin, end)
        if number in wanted and wire_type == LENGTH_DELIMITED
    }


def _argument_names(buffer: memoryview, begin: int, end: int, kind: int) -> List[str]:
    return [
        _texts(buffer, value, stop, "an argument's name", (_ARG_NAME,)).get(_ARG_NAME, "")
        for number, wire_type, _, value, stop in fields(buffer, begin, end)
        if number == kind and wire_type == LENGTH_DELIMITED
    ]
