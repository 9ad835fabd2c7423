"""Following handles: which tensors of a scope were handles of variables, and its nodes for values.

A scope is the main graph or the body of a function. A handle starts at a VarHandleOp or as an
argument, passes through Identity, Enter, Switch and the like and through calls of functions, and
ends in the ops that read the variable. Functions that take handles are rewritten to take values;
every call of a function passes the same types, as its signature says them.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from graphwq.errors import InputError, UnsupportedError
from graphwq.graphdef import convert
from graphwq.graphdef.graph import Function, Graph, parse_function
from graphwq.graphdef.node import CONTROL, TensorRef

#: dtype of the variable by tensor: (node or argument, number of its output).
Handles = Dict[Tuple[str, int], int]

_MAX_DEPTH = 50


class Bodies:
    """The functions of a graph, rewritten as calls with handles are met."""

    def __init__(self, graph: Graph) -> None:
        self._functions = {function.name: function for function in graph.functions}
        self._given: Dict[str, Dict[int, int]] = {}
        self._returned: Dict[str, Dict[int, int]] = {}
        self._depth = 0
        self.changed: Dict[str, Function] = {}

    def outputs(self, node: Any, given: Mapping[int, int]) -> Dict[int, int]:
        """Which outputs of a node are handles, if the inputs in these slots are.

        Raises:
            UnsupportedError: a function is called with variables of different types.
        """
        if not given:
            return {}
        dtype = next(iter(given.values()))
        if node.op in convert.PASS_OPS:
            return {0: dtype, 1: dtype} if node.op == "Switch" else {0: dtype}
        found: Dict[int, int] = {}
        for function, first in self._called(node):
            arguments = {slot - first: dtype for slot, dtype in given.items() if slot >= first}
            found.update(self._call(function, arguments))
        return found if node.op not in convert.WHILE_OPS else dict(given)

    def converted(
        self,
        node: Any,
        given: Mapping[int, int],
        new_name: Callable[[str], str],
        framed: bool,
    ) -> List[Any]:
        """The nodes in the place of a node whose inputs in the slots ``given`` were handles.

        Raises:
            UnsupportedError: the op needs the variable itself.
        """
        dtype = next(iter(given.values()))
        if node.op in convert.PASS_OPS:
            return [convert.passed_on(node, dtype)]
        called = self._called(node)
        if not called:
            return convert.read(node, dtype, new_name, framed)
        new = type(node)()
        new.CopyFrom(node)
        first = called[0][1]
        is_loop = node.op in convert.WHILE_OPS
        _set_types(new, "T" if is_loop else "Tin", {s - first: d for s, d in given.items()})
        if not is_loop:
            _set_types(new, "Tout", self.outputs(node, given))
        new.attr.pop("_output_shapes", None)
        return [new]

    def _called(self, node: Any) -> List[Tuple[str, int]]:
        """The functions that a node calls: (name, slot at which their arguments begin)."""
        if node.op in self._functions:
            return [(node.op, 0)]
        keys: Sequence[str] = ()
        if node.op in convert.CALL_OPS:
            keys = ("f",)
        elif node.op in convert.IF_OPS:
            keys = ("then_branch", "else_branch")
        elif node.op in convert.WHILE_OPS:
            keys = ("cond", "body")
        names = [node.attr[key].func.name for key in keys if key in node.attr]
        first = 1 if node.op in convert.IF_OPS else 0
        return [(name, first) for name in names if name in self._functions]

    def _call(self, name: str, arguments: Dict[int, int]) -> Dict[int, int]:
        known = self._given.get(name)
        if known is not None:
            if known != arguments:
                raise UnsupportedError(
                    f"function {name!r} is called with variables of different types: graphwq "
                    "cannot make constants of them"
                )
            return self._returned.get(name, {})
        self._given[name] = arguments
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise UnsupportedError(f"functions call one another more than {_MAX_DEPTH} deep")
        self._returned[name] = self._specialize(self._functions[name], arguments)
        self._depth -= 1
        return self._returned[name]

    def _specialize(self, function: Function, arguments: Dict[int, int]) -> Dict[int, int]:
        proto = _proto(function)
        handles: Handles = {}
        for index, dtype in arguments.items():
            if index >= len(proto.signature.input_arg):
                raise InputError(f"function {function.name!r} is called with too many inputs")
            argument = proto.signature.input_arg[index]
            argument.type = dtype
            handles[argument.name, 0] = dtype
        scope = _Body(self, proto, handles)
        scope.follow()
        scope.convert()
        returned = scope.returned()
        for index, dtype in returned.items():
            proto.signature.output_arg[index].type = dtype
        self.changed[function.name] = parse_function(proto.SerializeToString(deterministic=True))
        return returned

    def output_index(self, node: Any, ref: TensorRef) -> int:
        """The number of the output that a reference within a function names."""
        if node is None or not ref.output:
            return ref.port
        if ref.output in ("output_true", "value_index"):
            return 1
        function = self._functions.get(node.op)
        if function is not None:
            names = [argument.name for argument in _proto(function).signature.output_arg]
            return names.index(ref.output) if ref.output in names else ref.port
        return ref.port


class _Body:
    """One function while it is rewritten."""

    def __init__(self, bodies: Bodies, proto: Any, handles: Handles) -> None:
        self._bodies = bodies
        self._proto = proto
        self._handles = handles
        self._nodes = {node.name: node for node in proto.node_def}
        self._names: Set[str] = set(self._nodes) | {a.name for a in proto.signature.input_arg}

    def follow(self) -> None:
        """Find all handles; nodes may stand in any order."""
        pending = list(self._proto.node_def)
        while pending:
            again = []
            progress = False
            for node in pending:
                given = self._given(node)
                for port, dtype in self._bodies.outputs(node, given).items() if given else ():
                    if (node.name, port) not in self._handles:
                        self._handles[node.name, port] = dtype
                        progress = True
                if not given:
                    again.append(node)
            pending = again if progress else []

    def convert(self) -> None:
        """Rewrite the nodes that handles reach, and the references to their outputs."""
        framed = any(node.op == "Enter" for node in self._proto.node_def)
        new: List[Any] = []
        renamed: Dict[str, Tuple[str, str]] = {}
        for node in self._proto.node_def:
            given = self._given(node)
            if not given:
                new.append(node)
                continue
            made = self._bodies.converted(node, given, self._new_name, framed)
            for added in made[:-1]:  # within a function an input names the output, too
                renamed[added.name] = ("", "output:0")
            new.extend(made)
            if node.op in convert.OUTPUT_NAMES:
                renamed[node.name] = convert.OUTPUT_NAMES[node.op]
        copies = [type(node).FromString(node.SerializeToString()) for node in new]
        del self._proto.node_def[:]
        self._proto.node_def.extend(copies)
        for node in self._proto.node_def:
            for slot, name in enumerate(node.input):
                node.input[slot] = _renamed(name, renamed)
        for key in list(self._proto.ret):
            self._proto.ret[key] = _renamed(self._proto.ret[key], renamed)

    def returned(self) -> Dict[int, int]:
        """Which results are handles."""
        found = {}
        for index, output in enumerate(self._proto.signature.output_arg):
            key = self._key(self._proto.ret[output.name])
            if key in self._handles:
                found[index] = self._handles[key]
        return found

    def _given(self, node: Any) -> Dict[int, int]:
        found = {}
        for slot, name in enumerate(node.input):
            key = self._key(name)
            if key in self._handles:
                found[slot] = self._handles[key]
        return found

    def _key(self, name: str) -> Tuple[str, int]:
        ref = TensorRef.parse(name)
        if ref.port == CONTROL:
            return ref.node, CONTROL
        return ref.node, self._bodies.output_index(self._nodes.get(ref.node), ref)

    def _new_name(self, wish: str) -> str:
        name = free_name(wish, self._names)
        self._names.add(name)
        return name


def free_name(wish: str, taken: Set[str]) -> str:
    """The wish, or the first of wish_1, wish_2, ... that is not taken."""
    name, number = wish, 0
    while name in taken:
        number += 1
        name = f"{wish}_{number}"
    return name


def _renamed(name: str, renamed: Mapping[str, Tuple[str, str]]) -> str:
    node, _, rest = name.partition(":")
    if node in renamed:
        old, new = renamed[node]
        if rest.split(":")[0] == old:
            return f"{node}:{new}{rest[len(old) :]}"
    return name


def _set_types(node: Any, key: str, types: Mapping[int, int]) -> None:
    listed = node.attr[key].list.type
    for index, dtype in types.items():
        if not 0 <= index < len(listed):
            raise InputError(f"{node.op} {node.name!r} does not declare all of its inputs")
        listed[index] = dtype


def _proto(function: Function) -> Any:
    from graphwq.graphdef.protos import DecodeError, FunctionDef

    parts: Optional[bytes] = None
    if function.frame is not None:
        from graphwq.graphdef.wire import fields

        for _, _, _, value, end in fields(function.frame):
            parts = bytes(function.frame[value:end])
    try:
        return FunctionDef.FromString(parts or b"")
    except DecodeError as error:
        raise InputError(f"function {function.name!r} is damaged") from error
