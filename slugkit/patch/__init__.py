"""The edit as a file, and on a model: make, save, load, verify, apply, remove.

    slugkit.patch.load("text.safetensors").apply(model)

A patch is one safetensors file: the step direction g_f of one layer, and JSON that says which
layer, how far to step and which original it belongs to. The format is written down in FORMAT.md
beside this file.
"""

from slugkit.patch.format import Patch, load, make, save
from slugkit.patch.forms import add, half, low_rank
from slugkit.patch.on_model import all_applied, applied, apply, patches_on, remove, verify
from slugkit.patch.patch_set import PatchSet, load_set, set_of
from slugkit.patch.record import load_record, save_record
