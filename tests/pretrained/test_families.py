"""Every family of names: official names and shapes fit, every tensor is accounted for, the function is theirs."""

from __future__ import annotations

import dataclasses
import re

import official_names as names
import published_forward as theirs
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.attention import SoftConfig
from gossamer.nn.models import PRESETS
from gossamer.nn.models.base import NetworkConfig
from gossamer.nn.models.soft_pyramid import SoftPyramidConfig
from gossamer.nn.models.transunet import TransUNetConfig
from gossamer.nn.models.vit import ViTConfig
from gossamer.pretrained import FAMILIES
from gossamer.pretrained.family import match_preset
from gossamer.pretrained.load import ImportedNetwork, find_family, load_published
from gossamer.pretrained.published_file import PublishedFile

VIT = ViTConfig(patch_size=4, dim=24, depth=2, num_heads=3)
TRANSUNET = TransUNetConfig(
    stem_width=32, stem_units=(2, 1), decoder_widths=(24, 16, 12, 8), dim=24, depth=2, num_heads=3, dropout=0.0
)
SOFT_DIMS, SOFT_DEPTHS, SOFT_HEADS = (16, 24, 40, 48), (1, 2, 1, 2), (2, 3, 5, 6)
SOFT = SoftPyramidConfig(
    dims=SOFT_DIMS,
    depths=SOFT_DEPTHS,
    num_heads=SOFT_HEADS,
    attention=SoftConfig(landmarks="convolution", scale="none"),
    local_kernels=(9, 5, 3, 0),
    last_stage="softmax",
    pooling="class_token",
)


def source(shapes: names.Shapes, seed: int = 0) -> PublishedFile:
    return PublishedFile("weights.safetensors", "safetensors", "0" * 64, 1, names.drawn(shapes, seed))


def small_vit(**changes: int) -> names.Shapes:
    return names.timm_vit(24, 2, **{"side": 3, "patch": 4, "classes": 5, **changes})


def small_hugging_face(**changes: object) -> names.Shapes:
    return names.hugging_face_vit(24, 2, **{"side": 3, "patch": 4, "classes": 5, **changes})  # type: ignore[arg-type]


def small_soft() -> names.Shapes:
    return names.soft(SOFT_DIMS, SOFT_DEPTHS, SOFT_HEADS, side=8, classes=5)


def small_transunet() -> names.Shapes:
    return names.transunet(dim=24, depth=2, width=32, units=(2, 1), widths=(24, 16, 12, 8), side=3, classes=5)


SMALL = {
    "timm": (small_vit(), VIT),
    "timm_distilled": (small_vit(prefix=2), VIT),
    "hugging_face": (small_hugging_face(pooler=True), VIT),
    "hugging_face_later": (small_hugging_face(later=True), VIT),
    "hugging_face_deit": (small_hugging_face(body="deit.", distilled=True), VIT),
    "soft": (small_soft(), SOFT),
    "transunet": (small_transunet(), TRANSUNET),
}
PUBLISHED = {
    "vit_tiny": (names.timm_vit(192, 12), 5_717_416),
    "vit_small": (names.timm_vit(384, 12), 22_050_664),
    "vit_base": (names.timm_vit(768, 12), 86_567_656),
    "transunet": (names.transunet(), 105_276_356),
    "soft_tiny_official": (names.soft((64, 128, 320, 512), (1, 2, 3, 2), (2, 4, 10, 16)), 13_069_056),
    "soft_small_official": (names.soft((64, 128, 320, 512), (1, 3, 7, 4), (2, 4, 10, 16)), 24_110_092),
    "soft_small_20_official": (names.soft((64, 128, 320, 512), (1, 3, 20, 4), (2, 4, 10, 16)), 38_858_462),
    "soft_medium_official": (names.soft((64, 128, 288, 512), (1, 3, 29, 5), (2, 4, 9, 16)), 45_812_707),
    "soft_norm_large_official": (names.soft((64, 128, 320, 512), (1, 3, 40, 5), (2, 4, 10, 16)), 64_700_646),
    "soft_huge_official": (names.soft((64, 128, 352, 512), (1, 5, 49, 5), (2, 4, 11, 16)), 87_108_273),
}


@pytest.mark.parametrize("preset", PUBLISHED)
def test_published_names_and_shapes_fit_the_preset_and_leave_nothing(preset: str) -> None:
    shapes, count = PUBLISHED[preset]
    assert names.parameters(shapes) == count
    tensors = names.on_meta(shapes)
    (family,) = [family for family in FAMILIES.values() if family.recognizes(tensors)]
    found = match_preset(family, tensors, PRESETS[preset], None)
    assert found.config == dataclasses.replace(PRESETS[preset], num_classes=found.config.num_classes)
    assert found.fresh == ()
    assert found.left_out == {}
    used = [name for made in found.rules.values() for name in made.names]
    assert sorted(used) == sorted(shapes)


