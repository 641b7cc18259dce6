"""A miniature's weights as other layouts have them: the original release's names, ComfyUI's files, float8."""

import json
import re
import shutil
import struct

import torch
from safetensors.torch import load_file, save_file

HIGH_NAME = "wan2.2_i2v_high_noise_14B_fp16.safetensors"
LOW_NAME = "wan2.2_i2v_low_noise_14B_fp16.safetensors"
VAE_NAME = "wan_2.1_vae.safetensors"
TEXT_NAME = "umt5_xxl_fp16.safetensors"

# From the classes' names to the original ones: the other way round than the program, and in one pass each.
EXPERT_RULES = (
    (r"^scale_shift_table$", "head.modulation"),
    (r"^(blocks\.\d+)\.scale_shift_table$", r"\1.modulation"),
    (r"^proj_out\.", "head.head."),
    (r"^condition_embedder\.text_embedder\.linear_1\.", "text_embedding.0."),
    (r"^condition_embedder\.text_embedder\.linear_2\.", "text_embedding.2."),
    (r"^condition_embedder\.time_embedder\.linear_1\.", "time_embedding.0."),
    (r"^condition_embedder\.time_embedder\.linear_2\.", "time_embedding.2."),
    (r"^condition_embedder\.time_proj\.", "time_projection.1."),
    (r"\.attn1\.to_out\.0\.", ".self_attn.o."),
    (r"\.attn1\.(?:to_)?(\w+)\.", r".self_attn.\1."),
    (r"\.attn2\.to_out\.0\.", ".cross_attn.o."),
    (r"\.attn2\.(?:to_)?(\w+)\.", r".cross_attn.\1."),
    (r"\.ffn\.net\.0\.proj\.", ".ffn.0."),
    (r"\.ffn\.net\.2\.", ".ffn.2."),
    (r"\.norm2\.", ".norm3."),
)
TEXT_RULES = (
    (r"^shared\.", "token_embedding."),
    (r"^encoder\.final_layer_norm\.", "norm."),
    (r"^encoder\.block\.(\d+)\.layer\.0\.layer_norm\.", r"blocks.\1.norm1."),
    (r"^encoder\.block\.(\d+)\.layer\.1\.layer_norm\.", r"blocks.\1.norm2."),
    (
        r"^encoder\.block\.(\d+)\.layer\.0\.SelfAttention\.relative_attention_bias\.",
        r"blocks.\1.pos_embedding.embedding.",
    ),
    (r"^encoder\.block\.(\d+)\.layer\.0\.SelfAttention\.", r"blocks.\1.attn."),
    (r"^encoder\.block\.(\d+)\.layer\.1\.DenseReluDense\.wi_0\.", r"blocks.\1.ffn.gate.0."),
    (r"^encoder\.block\.(\d+)\.layer\.1\.DenseReluDense\.wi_1\.", r"blocks.\1.ffn.fc1."),
    (r"^encoder\.block\.(\d+)\.layer\.1\.DenseReluDense\.wo\.", r"blocks.\1.ffn.fc2."),
)
_RESIDUAL = {
    "norm1": "residual.0",
    "conv1": "residual.2",
    "norm2": "residual.3",
    "conv2": "residual.6",
    "conv_shortcut": "shortcut",
}


def _by_rules(name, rules):
    for pattern, replacement in rules:
        renamed, count = re.subn(pattern, replacement, name)
        if count:
            return renamed
    return name


def original_expert(tensors):
    return {_by_rules(name, EXPERT_RULES): tensor for name, tensor in tensors.items()}


def original_text(tensors):
    return {_by_rules(name, TEXT_RULES): tensor for name, tensor in tensors.items()}


