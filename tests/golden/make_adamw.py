"""Steps of torch's AdamW with clipping and a schedule: the numbers that
Plume's optimiser is held against.

usage: python tests/golden/make_adamw.py [OUT]     (OUT: tests/golden/adamw.safetensors)

f32 tensors; NAME are names of Plume's parameters:
  0.NAME         before the first step
  S.NAME         after step S = 1, 2, ...
  gradient.S.NAME
  rates          [steps]  the learning rate of each step
  norms          [steps]  the length of the whole gradient before clipping

The script's constants are those of tests/tests/training.rs.
"""

import math
import sys

import torch
from safetensors.torch import save_file

RATE, BETAS, EPSILON, DECAY, CLIP = 0.02, (0.9, 0.98), 1e-6, 0.2, 1.0
STEPS, WARM_UP = 12, 4

# Matrices that are no embeddings decay; gains, biases, embeddings do not.
DECAYED = {
    "vision.blocks.0.mlp.c_fc.weight": (3, 4),
    "vision.stem.convs.0.weight": (2, 9),
    "text.projection": (4, 2),
}
KEPT = {
    "vision.blocks.0.ln_1.weight": (4,),
    "vision.blocks.0.mlp.c_fc.bias": (3,),
    "vision.class_embedding": (4,),
    "vision.positional_embedding": (5, 2),
    "text.token_embedding": (3, 4),
    "logit_scale": (1,),
}

generator = torch.Generator().manual_seed(1)
parameters = {
    name: torch.nn.Parameter(torch.randn(shape, generator=generator))
    for name, shape in (DECAYED | KEPT).items()
}
scale = parameters["logit_scale"]
# So near its bound that it is reached.
scale.data.fill_(math.log(100) - 0.03)

optimizer = torch.optim.AdamW(
    [
        {"params": [parameters[name] for name in DECAYED], "weight_decay": DECAY},
        {"params": [parameters[name] for name in KEPT], "weight_decay": 0.0},
    ],
    lr=RATE,
    betas=BETAS,
    eps=EPSILON,
)
warm_up = torch.optim.lr_scheduler.LinearLR(
    optimizer, start_factor=1 / WARM_UP, total_iters=WARM_UP - 1
)
cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=STEPS - WARM_UP)
schedule = torch.optim.lr_scheduler.SequentialLR(
    optimizer, [warm_up, cosine], milestones=[WARM_UP]
)

out, rates, norms = {}, [], []


def keep(step):
    for name, parameter in parameters.items():
        out[f"{step}.{name}"] = parameter.detach().clone()


keep(0)
for step in range(1, STEPS + 1):
    # Some steps are clipped and some are not.
    size = 0.05 if step % 3 == 0 else 0.5
    for name, parameter in parameters.items():
        gradient = size * torch.randn(parameter.shape, generator=generator)
        if name == "logit_scale":
            gradient = -gradient.abs()
        parameter.grad = gradient
        out[f"gradient.{step}.{name}"] = gradient.clone()
    rates.append(optimizer.param_groups[0]["lr"])
    norms.append(torch.nn.utils.clip_grad_norm_(parameters.values(), CLIP).item())
    optimizer.step()
    schedule.step()
    with torch.no_grad():
        # As OpenAI and open_clip do after each step.
        scale.clamp_(max=math.log(100))
    keep(step)

assert scale.item() == torch.tensor(math.log(100)).item()
assert min(norms) < CLIP < max(norms)
out["rates"], out["norms"] = torch.tensor(rates), torch.tensor(norms)
save_file(out, sys.argv[1] if len(sys.argv) > 1 else "tests/golden/adamw.safetensors")
