"""A failing peer costs its own rows: `python -m unittest discover -s benchmarks`. Needs the standard library only."""

import contextlib
import io
import signal
import sys
import unittest

from build_llama import first_that_runs
from gateway import rows_of
from peer import Peer, compared
from run import table

SUCCEED = [sys.executable, "-c", "print('starting'); print('{\"seconds\": 2.0}')"]
KILLED = [sys.executable, "-c", f"import os; os.kill(os.getpid(), {signal.SIGILL.value})"]
FAIL = [sys.executable, "-c", "import sys; sys.exit('ModuleNotFoundError: no such peer')"]


class Peers(unittest.TestCase):
    def setUp(self):
        quiet = contextlib.redirect_stderr(io.StringIO())
        quiet.__enter__()
        self.addCleanup(quiet.__exit__, None, None, None)

    def row(self, command):
        peer = Peer("theirs 1.0", command)
        rounds = [({"seconds": 1.0}, peer.measure()) for _ in range(3)]
        return compared("a stage", "s", rounds, "seconds", peer)

    def test_a_peer_that_runs_has_a_figure_and_a_ratio(self):
        row = self.row(SUCCEED)
        self.assertEqual((row["ours"], row["peer"], row["ratio"]), (1.0, 2.0, 0.5))
        self.assertNotIn("peer_error", row)

    def test_a_peer_killed_by_a_signal_costs_its_row(self):
        row = self.row(KILLED)
        self.assertEqual((row["ours"], row["peer"], row["ratio"]), (1.0, None, None))
        self.assertIn("was killed by SIGILL", row["peer_error"])

    def test_a_peer_that_fails_later_costs_its_row(self):
        peer = Peer("theirs 1.0", SUCCEED)
        rounds = [({"seconds": 1.0}, peer.measure())]
        peer.command = FAIL
        rounds.append(({"seconds": 3.0}, peer.measure()))
        row = compared("a stage", "s", rounds, "seconds", peer)
        self.assertEqual((row["ours"], row["peer"]), (2.0, None))
        self.assertIn("exited with status 1: ModuleNotFoundError: no such peer", row["peer_error"])

    def test_a_peer_that_is_not_installed_costs_its_row(self):
        self.assertIn("cannot be started", self.row(["/nonexistent/peer"])["peer_error"])

    def test_a_proxy_that_fails_costs_its_rows(self):
        peer, ours = Peer("nginx"), [{"rate": 10.0, "p50": 3.0, "p99": 4.0}]
        peer.attempt(lambda: (_ for _ in ()).throw(RuntimeError("connection refused")))
        direct = [{"rate": 20.0, "p50": 1.0, "p99": 1.0}]
        rows = rows_of("gateway", {"ours": ours, "direct": direct, "nginx": [None]}, peer)
        self.assertEqual([row["ours"] for row in rows], [10.0, 2.0, 3.0])
        self.assertTrue(all(row["peer"] is None and row["peer_error"] == "connection refused" for row in rows))

    def test_the_table_shows_the_message(self):
        text = table([self.row(SUCCEED), self.row(KILLED), {"what": "memory", "ours": 5.0, "unit": "MB"}])
        self.assertIn("theirs 1.0 (failed)", text)
        self.assertEqual(text.count("was killed by SIGILL"), 1)

    def test_llama_is_built_again_without_what_the_machine_refuses(self):
        built = []

        def smoke():
            if built[-1]["flags"] == "amx":
                raise RuntimeError("was killed by SIGILL")

        candidates = [("native", {"flags": "amx"}), ("without AMX", {"flags": ""}), ("portable", {"flags": "none"})]
        self.assertEqual(first_that_runs(candidates, built.append, smoke), "without AMX")
        self.assertEqual(len(built), 2)


if __name__ == "__main__":
    unittest.main()