@pytest.mark.parametrize("case", SMALL)
def test_every_tensor_is_accounted_for(case: str) -> None:
    shapes, config = SMALL[case]
    given = source(shapes)
    network, report = load_published(given, config)
    own = network.state_dict()
    assert [entry.name for entry in report.theirs] == list(shapes)
    assert [entry.name for entry in report.ours] == list(own)
    for entry in report.theirs:
        assert (entry.fate == "left out") == (not entry.ours)
        assert (entry.fate == "used") == (not entry.how)
        assert all(own[name].shape == next(o.shape for o in report.ours if o.name == name) for name in entry.ours)
    for entry in report.ours:
        assert (entry.fate == "loaded") == bool(entry.theirs)
        assert all(entry.name in next(t.ours for t in report.theirs if t.name == name) for name in entry.theirs)
    # Where nothing is adapted, all values of the tensors that are used stand in the network, and no others.
    adapted = {name for entry in report.ours if entry.how for name in entry.theirs}
    left = {entry.name for entry in report.theirs if entry.fate == "left out"}
    before = values({name: t for name, t in given.tensors.items() if name not in adapted | left})
    after = values({entry.name: own[entry.name] for entry in report.ours if not entry.how})
    torch.testing.assert_close(after, before, rtol=0, atol=0)


def values(tensors: dict[str, Tensor]) -> Tensor:
    return torch.cat([tensor.double().flatten() for tensor in tensors.values()]).sort().values


def compare(imported: ImportedNetwork, expected: Tensor, images: Tensor) -> None:
    with torch.no_grad():
        found = imported.network.double()(images)
    assert found.std() > 0.1  # or the comparison says little
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def wide(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.double() for name, tensor in tensors.items()}


