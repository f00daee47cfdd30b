"""Which things belong together, learnt one pair at a time."""

from __future__ import annotations

from collections import defaultdict


class Groups:
    """``n`` things, at first each alone (a disjoint-set forest with path halving)."""

    def __init__(self, n: int) -> None:
        self._parent = list(range(n))

    def find(self, i: int) -> int:
        """Return the group of ``i``: its smallest member."""
        while self._parent[i] != i:
            self._parent[i] = self._parent[self._parent[i]]
            i = self._parent[i]
        return i

    def join(self, i: int, j: int) -> None:
        """Put the groups of ``i`` and ``j`` together."""
        a, b = sorted((self.find(i), self.find(j)))
        self._parent[b] = a

    def all(self) -> list[list[int]]:
        """Return every group, its members in order; groups by their first member."""
        members: defaultdict[int, list[int]] = defaultdict(list)
        for i in range(len(self._parent)):
            members[self.find(i)].append(i)
        return [members[i] for i in sorted(members)]

    def several(self) -> list[list[int]]:
        """Return the groups of two and more."""
        return [group for group in self.all() if len(group) > 1]
