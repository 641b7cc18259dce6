"""Models named by their repository on the Hugging Face Hub: from the local cache, else downloaded."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import tqdm

from trainer.model.base_errors import HubError

NEEDED = (
    "model_index.json",
    *(f"{name}/*.json" for name in ("transformer", "transformer_2", "vae", "text_encoder", "scheduler")),
    *(f"{name}/*.safetensors" for name in ("transformer", "transformer_2", "vae", "text_encoder")),
    "tokenizer/*",
    "high_noise_model/*",
    "low_noise_model/*",
    "Wan2.1_VAE.pth",
    "models_t5_umt5-xxl-enc-bf16.pth",
    "google/umt5-xxl/*",
)
"""Of a repository in the diffusers layout, or of the original release; pictures and the like stay there."""

# Lost connections are errors of the HTTP client, which is another one from version to version.
_ClientError: Any = HfHubHTTPError.__bases__[0]


def cached_folder(repository: str, needed: Sequence[str] = NEEDED) -> Path | None:
    """Where the Hub's local cache has it, perhaps not all of it; None if it has nothing."""
    try:
        return Path(snapshot_download(repository, local_files_only=True, allow_patterns=list(needed)))
    except (OSError, ValueError, LocalEntryNotFoundError):
        return None


def downloaded_folder(
    repository: str,
    needed: Sequence[str] = NEEDED,
    on_bytes: Callable[[int, int], object] | None = None,
) -> Path:
    """Download what is missing of it into the Hub's local cache.

    Args:
        repository: Its name.
        needed: Patterns of the files that are wanted.
        on_bytes: Told of the bytes that are there, and of all as far as they are known; on any thread.

    Raises:
        HubError: there is no such repository, no connection, or not enough disk.
    """
    try:
        bars: dict[str, Any] = {"tqdm_class": _telling(on_bytes)} if on_bytes is not None else {}
        return Path(snapshot_download(repository, allow_patterns=list(needed), **bars))
    except GatedRepoError as error:
        raise HubError(repository, "it wants an accepted licence and a login") from error
    except RepositoryNotFoundError as error:
        raise HubError(repository, "there is no such repository, or it is private") from error
    except (EntryNotFoundError, LocalEntryNotFoundError) as error:
        raise HubError(repository, "there is no connection, and the local cache does not have it") from error
    except (_ClientError, OSError, ValueError) as error:
        problem = str(error).strip().splitlines() or [type(error).__name__]
        raise HubError(repository, problem[0].rstrip(".")) from error


def _telling(on_bytes: Callable[[int, int], object]) -> type[tqdm]:
    """A kind of progress bar that tells of bytes; where there is no terminal, the usual one counts nothing."""

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            self._is_of_bytes = options.get("unit") == "B"
            self._bytes = int(options.get("initial") or 0)
            super().__init__(*args, **options)

        def update(self, n: float | None = 1) -> bool | None:
            self._bytes += int(n or 0)
            if self._is_of_bytes:
                on_bytes(self._bytes, int(self.total or 0))
            return super().update(n)

    return Bar
