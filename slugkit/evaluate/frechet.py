"""Frechet distance between two sets of pictures, by torchmetrics, on features that need no download.

The published figure takes Inception-v3's 2048 features and tens of thousands of pictures. At studio scale we take the
judge's pooled features, brought down by a fixed projection: with few pictures a covariance of many features is mostly noise.
"""

from __future__ import annotations

import numpy as np
import torch

from slugkit.base import ModelLoadError, SettingError
from slugkit.models.classifier import Classifier, pixels

FEATURES, LEAST = 64, 1000


class JudgeFeatures(torch.nn.Module):
    """(N, 3, H, W) uint8 -> (N, features): the judge's pooled features on a fixed orthonormal basis of random directions."""

    def __init__(self, judge: Classifier, features: int = FEATURES):
        super().__init__()
        self.model, self.num_features = judge.model, features
        width = judge.model.num_features
        if not 1 <= features <= width:
            raise SettingError(f"{features} features were asked for; 1 to {width} were expected, which is what the judge has.")
        noise = torch.randn(width, features, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        self.register_buffer("basis", torch.linalg.qr(noise).Q.float())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = pixels(images.permute(0, 2, 3, 1).cpu().numpy(), self.basis.device)
        return self.model.forward_features(x).mean((2, 3)) @ self.basis


@torch.no_grad()
def frechet_distance(judge: Classifier, real: np.ndarray, made: np.ndarray, features: int = FEATURES, least: int = LEAST,
                     batch_size: int = 256, inception: bool = False) -> dict:
    """Frechet distance of two sets of (N, H, W, 3) uint8 pictures. Returns distance (>= 0), features, n_real, n_made.

    least: how many pictures each set must have. inception: take torchmetrics' Inception-v3 (features 64, 192, 768 or 2048)
    instead of the judge, as at paper scale; it needs torch-fidelity and fetches its weights (ModelLoadError). Raises SettingError for fewer, or for more features than pictures.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance
    if min(len(real), len(made)) < max(least, features + 1):
        raise SettingError(f"The sets hold {len(real)} and {len(made)} pictures; at least {max(least, features + 1)} each were expected, or the "
                           f"covariance of {features} features is mostly noise. Generate more, or ask for fewer features.")
    device = next(judge.model.parameters()).device
    try:
        metric = FrechetInceptionDistance(feature=features if inception else JudgeFeatures(judge, features), normalize=False).to(device)
    except (ModuleNotFoundError, OSError) as error:
        raise ModelLoadError(f"torchmetrics could not set up Inception-v3: {error}. Run `pip install torch-fidelity` and once with a connection; "
                             "or leave out inception, which takes the judge's features.") from error
    for images, is_real in ((real, True), (made, False)):
        for i in range(0, len(images), batch_size):
            metric.update(torch.from_numpy(np.ascontiguousarray(images[i:i + batch_size])).permute(0, 3, 1, 2), real=is_real)
    return {"distance": max(0.0, float(metric.compute())), "features": features, "n_real": len(real), "n_made": len(made)}