def original_vae(tensors, resnets_per_level=2):
    """The decoder's levels become one list: resnets and then the layer that resamples."""

    def renamed(name):
        name = re.sub(r"^quant_conv", "conv1", name)
        name = re.sub(r"^post_quant_conv", "conv2", name)
        name = re.sub(r"^(encoder|decoder)\.conv_in", r"\1.conv1", name)
        name = re.sub(r"^(encoder|decoder)\.norm_out", r"\1.head.0", name)
        name = re.sub(r"^(encoder|decoder)\.conv_out", r"\1.head.2", name)
        name = name.replace("mid_block.attentions.0", "middle.1")
        name = name.replace("mid_block.resnets.0", "middle.0").replace("mid_block.resnets.1", "middle.2")
        name = name.replace("encoder.down_blocks", "encoder.downsamples")
        name = re.sub(
            r"decoder\.up_blocks\.(\d+)\.resnets\.(\d+)",
            lambda found: f"decoder.upsamples.{int(found[1]) * (resnets_per_level + 1) + int(found[2])}",
            name,
        )
        name = re.sub(
            r"decoder\.up_blocks\.(\d+)\.upsamplers\.0",
            lambda found: f"decoder.upsamples.{int(found[1]) * (resnets_per_level + 1) + resnets_per_level}",
            name,
        )
        return re.sub(
            r"(samples\.\d+|middle\.[02])\.(norm1|conv1|norm2|conv2|conv_shortcut)\.",
            lambda found: f"{found[1]}.{_RESIDUAL[found[2]]}.",
            name,
        )

    return {renamed(name): tensor for name, tensor in tensors.items()}


def in_type(tensors, dtype):
    return {name: tensor.to(dtype).contiguous() for name, tensor in tensors.items()}


def is_quantized(name, tensor):
    return name.endswith(".weight") and tensor.ndim == 2 and ("blocks." in name or "encoder.block." in name)


