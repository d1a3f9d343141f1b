"""The demonstration video, stage by stage, ours and diffusers' in turn on the same files."""

import sys
from pathlib import Path

from peer import Peer, compared
from processes import RELEASE, ROOT, measured

ROUNDS = 3
CHECKPOINT = str(ROOT / "checkpoints" / "demo-shapes")
SIZE = ["64", "64", "17", "20"]
STAGES = {"step_seconds": "one denoising step", "denoise_seconds": "denoising, 20 steps", "decode_seconds": "VAE decode", "load_seconds": "load"}


def run():
    script = str(Path(__file__).with_name("peer_diffusers.py"))
    rows = []
    for dtype in ("bf16", "f32"):
        arguments = [CHECKPOINT, dtype, *SIZE, "3"]
        peer = Peer("diffusers 0.42.1", [sys.executable, script, *arguments])
        rounds = [(measured([str(RELEASE / "measure-video"), *arguments]), peer.measure()) for _ in range(ROUNDS)]
        rows += [compared(f"demo {dtype}: {name}", "s", rounds, key, peer) for key, name in STAGES.items()]
    return rows
