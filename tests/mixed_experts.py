"""Three experts of made-up tokens, and what their formula says of mixtures."""

from __future__ import annotations

import numpy as np

DOMAINS = ("web", "code", "sums")
NUM_TOKENS = (5000, 37)


def log_probabilities(num_experts, num_tokens, seed=0):
    rng = np.random.default_rng(seed)
    return (-rng.exponential(4.0, (num_experts, num_tokens))).astype(np.float16)


def in_torch(tokens, mixtures):
    """The formula, computed directly in double precision."""
    import torch

    weights = torch.tensor(mixtures, dtype=torch.float64)
    losses = [
        -torch.logsumexp(torch.log(weights)[:, :, None] + torch.tensor(logs).double()[None], dim=1).mean(1)
        * unit
        for logs, unit in zip(tokens.logs, tokens.units, strict=True)
    ]
    return torch.stack(losses, dim=1).numpy()
