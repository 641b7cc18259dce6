"""What had to be measured of the trainer's memory, in one place; everything else follows from shapes.

Measured on an NVIDIA H200 on 2026-11-24 (torch 2.11, cuDNN 9.19, passes compiled), by the half
of `tests/wan_studio/domain/recorded/measured_h200.json` that is marked for it, and rounded to
the safe side
(`fit_memory_constants.py` beside it); the other half tests them. "Rows" are counted in
units of one activation of all tokens: tokens x width x bytes of a number.
"""

from types import MappingProxyType

GIB = 2**30

BACKWARD_ROWS = MappingProxyType({"nothing": 26.1, "attention": 20.3, "sums": 15.3, "everything": 12.1})
"""Most activations alive at once in a block's backward pass beside what blocks keep, by what a block keeps,
where products are computed in float8: inputs, products and gradients both rounded and not."""
PLAIN_ROWS_SAVED = 1.5
"""Fewer of them where products are computed as they are stored: nothing lies there in float8 as well."""
CHUNKED_ROWS_SAVED = 0.9
"""Fewer where the feed-forward is cut into parts: attention's gradient then needs most."""
AUTOGRAD_ROWS = 48.0
"""The same for blocks that autograd computes (DoRA, LoKr, dropout), where a block keeps its input alone."""
FORWARD_ROWS = 11.0
"""Activations alive at once in a pass without gradient, of a preview."""
BLOCKS_IN_FLIGHT = 2
"""Blocks of which what they keep is on the GPU although it waits in RAM: one computes, one comes."""

STEP_BYTES = round(0.12 * GIB)
"""Of a step, whatever its size: latents, text, workspaces of products, a transposed weight."""
RESERVE_BYTES = round(0.3 * GIB)
RESERVE_ROWS = 3.3
"""What torch's allocator holds beyond what is allocated at the peak: a part that is always there, and rows."""

CONTEXT_BYTES = round(1.0 * GIB)
"""CUDA's context, its libraries' code and the compiled passes; torch does not count them. Measured while training:
0.85 GiB."""
WINDOWS_BYTES = round(0.3 * GIB)
"""More of it under Windows, whose driver pages memory itself."""

ENCODE_BYTES_PER_PIXEL, ENCODE_RESERVE_PER_PIXEL = 17_700, 2_200
DECODE_BYTES_PER_PIXEL, DECODE_RESERVE_PER_PIXEL = 22_900, 5_600
"""Of the VAE in float32 while it encodes and decodes, by pixel of a picture, and what torch reserves beyond: it
takes four frames at a time and keeps features of the last two at every convolution, so the number of frames does
not count."""
HALF_VAE_SHARE = 0.5
"""What of that bf16 takes."""
TILE_PIXELS = 256 * 256
"""Of the tiles in which a preview is decoded that does not fit whole."""
TEXT_WORK_BYTES = round(0.3 * GIB)
"""Of the text encoder beside its weights, for one caption of 512 tokens."""
TEXT_ROUNDING_BYTES = round(0.5 * GIB)
"""More of it while its weights are rounded to 8 bits, one after the other."""

PROCESS_RAM_BYTES = round(3.0 * GIB)
"""RAM of the trainer's process with torch, CUDA and its libraries, without weights."""
WINDOW_RAM_BYTES = round(0.5 * GIB)
"""RAM of the app's window beside it."""
