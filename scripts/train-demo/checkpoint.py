"""Writing a checkpoint folder: the pipeline in the diffusers layout and its `demo.json`."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import clips
import prompts


def describe(name: str, architecture: str, title: str, defaults: dict, trained: dict) -> dict:
    """`demo.json`: facts about this checkpoint for programs that serve it."""
    return {
        "name": name,
        "architecture": architecture,
        "title": title,
        "defaults": defaults,
        "vocabulary": prompts.vocabulary(),
        "palette": {"colors": clips.COLORS, "backgrounds": clips.BACKGROUNDS},
        "license": "Apache-2.0",
        "training": {
            "script": "scripts/train-demo",
            "data": "synthetic clips drawn by scripts/train-demo/clips.py; no third-party data or weights",
            **trained,
        },
    }


def write(pipeline, target: Path, about: dict) -> int:
    """Write the folder beside the target, rename it into place and return its size in bytes."""
    target = target.resolve()
    fresh, old = target.with_name(f".{target.name}.new"), target.with_name(f".{target.name}.old")
    for folder in (fresh, old):
        shutil.rmtree(folder, ignore_errors=True)
    pipeline.save_pretrained(fresh, safe_serialization=True)
    for file in (fresh / "model_index.json", fresh / "tokenizer" / "tokenizer_config.json"):
        # The same class under the name that transformers 4 knows as well.
        file.write_text(file.read_text().replace("TokenizersBackend", "PreTrainedTokenizerFast"))
    (fresh / "demo.json").write_text(json.dumps(about, indent=2) + "\n")
    for file in fresh.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    if target.exists():
        os.rename(target, old)
    os.rename(fresh, target)
    shutil.rmtree(old, ignore_errors=True)
    return sum(f.stat().st_size for f in target.rglob("*") if f.is_file())
