"""Fingerprints of model files: equal for copies, whatever their place and age."""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

from trainer.model.base_errors import DamagedFileError
from trainer.model.weight_files import read_header

WHOLE_HASH_BYTES = 16 * 2**20
SAMPLE_BYTES = 4096
SAMPLE_COUNT = 64


def fingerprint_of(files: Sequence[tuple[str, Path]]) -> str:
    """Hash of the files' labels and contents; of large ones, of their header, length and samples.

    Raises:
        DamagedFileError: a file cannot be read.
    """
    parts: list[str] = []
    for label, path in files:
        parts += [label, _file_digest(path)]
    return digest(*parts)


def digest(*parts: str) -> str:
    """Hash of texts, 32 hexadecimal digits."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _file_digest(path: Path) -> str:
    try:
        length = path.stat().st_size
        if length <= WHOLE_HASH_BYTES:
            return hashlib.sha256(path.read_bytes()).hexdigest()
        header = read_header(path)[0] if path.suffix == ".safetensors" else b""
        content = hashlib.sha256(header + length.to_bytes(8, "little"))
        # Training touches every weight, so that samples all over the file tell two models apart.
        with path.open("rb") as file:
            for sample in range(SAMPLE_COUNT):
                file.seek(math.floor(sample * (length - SAMPLE_BYTES) / (SAMPLE_COUNT - 1)))
                content.update(file.read(SAMPLE_BYTES))
        return content.hexdigest()
    except OSError as error:
        raise DamagedFileError(path, f"cannot be read ({error.strerror or error})") from error
