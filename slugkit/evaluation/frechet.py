"""Frechet distance between two sets of pictures, by torchmetrics, on Inception-v3's features as
UnlearnCanvas takes them, from a file on this machine.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from slugkit.base import ModelLoadError, SettingError, pick_device
from slugkit.data.pictures import Pictures
from slugkit.models.precision import multiplying

LEAST = 1000
"""Pictures that each set must have."""
INCEPTION_FEATURES, INCEPTION_SIZE, INCEPTION_FILE = 2048, 299, "inception_v3.safetensors"
HOW = (
    "slugkit/data/pages/unlearncanvas.md shows how to write it; frechet_size 0 leaves the Frechet"
    " distance out."
)


class InceptionFeatures(torch.nn.Module):
    """(N, 3, H, W) uint8 -> (N, 2048) on the CPU: torchvision's Inception-v3, pooled, as
    UnlearnCanvas's FID takes it. Read one with `inception_features`.

    Pictures are brought to 299 x 299 (bilinear, not antialiased) and to -1..1; the network then
    applies its own `transform_input` to that, as in the benchmark's code
    (`machine_unlearning/evaluation/quantitative/fid.py`), although it was made for pictures
    normalised by ImageNet's mean and deviation.
    """

    num_features = INCEPTION_FEATURES

    def __init__(self):
        from torchvision.models import inception_v3

        super().__init__()
        self.model = inception_v3(weights=None, transform_input=True, init_weights=False).eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = images.to(next(self.model.parameters()).device).float() / 255
        size = INCEPTION_SIZE, INCEPTION_SIZE
        x = torch.nn.functional.interpolate(x, size, mode="bilinear", align_corners=False)
        return self.model(2 * x - 1).cpu()


def inception_features(path: str | Path, device: str = "auto") -> InceptionFeatures:
    """Inception-v3 from a safetensors file with torchvision's names.

    Raises ModelLoadError for a file that is not there or does not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path).expanduser()
    if not path.is_file():
        raise ModelLoadError(
            f"There is no {path.name} in the judge's folder {path.parent.name!r}. {HOW}"
        )
    net = InceptionFeatures()
    try:
        net.model.load_state_dict(load_file(path))
    except (RuntimeError, OSError, SafetensorError) as error:
        said = str(error).splitlines()[0]
        raise ModelLoadError(
            f"{path.name!r} does not hold torchvision's Inception-v3: {said}. {HOW}"
        ) from error
    net.model.fc = torch.nn.Identity()
    return net.to(pick_device(device))


@torch.no_grad()
@multiplying()
def frechet_distance(
    network: torch.nn.Module,
    real: np.ndarray | Pictures,
    made: np.ndarray,
    least: int = LEAST,
    batch_size: int = 256,
) -> dict:
    """Frechet distance of two sets of (N, H, W, 3) uint8 pictures.

    network: gives `num_features` features (`InceptionFeatures`). least: how many pictures each set
    must have. Returns distance (>= 0), features, n_real, n_made. Raises SettingError for fewer, or
    for more features than pictures.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    features = network.num_features
    least = max(least, features + 1)
    if min(len(real), len(made)) < least:
        raise SettingError(
            f"The sets hold {len(real)} and {len(made)} pictures; at least {least} each were"
            f" expected, or the covariance of {features} features is mostly noise."
        )
    metric = FrechetInceptionDistance(feature=network, normalize=False)
    for images, is_real in ((real, True), (made, False)):
        for i in range(0, len(images), batch_size):
            part = torch.from_numpy(np.ascontiguousarray(images[i : i + batch_size]))
            metric.update(part.permute(0, 3, 1, 2), real=is_real)
    distance = max(0.0, float(metric.compute()))
    return {"distance": distance, "features": features, "n_real": len(real), "n_made": len(made)}
