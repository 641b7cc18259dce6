"""CUDA streams with pauses, so that what does not wait goes wrong for certain."""

import torch

from trainer.runtime.copy_stream import CudaCopies

PAUSE_CYCLES = 10_000_000
"""Some 5 ms: longer than any copy or block of the tests."""


def pause():
    """Keep the current stream busy."""
    torch.cuda._sleep(PAUSE_CYCLES)


class SlowCopies(CudaCopies):
    """Each copy begins late: who does not wait for it computes with what was there before."""

    def copy(self, pairs, after):
        with torch.cuda.stream(self._stream):
            pause()
        return super().copy(pairs, after)


def milliseconds_of(work, repeats=7):
    """Median duration on the GPU, after a warm-up."""
    work()
    durations = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        work()
        end.record()
        end.synchronize()
        durations.append(start.elapsed_time(end))
    return sorted(durations)[repeats // 2]
