"""TransUNet with the names of its authors' code (Chen et al., arXiv 2102.04306).

It is R50-ViT-B/16 with the cascaded upsampler. Queries, keys and values are three layers, which become one. There is no
class token.
"""

from __future__ import annotations

from typing import Any

from gossamer.nn.models.transunet import TransUNetConfig
from gossamer.pretrained.family import (
    HEADS,
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

_EMBEDDINGS = "transformer.embeddings"
_ROOT = f"{_EMBEDDINGS}.hybrid_model.root"
_POSITIONS = f"{_EMBEDDINGS}.position_embeddings"
_CLASSIFIER = "segmentation_head.0"


def _read_fields(tensors: Tensors, preset: TransUNetConfig, image_size: tuple[int, int] | None) -> dict[str, Any]:
    side = preset.input_requirements.multiple
    wanted = None if image_size is None else (image_size[0] // side, image_size[1] // side)
    rows, columns = square_grid(axis_length(tensors, _POSITIONS, 1, 3), _POSITIONS, wanted)
    found = {
        "image_size": (rows * side, columns * side),
        "in_channels": axis_length(tensors, f"{_ROOT}.conv.weight", 1, 4),
    }
    name = f"{_CLASSIFIER}.weight"
    return found | ({"num_classes": axis_length(tensors, name, 0, 4)} if name in tensors else {})


def _list_rules(tensors: Tensors, config: TransUNetConfig) -> TensorRules:
    if config.stem != "resnet" or config.norm != "batch":
        return {}
    rules = {
        "stem.root.0.weight": TensorRule((f"{_ROOT}.conv.weight",)),
        **layer_rules(f"{_ROOT}.gn", "stem.root.1"),
        **layer_rules(f"{_EMBEDDINGS}.patch_embeddings", "embed"),
        "encoder.position.table": TensorRule((_POSITIONS,)),
        **layer_rules("transformer.encoder.encoder_norm", "map.norm"),
        **_unit_rules("decoder.conv_more", "decoder.entry"),
        **layer_rules(_CLASSIFIER, "decoder.classifier"),
    }
    for stage, units in enumerate(config.stem_units):
        for unit in range(units):
            theirs = f"{_EMBEDDINGS}.hybrid_model.body.block{stage + 1}.unit{unit + 1}"
            rules |= _bottleneck_rules(theirs, f"stem.stages.{stage}.{unit}", shortcut=unit == 0)
    for index in range(config.depth):
        theirs, ours = f"transformer.encoder.layer.{index}", f"encoder.blocks.{index}"
        parts = tuple(f"{theirs}.attn.{part}" for part in ("query", "key", "value"))
        rules |= layer_rules(f"{theirs}.attention_norm", f"{ours}.attention_norm")
        rules |= joined_layer_rules(parts, f"{ours}.attention.qkv")
        rules |= layer_rules(f"{theirs}.attn.out", f"{ours}.attention.output")
        rules |= layer_rules(f"{theirs}.ffn_norm", f"{ours}.feed_forward_norm")
        rules |= layer_rules(f"{theirs}.ffn.fc1", f"{ours}.feed_forward.expand")
        rules |= layer_rules(f"{theirs}.ffn.fc2", f"{ours}.feed_forward.contract")
    for index in range(config.doublings):
        for number in (1, 2):
            ours = f"decoder.steps.{index}.convolutions.{number - 1}"
            rules |= _unit_rules(f"decoder.blocks.{index}.conv{number}", ours)
    return rules


def _bottleneck_rules(theirs: str, ours: str, *, shortcut: bool) -> TensorRules:
    rules: TensorRules = {}
    for number in (1, 2, 3):
        rules[f"{ours}.branch.{3 * number - 3}.weight"] = TensorRule((f"{theirs}.conv{number}.weight",))
        rules |= layer_rules(f"{theirs}.gn{number}", f"{ours}.branch.{3 * number - 2}")
    if shortcut:
        rules[f"{ours}.shortcut.0.weight"] = TensorRule((f"{theirs}.downsample.weight",))
        rules |= layer_rules(f"{theirs}.gn_proj", f"{ours}.shortcut.1")
    return rules


def _unit_rules(theirs: str, ours: str) -> TensorRules:
    weight = {f"{ours}.convolution.weight": TensorRule((f"{theirs}.0.weight",))}
    return weight | batch_norm_rules(f"{theirs}.1", f"{ours}.norm")


FAMILY = WeightFamily(
    name="transunet_released",
    title="TransUNet of its authors",
    network=TransUNetConfig,
    mark=r"transformer\.embeddings\.hybrid_model\.root\.conv\.weight",
    read_fields=_read_fields,
    list_rules=_list_rules,
    classifier="decoder.classifier.",
    notes=(HEADS,),
)
