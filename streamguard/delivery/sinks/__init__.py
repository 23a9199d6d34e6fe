"""Where events go, one transport a module.

A sink takes one event at a time and either has delivered it when ``write`` returns, or raises
:class:`SinkError`: whoever calls it counts the loss (``streamguard_sink_deliveries_total``) and goes on.
"""

from __future__ import annotations

from streamguard.errors import StreamGuardError


class SinkError(StreamGuardError):
    """A sink did not take an event: full disk, broker away, no permission."""


class SinkClosed(SinkError):
    """Nobody reads this sink any more; no later event can arrive either."""
