"""Base classes of networks and their configurations, and the values that networks hand to training and export."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gossamer.checks import require, require_at_least
from gossamer.nn.attention import AttentionConfig
from gossamer.nn.cost import Cost
from gossamer.nn.layers.traced_cost import trace_cost
from gossamer.task import TaskName


@dataclass(frozen=True, kw_only=True)
class InputRequirements:
    """Sizes of images that a network takes, and what an exporter must know about them.

    Attributes:
        multiple: Number of pixels that both sides of an image are multiples of (default: 1).
        fixed_size: The only size ``(rows, columns)`` that the network takes; None where any multiple fits.
        traceable_sizes: Whether an exporter can follow what the network does with images of another size.
        continuous: Whether rounding changes every logit only a little. False where the positions of maxima decide,
            since rounding may move a few of them.
    """

    multiple: int = 1
    fixed_size: tuple[int, int] | None = None
    traceable_sizes: bool = True
    continuous: bool = True

    def check_size(self, image_size: tuple[int, int]) -> None:
        """Raise unless images of this size fit.

        Raises:
            GossamerError: ``E-CONFIG``, with the size to pad or resize to.
        """
        rows, columns = image_size
        if rows % self.multiple or columns % self.multiple or min(image_size) < 1:
            padded = [max(1, -(-side // self.multiple)) * self.multiple for side in image_size]
            problem = f"image {rows}x{columns} is not a multiple of {self.multiple}"
            require(False, "image_size", problem, f"pad to {padded[0]}x{padded[1]}")
        if self.fixed_size is not None and (rows, columns) != tuple(self.fixed_size):
            only = f"{self.fixed_size[0]}x{self.fixed_size[1]}"
            problem = f"image {rows}x{columns} does not fit linear layers for {only} alone"
            remedy = f'resize to {only}, build the network for this size, or use readout="mean"'
            require(False, "image_size", problem, remedy)


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(ABC):
    """Fields of every network; each network adds its own.

    Attributes:
        image_size: ``(rows, columns)`` in pixels.
        in_channels: Channels of an image.
        num_classes: Number of logits.
        attention: Attention mechanism; None for a network without attention.

    Raises:
        GossamerError: ``E-CONFIG``, where a value is out of range or values contradict each other.
    """

    image_size: tuple[int, int] = (224, 224)
    in_channels: int = 3
    num_classes: int = 1000
    attention: AttentionConfig | None = None
    name: ClassVar[str]
    task: ClassVar[TaskName] = "classify"

    @property
    def input_requirements(self) -> InputRequirements:
        """Sizes of images that the network takes."""
        return InputRequirements()

    def __post_init__(self) -> None:
        require_at_least(self, 1, "in_channels", "num_classes")
        if self.has_attention():
            require(self.attention is not None, "attention", f"{self.name} needs a mechanism", "use softmax")
        else:
            problem = f"{self.name} has no attention to choose"
            require(self.attention is None, "attention", problem, "omit the mechanism, or choose another network")
        self.check_image_size(self.image_size)

    @classmethod
    def has_attention(cls) -> bool:
        """Return whether the network has attention, so that a mechanism can be chosen."""
        return next(field for field in dataclasses.fields(cls) if field.name == "attention").default is not None

    def check_image_size(self, image_size: tuple[int, int]) -> None:
        """Raise unless the network takes images of this size.

        Raises:
            GossamerError: ``E-CONFIG``, with a size that fits.
        """
        self.input_requirements.check_size(image_size)

    def with_supported_readout(self) -> NetworkConfig:
        """Return the config, without the class token where the attention does not support one."""
        return self

    def target_shape(self, batch: int) -> tuple[int, ...]:
        """Return the shape of the class indices that a batch of images is trained with."""
        return (batch,)

    @abstractmethod
    def build(self) -> Network:
        """Return the network with fresh weights."""


class AuxiliaryHead(NamedTuple):
    """Further logits of a segmentation network, which training compares with the truth too.

    Attributes:
        logits: ``(batch, classes, rows, columns)``, of any size.
        weight: Weight of their loss.
        target: ``classes``, the truth of the task, to whose size the logits are resampled; or ``foreground``, two
            classes: whether a cell of the logits' grid contains any class but the background.
        loss: ``task``, the loss of the task; or ``cross_entropy``.
    """

    logits: Tensor
    weight: float
    target: Literal["classes", "foreground"]
    loss: Literal["task", "cross_entropy"]


class TrainingOutput(NamedTuple):
    """Parts of the loss of a training step: ``task_weight * task + sum of the heads + penalty``.

    Attributes:
        logits: Logits of the task, ``(batch, classes)`` or ``(batch, classes, rows, columns)``.
        heads: Further logits, each with a loss of its own; segmentation networks only.
        penalty: Scalar that is added to the loss as it is; None for most networks.
        task_weight: Weight of the loss of the task.
    """

    logits: Tensor
    heads: tuple[AuxiliaryHead, ...] = ()
    penalty: Tensor | None = None
    task_weight: float = 1.0

    def combine_losses(self, task_loss: Tensor, head_loss: Callable[[AuxiliaryHead], Tensor]) -> Tensor:
        """Return the weighted sum of the loss of the task and of the heads, plus the penalty.

        Args:
            task_loss: Loss of ``logits``.
            head_loss: Function that returns the loss of a head.
        """
        loss = self.task_weight * task_loss
        for head in self.heads:
            loss = loss + head.weight * head_loss(head)
        return self.add_penalty(loss)

    def add_penalty(self, loss: Tensor) -> Tensor:
        """Return ``loss`` plus the penalty, if there is one."""
        return loss if self.penalty is None else loss + self.penalty.to(loss.dtype)


def mean_penalty(losses: list[Tensor]) -> Tensor | None:
    """Return the mean of the losses that attention adds in each block, or None where it adds none."""
    return torch.stack(losses).mean() if losses else None


class Network(nn.Module, ABC):
    """A network: images in, logits out."""

    config: NetworkConfig

    @abstractmethod
    def forward(self, images: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch classes"]:
        """Return the logits.

        Raises:
            GossamerError: ``E-CONFIG``, for images with another number of channels or of a size that does not fit.
        """

    def training_output(self, images: Float[Tensor, "batch channels rows columns"]) -> TrainingOutput:
        """Return the logits with everything that the network adds to the loss of its task."""
        return TrainingOutput(self(images))

    def begin_epoch(self, progress: float) -> bool:
        """Adapt the network to the course of training, where its paper trains in stages.

        Args:
            progress: Completed share of the planned training, 0 in the first epoch.

        Returns:
            Whether the network is in its final stage, so that its weights may be kept as the best.
        """
        return True

    @contextmanager
    def keep_all_tokens(self) -> Iterator[None]:
        """Prune no token inside of this context, so that the work does not depend on the image."""
        yield

    def pruned_fraction(self, images: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch"] | None:
        """Return the share of query tokens that is pruned from each image in evaluation; None without such pruning."""
        return None

    def check_images(self, images: Tensor) -> None:
        """Raise unless the network takes ``images``.

        Raises:
            GossamerError: ``E-CONFIG``, for another number of channels or a size that does not fit.
        """
        problem = f"images have {images.shape[1]} channels, the network takes {self.config.in_channels}"
        remedy = "convert the images, or build the network for that many channels"
        require(images.shape[1] == self.config.in_channels, "in_channels", problem, remedy)
        self.config.check_image_size((images.shape[2], images.shape[3]))

    def cost(self, image_size: tuple[int, int] | None = None) -> Cost:
        """Return the closed form of what one image costs: the sum over layers, at the shape that reaches each.

        Args:
            image_size: ``(rows, columns)`` in pixels (default: the size in the config).
        """
        with torch.device("meta"):
            network = self.config.build().eval()
        return trace_cost(network, (self.config.in_channels, *(image_size or self.config.image_size)))


class AttentionNetwork(Network):
    """A network whose attention may add a loss of its own in each block; training adds the mean over blocks."""

    @abstractmethod
    def compute_logits(
        self, images: Float[Tensor, "batch channels rows columns"], losses: list[Tensor] | None
    ) -> Float[Tensor, "batch classes *map"]:
        """Return the logits.

        Args:
            images: ``(batch, channels, rows, columns)``.
            losses: List that the losses of the attention are appended to; None to compute none.

        Raises:
            GossamerError: ``E-CONFIG``, for images with another number of channels or of a size that does not fit.
        """

    def forward(self, images: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch classes *map"]:
        """Return the logits; errors are those of ``compute_logits``."""
        return self.compute_logits(images, None)

    def training_output(self, images: Float[Tensor, "batch channels rows columns"]) -> TrainingOutput:
        """Return the logits, and the mean over blocks of the loss that the attention adds, if it adds one."""
        losses: list[Tensor] = []
        logits = self.compute_logits(images, losses)
        return TrainingOutput(logits, penalty=mean_penalty(losses))


@dataclass(frozen=True, kw_only=True)
class SegmenterConfig(NetworkConfig):
    """Fields of every segmentation network.

    Attributes:
        image_size: ``(rows, columns)`` in pixels of a window, which the network sees at once; larger images are cut
            into windows.
        in_channels: Channels of an image.
        num_classes: Number of maps of logits.
        attention: Attention mechanism; None for a network without attention.
    """

    image_size: tuple[int, int] = (256, 256)
    num_classes: int = 2
    task: ClassVar[TaskName] = "segment"

    def target_shape(self, batch: int) -> tuple[int, ...]:
        """Return the shape of the class indices that a batch of images is trained with: one index a pixel."""
        return (batch, *self.image_size)

    @abstractmethod
    def build(self) -> Segmenter:
        """Return the network with fresh weights."""


class Segmenter(Network):
    """A segmentation network: images in, one map of logits a class out, at the images' size."""

    config: SegmenterConfig

    @abstractmethod
    def forward(
        self, images: Float[Tensor, "batch channels rows columns"]
    ) -> Float[Tensor, "batch classes rows columns"]:
        """Return the logits.

        Raises:
            GossamerError: ``E-CONFIG``, for images with another number of channels or of a size that does not fit.
        """
