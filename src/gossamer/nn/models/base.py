"""What every network promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.cost import Cost
from gossamer.nn.layers.traced_cost import traced_cost
from gossamer.task import TaskName


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(ABC):
    """The fields that every network has; each network adds its own.

    Attributes:
        image_size: ``(rows, columns)`` in pixels.
        in_channels: channels of an image.
        num_classes: number of logits.
    """

    image_size: tuple[int, int] = (224, 224)
    in_channels: int = 3
    num_classes: int = 1000
    name: ClassVar[str]
    task: ClassVar[TaskName] = "classify"
    multiple: ClassVar[int] = 1
    """Both sides of an image are multiples of this."""
    traceable_sizes: ClassVar[bool] = True
    """Whether an exporter can follow what the network does with images of another size."""
    continuous: ClassVar[bool] = True
    """Whether rounding changes every logit by little; where places of maxima decide, it may move a few of them."""

    @property
    def fixed_image_size(self) -> bool:
        """Whether the network takes images of its own size alone."""
        return False

    def __post_init__(self) -> None:
        for key in ("in_channels", "num_classes"):
            if getattr(self, key) < 1:
                problem = f"{getattr(self, key)} is less than 1"
                raise GossamerError(ErrorCode.CONFIG, key, problem, "use a positive number")
        self.check_image_size(self.image_size)

    def check_image_size(self, image_size: tuple[int, int]) -> None:
        """Raise unless the network takes images of this size.

        Raises:
            GossamerError: ``E-CONFIG``, with the size to pad to.
        """
        rows, columns = image_size
        if rows % self.multiple or columns % self.multiple or min(image_size) < 1:
            padded = [max(1, -(-side // self.multiple)) * self.multiple for side in image_size]
            problem = f"image {rows}x{columns} is not a multiple of {self.multiple}"
            raise GossamerError(ErrorCode.CONFIG, "image_size", problem, f"pad to {padded[0]}x{padded[1]}")

    def fitted(self) -> NetworkConfig:
        """Return the config with what a preset leaves open chosen to fit its attention."""
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
    """What the loss of a training step is computed from: ``task_weight * task + sum of the heads + penalty``.

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
        """Return the logits."""

    def training_output(self, images: Float[Tensor, "batch channels rows columns"]) -> TrainingOutput:
        """Return the logits with everything that the network adds to the loss of its task."""
        return TrainingOutput(self(images))

    def begin_epoch(self, progress: float) -> bool:
        """Change what the network does with the course of training, for those whose paper trains in stages.

        Args:
            progress: share of the planned training that is over, 0 in the first epoch.

        Returns:
            Whether the network now is what it will be when training is over, so that its weights may be kept as the
            best.
        """
        return True

    @contextmanager
    def all_tokens(self) -> Iterator[None]:
        """Leave no token out for as long as this is entered, so that the work does not depend on the image."""
        yield

    def pruned_fraction(self, images: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch"] | None:
        """Return the share of query tokens that is pruned from each image in evaluation; None without such pruning."""
        return None

    def check_images(self, images: Tensor) -> None:
        """Raise unless the network takes ``images``.

        Raises:
            GossamerError: ``E-CONFIG``.
        """
        if images.shape[1] != self.config.in_channels:
            problem = f"images have {images.shape[1]} channels, the network takes {self.config.in_channels}"
            raise GossamerError(ErrorCode.CONFIG, "in_channels", problem, "convert them, or build for that many")
        self.config.check_image_size((images.shape[2], images.shape[3]))

    def cost(self, image_size: tuple[int, int] | None = None) -> Cost:
        """Return the closed form of what one image costs: that of each layer, at the shape that reaches it.

        Args:
            image_size: ``(rows, columns)``; the config's own if left out.
        """
        with torch.device("meta"):
            network = self.config.build().eval()
        return traced_cost(network, (self.config.in_channels, *(image_size or self.config.image_size)))


@dataclass(frozen=True, kw_only=True)
class SegmenterConfig(NetworkConfig):
    """The fields that every segmentation network has.

    Attributes:
        image_size: ``(rows, columns)`` in pixels, of what the network sees at once; larger images are seen in windows.
        in_channels: channels of an image.
        num_classes: number of maps of logits.
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
            GossamerError: ``E-CONFIG``, for images of another number of channels or of a size that does not fit.
        """
