"""The Vision Transformer reproduces the counts of its papers and refuses what does not fit."""

from __future__ import annotations

import pytest
import torch

import gossamer
from expected_errors import expect_error
from gossamer.errors import GossamerError


@pytest.mark.parametrize(
    ("name", "attention", "parameters", "gmacs"),
    [
        ("vit_tiny", "sequence_norm", 5_731_240, 1.1329),
        ("vit_small", "sequence_norm", 22_078_312, 4.3574),
        ("vit_base", "sequence_norm", 86_622_952, 17.0809),
        ("vit_tiny", "softmax", 5_717_416, 1.2537),
        ("vit_small", "softmax", 22_050_664, 4.5989),
        ("vit_base", "softmax", 86_567_656, 17.5638),
    ],
)
def test_published_size(name: str, attention: str, parameters: int, gmacs: float) -> None:
    if attention == "sequence_norm":
        # The published count has no products of biases, N C d a layer for each of two products and nothing else.
        gmacs += 12 * {"vit_tiny": 192, "vit_small": 384, "vit_base": 768}[name] * 64 / 1e9
    model = gossamer.create_model(name, attention=attention)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert model.cost().macs / 1e9 == pytest.approx(gmacs, abs=5e-5)


@pytest.mark.parametrize(
    ("side", "folded", "gram", "softmax"), [(448, 17.363, 17.066, 22.579), (1024, 90.619, 76.648, 242.897)]
)
def test_growth_with_the_image(side: int, folded: float, gram: float, softmax: float) -> None:
    # The published figure of the gram form leaves out vectors, and merging the means of chunks of 1,024 tokens.
    chunks = -(-((side // 16) ** 2 + 1) // 1024)
    gram += 12 * 384**2 * (2 + (2 * chunks if chunks > 1 else 1)) / 1e9
    for attention, wanted in (
        ({"name": "sequence_norm", "evaluation": "folded"}, folded),
        ("sequence_norm", gram),
        ("softmax", softmax),
    ):
        model = gossamer.create_model("vit_small", attention=attention)
        assert model.cost((side, side)).macs / 1e9 == pytest.approx(wanted, abs=9e-4)


def test_refuses_images_that_the_patch_does_not_divide() -> None:
    with expect_error("image_size", "97x64", 16, "112x64"):
        gossamer.create_model("vit_tiny", image_size=(97, 64))
    model = gossamer.create_model("vit_nano", image_size=(32, 32), patch_size=8)
    with expect_error("image_size", "40x32"):
        model(torch.zeros(1, 3, 33, 32))


def test_convolutional_stem_needs_a_power_of_two() -> None:
    with expect_error("patch_size", 7, "1, 2, 4, 8 or 16"):
        gossamer.create_model("vit_nano", stem="convolutional", patch_size=7, image_size=(28, 28))


@pytest.mark.parametrize("patch_size", [1, 2, 4, 8, 16])
def test_both_stems_give_the_same_grid(patch_size: int) -> None:
    for stem in ("patch", "convolutional"):
        options = {
            "stem": stem,
            "patch_size": patch_size,
            "image_size": (16, 48),
            "depth": 1,
            "dim": 32,
            "num_heads": 2,
        }
        model = gossamer.create_model("vit_nano", in_channels=1, num_classes=2, **options)  # type: ignore[arg-type]
        tokens, grid = model.patch_embed(torch.zeros(2, 1, 16, 48))  # type: ignore[operator]
        assert grid == (16 // patch_size, 48 // patch_size)
        assert tokens.shape == (2, grid[0] * grid[1], 32)


def test_mean_pooling_has_no_class_token_and_sees_the_image() -> None:
    model = gossamer.create_model(
        "vit_nano", attention="sequence_norm", pooling="mean", image_size=(16, 16), patch_size=4, num_classes=2, dim=32,
        num_heads=2,
    ).eval()  # fmt: skip
    assert model.class_token is None
    first, second = model(torch.randn(2, 3, 16, 16))
    assert (first - second).abs().max() > 1e-4


@pytest.mark.parametrize(
    "changes",
    [{"depth": 0}, {"dropout": 1.0}, {"num_heads": 5}, {"pooling": "max"}, {"patch_size": -4}, {"dim": "wide"}],
)
def test_refuses_bad_values(changes: dict[str, object]) -> None:
    with pytest.raises(GossamerError):
        gossamer.create_model("vit_tiny", **changes)  # type: ignore[arg-type]
