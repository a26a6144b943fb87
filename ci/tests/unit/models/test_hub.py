"""What lies on a hub: taken from the cache, or refused with one message that says how to get it.

A small server stands in for the hub's door.
"""

import http.server
import threading

import huggingface_hub
import pytest

from slugkit.base import ModelLoadError
from slugkit.models.diffusion import load_pipeline
from slugkit.models.hub import local, no_loading_bars, require_repository
from slugkit.models.vlm import load_vlm


@pytest.fixture()
def hub(monkeypatch, tmp_path):
    """A hub that answers every request with what `answer` holds: status and error code.

    Its cache is empty.
    """
    answer = {"status": 200, "code": "", "asked": 0}

    class Door(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802 - the name that the library calls
            answer["asked"] += 1
            self.send_response(answer["status"])
            if answer["code"]:
                self.send_header("X-Error-Code", answer["code"])
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Door)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(
        huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}"
    )
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    yield answer
    server.shutdown()


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (403, "GatedRepo", "Accept them.*hf auth login"),
        (404, "RepoNotFound", "knows no repository 'somebody/a-model'"),
    ],
)
def test_a_gated_or_unknown_repository_is_told_apart(hub, status, code, says):
    require_repository("somebody/a-model")
    hub.update(status=status, code=code)
    with pytest.raises(ModelLoadError, match=says):
        require_repository("somebody/a-model")


def test_no_network_names_the_command_that_fetches_it_elsewhere(hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelLoadError, match="hf download somebody/a-model --local-dir"):
        require_repository("somebody/a-model")
    for load in (load_pipeline, load_vlm):
        with pytest.raises(ModelLoadError, match="hf download somebody/a-model"):
            load("somebody/a-model", "cpu")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelLoadError, match="HF_HUB_OFFLINE"):
        require_repository("somebody/a-model")


def test_a_cached_copy_needs_no_connection(hub, tmp_path):
    hub.update(status=500)
    folder = tmp_path / "models--somebody--a-model"
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    (folder / "refs").mkdir()
    assert not local("somebody/a-model")
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40) / "config.json").write_text("{}")
    assert local("somebody/a-model")
    require_repository("somebody/a-model")
    assert hub["asked"] == 0


@pytest.mark.parametrize(
    "name", ["no/such/folder", "./folder", "../folder", "~/folder", "/folder", "folder"]
)
def test_what_is_neither_a_folder_nor_an_id_says_what_was_expected(hub, name):
    says = (
        "no folder on this machine, and no hub id; a LLaVA's folder.*`slugkit train vlm`.*Nothing"
    )
    with pytest.raises(ModelLoadError, match=says):
        load_vlm(name, "cpu")
    assert hub["asked"] == 0


def test_loading_bars_are_as_before_afterwards_even_after_an_error():
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    libraries = of_diffusers, of_transformers
    shown = [library.is_progress_bar_enabled() for library in libraries]
    try:
        for wanted in ((True, False), (False, True)):
            for library, on in zip(libraries, wanted, strict=True):
                (library.enable_progress_bar if on else library.disable_progress_bar)()
            with pytest.raises(KeyError), no_loading_bars():
                assert not any(library.is_progress_bar_enabled() for library in libraries)
                raise KeyError
            assert tuple(library.is_progress_bar_enabled() for library in libraries) == wanted
    finally:
        for library, on in zip(libraries, shown, strict=True):
            (library.enable_progress_bar if on else library.disable_progress_bar)()
