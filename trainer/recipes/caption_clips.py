"""Describe clips with a vision-language model; read it from top to bottom.

1. find the model, 2. load it, 3. for each clip: the frames that train of it, what the model says about them,
one event. Nothing is written beside the clips: the app shows what was said, and its user decides.
"""

import os
import time
from pathlib import Path

import torch

from trainer.data.clip_frames import check_source, read_frames
from trainer.errors import TrainerError
from trainer.model.vision_inputs import Said, Speaking, describe, inputs_of
from trainer.model.vision_language import (
    CaptionMemoryError,
    VisionLanguageModel,
    checked_kind,
    load_vision_language,
    model_folder,
)
from trainer.protocol.captioning import CaptionClip, CaptionRequest
from trainer.protocol.events import CaptionFailed, CaptionMade, Hello, Phase, RunFinished
from trainer.protocol.job import PROTOCOL_VERSION
from trainer.runtime.control import Control, StopRequested
from trainer.runtime.device import GIB, choose_device, device_name
from trainer.runtime.out_of_memory import is_out_of_memory
from trainer.runtime.reporter import Reporter
from trainer.runtime.version import TRAINER_VERSION


def caption_clips(request: CaptionRequest, reporter: Reporter, control: Control) -> None:
    """Describe every clip of the request; a stop ends it at the next word.

    Raises:
        TrainerError: no clip can be described any more; its message says why and what to do.
    """
    device = choose_device(request.gpu)
    reporter.say(
        Hello(
            protocol_version=PROTOCOL_VERSION,
            trainer_version=TRAINER_VERSION,
            pid=os.getpid(),
            device=device_name(device),
            total_steps=len(request.clips),
        )
    )
    try:
        parts = _loaded(request, device, reporter, control)
        made = _describe_all(request, parts, reporter, control)
    except StopRequested:
        reporter.say(RunFinished(reason="stopped", step=0))
        return
    reporter.say(RunFinished(reason="completed", step=made))


def _loaded(
    request: CaptionRequest, device: torch.device, reporter: Reporter, control: Control
) -> VisionLanguageModel:
    with reporter.phase(Phase.LOADING) as report:
        control.raise_if_stopped()
        report.progress(0, request.model)

        def on_bytes(there: int, total: int) -> None:
            report.progress(0, f"Downloading, {there / GIB:.1f} of {total / GIB:.1f} GiB")

        folder = model_folder(request.model, on_bytes)
        checked_kind(folder, request.model)
        control.raise_if_stopped()
        return load_vision_language(folder, request.model, device, request.quantization)


def _describe_all(
    request: CaptionRequest, parts: VisionLanguageModel, reporter: Reporter, control: Control
) -> int:
    """Describe one clip after the other, those that cannot be read left out; returns how many were described."""
    made, total = 0, len(request.clips)
    with reporter.phase(Phase.CAPTIONING, total, "clips") as report:
        for number, one in enumerate(request.clips):
            control.raise_if_stopped()
            report.progress(number, Path(one.clip.source).name)
            began = time.monotonic()
            try:
                said = _said_of(request, one, parts, control)
            except CaptionMemoryError:
                raise
            except TrainerError as error:
                failed = CaptionFailed(clip=one.id, key=one.key, message=error.message, hint=error.hint)
                reporter.say(failed)
                continue
            made += 1
            seconds = time.monotonic() - began
            reporter.say(
                CaptionMade(clip=one.id, key=one.key, text=said.text, is_whole=said.is_whole, seconds=seconds)
            )
        report.progress(total)
    return made


def _said_of(request: CaptionRequest, one: CaptionClip, parts: VisionLanguageModel, control: Control) -> Said:
    """What the model says about one clip.

    Raises:
        TrainerError: the clip cannot be read, or memory ran out.
        StopRequested: meanwhile.
    """
    clip = one.clip
    check_source(clip)
    frames_FHWC = read_frames(Path(clip.source), clip.windows[0], clip.sizes[0], clip.flip)
    speaking = Speaking(request.max_new_tokens, request.temperature, request.seed)
    try:
        told = one.instructions or request.instructions
        inputs = inputs_of(parts, frames_FHWC, told, one.frames_per_second, request.frame_pixels)
        return describe(parts, inputs, speaking, control.raise_if_stopped)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        size = clip.sizes[0]
        raise CaptionMemoryError(
            f"The memory of {device_name(parts.model.device)} does not suffice for {len(frames_FHWC)} frames of "
            f"{size.width} x {size.height} beside the model.",
            "Show it fewer frames or smaller ones, or choose 4 bits or a smaller model.",
        ) from error
