"""Which node of NEW is which node of OLD, whatever it is called.

In this order, each step over what is left:

1. the same name, computed from the same things;
2. computed from the same things, alone with that, and either no name stands against it or it is
   also used by the same things;
3. the same name, used by the same things;
4. the same op, used by the same things, alone with that;
5. neighbours of matched nodes that sit in the same slot;
6. the name that the renames found so far predict (a scope that was renamed, a prefix);
7. the same name.

Swapping the two graphs swaps the two sides of every pair. Every step is linear in nodes and edges
(the anchors and the recovery of GumTree, Falleri et al. 2014, on a graph instead of a tree).
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Any, Callable, Deque, Dict, Hashable, Iterable, List, Mapping, Tuple

from graphwq.diff.structure import Edge, Interner, Structure, structure
from graphwq.graphdef.graph import Scope

Pair = Tuple[int, int]


def match_scopes(old: Scope, new: Scope) -> Dict[str, str]:
    """The name in ``new`` of every node of ``old`` that is still there.

    Raises:
        InputError: an attribute is damaged.
    """
    if _equal(old, new):
        return {node.name: node.name for node in old.nodes}
    interner = Interner()
    if _key(new) < _key(old):  # whichever way a pair is given, it is matched the same way
        found = _Matcher(structure(new, interner), structure(old, interner)).run()
        return {before: after for after, before in found.items()}
    return _Matcher(structure(old, interner), structure(new, interner)).run()


def _key(scope: Scope) -> Tuple:
    """Orders scopes; equal ones have equal names, ops and inputs."""
    return len(scope.nodes), [(node.name, node.op, node.inputs) for node in scope.nodes]


def _equal(old: Scope, new: Scope) -> bool:
    return len(old.nodes) == len(new.nodes) and all(
        before.name == after.name and before.op == after.op and before.inputs == after.inputs
        for before, after in zip(old.nodes, new.nodes)
    )


def rename_of(old: str, new: str) -> Tuple[str, str]:
    """The shortest scopes that tell two names apart: ``a/x/w``, ``b/x/w`` -> ``a``, ``b``."""
    if new.endswith(f"/{old}"):
        return "", new[: -len(old) - 1]
    if old.endswith(f"/{new}"):
        return old[: -len(new) - 1], ""
    left, right = old.split("/"), new.split("/")
    common = 0
    while common < min(len(left), len(right)) and left[-1 - common] == right[-1 - common]:
        common += 1
    return "/".join(left[: len(left) - common]), "/".join(right[: len(right) - common])


class _Matcher:
    def __init__(self, old: Structure, new: Structure) -> None:
        self._old, self._new = old, new
        self._to: List[int] = [-1] * len(old.names)
        self._from: List[int] = [-1] * len(new.names)

    def run(self) -> Dict[str, str]:
        old, new = self._old, self._new
        self._same_name(lambda a, b: old.up[a] == new.up[b])
        self._unique(lambda s, i: s.up[i], self._no_name_against)
        self._same_name(lambda a, b: old.down[a] == new.down[b])
        self._unique(lambda s, i: (s.ops[i], s.down[i]), self._is_used)
        for _ in range(2):
            self._spread()
            self._predicted()
            self._same_name(lambda a, b: old.ops[a] == new.ops[b])
        self._same_name(lambda a, b: True)
        return {old.names[a]: new.names[b] for a, b in enumerate(self._to) if b >= 0}

    def _pair(self, a: int, b: int) -> None:
        self._to[a], self._from[b] = b, a

    def _left_old(self) -> List[int]:
        return [a for a, b in enumerate(self._to) if b < 0]

    def _left_new(self) -> List[int]:
        return [b for b, a in enumerate(self._from) if a < 0]

    def _same_name(self, accept: Callable[[int, int], bool]) -> None:
        for a in self._left_old():
            b = self._new.index.get(self._old.names[a], -1)
            if b >= 0 and self._from[b] < 0 and accept(a, b):
                self._pair(a, b)

    def _unique(
        self, key: Callable[[Structure, int], Hashable], accept: Callable[[int, int], bool]
    ) -> None:
        """Pair what is alone with its key on both sides."""
        before = _alone(self._left_old(), lambda a: key(self._old, a))
        after = _alone(self._left_new(), lambda b: key(self._new, b))
        for what, a in before.items():
            b = after.get(what)
            if a is not None and b is not None and accept(a, b):
                self._pair(a, b)

    def _no_name_against(self, a: int, b: int) -> bool:
        return self._old.down[a] == self._new.down[b] or not self._named_elsewhere(a, b)

    def _is_used(self, a: int, b: int) -> bool:
        """Sinks have no use that could tell them apart: there the name must be free."""
        return bool(self._old.consumers[a]) or not self._named_elsewhere(a, b)

    def _named_elsewhere(self, a: int, b: int) -> bool:
        """Whether another open node has one of the two names."""
        if self._old.names[a] == self._new.names[b]:
            return False
        twin = self._new.index.get(self._old.names[a], -1)
        if twin >= 0 and self._from[twin] < 0:
            return True
        twin = self._old.index.get(self._new.names[b], -1)
        return twin >= 0 and self._to[twin] < 0

    def _spread(self) -> None:
        """Pair the neighbours of paired nodes."""
        queue: Deque[Pair] = deque((a, b) for a, b in enumerate(self._to) if b >= 0)
        while queue:
            a, b = queue.popleft()
            for pair in self._neighbours(a, b):
                if self._to[pair[0]] < 0 and self._from[pair[1]] < 0:
                    self._pair(*pair)
                    queue.append(pair)

    def _neighbours(self, a: int, b: int) -> Iterable[Pair]:
        old, new = self._old, self._new
        if any(item >= 0 and self._to[item] < 0 for item, _, _ in old.inputs[a]):
            there = {(slot, port): item for item, slot, port in new.inputs[b] if slot >= 0}
            for item, slot, port in old.inputs[a]:
                other = there.get((slot, port), -1)
                if item >= 0 and other >= 0 and self._open(item, other):
                    yield item, other
        free = [edge for edge in old.consumers[a] if self._to[edge[0]] < 0]
        if not free:
            return
        others = [edge for edge in new.consumers[b] if self._from[edge[0]] < 0]
        yield from self._consumers(free, others, old.local, new.local)
        yield from self._consumers(free, others, old.ops, new.ops)

    def _consumers(
        self, free: List[Edge], others: List[Edge], left: Tuple, right: Tuple
    ) -> Iterable[Pair]:
        before = _alone(free, lambda edge: (left[edge[0]], edge[1], edge[2]))
        after = _alone(others, lambda edge: (right[edge[0]], edge[1], edge[2]))
        for what, edge in before.items():
            other = after.get(what)
            if edge is not None and other is not None and self._open(edge[0], other[0]):
                yield edge[0], other[0]

    def _open(self, a: int, b: int) -> bool:
        return (
            self._to[a] < 0
            and self._from[b] < 0
            and self._old.ops[a] == self._new.ops[b]
            and not self._named_elsewhere(a, b)
        )

    def _predicted(self) -> None:
        """Pair by the renames of scopes that the pairs so far speak for."""
        pairs = enumerate(self._to)
        best = rename_votes({self._old.names[a]: self._new.names[b] for a, b in pairs if b >= 0})
        if not best:
            return
        for a in self._left_old():
            name = self._old.names[a]
            if self._from_open(name) >= 0:
                continue
            b = self._from_open(predicted(name, best))
            if b >= 0:
                self._pair(a, b)

    def _from_open(self, name: str) -> int:
        b = self._new.index.get(name, -1)
        return b if b >= 0 and self._from[b] < 0 else -1


def _most(counts: Counter) -> str:
    """The commonest; of several the first in the alphabet."""
    return min(counts.items(), key=lambda item: (-item[1], item[0]))[0]


def rename_votes(pairs: Mapping[str, str]) -> Dict[str, str]:
    """For each scope that was renamed what most of its nodes say that it is called now.

    Args:
        pairs: name before -> name after; equal ones do not vote.
    """
    votes: Dict[str, Counter] = {}
    for old, new in pairs.items():
        if old != new:
            before, after = rename_of(old, new)
            votes.setdefault(before, Counter())[after] += 1
    return {before: _most(counts) for before, counts in votes.items()}


def predicted(name: str, renames: Mapping[str, str]) -> str:
    """The name after the rename of the innermost scope that has one."""
    parts = name.split("/")
    for count in range(len(parts), -1, -1):
        after = renames.get("/".join(parts[:count]))
        if after is not None and (count or "" in renames):
            rest = parts[count:]
            return "/".join(([after] if after else []) + rest)
    return name


def _alone(items: Iterable, key: Callable[..., Hashable]) -> Dict[Hashable, Any]:
    """Key -> the item that alone has it; None where several have."""
    found: Dict[Hashable, Any] = {}
    for item in items:
        what = key(item)
        found[what] = None if what in found else item
    return found
