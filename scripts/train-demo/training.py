"""What all trainings share: a budget with a one-cycle rate, averaged weights, checkpoints that resume."""

from __future__ import annotations

import copy
import math
import os
import random
import signal
import time
from pathlib import Path

import torch
from torch import nn

from muon import Muon


def autocast():
    """bf16 where the processor multiplies it quickly, else f32."""
    quick = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.autocast("cpu", torch.bfloat16, enabled=quick)


class Run:
    """A training that lasts a given number of minutes or steps, over any number of interruptions.

    The learning rate follows the share of the budget that is used. With minutes, a slow or busy machine trains
    fewer steps but still ends its cycle; with steps, the result doesn't depend on the machine's speed. SIGTERM,
    SIGINT or a file named STOP beside the checkpoint end it early; the same command then goes on from there.
    """

    def __init__(
        self,
        model: nn.Module,
        path: Path,
        *,
        lr: float,
        minutes: float = 0,
        steps: int = 0,
        warmup=0.08,
        decay=0.999,
        wd=0.01,
        muon=None,
    ):
        """`muon(name)` says which of the model's matrices Muon trains; AdamW trains the others."""
        self.model, self.path, self.peak, self.warmup = model, path, lr, warmup
        self.budget, self.steps = minutes * 60, steps
        self.optimizer = self._adamw(lr, wd) if muon is None else self._muon(lr, wd, muon)
        self.average = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.step_count, self.used = decay, 0, 0.0
        self.stopped = False
        self._last = self._saved = time.monotonic()
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            state = torch.load(path, weights_only=True)
            model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step_count, self.used = state["step"], state["used"]
            if "torch_rng" in state:
                torch.set_rng_state(state["torch_rng"])
                random.setstate(state["python_rng"])
            print(f"resumed at step {self.step_count}, {self.used / 60:.1f} min used", flush=True)
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, self._on_signal)

    def _adamw(self, lr: float, wd: float) -> torch.optim.Optimizer:
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        vectors = [p for p in self.model.parameters() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": wd}, {"params": vectors, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98))

    def _muon(self, lr: float, wd: float, chosen) -> torch.optim.Optimizer:
        matrices, others = [], []
        for name, parameter in self.model.named_parameters():
            (matrices if parameter.ndim > 1 and chosen(name) else others).append(parameter)
        return Muon(matrices, others, lr, wd)

    def _on_signal(self, *_):
        self.stopped = True

    @property
    def progress(self) -> float:
        return min(1.0, self.step_count / self.steps if self.steps else self.used / self.budget)

    @property
    def running(self) -> bool:
        return not (self.stopped or self.progress >= 1.0 or (self.path.parent / "STOP").exists())

    def rate(self) -> float:
        if self.progress < self.warmup:
            return self.peak * max(0.02, self.progress / self.warmup)
        along = (self.progress - self.warmup) / (1 - self.warmup)
        return self.peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * along)))

    def step(self, loss: torch.Tensor, clip: float = 1.0) -> float:
        """One optimiser step; returns the gradient's norm. A loss that is not finite is skipped."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), clip))
        if math.isfinite(norm):
            self.optimizer.step()
        self.step_count += 1
        decay = min(self.decay, (1 + self.step_count) / (10 + self.step_count))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)
        now = time.monotonic()
        self.used += now - self._last
        self._last = now
        if now - self._saved > 60:
            self.save()
        return norm

    def finish(self) -> None:
        """Save; end the program with an error if the training is not complete, so that nothing is built on it."""
        self.save()
        if self.progress < 1.0:
            raise SystemExit(f"stopped at step {self.step_count}; the same command goes on from there")

    def rest(self) -> None:
        """Do not count the time since the last step (evaluation, saving)."""
        self._last = time.monotonic()

    def save(self) -> None:
        temporary = self.path.with_suffix(".tmp")
        torch.save(
            {
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "step": self.step_count,
                "used": self.used,
                "torch_rng": torch.get_rng_state(),
                "python_rng": random.getstate(),
            },
            temporary,
        )
        os.replace(temporary, self.path)
        self._saved = time.monotonic()
        self.rest()


def contact_sheet(path: Path, rows: list[torch.Tensor], every: int = 2, scale: int = 2) -> None:
    """Write clips [3, T, H, W] in -1..1 below each other, every n-th frame side by side."""
    from PIL import Image

    lines = [torch.cat(list(row[:, ::every].unbind(1)), 2) for row in rows]
    picture = ((torch.cat(lines, 1).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()
    image = Image.fromarray(picture)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.resize((image.width * scale, image.height * scale), Image.NEAREST).save(path)