def quantized_old(tensors, prefix=""):
    """ComfyUI's first float8 files: one scale for each weight, and a marker."""
    stored = {f"{prefix}scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}
    for name, tensor in tensors.items():
        if not is_quantized(name, tensor):
            stored[f"{prefix}{name}"] = tensor.half()
            continue
        scale = tensor.abs().max().float() / 448
        layer = f"{prefix}{name.removesuffix('.weight')}"
        stored[f"{layer}.weight"] = (tensor.float() / scale).to(torch.float8_e4m3fn)
        stored[f"{layer}.scale_weight"] = scale
        stored[f"{layer}.scale_input"] = torch.ones(())
    return stored


def quantized_new(tensors, prefix="", by="metadata", shape=()):
    """ComfyUI's later float8 files; returns the tensors and the file's metadata."""
    stored, layers = {}, {}
    for name, tensor in tensors.items():
        if not is_quantized(name, tensor):
            stored[f"{prefix}{name}"] = tensor.bfloat16()
            continue
        peak = tensor.abs().amax(1, keepdim=True) if shape else tensor.abs().max()
        scale = peak.float() / 448
        layer = f"{prefix}{name.removesuffix('.weight')}"
        stored[f"{layer}.weight"] = (tensor.float() / scale).to(torch.float8_e4m3fn)
        stored[f"{layer}.weight_scale"] = scale.reshape(shape) if shape else scale
        stored[f"{layer}.input_scale"] = torch.ones(())
        layers[layer] = {"format": "float8_e4m3fn"}
        if by == "tensors":
            content = json.dumps(layers[layer]).encode()
            stored[f"{layer}.comfy_quant"] = torch.tensor(list(content), dtype=torch.uint8)
    metadata = {"_quantization_metadata": json.dumps({"format_version": "1.0", "layers": layers})}
    return stored, metadata if by == "metadata" else None


def dequantized(stored, prefix=""):
    """What such files stand for, in bfloat16; the formula of the format, written once more."""
    plain = {}
    for name, tensor in stored.items():
        layer, _, leaf = name.rpartition(".")
        scale = stored.get(f"{layer}.scale_weight", stored.get(f"{layer}.weight_scale"))
        if leaf == "weight" and scale is not None:
            scale = scale.reshape(-1, 1) if scale.numel() > 1 else scale.reshape(())
            plain[name.removeprefix(prefix)] = (tensor.float() * scale).bfloat16()
        elif leaf in ("weight", "bias", "modulation"):
            plain[name.removeprefix(prefix)] = tensor
    return plain


def weights_of(folder, part):
    name = "model" if part == "text_encoder" else "diffusion_pytorch_model"
    return load_file(folder / part / f"{name}.safetensors")


def save_shards(tensors, folder, name="diffusion_pytorch_model.safetensors"):
    """Two files with an index, as large models are stored."""
    folder.mkdir(parents=True, exist_ok=True)
    weight_map, names = {}, sorted(tensors)
    for number, chosen in enumerate((names[::2], names[1::2]), start=1):
        shard = f"{name.removesuffix('.safetensors')}-0000{number}-of-00002.safetensors"
        save_file({key: tensors[key] for key in chosen}, folder / shard)
        weight_map |= dict.fromkeys(chosen, shard)
    (folder / f"{name}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def rounded_base(source, folder, dtype):
    """A copy in the diffusers layout whose weights were rounded to the type: what other layouts are compared with."""
    shutil.copytree(source, folder)
    for file in folder.glob("*/*.safetensors"):
        save_file(in_type(load_file(file), dtype), file, metadata={"format": "pt"})
    return folder


def comfy_folder(source, folder, dtype=torch.float16):
    """ComfyUI's models folder with the files of a base in the diffusers layout."""
    for name in ("diffusion_models", "vae", "text_encoders"):
        (folder / name).mkdir(parents=True)
    for part, name in (("transformer", HIGH_NAME), ("transformer_2", LOW_NAME)):
        save_file(
            in_type(original_expert(weights_of(source, part)), dtype), folder / "diffusion_models" / name
        )
    save_file(in_type(original_vae(weights_of(source, "vae")), dtype), folder / "vae" / VAE_NAME)
    text = in_type(weights_of(source, "text_encoder"), dtype)
    text["spiece_model"] = torch.tensor(list(spiece_of(source / "tokenizer")), dtype=torch.uint8)
    save_file(text, folder / "text_encoders" / TEXT_NAME)
    return folder


def release_folder(source, folder, dtype=torch.float16):
    """The original release's folder with the files of a base in the diffusers layout."""
    for part, name in (("transformer", "high_noise_model"), ("transformer_2", "low_noise_model")):
        save_shards(in_type(original_expert(weights_of(source, part)), dtype), folder / name)
        stored = json.loads((source / part / "config.json").read_text())
        config = {
            "_class_name": "WanModel",
            "model_type": "i2v",
            "dim": stored["num_attention_heads"] * stored["attention_head_dim"],
            "num_heads": stored["num_attention_heads"],
            "in_dim": 36,
            "out_dim": 16,
            "eps": 1e-6,
        }
        (folder / name / "config.json").write_text(json.dumps(config))
    torch.save(in_type(original_vae(weights_of(source, "vae")), dtype), folder / "Wan2.1_VAE.pth")
    text = in_type(original_text(weights_of(source, "text_encoder")), dtype)
    torch.save(text, folder / "models_t5_umt5-xxl-enc-bf16.pth")
    shutil.copytree(source / "tokenizer", folder / "google" / "umt5-xxl")
    return folder


def spiece_of(tokenizer_folder):
    """The bytes of a spiece.model with the pieces of a tokenizer.json."""
    pieces = json.loads((tokenizer_folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    kinds = {0: 3, 1: 3, 2: 2}
    return spiece_bytes([(text, score, kinds.get(token, 1)) for token, (text, score) in enumerate(pieces)])


def spiece_bytes(pieces, character_map=b""):
    """A sentencepiece model file, written field by field. `pieces` are (text, score, kind)."""
    content = b""
    for text, score, kind in pieces:
        piece = _field(1, text.encode()) + b"\x15" + struct.pack("<f", score) + b"\x18" + bytes([kind])
        content += _field(1, piece)
    trainer = b"\x18\x01" + _field(15, b"x" * 300)
    return content + _field(2, trainer) + _field(3, _field(1, b"nmt_nfkc") + _field(2, character_map))


def _field(number, content):
    length, size = len(content), b""
    while length > 127:
        size += bytes([length & 127 | 128])
        length >>= 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + content
