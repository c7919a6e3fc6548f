"""SOFT as released by its authors (Lu et al., arXiv 2110.11945; code ``fudan-zvg/SOFT``), the official form of ours.

Three stages of SOFT blocks, whose ``W_q`` serves queries and keys, and a softmax stage whose ``kv`` has the keys in its
upper half. SOFT++ has the same names and shapes; the preset decides which of the two it is.
"""

from __future__ import annotations

from typing import Any

from gossamer.nn.models.soft_pyramid import STAGES, SoftPyramidConfig
from gossamer.pretrained.family import (
    TensorRule,
    TensorRules,
    Tensors,
    WeightFamily,
    axis_length,
    batch_norm_rules,
    joined_layer_rules,
    layer_rules,
    square_grid,
)

_CLASSIFIER = "head.weight"
_STEM = "patch_embed1.proj.0.weight"


def _read_fields(tensors: Tensors, preset: SoftPyramidConfig, image_size: tuple[int, int] | None) -> dict[str, Any]:
    stride = preset.stem_stride
    wanted = None if image_size is None else preset.stage_grid(0, image_size)
    rows, columns = square_grid(axis_length(tensors, "pos_embed1", 1, 3), "pos_embed1", wanted)
    own = (rows * stride, columns * stride) if image_size is None or wanted != (rows, columns) else image_size
    found = {"image_size": own, "in_channels": axis_length(tensors, _STEM, 1, 4)}
    return found | ({"num_classes": axis_length(tensors, _CLASSIFIER, 0, 2)} if _CLASSIFIER in tensors else {})


def _list_rules(tensors: Tensors, config: SoftPyramidConfig) -> TensorRules:
    rules = {**layer_rules("norm", "norm"), **layer_rules("head", "classifier")}
    for stage in range(STAGES):
        ours, theirs = f"stages.{stage}", f"patch_embed{stage + 1}.proj"
        rules[f"{ours}.position.table"] = TensorRule((f"pos_embed{stage + 1}",))
        for unit in range(1 if stage else 3):
            rules |= layer_rules(f"{theirs}.{3 * unit}", f"{ours}.embed.{unit}.convolution")
            if config.convolution_norm == "batch":
                rules |= batch_norm_rules(f"{theirs}.{3 * unit + 1}", f"{ours}.embed.{unit}.norm")
        for index in range(config.depths[stage]):
            rules |= _block_rules(f"block{stage + 1}.{index}", f"{ours}.blocks.{index}", stage)
    rules[f"stages.{STAGES - 1}.class_token"] = TensorRule(("cls_token",))
    return rules


def _block_rules(theirs: str, ours: str, stage: int) -> TensorRules:
    if stage == STAGES - 1:
        return {
            **layer_rules(f"{theirs}.norm1", f"{ours}.attention_norm"),
            **joined_layer_rules((f"{theirs}.attn.q", f"{theirs}.attn.kv"), f"{ours}.attention.qkv"),
            **layer_rules(f"{theirs}.attn.proj", f"{ours}.attention.output"),
            **layer_rules(f"{theirs}.norm2", f"{ours}.feed_forward_norm"),
            **layer_rules(f"{theirs}.mlp.fc1", f"{ours}.feed_forward.expand"),
            **layer_rules(f"{theirs}.mlp.fc2", f"{ours}.feed_forward.contract"),
        }
    heads = f"{theirs}.att.mha"
    return {
        **layer_rules(f"{heads}.W_q", f"{ours}.attention.shared"),
        **layer_rules(f"{heads}.W_v", f"{ours}.attention.value"),
        **layer_rules(f"{heads}.ff", f"{ours}.attention.output"),
        f"{ours}.attention.landmark.weight": TensorRule((f"{heads}.attn.Qlandmark_op.weight",)),
        **layer_rules(f"{heads}.attn.Qnorm_act.0", f"{ours}.attention.landmark_norm"),
        f"{ours}.attention.local.weight": TensorRule((f"{heads}.attn.conv.weight",)),
        **layer_rules(f"{theirs}.att.norm1", f"{ours}.attention_norm"),
        **layer_rules(f"{theirs}.att.ff1", f"{ours}.feed_forward.expand"),
        **layer_rules(f"{theirs}.att.ff2", f"{ours}.feed_forward.contract"),
        **layer_rules(f"{theirs}.att.norm2", f"{ours}.feed_forward_norm"),
    }


FAMILY = WeightFamily(
    name="soft_released",
    title="SOFT as released",
    network=SoftPyramidConfig,
    mark=r"block1\.0\.att\.mha\.W_q\.weight",
    read_fields=_read_fields,
    list_rules=_list_rules,
    notes=(
        "SOFT and SOFT++ have the same names and shapes; the preset decides which of the two it is",
        "the Newton iteration is that of the code since July 2022; older Tiny weights were trained with another one",
    ),
)
