"""A moving average of the weights in training: what is saved and previewed when it is on."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import Parameter


class WeightAverage:
    """Exponential moving average of one expert's LoRA weights, in float32.

    It begins as a copy of the first weights, which is why there is no correction for its bias: it is
    an average of real weights from the start, in which those first ones count decay ** n after n
    updates. With a decay of 0.99 that is a third after 100 steps and nothing after 500.
    """

    def __init__(self, parameters: Mapping[str, Parameter], decay: float) -> None:
        """Begin with the weights as they are.

        Args:
            parameters: By the names that `state` uses; they are held, not copied.
            decay: How much of the average stays at each update, 0 up to but not 1.
        """
        self._parameters = dict(parameters)
        self._decay = decay
        self._average: dict[str, Tensor] = {}
        self.restart()

    def restart(self) -> None:
        """Begin again with the weights as they are now, e.g. once those of a file have been put in."""
        self._average = {
            name: parameter.detach().to(torch.float32, copy=True)
            for name, parameter in self._parameters.items()
        }

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after an optimizer step of this expert."""
        for name, parameter in self._parameters.items():
            average = self._average[name]
            # Offloading may have moved the weights since.
            weight = parameter.detach().to(average.device, torch.float32)
            average.mul_(self._decay).add_(weight, alpha=1.0 - self._decay)

    def state(self) -> dict[str, Tensor]:
        """Copies of the average, float32 on the CPU, by name."""
        return {name: average.to("cpu", copy=True) for name, average in self._average.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned; nothing is changed if it does not fit.

        Raises:
            ValueError: a name is missing or unknown, or a shape is another.
        """
        shapes = {name: tensor.shape for name, tensor in state.items()}
        if shapes != {name: average.shape for name, average in self._average.items()}:
            raise ValueError("the saved average is of other weights")
        for name, average in self._average.items():
            average.copy_(state[name])

    @contextmanager
    def swapped_in(self) -> Generator[None]:
        """Compute with the average in place of the weights, which come back to the bit.

        No update may happen inside. The weights wait in main memory, so that the GPU holds no third copy.
        """
        weights = {
            name: parameter.detach().to("cpu", copy=True) for name, parameter in self._parameters.items()
        }
        try:
            self._fill(self._average)
            yield
        finally:
            self._fill(weights)

    @torch.no_grad()
    def _fill(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(values[name])
