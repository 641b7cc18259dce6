"""Values with many tensors from one process to another: each tensor by itself, without a copy of the whole.

`gather_object` would hold several copies of a checkpoint's state, which is gigabytes for a LoRA of high rank.
"""

import io
import pickle
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class _Pickler(pickle.Pickler):
    """Leaves tensors out, and remembers them; one that occurs twice is the same to the receiver, too."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.tensors: list[Tensor] = []
        self._places: dict[int, int] = {}

    def persistent_id(self, obj: Any) -> int | None:
        if not isinstance(obj, Tensor):
            return None
        if id(obj) not in self._places:
            self._places[id(obj)] = len(self.tensors)
            self.tensors.append(obj)
        return self._places[id(obj)]


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, tensors: list[Tensor]) -> None:
        super().__init__(file)
        self._tensors = tensors

    def persistent_load(self, pid: int) -> Tensor:
        return self._tensors[pid]


def send(value: object, receiver: int, group: dist.ProcessGroup) -> None:
    """Send a value whose tensors lie on the CPU.

    Args:
        value: It can be pickled.
        receiver: Rank of the process that calls `receive`.
        group: Both are in it; of gloo.

    Raises:
        RuntimeError: the other process is gone.
    """
    file = io.BytesIO()
    pickler = _Pickler(file)
    pickler.dump(value)
    shapes = [(tensor.shape, tensor.dtype) for tensor in pickler.tensors]
    dist.send_object_list([file.getvalue(), shapes], receiver, group)
    for tensor in pickler.tensors:
        if tensor.numel():
            dist.send(_bytes_of(tensor.detach().contiguous()), receiver, group)


def receive(sender: int, group: dist.ProcessGroup) -> Any:
    """What the process of this rank sends; errors as of `send`."""
    box: list[Any] = [None, None]
    dist.recv_object_list(box, sender, group)
    content, shapes = box
    tensors = [torch.empty(shape, dtype=dtype) for shape, dtype in shapes]
    for tensor in tensors:
        if tensor.numel():
            dist.recv(_bytes_of(tensor), sender, group)
    return _Unpickler(io.BytesIO(content), tensors).load()


def _bytes_of(tensor: Tensor) -> Tensor:
    """The tensor's own memory."""
    return tensor.view(-1).view(torch.uint8)
