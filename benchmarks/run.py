"""Runs the benchmarks named on the command line (all of them when none is) and prints one table."""

import json
import platform
import sys
from pathlib import Path

import gateway
import memory
import text
import video

BENCHMARKS = {"video": video.run, "gateway": gateway.run, "memory": memory.run, "text": text.run}


def main():
    names = sys.argv[1:] or list(BENCHMARKS)
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        sys.exit(f"unknown benchmark {unknown[0]}; there are {', '.join(BENCHMARKS)}")
    rows = [row for name in names for row in BENCHMARKS[name]()]
    width = max(len(row["what"]) for row in rows)
    print(f"\n{'':{width}}  {'ours':>12}  {'peer':>12}  {'ratio':>6}  unit, peer")
    for row in rows:
        peer, ratio = row.get("peer"), row.get("ratio")
        print(
            f"{row['what']:{width}}  {row['ours']:12.4g}  {'' if peer is None else f'{peer:12.4g}':>12}  "
            f"{'' if ratio is None else f'{ratio:6.2f}':>6}  {row['unit']}{', ' + row['peer_name'] if peer is not None else ''}"
        )
    report = {"machine": platform.platform(), "rows": rows}
    Path("out/bench.json").write_text(json.dumps(report, indent=1))
    print("\nwritten to out/bench.json")


if __name__ == "__main__":
    main()
