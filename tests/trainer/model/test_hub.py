"""Bases named by a repository of the Hub; no test goes to the network."""

import shutil

import httpx2
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

from tests.tiny_vision_language import make_vision_language
from trainer.model import hub
from trainer.model.base_errors import DamagedFileError, HubError
from trainer.model.layouts import open_base
from trainer.model.vision_language import CaptionModelError, checked_kind, model_folder
from trainer.protocol.base_names import is_hub_name

NAME = "Wan-AI/Wan2.2-I2V-A14B-Diffusers"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the Hub, and no connection to it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def fill_cache(cache, folder):
    repository = cache / f"models--{NAME.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("c0ffee")
    return shutil.copytree(folder, repository / "snapshots" / "c0ffee")


@pytest.mark.parametrize(
    ("base", "is_name"),
    [
        (NAME, True),
        ("ai-toolkit/Wan2.2-I2V-A14B-Diffusers-bf16", True),
        ("miniature", False),
        ("/models/wan", False),
        ("C:\\models\\wan", False),
        ("a/b/c", False),
        ("./wan", False),
        ("", False),
    ],
)
def test_a_repositorys_name_is_two_words_and_a_slash(base, is_name):
    assert is_hub_name(base) is is_name


def test_a_repository_in_the_local_cache_opens_without_a_connection(cache, miniature_folder):
    snapshot = fill_cache(cache, miniature_folder)
    base = open_base(NAME)
    assert base.folder == snapshot
    assert base.fingerprint == open_base(str(miniature_folder)).fingerprint


def test_a_repository_that_cannot_be_reached_is_named(cache):
    with pytest.raises(HubError, match=rf"{NAME} could not be downloaded.*no connection.*choose its folder"):
        open_base(NAME)


def test_what_the_cache_lacks_is_downloaded(cache, miniature_folder, tmp_path, monkeypatch):
    shutil.rmtree(fill_cache(cache, miniature_folder) / "vae")
    asked = []

    def download(repository, *, allow_patterns, local_files_only=False):
        asked.append((repository, local_files_only))
        assert "model_index.json" in allow_patterns
        return str(
            cache / f"models--{NAME.replace('/', '--')}" / "snapshots" / "c0ffee"
            if local_files_only
            else miniature_folder
        )

    monkeypatch.setattr(hub, "snapshot_download", download)
    assert open_base(NAME).folder == miniature_folder
    assert asked == [(NAME, True), (NAME, False)]


def test_a_repository_of_another_model_is_told_as_a_folder_is(cache, miniature_folder, monkeypatch):
    snapshot = fill_cache(cache, miniature_folder)
    (snapshot / "model_index.json").write_text("[]")
    monkeypatch.setattr(hub, "snapshot_download", lambda *args, **kwargs: str(snapshot))
    with pytest.raises(DamagedFileError, match=r"model_index\.json"):
        open_base(NAME)


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (LocalEntryNotFoundError("gone"), "no connection"),
        (httpx2.ConnectTimeout("timed out"), "timed out"),
        (OSError(28, "No space left on device"), "No space left"),
    ],
)
def test_what_kept_the_download_from_ending_is_told(cache, monkeypatch, error, found):
    def fail(*args, local_files_only=False, **kwargs):
        raise LocalEntryNotFoundError("not cached") if local_files_only else error

    monkeypatch.setattr(hub, "snapshot_download", fail)
    with pytest.raises(HubError, match=found):
        open_base(NAME)


def test_a_repository_that_does_not_exist_is_told(cache, monkeypatch):
    response = httpx2.Response(404, request=httpx2.Request("GET", "https://example.org"))

    def fail(*args, **kwargs):
        raise RepositoryNotFoundError("404", response=response)

    monkeypatch.setattr(hub, "snapshot_download", fail)
    with pytest.raises(HubError, match="no such repository"):
        open_base(NAME)


def test_a_downloads_bytes_are_told_as_they_come(tmp_path, monkeypatch):
    told = []

    def download(repository, tqdm_class, **_):
        with (
            tqdm_class(total=0, unit="B", disable=True) as bar,
            tqdm_class(total=3, unit="files", disable=True),
        ):
            bar.total = 100
            bar.update(40)
            bar.update(60)
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", download)
    assert hub.downloaded_folder(NAME, on_bytes=lambda *sizes: told.append(sizes)) == tmp_path
    assert told == [(40, 100), (100, 100)]


def test_a_caption_model_in_the_local_cache_opens_without_a_connection_and_half_of_one_does_not(
    cache, tmp_path
):
    snapshot = fill_cache(cache, make_vision_language(tmp_path / "model"))
    assert model_folder(NAME) == snapshot
    (snapshot / "model.safetensors").unlink()
    # The Hub's own word for "all that there is offline": what is missing is told when the model is opened.
    with pytest.raises((HubError, CaptionModelError)):
        checked_kind(model_folder(NAME), NAME)
