"""What a Qwen-VL model gets of a clip: the frames' own patches, in the family's own order."""

import numpy as np
import pytest
import torch
from transformers import Qwen2VLImageProcessorPil

from tests.tiny_vision_language import KINDS, make_vision_language
from trainer.model.vision_inputs import Speaking, describe, inputs_of, patches_of
from trainer.model.vision_language import load_vision_language

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=KINDS)
def parts(request, tmp_path_factory):
    folder = make_vision_language(tmp_path_factory.mktemp("model") / request.param, request.param)
    return load_vision_language(folder, str(folder), CPU, "none")


def frames_of(count, height=56, width=84):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def test_two_frames_share_their_patches_and_an_odd_one_is_repeated():
    frames = np.stack([np.full((56, 56, 3), value, np.uint8) for value in (0, 100, 200)])
    patches, grid = patches_of(Qwen2VLImageProcessorPil(do_normalize=False), frames, 56 * 56)
    assert grid == (2, 4, 4)
    values = (patches.reshape(2, 16, 3, 2, 14 * 14) * 255).round()
    assert [values[group, :, :, at].unique().tolist() for group in (0, 1) for at in (0, 1)] == [
        [0.0],
        [100.0],
        [200.0],
        [200.0],
    ]


def test_frames_are_scaled_down_to_the_most_pixels():
    _, (groups, rows, columns) = patches_of(Qwen2VLImageProcessorPil(), frames_of(2, 480, 832), 224 * 224)
    assert groups == 1
    assert rows * columns * 14 * 14 <= 224 * 224
    assert columns > rows


def test_every_kind_speaks_about_one_frame_and_about_many_and_the_same_each_time(parts):
    for count in (1, 5, 8):
        inputs = inputs_of(parts, frames_of(count), "What moves?", 4.0, 112 * 112)
        marks = inputs["mm_token_type_ids"]
        assert marks.unique().tolist() == [0, 1 if count == 1 else 2]
        first, second = (describe(parts, inputs, Speaking(6), lambda: None) for _ in range(2))
        assert first == second
        assert not first.is_whole


def test_drawn_words_follow_the_seed(parts):
    inputs = inputs_of(parts, frames_of(2), "What moves?", 4.0, 112 * 112)
    said = [describe(parts, inputs, Speaking(12, 1.5, seed), lambda: None).text for seed in (1, 1, 2)]
    assert said[0] == said[1] != said[2]


def test_what_is_raised_at_a_word_ends_the_speech(parts):
    words = []

    def on_word():
        words.append(1)
        if len(words) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        describe(parts, inputs_of(parts, frames_of(2), "?", 4.0, 112 * 112), Speaking(100), on_word)
    assert len(words) == 3


def test_patches_and_tokens_are_those_of_the_familys_own_processor(parts):
    pytest.importorskip("torchvision")
    from transformers import Qwen2_5_VLProcessor, Qwen2VLProcessor, Qwen3VLProcessor
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

    is_third = parts.kind == "qwen3_vl"
    video = (Qwen3VLVideoProcessor if is_third else Qwen2VLVideoProcessor)(
        do_resize=False, do_sample_frames=False
    )
    made = {"qwen2_vl": Qwen2VLProcessor, "qwen2_5_vl": Qwen2_5_VLProcessor}.get(parts.kind, Qwen3VLProcessor)
    processor = made(parts.image_processor, parts.tokenizer, video)
    height, width = (64, 96) if is_third else (56, 84)
    frames = frames_of(5, height, width)
    ours = inputs_of(parts, frames, "What moves?", 4.0, height * width)
    pad = "<|video_pad|>" if is_third else "<|vision_start|><|video_pad|><|vision_end|>"
    system = "" if is_third else "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    theirs = processor(
        text=[f"{system}<|im_start|>user\n{pad}What moves?<|im_end|>\n<|im_start|>assistant\n"],
        videos=[torch.from_numpy(frames).permute(0, 3, 1, 2)],
        video_metadata=[{"fps": 4.0, "total_num_frames": 5, "frames_indices": list(range(5))}],
        return_tensors="pt",
    )
    for name, value in ours.items():
        assert torch.allclose(value.float(), torch.as_tensor(theirs[name]).float(), atol=1e-5), name
