"""What every room of slugkit may use: errors, paths, progress, settings, hashing, atomic writing,
devices.
"""

from slugkit.base.atomic import (
    replace_atomically,
    write_bytes,
    write_csv,
    write_json,
    write_parquet,
    write_tensors,
    write_text,
)
from slugkit.base.cache import cached_json, cached_tensors, read_hashed, write_hashed
from slugkit.base.choices import did_you_mean, nearest, require_choice
from slugkit.base.devices import pick_device, seed_everything, wide
from slugkit.base.errors import (
    AllLeftOutError,
    CheckFailed,
    EmptySetError,
    GradientError,
    MemoryPlanError,
    MissingArtefactError,
    ModelLoadError,
    OldPackageError,
    PatchError,
    RunFailedError,
    SearchFailedError,
    SettingError,
    ShapeError,
    SlugError,
    StaleArtefactError,
    UnknownConceptError,
    UnreadableImagesError,
    ZeroWeightError,
    advice_on,
)
from slugkit.base.hashing import sha256_bytes, sha256_file, sha256_json, sha256_tensor, sha256_tree
from slugkit.base.memory import peak_memory
from slugkit.base.outputs import is_finished, is_ours, new_path
from slugkit.base.paths import (
    absolute_path,
    cache_dir,
    data_dir,
    look_for,
    looked_for,
    mistyped,
    notebooks_dir,
    plain_name,
    root,
    run_folder,
    runs_dir,
)
from slugkit.base.progress import headless, progress
from slugkit.base.texts import as_file_name, from_cell, printable, to_cell
from slugkit.base.threads import (
    bound_threads,
    control_groups,
    each,
    thread_environment,
    usable_cpus,
)
from slugkit.base.versions import require_extra, require_versions, too_old
