"""A peer whose failure costs its own rows, not the run."""

import statistics
import sys

from processes import measured


class Peer:
    """A program to compare with. After its first failure it is not run again: `error` says why, and its rows have no figure."""

    def __init__(self, name, command=()):
        self.name, self.command, self.error = name, list(command), None

    def measure(self):
        """What the peer's command prints as JSON, or None if the peer has failed."""
        return self.attempt(lambda: measured(self.command))

    def attempt(self, action):
        """The result of `action`, which uses the peer, or None if the peer has failed."""
        if self.error is None:
            try:
                return action()
            except (RuntimeError, OSError) as error:
                self.error = str(error)
                print(f"warning: {self.name}: {error}", file=sys.stderr, flush=True)
        return None


def row(what, unit, ours, peer, theirs=None, ratio=None):
    """A row of the table; `theirs` and `ratio` are left out if the peer has failed."""
    row = {"what": what, "ours": ours, "unit": unit, "peer_name": peer.name}
    if peer.error is not None:
        return row | {"peer": None, "ratio": None, "peer_error": peer.error}
    return row | {"peer": theirs, "ratio": ratio}


def compared(what, unit, rounds, key, peer):
    """A row from rounds of (ours, theirs): medians, and the median of the ratios ours / theirs of each round."""
    ours = statistics.median(ours[key] for ours, _ in rounds)
    if peer.error is not None:
        return row(what, unit, ours, peer)
    theirs = statistics.median(theirs[key] for _, theirs in rounds)
    return row(what, unit, ours, peer, theirs, statistics.median(ours[key] / theirs[key] for ours, theirs in rounds))
