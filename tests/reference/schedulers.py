"""Golden fixtures of the schedulers against diffusers: sigmas, timesteps, and trajectories under an artificial model.

    python tests/reference/schedulers.py
"""

import numpy as np
import torch
from common import FIXTURES, save
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler

FLOW = dict(prediction_type="flow_prediction", use_flow_sigmas=True)
SCHEDULERS = {
    "unipc-shift3": UniPCMultistepScheduler(**FLOW, flow_shift=3.0),
    "unipc-shift5": UniPCMultistepScheduler(**FLOW, flow_shift=5.0, disable_corrector=[0, 1]),
    "unipc-order3": UniPCMultistepScheduler(**FLOW, flow_shift=1.0, solver_order=3),
    # With a last sigma of zero the reference's bh1 gives NaN.
    "unipc-order3-bh1": UniPCMultistepScheduler(
        **FLOW, flow_shift=3.0, solver_order=3, solver_type="bh1", final_sigmas_type="sigma_min"
    ),
    "unipc-order1": UniPCMultistepScheduler(**FLOW, flow_shift=3.0, solver_order=1),
    "euler-shift3": FlowMatchEulerDiscreteScheduler(shift=3.0),
    "euler-shift1": FlowMatchEulerDiscreteScheduler(),
    "euler-ancestral-shift3": FlowMatchEulerDiscreteScheduler(shift=3.0, stochastic_sampling=True),
    "euler-ancestral-shift1": FlowMatchEulerDiscreteScheduler(stochastic_sampling=True),
}
STEPS = (1, 2, 10, 30)
# Schedules as LTX-2's pipelines set them: (scheduler, sigmas or a number of steps, tokens).
LTX2 = dict(base_image_seq_len=1024, max_image_seq_len=4096, base_shift=0.95, max_shift=2.05)
DISTILLED = [1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875]
SEQUENCES = {
    "euler-dynamic": (FlowMatchEulerDiscreteScheduler(**LTX2, use_dynamic_shifting=True, shift_terminal=0.1), 30, 1536),
    "euler-dynamic-linear": (FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, time_shift_type="linear"), 5, 80),
    "euler-dynamic-ancestral": (FlowMatchEulerDiscreteScheduler(**LTX2, use_dynamic_shifting=True, stochastic_sampling=True), 4, 9000),
    "euler-distilled": (FlowMatchEulerDiscreteScheduler(), DISTILLED, 1536),
    "euler-terminal": (FlowMatchEulerDiscreteScheduler(shift=3.0, shift_terminal=0.2), 6, 100),
}


def velocity(sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    """The artificial model, which the test implements as well."""
    return torch.tanh(1.3 * sample + timestep / 1000) - 0.2 * sample


def sequences() -> None:
    """Sigmas and timesteps of schedules that start from given sigmas."""
    for name, (scheduler, sigmas, tokens) in SEQUENCES.items():
        sigmas = np.linspace(1.0, 1 / sigmas, sigmas) if isinstance(sigmas, int) else np.array(sigmas)
        settings = scheduler.config
        slope = (settings.max_shift - settings.base_shift) / (settings.max_image_seq_len - settings.base_image_seq_len)
        mu = tokens * slope + settings.base_shift - slope * settings.base_image_seq_len
        scheduler.set_timesteps(sigmas=sigmas, mu=mu)
        folder = FIXTURES / "schedulers" / name
        scheduler.save_pretrained(folder / "scheduler")
        golden = {"start": torch.from_numpy(sigmas), "tokens": torch.tensor(tokens)}
        save(folder, golden | {"sigmas": scheduler.sigmas, "timesteps": scheduler.timesteps.float()})


def main() -> None:
    sequences()
    generator = torch.Generator().manual_seed(31)
    noise = torch.randn(1, 2, 2, 3, 4, generator=generator)
    for name, scheduler in SCHEDULERS.items():
        folder = FIXTURES / "schedulers" / name
        scheduler.save_pretrained(folder / "scheduler")
        golden = {"noise": noise}
        for steps in STEPS:
            scheduler.set_timesteps(steps)
            golden[f"sigmas_{steps}"] = scheduler.sigmas
            golden[f"timesteps_{steps}"] = scheduler.timesteps.float()
            stochastic = scheduler.config.get("stochastic_sampling", False)
            # Two generators of one seed: the reference draws from the first, the fixture stores what the second draws.
            used, stored = (torch.Generator().manual_seed(32) for _ in range(2))
            sample, samples, step_noise = noise, [], []
            for timestep in scheduler.timesteps:
                arguments = dict(generator=used) if stochastic else {}
                step_noise.append(torch.randn(noise.shape, generator=stored))
                sample = scheduler.step(velocity(sample, timestep), timestep, sample, **arguments).prev_sample
                samples.append(sample)
            golden[f"samples_{steps}"] = torch.stack(samples[-10:])
            if stochastic:
                golden[f"step_noise_{steps}"] = torch.stack(step_noise)
        assert all(value.isfinite().all() for value in golden.values()), name
        print(name, {steps: f"{golden[f'samples_{steps}'][-1].std():.3f}" for steps in STEPS})
        save(folder, golden)


if __name__ == "__main__":
    main()
