"""SUMNet: published counts, unpooling to the places of the maxima, and what it learns."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gossamer
from expected_errors import expect_error
from gossamer.nn.models.sumnet import UnpoolingNet
from gossamer.profiling.macs import count_macs


def test_published_size() -> None:
    with torch.device("meta"):
        model = gossamer.create_model("sumnet")
    assert sum(parameter.numel() for parameter in model.parameters()) == 23_862_178
    assert model.cost((256, 256)).macs == 106_342_383_616


def test_the_small_size_is_small() -> None:
    assert gossamer.create_model("sumnet_small", image_size=(64, 64)).cost().macs < 0.3e9


def test_counted_macs_equal_the_closed_form_at_another_size() -> None:
    model = gossamer.create_model("sumnet_small", in_channels=2, num_classes=3, image_size=(64, 64))
    assert count_macs(model, torch.zeros(1, 2, 32, 80)).total == model.cost((32, 80)).macs


class Recorder(nn.Module):
    """A layer that passes a mean of its channels on and notes what it was given."""

    given: list[tuple[Tensor, int]]

    def __init__(self, in_channels: int, out_channels: int, window: int) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.window = in_channels, out_channels, window

    def forward(self, maps: Tensor) -> Tensor:
        assert maps.shape[1] == self.in_channels
        self.given.append((maps, self.window))
        mean = maps.mean(dim=1, keepdim=True)
        return mean + 0.01 * torch.arange(self.out_channels, dtype=maps.dtype)[:, None, None] * mean.square()


def test_the_layers_in_their_order() -> None:
    Recorder.given = []
    network = UnpoolingNet(2, 4, 3, Recorder).double().eval()
    generator = torch.Generator().manual_seed(0)
    assert network(torch.randn(2, 2, 32, 48, dtype=torch.float64, generator=generator)).shape == (2, 3, 32, 48)
    channels = [maps.shape[1] for maps, _ in Recorder.given]
    rows = [maps.shape[2] for maps, _ in Recorder.given]
    assert channels == [2, 4, 8, 16, 16, 32, 32, 32, 64, 32, 64, 32, 32, 16, 16, 8, 2]
    assert rows == [32, 32, 16, 16, 8, 8, 4, 4, 4, 4, 8, 8, 16, 16, 32, 32, 32]
    assert [window for _, window in Recorder.given] == [3] * 16 + [1]
    # The ninth layer is the first of the decoder: one value of each 2 x 2 cell lies where the encoder's maximum was.
    unpooled, joined = Recorder.given[8][0].chunk(2, dim=1)
    maxima, places = F.max_pool2d(joined, 2, return_indices=True)
    assert torch.equal(unpooled, F.max_unpool2d(maxima, places, 2))
    assert (unpooled != 0).sum() <= joined.numel() // 4


def test_logits_have_the_images_size_for_any_batch() -> None:
    torch.manual_seed(0)
    model = gossamer.create_model("sumnet", in_channels=2, num_classes=3, width=4, image_size=(48, 32)).double().eval()
    images = torch.randn(3, 2, 48, 80, dtype=torch.float64)
    logits = model(images)
    assert logits.shape == (3, 3, 48, 80)
    torch.testing.assert_close(logits[1:2], model(images[1:2]))


def test_overfits_one_batch_and_reaches_every_parameter() -> None:
    torch.manual_seed(0)
    model = gossamer.create_model("sumnet_small", image_size=(32, 48), num_classes=3)
    masks = torch.randint(0, 3, (2, 4, 6)).repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)
    images = masks[:, None] + 0.5 * torch.randn(2, 1, 32, 48)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(60):
        loss = F.cross_entropy(model(images), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    assert (model(images).argmax(dim=1) == masks).float().mean() > 0.97


def test_refuses_bad_values() -> None:
    with expect_error("image_size", "40x64", 16, "48x64"):
        gossamer.create_model("sumnet_small", image_size=(40, 64))
    with expect_error("width", 3):
        gossamer.create_model("sumnet", width=3)
    with expect_error("in_channels", 3, 1):
        gossamer.create_model("sumnet_small", image_size=(32, 32))(torch.zeros(2, 3, 32, 32))
