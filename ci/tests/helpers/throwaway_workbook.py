"""A small throwaway workbook for the tests of runs, command line and notebook checks."""

import nbformat

SETTINGS = {
    "concept": 'concept: str = "Mira Kestrel"  # name to forget',
    "seed": "seed: int = 0  # seeds everything, 0 to 4294967295",
    "batch_size": "batch_size: int = 128  # micro-batch of the retain loss, pairs",
    "run": 'run: str = "workbook"  # name of the run folder under runs/',
}

SETUP = """import os, time
from slugkit.base import write_text
from slugkit.workbook.run.folder import open_run
from slugkit.workbook.settings import read_settings
cfg = read_settings(globals())
record = open_run(cfg, "{name}")"""

WORK = {
    "01_data_curation": (
        'write_text(record.path("sets") / "forget.parquet", f"{cfg.concept} {cfg.seed}")'
    ),
    "02_gradients": """text = record.need("sets/forget.parquet").read_text()
made = f"gradient of {text}, {cfg.batch_size}"
write_text(record.path("gradients.safetensors"), made)
time.sleep(float(os.environ.get("SLOW", "0")))""",
    "03_rank_layers": (
        'text = record.need("gradients.safetensors").read_text()\n'
        'write_text(record.path("layers.parquet"), f"layers by {text}")'
    ),
}

NAMES = {
    "01_data_curation": ("concept", "seed", "run"),
    "02_gradients": ("concept", "batch_size", "run"),
    "03_rank_layers": ("concept", "run"),
}


def code(source, *tags, outputs=(), count=None):
    """A code cell with tags, outputs and a count."""
    cell = nbformat.v4.new_code_cell(source, outputs=list(outputs), execution_count=count)
    if tags:
        cell.metadata["tags"] = list(tags)
    return cell


def said(text):
    """What a cell that printed `text` holds as output."""
    return nbformat.v4.new_output("stream", name="stdout", text=text)


def notebook(*cells):
    """A notebook of these cells for the kernel python3."""
    made = nbformat.v4.new_notebook(cells=list(cells))
    made.metadata["kernelspec"] = {
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "name": "python3",
    }
    return made


def stage(name):
    """A stage of the throwaway workbook, as it would be committed: counts 1..n and a contract
    output.
    """
    settings = "# Settings\n" + "\n".join(SETTINGS[setting] for setting in NAMES[name])
    return notebook(
        code(settings, "parameters", count=1),
        code(SETUP.format(name=name), count=2),
        code(WORK[name], count=3),
        code(
            f'print("{name[:2]} holds")',
            "nbval-check-output",
            outputs=[said(f"{name[:2]} holds\n")],
            count=4,
        ),
        code("record.finish()", count=5),
    )


class Project:
    """A folder with notebooks/ and runs/ that slugkit takes for the repository."""

    def __init__(self, root):
        self.root = root
        self.runs = root / "runs"
        (root / "notebooks").mkdir()

    def write(self, name, content):
        """Write a notebook of the series."""
        nbformat.write(content, self.root / "notebooks" / f"{name}.ipynb")

    def read(self, name):
        """Read a notebook of the series."""
        return nbformat.read(self.root / "notebooks" / f"{name}.ipynb", as_version=4)

    def edit(self, name, index, source):
        """Replace the source of one cell."""
        content = self.read(name)
        content.cells[index].source = source
        self.write(name, content)

    def results(self, run="workbook"):
        """Texts of what the three stages left."""
        names = ("sets/forget.parquet", "gradients.safetensors", "layers.parquet")
        return [(self.runs / run / name).read_text() for name in names]
