import pytest
import torch

from trainer.protocol.events import MemoryReport
from trainer.protocol.job import Expert
from trainer.runtime.out_of_memory import (
    ClipSize,
    Doing,
    MemoryFigures,
    MemoryRanOutError,
    MemoryWork,
    OutOfMemoryError,
    is_out_of_memory,
    needed_bytes,
    watching_memory,
)
from trainer.runtime.reporter import failure

GIB = 1024**3
WORK = MemoryWork(Doing.BACKWARD, 37, Expert.HIGH, ClipSize(592, 448, 41), batch_size=2)


def test_torchs_error_becomes_one_that_says_what_was_done_and_others_stay():
    with pytest.raises(MemoryRanOutError) as caught, watching_memory(WORK):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has ...")
    assert caught.value.figures.needed == 2.5 * GIB
    for words in ("backward pass of the high-noise expert of step 37", "2 clips of 592 x 448 x 41 frames"):
        assert words in str(caught.value)
    with pytest.raises(RuntimeError, match="another"), watching_memory(WORK):
        raise RuntimeError("another")


def test_the_innermost_work_is_told():
    with (
        pytest.raises(MemoryRanOutError, match="caching captions"),
        watching_memory(MemoryWork(Doing.OTHER)),
        watching_memory(MemoryWork(Doing.CACHING_TEXT)),
    ):
        raise torch.OutOfMemoryError("full")


def test_drivers_and_libraries_word_it_in_plain_errors():
    assert is_out_of_memory(RuntimeError("CUDA error: out of memory"))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"))
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access"))
    assert needed_bytes("Tried to allocate 20.00 MiB") == 20 * 2**20
    assert needed_bytes("no figure") is None


def test_tokens_are_those_that_the_transformer_sees():
    assert ClipSize(512, 512, 41).tokens == 11 * 32 * 32


def test_the_error_tells_the_figures_what_is_saved_and_who_else_holds_memory():
    figures = MemoryFigures(needed=GIB, allocated=20 * GIB, reserved=21 * GIB, total=24 * GIB, others=2 * GIB)
    error = OutOfMemoryError(
        MemoryRanOutError(WORK, figures, "a card"), 36, "Do this.", "model.low_vram=true"
    )
    for words in ("1.00 GiB more needed", "20.00 GiB allocated", "21.00 GiB reserved", "24.00 GiB in all"):
        assert words in error.message
    assert "step 36 is saved" in error.message
    assert error.hint == "Other programs hold 2.0 GiB of it; close them. Do this."
    assert (error.kind, error.step, error.remedy) == ("out_of_memory", 36, "model.low_vram=true")


def test_the_same_is_there_for_programs():
    figures = MemoryFigures(needed=GIB, allocated=20 * GIB, reserved=21 * GIB, total=24 * GIB, others=2 * GIB)
    error = OutOfMemoryError(MemoryRanOutError(WORK, figures, "a card"), 36, "Do this.", "")
    assert failure(error).memory == MemoryReport(
        doing="backward",
        expert=Expert.HIGH,
        width=592,
        height=448,
        frames=41,
        batch=2,
        needed_bytes=GIB,
        allocated_bytes=20 * GIB,
        reserved_bytes=21 * GIB,
        total_bytes=24 * GIB,
        others_bytes=2 * GIB,
    )
    unknown = MemoryRanOutError(MemoryWork(Doing.LOADING), MemoryFigures(), "a card")
    assert unknown.report == MemoryReport(doing="loading")
    assert failure(ValueError("another")).memory is None


def test_what_the_failed_frames_held_is_let_go():
    import weakref

    class Heavy:
        pass

    held = []

    def fail():
        heavy = Heavy()
        held.append(weakref.ref(heavy))
        raise torch.OutOfMemoryError("full")

    try:
        with watching_memory(WORK):
            fail()
    except MemoryRanOutError as error:
        assert held[0]() is not None
        error.let_go()
        assert held[0]() is None
