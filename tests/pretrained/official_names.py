"""Names and shapes of published weights, as papers and libraries state them; and weights drawn at random.

Nothing here knows the package: the tables are what its own are tested against.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]


def both(name: str, *shape: int) -> Shapes:
    """Weight and bias of a layer."""
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def norm(name: str, channels: int) -> Shapes:
    return both(name, channels)


def batch_norm(name: str, channels: int) -> Shapes:
    found = norm(name, channels) | {f"{name}.running_mean": (channels,), f"{name}.running_var": (channels,)}
    return found | {f"{name}.num_batches_tracked": ()}


def timm_vit(
    dim: int, depth: int, *, side: int = 14, patch: int = 16, classes: int = 1000, channels: int = 3, prefix: int = 1
) -> Shapes:
    """``prefix`` positions stand in front of the grid: 1, 2 with distillation, 0 where the class token has none."""
    shapes = {"cls_token": (1, 1, dim), "pos_embed": (1, prefix + side * side, dim)}
    shapes |= both("patch_embed.proj", dim, channels, patch, patch)
    for index in range(depth):
        block = f"blocks.{index}"
        shapes |= norm(f"{block}.norm1", dim) | both(f"{block}.attn.qkv", 3 * dim, dim)
        shapes |= both(f"{block}.attn.proj", dim, dim) | norm(f"{block}.norm2", dim)
        shapes |= both(f"{block}.mlp.fc1", 4 * dim, dim) | both(f"{block}.mlp.fc2", dim, 4 * dim)
    shapes |= norm("norm", dim) | both("head", classes, dim)
    return shapes | ({"dist_token": (1, 1, dim)} | both("head_dist", classes, dim) if prefix == 2 else {})


def hugging_face_vit(
    dim: int,
    depth: int,
    *,
    side: int = 14,
    patch: int = 16,
    classes: int = 1000,
    channels: int = 3,
    body: str = "vit.",
    later: bool = False,
    distilled: bool = False,
    classifier: str | None = "classifier",
    pooler: bool = False,
) -> Shapes:
    """``later`` has the names of release 5 of the library."""
    embeddings = f"{body}embeddings"
    shapes = {
        f"{embeddings}.cls_token": (1, 1, dim),
        f"{embeddings}.position_embeddings": (1, 1 + distilled + side * side, dim),
    }
    shapes |= {f"{embeddings}.distillation_token": (1, 1, dim)} if distilled else {}
    shapes |= both(f"{embeddings}.patch_embeddings.projection", dim, channels, patch, patch)
    for index in range(depth):
        block = f"{body}layers.{index}" if later else f"{body}encoder.layer.{index}"
        old = ("attention.attention.query", "attention.attention.key", "attention.attention.value")
        new = ("attention.q_proj", "attention.k_proj", "attention.v_proj")
        for part in new if later else old:
            shapes |= both(f"{block}.{part}", dim, dim)
        shapes |= both(f"{block}.attention.{'o_proj' if later else 'output.dense'}", dim, dim)
        shapes |= both(f"{block}.{'mlp.fc1' if later else 'intermediate.dense'}", 4 * dim, dim)
        shapes |= both(f"{block}.{'mlp.fc2' if later else 'output.dense'}", dim, 4 * dim)
        shapes |= norm(f"{block}.layernorm_before", dim) | norm(f"{block}.layernorm_after", dim)
    shapes |= norm(f"{body}layernorm", dim)
    shapes |= both(f"{body}pooler.dense", dim, dim) if pooler else {}
    return shapes | (both(classifier, classes, dim) if classifier else {})


def soft(
    dims: tuple[int, ...],
    depths: tuple[int, ...],
    heads: tuple[int, ...],
    *,
    side: int = 56,
    classes: int = 1000,
    channels: int = 3,
) -> Shapes:
    """The released form: ratios 8, 4, 2, local kernels 9, 5, 3, and softmax in the fourth stage."""
    shapes: Shapes = {"cls_token": (1, 1, dims[3])}
    half = dims[0] // 2
    for number, (width_in, width_out) in enumerate([(channels, half), (half, half), (half, dims[0])]):
        shapes |= both(f"patch_embed1.proj.{3 * number}", width_out, width_in, 3, 3)
        shapes |= batch_norm(f"patch_embed1.proj.{3 * number + 1}", width_out)
    for stage in range(4):
        dim, tokens = dims[stage], (side // 2**stage) ** 2
        shapes[f"pos_embed{stage + 1}"] = (1, tokens + (stage == 3), dim)
        if stage:
            shapes |= both(f"patch_embed{stage + 1}.proj.0", dim, dims[stage - 1], 3, 3)
            shapes |= batch_norm(f"patch_embed{stage + 1}.proj.1", dim)
        for index in range(depths[stage]):
            block = f"block{stage + 1}.{index}"
            if stage == 3:
                shapes |= norm(f"{block}.norm1", dim) | norm(f"{block}.norm2", dim)
                shapes |= both(f"{block}.attn.q", dim, dim) | both(f"{block}.attn.kv", 2 * dim, dim)
                shapes |= both(f"{block}.attn.proj", dim, dim)
                shapes |= both(f"{block}.mlp.fc1", 4 * dim, dim) | both(f"{block}.mlp.fc2", dim, 4 * dim)
                continue
            width, ratio, kernel = dim // heads[stage], (8, 4, 2)[stage], (9, 5, 3)[stage]
            for part in ("W_q", "W_v", "ff"):
                shapes |= both(f"{block}.att.mha.{part}", dim, dim)
            attention = f"{block}.att.mha.attn"
            shapes[f"{attention}.Qlandmark_op.weight"] = (width, width, ratio, ratio)
            shapes |= norm(f"{attention}.Qnorm_act.0", width)
            shapes[f"{attention}.conv.weight"] = (heads[stage], 1, kernel, kernel)
            shapes |= norm(f"{block}.att.norm1", dim) | norm(f"{block}.att.norm2", dim)
            shapes |= both(f"{block}.att.ff1", 4 * dim, dim) | both(f"{block}.att.ff2", dim, 4 * dim)
    return shapes | norm("norm", dims[3]) | both("head", classes, dims[3])


def transunet(
    *,
    dim: int = 768,
    depth: int = 12,
    width: int = 64,
    units: tuple[int, ...] = (3, 4, 9),
    widths: tuple[int, ...] = (512, 256, 128, 64, 16),
    side: int = 14,
    classes: int = 4,
) -> Shapes:
    embeddings = "transformer.embeddings"
    root = f"{embeddings}.hybrid_model.root"
    shapes = {f"{root}.conv.weight": (width, 3, 7, 7)} | norm(f"{root}.gn", width)
    kept = [width]
    for stage, count in enumerate(units):
        middle, after = width * 2**stage, 4 * width * 2**stage
        for unit in range(count):
            name = f"{embeddings}.hybrid_model.body.block{stage + 1}.unit{unit + 1}"
            before = kept[-1] if unit == 0 else after
            shapes |= norm(f"{name}.gn1", middle) | {f"{name}.conv1.weight": (middle, before, 1, 1)}
            shapes |= norm(f"{name}.gn2", middle) | {f"{name}.conv2.weight": (middle, middle, 3, 3)}
            shapes |= norm(f"{name}.gn3", after) | {f"{name}.conv3.weight": (after, middle, 1, 1)}
            if unit == 0:
                shapes |= {f"{name}.downsample.weight": (after, before, 1, 1)} | norm(f"{name}.gn_proj", after)
        kept.append(after)
    shapes |= both(f"{embeddings}.patch_embeddings", dim, kept[-1], 1, 1)
    shapes[f"{embeddings}.position_embeddings"] = (1, side * side, dim)
    for index in range(depth):
        block = f"transformer.encoder.layer.{index}"
        shapes |= norm(f"{block}.attention_norm", dim) | norm(f"{block}.ffn_norm", dim)
        for part in ("query", "key", "value", "out"):
            shapes |= both(f"{block}.attn.{part}", dim, dim)
        shapes |= both(f"{block}.ffn.fc1", 4 * dim, dim) | both(f"{block}.ffn.fc2", dim, 4 * dim)
    shapes |= norm("transformer.encoder.encoder_norm", dim)
    shapes |= {"decoder.conv_more.0.weight": (widths[0], dim, 3, 3)} | batch_norm("decoder.conv_more.1", widths[0])
    skips = [*kept[-2::-1], *[0] * len(widths)]
    for index, (coarse, fine) in enumerate(pairwise(widths)):
        for number, before in ((1, coarse + skips[index]), (2, fine)):
            name = f"decoder.blocks.{index}.conv{number}"
            shapes |= {f"{name}.0.weight": (fine, before, 3, 3)} | batch_norm(f"{name}.1", fine)
    return shapes | both("segmentation_head.0", classes, widths[-1], 3, 3)


def drawn(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Weights of a moderate size: scales around 1, variances above 0, everything else around 0."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            tensors[name] = torch.tensor(7)
            continue
        fan_in = max(1, int(torch.tensor(shape[1:]).prod())) if len(shape) > 1 else 1
        spread = fan_in**-0.5 if len(shape) in (2, 4) else 0.2
        tensors[name] = spread * torch.randn(shape, generator=generator)
        if name.endswith(("running_var", "gamma")) or (len(shape) == 1 and name.endswith("weight")):
            tensors[name] = 1 + tensors[name].abs()
    return tensors


def on_meta(shapes: Shapes) -> dict[str, Tensor]:
    """Tensors of these shapes without values."""
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def parameters(shapes: Shapes) -> int:
    """Number of values, without the statistics of batch normalization."""
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    return sum(int(torch.tensor(shape).prod()) for name, shape in shapes.items() if not name.endswith(statistics))
