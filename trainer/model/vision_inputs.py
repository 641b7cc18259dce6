"""Frames and instructions as a Qwen-VL model takes them, and what it says about them.

The family's own video processors need torchvision, which nothing else here does. Its image processor does
not, and gives the same patches of each frame by itself; two frames that follow each other are put together
here. `tests/trainer/model/test_vision_inputs.py` holds the result against the original where torchvision is.
"""

# F frames, T frames of one patch, G groups of T frames, S patches of a frame, C channels, P pixels of a patch

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList

from trainer.model.vision_language import VisionLanguageModel

_CHANNELS = 3
_SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"


@dataclass(frozen=True, slots=True)
class Speaking:
    """How words are chosen.

    Attributes:
        max_new_tokens: Where the text is cut off at the latest.
        temperature: 0 takes the likeliest word.
        seed: Of drawn words.
    """

    max_new_tokens: int
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Said:
    """What the model said, and whether it came to an end by itself."""

    text: str
    is_whole: bool


def describe(
    parts: VisionLanguageModel,
    inputs: dict[str, Tensor],
    speaking: Speaking,
    on_word: Callable[[], object],
) -> Said:
    """Let the model speak.

    Args:
        parts: The model.
        inputs: From `inputs_of`.
        speaking: How.
        on_word: Called before each word; what it raises ends the speech.
    """

    class Listener(StoppingCriteria):
        def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
            del scores
            on_word()
            return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)

    tokenizer = parts.tokenizer
    ends = {tokenizer.convert_tokens_to_ids("<|im_end|>"), tokenizer.eos_token_id} - {None}
    drawn = {"temperature": speaking.temperature} if speaking.temperature else {"temperature": None}
    likeliest = {} if speaking.temperature else {"top_p": None, "top_k": None}
    torch.manual_seed(speaking.seed)
    with torch.inference_mode():
        ids = parts.model.generate(
            **inputs,
            max_new_tokens=speaking.max_new_tokens,
            do_sample=bool(speaking.temperature),
            **drawn,
            **likeliest,
            eos_token_id=sorted(ends),
            pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(ends),
            stopping_criteria=StoppingCriteriaList([Listener()]),
        )
    new = ids[0, inputs["input_ids"].shape[1] :].tolist()
    text = tokenizer.decode(new, skip_special_tokens=True)
    # Variants that think aloud first.
    return Said(text.split("</think>")[-1].strip(), bool(new) and new[-1] in ends)


def inputs_of(
    parts: VisionLanguageModel,
    frames_FHWC: NDArray[np.uint8],
    instructions: str,
    frames_per_second: float,
    frame_pixels: int,
) -> dict[str, Tensor]:
    """Everything that the model's `generate` wants, on its device; one frame is shown as a picture.

    Args:
        parts: The model.
        frames_FHWC: RGB 0..255.
        instructions: What to do with them.
        frames_per_second: At which they follow each other.
        frame_pixels: Most pixels of a frame.
    """
    is_video = len(frames_FHWC) > 1
    config, device = parts.model.config, parts.model.device
    patches, grid_thw = patches_of(parts.image_processor, frames_FHWC, frame_pixels)
    group_seconds = int(parts.image_processor.temporal_patch_size) / frames_per_second
    token_id = config.video_token_id if is_video else config.image_token_id
    times = [number / frames_per_second for number in range(len(frames_FHWC))]
    text = prompt_of(parts, grid_thw, instructions, times)
    input_ids = parts.tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    grid = torch.tensor([grid_thw])
    candidates = {
        "input_ids": input_ids,
        "attention_mask": torch.ones_like(input_ids),
        "mm_token_type_ids": (input_ids == token_id).int() * (2 if is_video else 1),
        **(
            {
                "pixel_values_videos": patches,
                "video_grid_thw": grid,
                "second_per_grid_ts": torch.tensor([group_seconds]),
            }
            if is_video
            else {"pixel_values": patches, "image_grid_thw": grid}
        ),
    }
    taken = inspect.signature(type(parts.model).forward).parameters
    return {name: value.to(device) for name, value in candidates.items() if name in taken}


def patches_of(
    image_processor: Any, frames_FHWC: NDArray[np.uint8], frame_pixels: int
) -> tuple[Tensor, tuple[int, int, int]]:
    """The patches of a clip, float (G S, C T P), and its grid: groups of frames, rows and columns of patches.

    The last frame is repeated where the frames do not fill their groups.
    """
    together = int(image_processor.temporal_patch_size)
    side = int(image_processor.patch_size) * int(image_processor.merge_size)
    least = min(side * side * 4, frame_pixels)
    frames = list(frames_FHWC) + [frames_FHWC[-1]] * (-len(frames_FHWC) % together)
    made = image_processor(
        images=frames,
        input_data_format="channels_last",
        size={"shortest_edge": least, "longest_edge": frame_pixels},
        return_tensors="pt",
    )
    _, rows, columns = made["image_grid_thw"][0].tolist()
    groups = len(frames) // together
    # Each frame stands in all T places of its own patches: group t's own place is the one that counts.
    patches_GTSCTP = made["pixel_values"].reshape(groups, together, rows * columns, _CHANNELS, together, -1)
    patches_GSCPT = torch.diagonal(patches_GTSCTP, dim1=1, dim2=4)
    patches = patches_GSCPT.transpose(3, 4).reshape(groups * rows * columns, -1)
    return patches, (groups, rows, columns)


def prompt_of(
    parts: VisionLanguageModel, grid_thw: tuple[int, int, int], instructions: str, times: Sequence[float]
) -> str:
    """The conversation up to the model's turn, with a mark for every token of the clip.

    Args:
        parts: The model.
        grid_thw: Of the patches.
        instructions: What to do.
        times: Of the frames, in seconds; one frame is a picture.
    """
    tokenizer, config = parts.tokenizer, parts.model.config
    is_video = len(times) > 1

    def mark(token_id: int) -> str:
        return str(tokenizer.convert_ids_to_tokens(token_id))

    begin, end = mark(config.vision_start_token_id), mark(config.vision_end_token_id)
    pad = mark(config.video_token_id if is_video else config.image_token_id)
    groups, rows, columns = grid_thw
    of_group = rows * columns // int(parts.image_processor.merge_size) ** 2
    if is_video and parts.kind == "qwen3_vl":
        # It reads the time of each group as words: the middle between its first and last frame.
        together = int(parts.image_processor.temporal_patch_size)
        whole = [*times, *[times[-1]] * (-len(times) % together)]
        middles = [(whole[at] + whole[at + together - 1]) / 2 for at in range(0, len(whole), together)]
        seen = "".join(f"<{middle:.1f} seconds>{begin}{pad * of_group}{end}" for middle in middles)
    else:
        seen = f"{begin}{pad * (groups * of_group)}{end}"
    system = "" if parts.kind == "qwen3_vl" else _SYSTEM
    asked = f"<|im_start|>user\n{seen}{instructions.strip()}<|im_end|>\n"
    return f"{system}{asked}<|im_start|>assistant\n"
