"""A new configuration goes through the fleet one node at a time, and back where one can't use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Standing(NamedTuple):
    """A node that answers: the settings in use (None: none yet), and those that it could not use."""

    version: str | None
    failed: str | None


class Rollout:
    """Which settings each node should have. Pure: told how nodes stand, it says which one changes.

    >>> rollout = Rollout("v1")
    >>> rollout.propose("v2")
    >>> rollout.turn({"a": Standing("v1", None), "b": Standing("v1", None)})
    >>> rollout.version("a"), rollout.version("b")
    ('v2', 'v1')
    """

    def __init__(self, version: str) -> None:
        self.wanted = version
        self.refused: str | None = None  # the version that a node could not use
        self._before = version  # what every node had when the change under way began
        self._given: dict[str, str] = {}
        self._changing: str | None = None

    @property
    def under_way(self) -> str | None:
        """The node that is being changed."""
        return self._changing

    def propose(self, version: str) -> None:
        """Change every node to these settings from now on."""
        if version == self.wanted:
            return
        # A change upon a change that is not through: back means what the nodes can use for certain.
        if all(given == self.wanted for given in self._given.values()):
            self._before = self.wanted
        self.wanted, self.refused = version, None

    def version(self, node: str) -> str:
        """What a node should have now."""
        return self._given.get(node, self.wanted)

    def turn(self, nodes: Mapping[str, Standing]) -> None:
        """Look at the nodes that answer; change the next one if the last one is through."""
        for node in self._given.keys() - nodes.keys():
            del self._given[node]
        if self._changing not in nodes:
            self._changing = None
        for node, standing in nodes.items():
            if node not in self._given:  # one that has come without any gets the new ones at once
                self._given[node] = self.wanted if standing.version is None else standing.version
        if any(standing.failed == self.wanted for standing in nodes.values()) and self.wanted != self._before:
            self.refused, self.wanted, self._changing = self.wanted, self._before, None
        if self._changing is not None and nodes[self._changing].version == self._given[self._changing]:
            self._changing = None
        if self._changing is None:
            late = sorted(node for node, given in self._given.items() if given != self.wanted)
            if late:
                self._changing = late[0]
                self._given[late[0]] = self.wanted
