"""Runs the benchmarks named on the command line (default: all) and prints one table."""

import importlib
import json
import platform
import sys
import traceback
from pathlib import Path

NAMES = ("video", "gateway", "memory", "text")


def main():
    names = sys.argv[1:] or list(NAMES)
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        sys.exit(f"unknown benchmark {unknown[0]}; there are {', '.join(NAMES)}")
    rows, failed = [], []
    for name in names:
        try:
            rows += importlib.import_module(name).run()
        except Exception as error:  # one benchmark that cannot be run must not cost the others their rows
            traceback.print_exc()
            failed.append((name, str(error) or type(error).__name__))
    if rows:
        print("\n" + table(rows))
        report = {"machine": platform.platform(), "rows": rows}
        Path("out/bench.json").write_text(json.dumps(report, indent=1))
        print("\nwritten to out/bench.json")
    for name, reason in failed:
        print(f"error: the benchmark {name} failed: {reason}", file=sys.stderr)
    sys.exit(1 if failed else 0)


def table(rows):
    """The rows as text; below them, once each, why peers have no figure."""
    width = max(len(row["what"]) for row in rows)
    lines = [f"{'':{width}}  {'ours':>12}  {'peer':>12}  {'ratio':>6}  unit, peer"]
    errors = {}
    for row in rows:
        peer, ratio, name = row.get("peer"), row.get("ratio"), row.get("peer_name")
        note = f", {name}" if name else ""
        if row.get("peer_error"):
            errors.setdefault((name, row["peer_error"]), None)
            note += " (failed)"
        peer_text = "" if peer is None else f"{peer:.4g}"
        ratio_text = "" if ratio is None else f"{ratio:.2f}"
        lines.append(f"{row['what']:{width}}  {row['ours']:12.4g}  {peer_text:>12}  {ratio_text:>6}  {row['unit']}{note}")
    lines += [f"\n{name} failed: {reason}" for name, reason in errors]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
