"""Fixtures: the studio's models on a GPU, most often one that is not there, a few pictures, and
edits.
"""

from contextlib import nullcontext

import pandas as pd
import pytest
import torch
from PIL import Image
from pretend_gpu import GpuTensor, on_gpu, pretend_gpu

from slugkit import patch, studio
from slugkit.data import open_data
from slugkit.method.edit import EditableLayer
from slugkit.models import load_clip
from slugkit.models.classifier import load_classifier
from slugkit.models.diffusion import load_pipeline
from slugkit.models.vlm import load_vlm
from slugkit.unlearning.call import unlearn

REAL = torch.cuda.is_available()
WHO, TWO = "Mira Kestrel", ["Mira Kestrel", "Kofi Okoye"]
SUBJECTS = [*TWO, "Selin Drover", "Oskar Marlow", "car", "mushroom"]
TEXT = "transformer.resblocks.1.attn.in_proj_weight"
VISION = "visual.transformer.resblocks.2.mlp.c_proj.weight"


@pytest.fixture(scope="module", params=["cuda", "mps"])
def kind(request):
    """The GPU that there is: CUDA's own where the machine has one, else a pretended one.

    The tests of one kind run before those of the other.
    """
    real = request.param == "cuda" and REAL
    with nullcontext() if real else pretend_gpu(request.param):
        yield request.param


@pytest.fixture(scope="module")
def clip(kind):
    return load_clip("studio")


@pytest.fixture(scope="module")
def there(kind):
    """The same CLIP on the CPU, to compare with."""
    return load_clip("studio", "cpu")


@pytest.fixture(scope="module")
def pipe(kind):
    return load_pipeline("studio")


@pytest.fixture(scope="module")
def vlm(kind):
    return load_vlm("studio")


@pytest.fixture(scope="module")
def judge(kind):
    return load_classifier()


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A data folder: six of the studio's subjects, four pictures each in every split."""
    place, rows = tmp_path_factory.mktemp("few"), []
    for name in SUBJECTS:
        for split in ("train", "search", "report"):
            for n, record in enumerate(studio.solo_records(split, name, 2, ["photo", "neon"])):
                Image.fromarray(studio.draw(record)).save(place / f"{name} {split} {n}.png")
                rows.append((f"{name} {split} {n}.png", f"a photo of {name}", name, split))
    table = pd.DataFrame(rows, columns=["file", "caption", "concept", "split"])
    table.to_csv(place / "captions.csv", index=False)
    return place


@pytest.fixture(scope="session")
def few(folder):
    return open_data(str(folder), 64)


@pytest.fixture(scope="module")
def found(clip, few):
    """One concept forgotten with both towers."""
    sizes = dict(forget_size=4, retain_size=12, batch_size=6, max_trials=6)
    return unlearn(clip, few, WHO, **sizes)


@pytest.fixture(scope="module")
def edits(clip, found):
    """Patches of a packed layer of the text tower, and of a layer that LLaVA reads."""
    made = {}
    for tower, layer in (("text", TEXT), ("vision", VISION)):
        editable = EditableLayer.of(clip.model, layer, found.g_forget[layer])
        made[tower] = patch.make(layer, editable, editable.lam(2.0), WHO)
    return made


@pytest.fixture(autouse=True)
def nothing_stays(request):
    """Whatever a test does, the models that it used are where and as they were, bit for bit."""
    names = [name for name in ("clip", "pipe", "vlm") if name in request.fixturenames]
    used = [request.getfixturevalue(name) for name in names]
    nets = [getattr(m, "text_encoder", getattr(m, "model", None)) for m in used]
    before = [{name: p.detach().clone() for name, p in net.named_parameters()} for net in nets]
    yield
    for net, kept in zip(nets, before, strict=True):
        assert all(on_gpu(p) and torch.equal(p, kept[name]) for name, p in net.named_parameters())


@pytest.fixture
def here_only(monkeypatch):
    """Call it, and from then on nothing may go to the GPU."""
    fail = lambda cls, x: pytest.fail("it went to the GPU")  # noqa: E731
    return lambda: monkeypatch.setattr(GpuTensor, "__new__", fail)


def close(a: torch.Tensor, b: torch.Tensor, within: float = 1e-4) -> bool:
    """Equal but for the order of sums, wherever they lie."""
    return float((a.cpu() - b.cpu()).norm()) <= within * float(b.cpu().norm())