def pictures(rows: int, columns: int, channels: int = 3) -> Tensor:
    return torch.randn(2, channels, rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def test_timm_is_the_same_function() -> None:
    given, images = source(small_vit()), pictures(12, 12)
    compare(load_published(given, VIT), theirs.timm_vit(wide(given.tensors), images, 3, 2), images)


def test_timm_without_a_position_of_the_class_token_and_with_scaled_branches() -> None:
    scales = {f"blocks.{index}.ls{number}.gamma": (24,) for index in range(2) for number in (1, 2)}
    given, images = source(small_vit(prefix=0) | scales), pictures(12, 12)
    imported = load_published(given, VIT)
    compare(imported, theirs.timm_vit(wide(given.tensors), images, 3, 2), images)
    fates = {entry.name: entry for entry in imported.account.theirs}
    assert "zeros for the class token" in fates["pos_embed"].how


def test_timm_at_another_size_resamples_the_positions_and_keeps_the_class_token() -> None:
    given, images = source(small_vit()), pictures(16, 24)
    state = wide(given.tensors)
    token, grid = state["pos_embed"].split([1, 9], dim=1)
    plane = F.interpolate(grid.transpose(1, 2).reshape(1, 24, 3, 3), (4, 6), mode="bicubic")
    state["pos_embed"] = torch.cat([token, plane.flatten(2).transpose(1, 2)], dim=1)
    imported = load_published(given, VIT, image_size=(16, 24))
    with torch.no_grad():
        found = imported.network.double()(images)
    torch.testing.assert_close(found, theirs.timm_vit(state, images, 3, 2), rtol=1e-4, atol=1e-4)  # made in float32
    fates = {entry.name: (entry.fate, entry.how) for entry in imported.account.theirs}
    assert fates["pos_embed"] == ("adapted", "resampled from 3x3 to 4x6")
    assert imported.account.counts()["adapted"] == 1


def test_one_channel_gets_the_sum_and_other_classes_a_fresh_classifier() -> None:
    given = source(small_vit())
    network, report = load_published(given, VIT, in_channels=1, num_classes=2)
    summed = given.tensors["patch_embed.proj.weight"].sum(dim=1, keepdim=True)
    torch.testing.assert_close(network.state_dict()["patch_embed.stem.weight"], summed)
    grey = pictures(12, 12, 1)
    whole = load_published(given, VIT).network.double()
    with torch.no_grad():
        torch.testing.assert_close(
            network.double().patch_embed(grey)[0], whole.patch_embed(grey.repeat(1, 3, 1, 1))[0], rtol=1e-5, atol=1e-5
        )
    fates = {entry.name: (entry.fate, entry.how) for entry in report.theirs if entry.fate != "used"}
    assert fates == {
        "patch_embed.proj.weight": ("adapted", "3 to 1 input channels"),
        "head.weight": ("left out", "other classes"),
        "head.bias": ("left out", "other classes"),
    }
    assert [entry.name for entry in report.ours if entry.fate == "fresh"] == ["classifier.weight", "classifier.bias"]


def test_what_is_fresh_is_the_same_every_time_and_leaves_the_generator_alone() -> None:
    given = source(small_vit())
    before = torch.random.get_rng_state()
    first, second = (load_published(given, VIT, num_classes=2).network.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(before, torch.random.get_rng_state())


def test_distillation_is_left_out_with_its_position() -> None:
    given, images = source(small_vit(prefix=2)), pictures(12, 12)
    imported = load_published(given, VIT)
    state = wide(given.tensors)
    state["pos_embed"] = state["pos_embed"][:, [0, *range(2, 11)]]
    compare(imported, theirs.timm_vit(state, images, 3, 2), images)
    left = {entry.name for entry in imported.account.theirs if entry.fate == "left out"}
    assert left == {"dist_token", "head_dist.weight", "head_dist.bias"}


@pytest.mark.parametrize("later", [False, True])
def test_hugging_face_is_the_same_function(later: bool) -> None:
    given, images = source(small_hugging_face(later=later)), pictures(12, 12)
    expected = theirs.hugging_face_vit(wide(given.tensors), images, 3, 2, later=later)
    compare(load_published(given, VIT), expected, images)


@pytest.mark.parametrize("later", [False, True])
def test_hugging_face_without_a_head(later: bool) -> None:
    given = source(small_hugging_face(body="", later=later, classifier=None, pooler=True))
    network, report = load_published(given, VIT, num_classes=7)
    assert network.config.num_classes == 7
    assert {entry.name for entry in report.ours if entry.fate == "fresh"} == {"classifier.weight", "classifier.bias"}
    assert {entry.name for entry in report.theirs if entry.fate == "left out"} == {
        "pooler.dense.weight",
        "pooler.dense.bias",
    }


def test_hugging_face_with_the_teacher_of_deit() -> None:
    shapes = small_hugging_face(body="deit.", distilled=True, classifier="cls_classifier")
    given = source(shapes | names.both("distillation_classifier", 5, 24))
    network, report = load_published(given, VIT)
    assert torch.equal(network.state_dict()["classifier.weight"], given.tensors["cls_classifier.weight"])
    assert {entry.name for entry in report.theirs if entry.fate == "left out"} == {
        "deit.embeddings.distillation_token",
        "distillation_classifier.weight",
        "distillation_classifier.bias",
    }


def test_soft_is_the_same_function() -> None:
    given, images = source(small_soft()), pictures(32, 32)
    expected = theirs.soft(wide(given.tensors), images, SOFT_DEPTHS, SOFT_HEADS, jitter=0.01)
    compare(load_published(given, SOFT), expected, images)


def test_soft_at_another_size_resamples_as_the_released_code_does() -> None:
    given, images = source(small_soft()), pictures(40, 64)
    network, report = load_published(given, SOFT, image_size=(40, 64))
    whole = load_published(given, SOFT).network
    with torch.no_grad():
        torch.testing.assert_close(network.double()(images), whole.double()(images), rtol=1e-4, atol=1e-4)
    assert {entry.name for entry in report.theirs if entry.fate == "adapted"} == {f"pos_embed{i}" for i in (1, 2, 3, 4)}


def test_transunet_is_the_same_function() -> None:
    given, images = source(small_transunet()), pictures(24, 24)
    expected = theirs.transunet(wide(given.tensors), images, (2, 1), 3, 2, steps=3)
    compare(load_published(given, TRANSUNET), expected, images)


def test_transunet_tiles_one_channel_and_keeps_its_weights() -> None:
    given, images = source(small_transunet()), pictures(24, 24, 1)
    imported = load_published(given, TRANSUNET, in_channels=1)
    compare(imported, theirs.transunet(wide(given.tensors), images.repeat(1, 3, 1, 1), (2, 1), 3, 2, steps=3), images)
    assert imported.account.counts()["adapted"] == 0


def test_counters_of_batch_normalization_may_be_missing() -> None:
    shapes = {name: shape for name, shape in small_transunet().items() if not name.endswith("num_batches_tracked")}
    _, report = load_published(source(shapes), TRANSUNET)
    assert {entry.name.rsplit(".", 1)[1] for entry in report.ours if entry.fate == "fresh"} == {"num_batches_tracked"}


@pytest.mark.parametrize(
    ("shapes", "preset", "fitting"),
    [
        (names.timm_vit(384, 12), "vit_tiny", ["vit_small"]),
        (names.timm_vit(192, 12), "vit_tiny_conv", ["vit_tiny"]),
        (names.hugging_face_vit(768, 12), "setr_naive", ["vit_base"]),
        (
            names.soft((64, 128, 320, 512), (1, 3, 20, 4), (2, 4, 10, 16)),
            "soft_small_official",
            ["soft_small_20_official", "soft_norm_small_20_official"],
        ),
        (
            names.soft((64, 128, 320, 512), (1, 2, 3, 2), (2, 4, 10, 16)),
            "soft_tiny",
            ["soft_tiny_official", "soft_norm_tiny_official"],
        ),
    ],
)
def test_another_network_is_named_where_the_file_fits_it(shapes: names.Shapes, preset: str, fitting: list[str]) -> None:
    given = PublishedFile("a.safetensors", "safetensors", "", 1, names.on_meta(shapes))
    with pytest.raises(GossamerError) as caught:
        load_published(given, preset)
    assert caught.value.code is ErrorCode.CONFIG
    assert caught.value.where == given.file
    assert re.findall(r"\b(?:vit|soft)_\w+", caught.value.remedy) == fitting


def without(shapes: names.Shapes, name: str) -> names.Shapes:
    return {key: shape for key, shape in shapes.items() if key != name}


@pytest.mark.parametrize(
    ("shapes", "config", "code", "text"),
    [
        (small_vit() | {"blocks.0.attn.q_norm.weight": (8,)}, VIT, ErrorCode.UNSUPPORTED, "q_norm"),
        (small_vit() | {"reg_token": (1, 4, 24)}, VIT, ErrorCode.UNSUPPORTED, "reg_token"),
        (small_vit() | names.both("blocks.2.norm1", 24), VIT, ErrorCode.UNSUPPORTED, "blocks.2.norm1.weight"),
        (without(small_vit(), "blocks.1.mlp.fc2.bias"), VIT, ErrorCode.MISSING, "blocks.1.mlp.fc2.bias"),
        (without(small_vit(), "pos_embed"), VIT, ErrorCode.MISSING, "pos_embed"),
        (without(small_vit(), "head.bias"), VIT, ErrorCode.MISSING, "head.bias"),
        (small_vit() | {"norm.weight": (23,)}, VIT, ErrorCode.VALUE, "(23,)"),
        (small_vit() | {"pos_embed": (1, 8, 24)}, VIT, ErrorCode.GEOMETRY, "7 positions"),
        (small_vit() | {"pos_embed": (24,)}, VIT, ErrorCode.VALUE, "3 axes"),
        (small_hugging_face() | {"decoder.0.weight": (8, 24)}, VIT, ErrorCode.UNSUPPORTED, "decoder.0.weight"),
        (without(small_transunet(), "decoder.conv_more.1.bias"), TRANSUNET, ErrorCode.MISSING, "conv_more.1.bias"),
        (without(small_soft(), "block1.0.att.mha.attn.conv.weight"), SOFT, ErrorCode.MISSING, "attn.conv.weight"),
        (without(small_soft(), "cls_token"), SOFT, ErrorCode.MISSING, "cls_token"),
        ({"conv1.weight": (64, 3, 7, 7), "fc.bias": (5,)}, VIT, ErrorCode.UNSUPPORTED, "conv1.weight"),
    ],
)
def test_nothing_is_dropped_or_invented(
    shapes: names.Shapes, config: NetworkConfig, code: ErrorCode, text: str
) -> None:
    with pytest.raises(GossamerError) as caught:
        load_published(source(shapes), config)
    assert caught.value.code is code
    assert text in str(caught.value)


def test_other_attention_is_for_after_the_import() -> None:
    with pytest.raises(GossamerError) as caught:
        load_published(source(small_vit()), VIT, attention="sequence_norm")
    assert (caught.value.code, caught.value.where) == (ErrorCode.UNSUPPORTED, "attention")
    load_published(source(small_vit()), VIT, attention="softmax")


def test_values_are_checked() -> None:
    given = source(small_vit())
    given.tensors["blocks.1.norm2.bias"][3] = float("nan")
    with pytest.raises(GossamerError, match=r"blocks\.1\.norm2\.bias.*NaN") as caught:
        load_published(given, VIT)
    assert caught.value.code is ErrorCode.VALUE
    given.tensors["blocks.1.norm2.bias"] = torch.zeros(24, dtype=torch.int8)
    with pytest.raises(GossamerError, match="int8") as caught:
        load_published(given, VIT)
    assert caught.value.code is ErrorCode.VALUE


def test_half_precision_is_widened() -> None:
    given = source(small_vit())
    half = dataclasses.replace(given, tensors={name: tensor.bfloat16() for name, tensor in given.tensors.items()})
    state = load_published(half, VIT).network.state_dict()
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    assert torch.equal(state["norm.weight"], given.tensors["norm.weight"].bfloat16().float())


def test_families_do_not_recognize_each_other() -> None:
    for case, (shapes, _) in SMALL.items():
        found = [family.name for family in FAMILIES.values() if family.recognizes(shapes)]
        assert found == [find_family(source(shapes)).name], case
