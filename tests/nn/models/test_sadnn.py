"""SaDNN and its layer: published counts, the numbered invariants of the operator, and what the network learns."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import gossamer
from expected_errors import expect_error
from gossamer.nn.layers.local_attention import LocalAttention2d
from gossamer.profiling.macs import count_macs

SIZE = (11, 13)


def layer(window: int = 3, num_heads: int = 1, scale: bool = True) -> LocalAttention2d:
    torch.manual_seed(0)
    return LocalAttention2d(6, 8, window, num_heads, scale).double()


def maps() -> Tensor:
    return torch.randn(2, 6, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def projections(module: LocalAttention2d, x: Tensor) -> list[Tensor]:
    """Queries, keys and values, (batch, channels, rows, columns) each, as the 1x1 convolutions that they are."""
    return [F.conv2d(x, weight[:, :, None, None]) for weight in module.qkv.weight.chunk(3)]


def dense(module: LocalAttention2d, x: Tensor) -> tuple[Tensor, Tensor]:
    """The definition channel by channel, padded first: weights (batch, heads, pixels, places) and the result."""
    window, heads = module.window, module.num_heads
    queries, _, _ = projections(module, x)
    side = window // 2
    _, keys, values = projections(module, F.pad(x, (side, side, side, side)))
    keys, values = (F.unfold(part, window).unflatten(1, (8, window**2)) for part in (keys, values))
    row, column = (part.transpose(1, 2) for part in module.embedding.chunk(2, dim=-1))
    embedding = torch.cat(
        [row[..., :, None].expand(-1, -1, -1, window), column[..., None, :].expand(-1, -1, window, -1)], dim=1
    )
    keys = keys + embedding.reshape(1, 8, window**2, 1)
    queries, keys, values = (part.unflatten(1, (heads, -1)) for part in (queries.flatten(2)[:, :, None], keys, values))
    logits = (queries * keys).sum(dim=2) * module.scale
    weights = logits.softmax(dim=2)
    return weights, (weights[:, :, None] * values).sum(dim=3).flatten(1, 2).unflatten(2, SIZE)


@pytest.mark.parametrize("window", [1, 3, 5])
@pytest.mark.parametrize("num_heads", [1, 2])
@pytest.mark.parametrize("scale", [True, False])
def test_the_layer_equals_its_definition(window: int, num_heads: int, scale: bool) -> None:
    module, x = layer(window, num_heads, scale), maps().requires_grad_()
    weights, wanted = dense(module, x)
    found = module(x)
    torch.testing.assert_close(weights.sum(dim=2), torch.ones_like(weights[:, :, 0]))
    torch.testing.assert_close(found, wanted)
    loss = torch.randn(found.shape, dtype=torch.float64)
    leaves = [x, *module.parameters()]
    for one, other in zip(
        torch.autograd.grad((found * loss).sum(), leaves),
        torch.autograd.grad((wanted * loss).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_parameters_of_a_layer() -> None:
    assert sum(parameter.numel() for parameter in layer().parameters()) == 3 * 6 * 8 + 3 * 8


def test_the_scale_is_that_of_a_head() -> None:
    assert layer(num_heads=2).scale == 4**-0.5
    assert layer(scale=False).scale == 1
    assert not torch.allclose(layer()(maps()), layer(scale=False)(maps()))


def test_window_of_one_computes_only_values() -> None:
    module, x = layer(window=1), maps()
    found = module(x)
    torch.testing.assert_close(found, projections(module, x)[2])
    found.square().sum().backward()
    assert module.qkv.weight.grad is not None
    assert module.qkv.weight.grad[: 2 * 8].abs().max() == 0
    assert module.qkv.weight.grad[2 * 8 :].abs().min() > 0
    assert module.embedding.grad is not None
    assert module.embedding.grad.abs().max() == 0
    assert count_macs(module, x).total == x.shape[0] * SIZE[0] * SIZE[1] * 6 * 8


def test_without_queries_it_is_a_zero_padded_box_mean() -> None:
    module, x = layer(), maps()
    with torch.no_grad():
        module.qkv.weight[:8] = 0.0
    torch.testing.assert_close(module(x), F.avg_pool2d(projections(module, x)[2], 3, 1, 1, count_include_pad=True))


def test_a_constant_image_stays_constant_inside() -> None:
    module, x = layer(window=5), maps()[..., :1, :1].expand(-1, -1, *SIZE)
    found = module(x) - projections(module, x)[2]
    assert found[..., 2:-2, 2:-2].abs().max() < 1e-12
    assert found[..., 0, 0].abs().max() > 1e-3


def test_a_constant_added_to_the_embeddings_changes_nothing() -> None:
    module, x = layer(num_heads=2), maps()
    before = module(x)
    with torch.no_grad():
        module.embedding.add_(torch.randn(2, 1, 4, dtype=torch.float64))
    torch.testing.assert_close(module(x), before)


def test_a_pixel_reaches_its_window_and_no_further() -> None:
    module, x = layer(), maps()
    changed = x.clone()
    changed[:, :, 5, 6] += 1.0
    moved = (module(changed) - module(x)).abs().amax(dim=(0, 1)) > 1e-12
    assert moved[4:7, 5:8].all()
    assert moved.sum() == 9


def test_a_shifted_image_gives_a_shifted_result() -> None:
    module, x = layer(), maps()
    shifted = F.pad(x, (1, 0, 2, 0))[..., : SIZE[0], : SIZE[1]]
    torch.testing.assert_close(module(shifted)[..., 4:-1, 3:-1], module(x)[..., 2:-3, 2:-2])


def test_published_size() -> None:
    with torch.device("meta"):
        model = gossamer.create_model("sadnn_segmenter")
    layers = [module for module in model.modules() if isinstance(module, LocalAttention2d)]
    assert sum(parameter.numel() for parameter in model.parameters()) == 7_971_298
    assert sum(module.embedding.numel() for module in layers) == 15_074
    executed = model.cost((256, 256)).macs
    assert executed == 36_611_031_040
    # The published convention adds the embedding to the keys; here it meets the queries, a product more.
    rows = {id(module): 0 for module in layers}
    for module in layers:
        module.register_forward_hook(
            lambda module, inputs, output: rows.__setitem__(id(module), output.shape[2] * output.shape[3])
        )
    model.eval()(torch.zeros(1, 1, 256, 256, device="meta"))
    embeddings = sum(9 * module.out_channels * rows[id(module)] for module in layers if module.window == 3)
    assert executed - embeddings == 36_224_106_496
    # Published without the short cut of a window of 1: queries, keys and two products of the output layer.
    assert executed - embeddings + 256**2 * (2 * 32 * 2 + 2 * 2) == 36_232_757_248


def test_the_small_size_is_small() -> None:
    assert gossamer.create_model("sadnn_segmenter_small", image_size=(64, 64)).cost().macs < 0.3e9


@pytest.mark.parametrize("num_heads", [1, 2])
def test_counted_macs_equal_the_closed_form_at_another_size(num_heads: int) -> None:
    model = gossamer.create_model("sadnn_segmenter", in_channels=2, num_classes=3, width=8, num_heads=num_heads)
    assert count_macs(model, torch.zeros(1, 2, 32, 80)).total == model.cost((32, 80)).macs


def test_logits_have_the_images_size_for_any_batch() -> None:
    torch.manual_seed(0)
    model = gossamer.create_model("sadnn_segmenter", in_channels=2, num_classes=3, width=8, image_size=(48, 32))
    model = model.double().eval()
    images = torch.randn(3, 2, 48, 80, dtype=torch.float64)
    logits = model(images)
    assert logits.shape == (3, 3, 48, 80)
    torch.testing.assert_close(logits[1:2], model(images[1:2]))
    model.train()
    assert not torch.equal(model(images), model(images))


def test_overfits_one_batch_and_reaches_every_parameter() -> None:
    torch.manual_seed(0)
    model = gossamer.create_model("sadnn_segmenter", width=8, image_size=(16, 32), num_classes=3, dropout=0.0)
    masks = torch.randint(0, 3, (2, 2, 4)).repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)
    images = masks[:, None] + 0.5 * torch.randn(2, 1, 16, 32)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(60):
        loss = F.cross_entropy(model(images), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    assert (model(images).argmax(dim=1) == masks).float().mean() > 0.95


def test_refuses_bad_values() -> None:
    with expect_error("window", 4):
        LocalAttention2d(4, 4, 4)
    with expect_error("num_heads", 3):
        LocalAttention2d(4, 6, 3, 2)
    with expect_error("num_heads", 3, 8):
        LocalAttention2d(4, 8, 3, 3)
    with expect_error("image_size", "40x64", 16, "48x64"):
        gossamer.create_model("sadnn_segmenter_small", image_size=(40, 64))
    with expect_error("width", 16):
        gossamer.create_model("sadnn_segmenter", width=24, num_heads=4)
    with expect_error("dropout", 1.0):
        gossamer.create_model("sadnn_segmenter", dropout=1.0)
    with expect_error("attention"):
        gossamer.create_model("sadnn_segmenter", attention="kv")
