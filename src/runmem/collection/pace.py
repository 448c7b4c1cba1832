"""How often the master copies the nodes' files, and how often the nodes' samplers read the memory.

Both intervals adapt to the time that a round of copying takes, so that the master keeps up with many nodes, a slow disk
or a slow network. First the pause between two rounds grows, to at most `MOST_PAUSE_S`: what a killed master has not
copied grows with it. Where that is not enough the samplers are asked for longer intervals, up to `MOST_INTERVAL_S`.
Each interval returns to its usual value when the rounds are short again.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import NamedTuple

__all__ = ["MOST_INTERVAL_S", "MOST_PAUSE_S", "PAUSE_S", "Pace", "WantedInterval"]

log = logging.getLogger(__name__)

PAUSE_S = 0.4
MOST_PAUSE_S = 5.0
MOST_INTERVAL_S = 5.0
_ROUNDS = 5  # their median counts: a single slow one changes nothing
_ENOUGH_PAUSES = 4  # rounds that took as long as so many of the longest pauses count if they are fewer
_SHORT_AGAIN = 4  # after the interval is halved, a round takes at most twice as long: this leaves room
_NOTABLE_PAUSE_S = 1.5  # a node that does not answer is waited for, for a second
_MOST_CHANGES = 20


class WantedInterval(NamedTuple):
    """What the samplers are asked for: the interval in seconds, and the reason for the traces."""

    seconds: float
    reason: str


class Pace:
    """Follows how long the rounds take.

    Parameters
    ----------
    interval_s : float or None
        Interval of the samplers as the user wants it, which is the shortest; None where memory is not measured.
    shortest_pause_s, longest_pause_s : float, optional

    Attributes
    ----------
    pause_s : float
        How long to wait before the next round: as long as a round takes, so that at most half of the time is copying.
    wanted : WantedInterval or None
        What to ask the samplers for; None while nothing has been changed.
    """

    def __init__(
        self, interval_s: float | None, shortest_pause_s: float = PAUSE_S, longest_pause_s: float = MOST_PAUSE_S
    ) -> None:
        self._usual_s = interval_s
        self._interval_s = interval_s or 0.0
        self._rounds: deque[float] = deque(maxlen=_ROUNDS)
        self._changes: list[str] = []
        self._shortest_pause_s, self._longest_pause_s = shortest_pause_s, longest_pause_s
        self._longest = (shortest_pause_s, 0)
        self.pause_s = shortest_pause_s
        self.wanted: WantedInterval | None = None

    def round_took(self, seconds: float, nodes: int) -> None:
        """Note the duration of a round with so many nodes, and adapt both intervals."""
        self._rounds.append(seconds)
        enough = len(self._rounds) > 1 and sum(self._rounds) > _ENOUGH_PAUSES * self._longest_pause_s
        if len(self._rounds) < _ROUNDS and not enough:
            return
        usual_s = sorted(self._rounds)[(len(self._rounds) - 1) // 2]
        self.pause_s = min(max(self._shortest_pause_s, usual_s), self._longest_pause_s)
        self._longest = max(self._longest, (self.pause_s, nodes))
        if self._usual_s is None:
            return
        if usual_s > self._longest_pause_s and self._interval_s < MOST_INTERVAL_S:
            self._change(min(2 * self._interval_s, MOST_INTERVAL_S), usual_s, nodes)
        elif usual_s < self._longest_pause_s / _SHORT_AGAIN and self._interval_s > self._usual_s:
            self._change(max(self._interval_s / 2, self._usual_s), usual_s, nodes)

    def _change(self, interval_s: float, round_s: float, nodes: int) -> None:
        what = "lengthened" if interval_s > self._interval_s else "shortened"
        reason = (
            f"interval {what} from {self._interval_s:g} s to {interval_s:g} s at {time.strftime('%H:%M:%S')} because "
            f"copying the new lines of {_counted(nodes)} takes {round_s:.1f} s"
        )
        log.info("%s", reason)
        self._interval_s = interval_s
        self.wanted = WantedInterval(interval_s, reason)
        self._rounds.clear()  # the next change needs as many rounds again
        if len(self._changes) < _MOST_CHANGES:
            self._changes.append(reason)

    def notes(self) -> list[str]:
        """Return what a reader of the run has to know: the changes, and the longest pause if it is notable."""
        longest_s, nodes = self._longest
        if longest_s <= _NOTABLE_PAUSE_S:
            return list(self._changes)
        pause = (
            f"the nodes' files were copied less often: up to {longest_s:.1f} s passed between two rounds, not "
            f"{self._shortest_pause_s:g} s, because a round with {_counted(nodes)} took as long"
        )
        return [pause, *self._changes]


def _counted(nodes: int) -> str:
    return f"{nodes:,} node{'' if nodes == 1 else 's'}"
