"""Which tensors of a live graph are the same in every step: arithmetic on variables alone."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Set, Tuple

_VARIABLES = ("VariableV2", "Variable", "VarHandleOp")
_READING = ("ReadVariableOp", "ResourceGather")
#: Ops without data inputs that hold a value.
_STORED = (*_VARIABLES, "Const", "NoOp")
#: What a branch or an iteration chose: not the same in every step.
_CHOOSING = ("Merge", "RefMerge", "NextIteration", "RefNextIteration")
_SWITCHES = ("Switch", "RefSwitch")
_FLOATS = ("float16", "float32", "float64")


class Arithmetic:
    """Answers for the tensors of one graph."""

    def __init__(self, graph: Any) -> None:
        ops = graph.get_operations()
        self._changing = _behind(op for op in ops if _changes(op))
        self._quantized = _behind(op for op in ops if op.type.startswith("FakeQuant"))
        self._floating = _behind(op for op in ops if op.type in _VARIABLES)

    def variables(self, tensor: Any) -> Tuple[str, ...]:
        """The float variables that alone make up ``tensor``; none where there is anything else.

        Nothing that is fed, random, chosen by a branch or loop, or fake-quantized by other means.
        """
        op = tensor.op
        if tensor.dtype.base_dtype.name not in _FLOATS:
            return ()
        if op in self._changing or op in self._quantized or op not in self._floating:
            return ()
        return tuple(item.name for item in ancestors(tensor) if _is_float_variable(item))


def ancestors(tensor: Any) -> List[Any]:
    """The ops that ``tensor`` is computed by, inputs first."""
    done: Dict[Any, None] = {}
    pending = [(tensor.op, False)]
    seen: Set[Any] = set()
    while pending:
        op, ready = pending.pop()
        if ready:
            done[op] = None
        elif op not in seen:
            seen.add(op)
            pending.append((op, True))
            pending.extend((item.op, False) for item in reversed(inputs_of(op)))
    return list(done)


def inputs_of(op: Any) -> List[Any]:
    """The tensors that decide the value of an op: of a Switch the value, not the choice."""
    return list(op.inputs[:1] if op.type in _SWITCHES else op.inputs)


def _is_float_variable(op: Any) -> bool:
    if op.type not in _VARIABLES:
        return False
    name: str = op.get_attr("dtype").name
    return name.replace("_ref", "") in _FLOATS


def _changes(op: Any) -> bool:
    if op.type in _CHOOSING:
        return True
    if not op.inputs:
        return op.type not in _STORED
    return bool(op.op_def.is_stateful) and op.type not in _READING


def _behind(sources: Iterable[Any]) -> Set[Any]:
    """The ops whose value depends on one of ``sources``, these included."""
    pending = list(sources)
    seen = set(pending)
    while pending:
        for output in pending.pop().outputs:
            for user in output.consumers():
                if user not in seen and any(item is output for item in inputs_of(user)):
                    seen.add(user)
                    pending.append(user)
    return seen
