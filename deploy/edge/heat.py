"""While a box is hot, StreamGuard gets less of its processor, a step at a time, and back when the box has cooled.

The kernel lowers the clock by itself when a processor is too hot, for everything on the box alike, and at last turns
it off. Long before that, this takes a part of the processor from StreamGuard alone (``CPUQuota=``), which then does
less in its stated order, and says so in its metrics (docs/architecture.md, Overload). Standard library alone.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

log = logging.getLogger("heat")

ZONES: Final = Path("/sys/class/thermal")
UNIT: Final = "streamguard.service"


@dataclass(frozen=True, slots=True)
class Limits:
    """``hot``, ``cool``: degrees Celsius from which on it does less, and up to which it may do more.

    ``shares``: of all processors, one a step. ``heating``, ``cooling``: seconds between two steps down, and that a box
    must have been cool for a step up: it cools slowly, and a step shows late.
    """

    hot: float = 85.0
    cool: float = 75.0
    shares: Sequence[float] = (1.0, 0.75, 0.5, 0.25)
    heating: float = 20.0
    cooling: float = 120.0


class Governor:
    """Which step to take, told the temperature again and again. Reads no clock."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._step = 0
        self._changed: float | None = None
        self._cool_since: float | None = None

    @property
    def share(self) -> float:
        """Of all processors, 0..1, that StreamGuard may use now."""
        return self._limits.shares[self._step]

    def told(self, now: float, celsius: float) -> bool:
        """Whether :attr:`share` is another than before. ``now``: seconds of a monotonic clock."""
        if celsius > self._limits.cool:
            self._cool_since = None
        elif self._cool_since is None:
            self._cool_since = now
        if celsius >= self._limits.hot:
            return self._go(now, +1) if self._since(self._changed, now) >= self._limits.heating else False
        if self._cool_since is not None and self._since(self._cool_since, now) >= self._limits.cooling:
            self._cool_since = now
            return self._go(now, -1)
        return False

    def _go(self, now: float, by: int) -> bool:
        before = self._step
        self._step = min(max(before + by, 0), len(self._limits.shares) - 1)
        if self._step == before:
            return False
        self._changed = now
        return True

    @staticmethod
    def _since(then: float | None, now: float) -> float:
        return float("inf") if then is None else now - then


def hottest(zones: Path = ZONES) -> float | None:
    """The highest temperature that any zone tells, degrees Celsius; None if none tells one.

    A zone's file holds thousandths of a degree; reading one may fail while its sensor sleeps
    (https://docs.kernel.org/driver-api/thermal/sysfs-api.html).
    """
    found = []
    for file in sorted(zones.glob("thermal_zone*/temp")):
        try:
            found.append(int(file.read_text(encoding="ascii")) / 1000)
        except (OSError, ValueError):
            continue
    return max(found, default=None)


def quota(share: float, processors: int) -> str:
    """``CPUQuota=`` for a share of all processors, in per cent of one; empty lifts it (systemd.resource-control(5))."""
    return "CPUQuota=" if share >= 1 else f"CPUQuota={max(1, round(100 * share * processors))}%"


def apply(share: float, command: str = "systemctl") -> None:
    """Tell the service manager, until the next start of the box."""
    setting = quota(share, os.cpu_count() or 1)
    done = subprocess.run(
        [command, "set-property", "--runtime", UNIT, setting], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        log.error("%s was not set: %s", setting, done.stderr.strip())


def watch(
    governor: Governor, every: float, temperature: Callable[[], float | None], change: Callable[[float], None]
) -> None:
    """Look again and again, until no zone tells a temperature any more."""
    while (celsius := temperature()) is not None:
        if governor.told(time.monotonic(), celsius):
            log.warning("%.0f degrees: StreamGuard may use %.0f %% of the processors", celsius, 100 * governor.share)
            change(governor.share)
        time.sleep(every)
    log.warning("no thermal zone tells a temperature: nothing is limited")
    change(1.0)


def main() -> None:
    """Entry point of the service."""
    limits = Limits()
    parser = argparse.ArgumentParser(description="Give StreamGuard less of the processor while the box is hot.")
    parser.add_argument("--hot", type=float, default=limits.hot, help="degrees Celsius from which on it gets less")
    parser.add_argument("--cool", type=float, default=limits.cool, help="degrees Celsius up to which it may get more")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two looks")
    given = parser.parse_args()
    if not given.cool < given.hot:
        parser.error(f"--cool {given.cool:g} must be lower than --hot {given.hot:g}")
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    watch(Governor(Limits(hot=given.hot, cool=given.cool)), given.every, hottest, apply)


if __name__ == "__main__":
    main()
