"""slugkit and slugkit-studio as wheels, in an environment that holds nothing else: the core, then
the extras.
"""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from repository import REPOSITORY

import slugkit

UV = Path(sys.executable).with_name("uv")
BUILT = ("slugkit", "data")
"""What the wheels are made of, beside the files at the top."""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """Both wheels, built of a copy of the repository."""
    copy = tmp_path_factory.mktemp("source")
    for folder in BUILT:
        skip = shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
        shutil.copytree(REPOSITORY / folder, copy / folder, ignore=skip)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / file, copy)
    for source in (copy, copy / "data"):
        command = [UV, "build", "--quiet", "--wheel", "--out-dir", copy / "dist", source]
        subprocess.run(command, check=True)
    return {path.name.split("-")[0]: path for path in (copy / "dist").glob("*.whl")}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """An empty environment, in a folder outside the repository."""
    folder = tmp_path_factory.mktemp("away")
    command = [UV, "venv", "--quiet", "--python", sys.executable, folder / "env"]
    subprocess.run(command, check=True)
    return folder


def install(place, *what):
    """Install into the environment, in the versions of the lock."""
    python, lock = place / "env" / "bin" / "python", REPOSITORY / "ci" / "requirements.lock"
    command = [UV, "pip", "install", "--quiet", "--python", python, "--constraint", lock, *what]
    subprocess.run(command, check=True)


def run(place, source):
    """What a program prints there; its last line is what counts."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("SLUGKIT", "PYTHON"))}
    env["HOME"] = str(place)
    command = [place / "env" / "bin" / "python", "-c", source]
    done = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True)
    return (done.stdout.strip() or done.stderr.strip()).splitlines()[-1]


def test_the_core_alone_unlearns_and_each_extra_adds_its_family(wheels, place):
    install(place, wheels["slugkit"])
    load = "import slugkit as sk; {}"
    assert "pip install slugkit-studio" in run(place, load.format('sk.load_clip("studio")'))
    install(place, wheels["slugkit_studio"])
    flow = """
import open_clip, torch
import slugkit as sk

clip = sk.load_clip("studio")
data = sk.open_data("studio", *clip.inputs)
result = sk.unlearn(clip, data, "Kofi Okoye", towers=("text",), retain_size=128, max_trials=3)
result.edit("text").save("kofi.safetensors")
edit = sk.load_patch("kofi.safetensors")
plain = type(clip.model)
before = {name: w.clone() for name, w in clip.model.state_dict().items()}
edit.apply(clip.model)
moved = [n for n, w in clip.model.state_dict().items() if not torch.equal(w, before[n])]
edit.remove(clip.model)
back = all(torch.equal(w, before[n]) for n, w in clip.model.state_dict().items())
print(plain.__module__.split(".")[0], moved == [edit.layer], back)
"""
    assert run(place, flow) == "open_clip True True"
    assert 'pip install "slugkit[diffusion]"' in run(place, load.format("sk.load_pipeline()"))
    assert 'pip install "slugkit[vlm]"' in run(place, load.format("sk.load_vlm()"))
    command = [place / "env" / "bin" / "slugkit", "--help"]
    said = subprocess.run(command, capture_output=True, text=True)
    assert said.returncode == 1 and 'pip install "slugkit[workbook]"' in said.stderr

    install(place, f"{wheels['slugkit']}[diffusion,vlm]")
    both = """
import slugkit as sk

from slugkit import patch
from slugkit.method.edit import EditableLayer
from slugkit.models.diffusion import draw

clip, pipe, vlm = sk.load_clip("studio"), sk.load_pipeline("studio"), sk.load_vlm("studio")
layer = "transformer.resblocks.2.mlp.c_proj.weight"  # text_projection is not the pipeline's
editable = EditableLayer.of(clip.model, layer, clip.model.get_parameter(layer).detach())
edit = patch.make(layer, editable, 0.5, "half of a layer", tower="text", model=clip.model)
prompt = ["a photo of Kofi Okoye"], [1]
plain = draw(pipe, *prompt, steps=2)
with edit.applied(pipe):
    made = draw(pipe, *prompt, steps=2)
print((made != plain).any(), type(vlm.model).__name__)
"""
    assert run(place, both) == "True LlavaForConditionalGeneration"


def test_both_packages_have_one_version(wheels):
    studio = tomllib.loads((REPOSITORY / "data" / "pyproject.toml").read_text())["project"]
    assert studio["version"] == slugkit.__version__
    assert sorted(wheels) == ["slugkit", "slugkit_studio"]
