"""The demonstration video, stage by stage, ours and diffusers' in turn on the same files."""

import statistics
import sys
from pathlib import Path

from processes import RELEASE, ROOT, measured

ROUNDS = 3
CHECKPOINT = str(ROOT / "checkpoints" / "demo-shapes")
SIZE = ["64", "64", "17", "20"]
STAGES = {"step_seconds": "one denoising step", "denoise_seconds": "denoising, 20 steps", "decode_seconds": "VAE decode", "load_seconds": "load"}


def run():
    peer = str(Path(__file__).with_name("peer_diffusers.py"))
    rows = []
    for dtype in ("bf16", "f32"):
        ours, theirs = [], []
        for _ in range(ROUNDS):
            ours.append(measured([str(RELEASE / "examples" / "measure_wan21"), CHECKPOINT, dtype, *SIZE, "3"]))
            theirs.append(measured([sys.executable, peer, CHECKPOINT, dtype, *SIZE, "3"]))
        for key, name in STAGES.items():
            pairs = [(mine[key], other[key]) for mine, other in zip(ours, theirs)]
            rows.append({
                "what": f"demo {dtype}: {name}", "ours": statistics.median(mine for mine, _ in pairs),
                "peer": statistics.median(other for _, other in pairs), "peer_name": "diffusers 0.42.1",
                "ratio": statistics.median(mine / other for mine, other in pairs), "unit": "s",
            })
    return rows
