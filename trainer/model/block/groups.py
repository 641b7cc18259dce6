"""Which linears of a block are one product."""

GROUPS: dict[str, tuple[str, ...]] = {
    "self_qkv": ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
    "self_out": ("attn1.to_out.0",),
    "cross_q": ("attn2.to_q",),
    "cross_kv": ("attn2.to_k", "attn2.to_v"),
    "cross_out": ("attn2.to_out.0",),
    "widen": ("ffn.net.0.proj",),
    "narrow": ("ffn.net.2",),
}
"""The ten linears of a block by module path, those with one input together, in the order of computation."""
