"""How large each input channel of each linear is, over the user's own clips.

Fed from ordinary forward passes; what 4-bit weights with recovery need to know which errors matter.
"""

# N tokens, I input width

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from trainer.protocol.wire import write_atomic

FORMAT = 1
"""Raise it when the same passes would give other numbers."""


class InputStatistics:
    """Mean squares of input channels, by the name of the (fused) linear.

    Attributes:
        fingerprint: Everything that the numbers depend on: the base, the expert, the clips, the
            noise levels. Whoever feeds the passes knows it; it is compared when a file is loaded, and
            belongs in the key of what is made with the numbers.
    """

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self._squares: dict[str, Tensor] = {}
        self._tokens: dict[str, int] = {}

    @torch.no_grad()
    def add(self, name: str, x_NI: Tensor) -> None:
        """Take in the inputs of a linear, of any float type; more dimensions before the last count as N.

        Does not wait for the device, nor copy the inputs.
        """
        x_NI = x_NI.flatten(0, -2)
        # In float32 within a call, in float64 over the calls: whole clips have millions of tokens.
        squares_I = torch.linalg.vector_norm(x_NI, dim=0, dtype=torch.float32).double().square()
        if name in self._squares:
            self._squares[name] += squares_I
        else:
            self._squares[name] = squares_I
        self._tokens[name] = self._tokens.get(name, 0) + x_NI.shape[0]

    @property
    def names(self) -> list[str]:
        """The linears that were fed."""
        return list(self._squares)

    def rms(self, name: str) -> Tensor | None:
        """RMS of each input channel of the linear, float32 (I,), where it was gathered.

        None where nothing was, or where an input was not finite: such numbers would spoil the weight.
        """
        if not self._tokens.get(name):
            return None
        rms_I = (self._squares[name] / self._tokens[name]).sqrt().float()
        return rms_I if bool(torch.isfinite(rms_I).all()) else None

    def save(self, path: Path) -> None:
        """Write a file, atomically.

        Raises:
            OSError: it cannot be written.
        """
        metadata = {
            "format": str(FORMAT),
            "fingerprint": self.fingerprint,
            "tokens": json.dumps(self._tokens),
        }
        write_atomic(path, save({name: one.cpu() for name, one in self._squares.items()}, metadata))

    @classmethod
    def load(cls, path: Path, fingerprint: str) -> "InputStatistics | None":
        """What was saved, on the CPU; None if there is no such file, it is damaged, or of another fingerprint."""
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != str(FORMAT) or metadata.get("fingerprint") != fingerprint:
                    return None
                loaded = cls(fingerprint)
                loaded._squares = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
                loaded._tokens = {
                    str(name): int(count) for name, count in json.loads(metadata["tokens"]).items()
                }
        except (OSError, SafetensorError, KeyError, ValueError, AttributeError):
            return None
        return loaded if loaded._tokens.keys() == loaded._squares.keys() else None
