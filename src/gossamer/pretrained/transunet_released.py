"""TransUNet as its authors' code names it (Chen et al., arXiv 2102.04306): R50-ViT-B/16 and the cascaded upsampler.

Queries, keys and values are three layers, which become one. There is no class token.
"""

from __future__ import annotations

from typing import Any

from gossamer.nn.models.transunet import TransUNetConfig
from gossamer.pretrained.family import (
    Family,
    Made,
    Rules,
    Tensors,
    batch_norm,
    joined_layers,
    layer_rules,
    size_of,
    square_grid,
)

_EMBEDDINGS = "transformer.embeddings"
_ROOT = f"{_EMBEDDINGS}.hybrid_model.root"
_POSITIONS = f"{_EMBEDDINGS}.position_embeddings"
_CLASSIFIER = "segmentation_head.0"


def _described(tensors: Tensors, preset: TransUNetConfig, image_size: tuple[int, int] | None) -> dict[str, Any]:
    side = preset.input_requirements.multiple
    wanted = None if image_size is None else (image_size[0] // side, image_size[1] // side)
    rows, columns = square_grid(size_of(tensors, _POSITIONS, 1, 3), _POSITIONS, wanted)
    found = {
        "image_size": (rows * side, columns * side),
        "in_channels": size_of(tensors, f"{_ROOT}.conv.weight", 1, 4),
    }
    name = f"{_CLASSIFIER}.weight"
    return found | ({"num_classes": size_of(tensors, name, 0, 4)} if name in tensors else {})


def _rules(tensors: Tensors, config: TransUNetConfig) -> Rules:
    if config.stem != "resnet" or config.norm != "batch":
        return {}
    rules = {
        "stem.root.0.weight": Made((f"{_ROOT}.conv.weight",)),
        **layer_rules(f"{_ROOT}.gn", "stem.root.1"),
        **layer_rules(f"{_EMBEDDINGS}.patch_embeddings", "embed"),
        "encoder.position.table": Made((_POSITIONS,)),
        **layer_rules("transformer.encoder.encoder_norm", "map.norm"),
        **_unit("decoder.conv_more", "decoder.entry"),
        **layer_rules(_CLASSIFIER, "decoder.classifier"),
    }
    for stage, units in enumerate(config.stem_units):
        for unit in range(units):
            theirs = f"{_EMBEDDINGS}.hybrid_model.body.block{stage + 1}.unit{unit + 1}"
            rules |= _bottleneck(theirs, f"stem.stages.{stage}.{unit}", shortcut=unit == 0)
    for index in range(config.depth):
        theirs, ours = f"transformer.encoder.layer.{index}", f"encoder.blocks.{index}"
        parts = tuple(f"{theirs}.attn.{part}" for part in ("query", "key", "value"))
        rules |= layer_rules(f"{theirs}.attention_norm", f"{ours}.attention_norm")
        rules |= joined_layers(parts, f"{ours}.attention.qkv")
        rules |= layer_rules(f"{theirs}.attn.out", f"{ours}.attention.output")
        rules |= layer_rules(f"{theirs}.ffn_norm", f"{ours}.feed_forward_norm")
        rules |= layer_rules(f"{theirs}.ffn.fc1", f"{ours}.feed_forward.expand")
        rules |= layer_rules(f"{theirs}.ffn.fc2", f"{ours}.feed_forward.contract")
    for index in range(config.doublings):
        for number in (1, 2):
            ours = f"decoder.steps.{index}.convolutions.{number - 1}"
            rules |= _unit(f"decoder.blocks.{index}.conv{number}", ours)
    return rules


def _bottleneck(theirs: str, ours: str, *, shortcut: bool) -> Rules:
    rules: Rules = {}
    for number in (1, 2, 3):
        rules[f"{ours}.branch.{3 * number - 3}.weight"] = Made((f"{theirs}.conv{number}.weight",))
        rules |= layer_rules(f"{theirs}.gn{number}", f"{ours}.branch.{3 * number - 2}")
    if shortcut:
        rules[f"{ours}.shortcut.0.weight"] = Made((f"{theirs}.downsample.weight",))
        rules |= layer_rules(f"{theirs}.gn_proj", f"{ours}.shortcut.1")
    return rules


def _unit(theirs: str, ours: str) -> Rules:
    weight = {f"{ours}.convolution.weight": Made((f"{theirs}.0.weight",))}
    return weight | batch_norm(f"{theirs}.1", f"{ours}.norm")


FAMILY = Family(
    name="transunet_released",
    title="TransUNet of its authors",
    kind=TransUNetConfig,
    mark=r"transformer\.embeddings\.hybrid_model\.root\.conv\.weight",
    described=_described,
    rules=_rules,
    classifier="decoder.classifier.",
    notes=("a file of weights does not say how many heads there are; those of the preset are taken",),
)
