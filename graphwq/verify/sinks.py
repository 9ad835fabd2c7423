"""Which of the nodes that nobody reads are outputs, and which are mere ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterable, List, Optional, Set, Tuple

from graphwq.graphdef import dtypes
from graphwq.graphdef.node import CONTROL, Node, attr_of_type
from graphwq.survey.view import ScopeView

_NO_VALUE = frozenset(
    ["NoOp", "Assert", "Print", "PrintV2", "Placeholder", "PlaceholderV2", "PlaceholderWithDefault"]
    + ["ControlTrigger", "NextIteration", "RefNextIteration", "LoopCond", "CheckNumericsV2"]
)
_SUMMARY = "Summary"
_STATE_PREFIXES = (
    "Assign", "Apply", "ResourceApply", "SparseApply", "ResourceSparseApply", "Scatter",
    "ResourceScatter", "Restore", "Save", "Queue", "Initialize", "LookupTable", "HashTable",
    "MutableHashTable", "Stack", "TensorArrayClose", "MergeV2Checkpoints", "Write", "Barrier",
    "Iterator", "MakeIterator", "Delete", "Destroy", "Stage", "VarIsInitialized", "IsVariable",
)  # fmt: skip
#: State ops whose result is a value.
_STATE_VALUES = frozenset(
    ["ScatterNd", "QueueDequeue", "QueueDequeueV2", "QueueDequeueMany", "QueueDequeueManyV2"]
    + ["LookupTableFind", "LookupTableFindV2", "IteratorGetNext", "RestoreV2", "Restore"]
)
_STORED = ("Const", "VariableV2", "Variable", "TemporaryVariable", "VarHandleOp")
_HANDLES = frozenset(
    ["VarHandleOp", "TensorArrayV3", "TensorArrayV2", "TensorArray", "StackV2", "HashTableV2"]
    + ["IteratorV2", "FIFOQueueV2", "IteratorFromStringHandleV2"]
)
#: Ops that the gradient of a training graph leaves behind.
_SHAPES = frozenset(
    ["Shape", "ShapeN", "Size", "Rank", "BroadcastGradientArgs", "InvertPermutation"]
)

CONSTANT = "it depends on no input"
WAITED = "other nodes only wait for it"
CONDITIONAL = "it is in a branch that need not be taken"
LOOP_END = "it is the end of a loop variable that nobody reads"
LOOP = "it is inside a while loop"
#: The next best outputs, in this order, where there are no proper ones.
_SECOND_CHOICES = ((CONSTANT,), (WAITED,), (LOOP_END, CONDITIONAL))


@dataclass(frozen=True)
class Ends:
    """The ends of a graph: outputs, and nodes that are none with the reason; in file order."""

    outputs: Tuple[Node, ...]
    sinks: Tuple[Tuple[Node, str], ...]


def inside_loops(view: ScopeView) -> Set[str]:
    """The nodes inside while loops of the old kind; they cannot be fetched."""
    return _inside(view, ("Enter", "RefEnter"), ("Exit", "RefExit"))


def inside_branches(view: ScopeView) -> Set[str]:
    """The nodes that only run where a condition is met."""
    return _inside(view, ("Switch", "RefSwitch"), ("Merge", "RefMerge", "Exit", "RefExit"))


def judge(view: ScopeView) -> Ends:
    """Sort the nodes whose tensors nobody reads."""
    loops = inside_loops(view)
    branches = inside_branches(view)
    fed = _fed(view)
    reasons: Dict[str, Optional[str]] = {}
    ends = []
    for node in view.scope.nodes:
        uses = list(view.uses(node.name))
        if any(use.slot != CONTROL for use in uses):
            continue
        ends.append(node)
        reasons[node.name] = _reason(node, bool(uses), loops, branches, fed)
    chosen = [node for node in ends if reasons[node.name] is None]
    for choice in _SECOND_CHOICES:
        if not chosen:
            chosen = [node for node in ends if reasons[node.name] in choice]
    names = {node.name for node in chosen}
    others = [(node, reasons[node.name] or "") for node in ends if node.name not in names]
    return Ends(tuple(chosen), tuple(others))


def _reason(
    node: Node, is_waited_for: bool, loops: Set[str], branches: Set[str], fed: Set[str]
) -> Optional[str]:
    """Why a node that nobody reads is no output; None where it is one."""
    if node.op in _NO_VALUE:
        return f"{node.op} gives no value"
    if node.op in _STORED or node.op in _HANDLES:
        return "it is used by nothing"
    if _SUMMARY in node.op:
        return "it is a summary"
    if node.op.startswith(_STATE_PREFIXES) and node.op not in _STATE_VALUES:
        return f"{node.op} changes state"
    if node.op in _SHAPES:
        return "it is a shape that nobody reads"
    if node.name in loops:
        return LOOP
    if node.op in ("Exit", "RefExit"):
        return LOOP_END
    if node.name in branches:
        return CONDITIONAL
    if is_waited_for:
        return WAITED
    if node.name not in fed:
        return CONSTANT
    return None


def is_handle(node: Node, port: int) -> bool:
    """Whether an output is a handle of something and no value; it cannot be compared."""
    if node.op in ("TensorArrayV3", "TensorArrayV2"):
        return port == 0
    return node.op in _HANDLES or attr_of_type(node, "dtype") in (
        dtypes.DT_RESOURCE,
        dtypes.DT_VARIANT,
    )


def _fed(view: ScopeView) -> Set[str]:
    """The nodes that depend on something else than constants and variables."""
    return _below(view, (n for n in view.scope.nodes if not n.data_inputs and n.op not in _STORED))


def _below(view: ScopeView, sources: Iterable[Node]) -> Set[str]:
    pending = [node.name for node in sources]
    seen = set(pending)
    while pending:
        for use in view.uses(pending.pop()):
            if use.slot != CONTROL and use.node.name not in seen:
                seen.add(use.node.name)
                pending.append(use.node.name)
    return seen


def _inside(view: ScopeView, begins: Tuple[str, ...], ends: Tuple[str, ...]) -> Set[str]:
    """The nodes between nodes of the ops ``begins`` (included) and ``ends`` (not included)."""
    pending: List[str] = [node.name for node in view.scope.nodes if node.op in begins]
    seen = set(pending)
    while pending:
        for use in view.uses(pending.pop()):
            if use.slot == CONTROL or use.node.op in ends or use.node.name in seen:
                continue
            seen.add(use.node.name)
            pending.append(use.node.name)
    return seen
