"""Muon for matrices, AdamW for the rest: fewer steps to the same loss on small models than AdamW alone.

Muon (Keller Jordan, 2024) replaces a matrix's momentum by the nearest orthogonal matrix, found with five Newton-Schulz steps.
Convolutions count as matrices [out, in * kernel]. The update is scaled to AdamW's usual size (Liu et al., 2025,
arXiv:2502.16982), so that both share one learning rate.
"""

from __future__ import annotations

import math

import torch
from torch import nn


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """`matrices` get Muon's update, `others` AdamW's; weight decay applies to the matrices."""

    def __init__(self, matrices: list[nn.Parameter], others: list[nn.Parameter], lr: float, wd: float, betas=(0.9, 0.98)):
        groups = [{"params": matrices, "matrix": True}, {"params": others, "matrix": False}]
        super().__init__([g for g in groups if g["params"]], dict(lr=lr, wd=wd, momentum=0.95, betas=betas))

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            update = self._matrix if group["matrix"] else self._other
            for parameter in group["params"]:
                if parameter.grad is not None:
                    update(parameter, parameter.grad, self.state[parameter], group)

    @staticmethod
    def _matrix(parameter, gradient, state, group):
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(gradient)
        momentum = state["momentum"].lerp_(gradient, 1 - group["momentum"])
        direction = gradient.lerp(momentum, group["momentum"]).flatten(1)
        size = 0.2 * math.sqrt(max(direction.shape))
        parameter.mul_(1 - group["lr"] * group["wd"])
        parameter.add_(orthogonal(direction).view_as(parameter), alpha=-group["lr"] * size)

    @staticmethod
    def _other(parameter, gradient, state, group):
        if "step" not in state:
            state["step"] = 0
            state["first"], state["second"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
        state["step"] += 1
        first, second = group["betas"]
        state["first"].lerp_(gradient, 1 - first)
        state["second"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        scale = group["lr"] / (1 - first ** state["step"])
        root = (state["second"] / (1 - second ** state["step"])).sqrt_().add_(1e-8)
        parameter.addcdiv_(state["first"], root, value=-scale)
