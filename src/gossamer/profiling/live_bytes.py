"""Number of bytes of tensors that exist at once while a network runs, counted from shapes alone.

With fake tensors, nothing is allocated and nothing is computed. Every storage that an operator returns is counted while
it exists. Of the workspaces of libraries only those of convolutions are modelled, which are large: oneDNN copies images
and filters into blocks of channels, and writes its result twice. The workspaces of matrix products and of fused
attention are at most a few MiB for each thread and are not counted.
"""

from __future__ import annotations

import weakref
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CHANNEL_BLOCK = 16
"""Multiple to which channels are padded on a processor with AVX-512; others need less."""


class OverLimitError(Exception):
    """More bytes exist at once than the limit of the caller."""


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that operators return, while they exist.

    Attributes:
        peak: Largest number of bytes that existed at once.
        custom_operators: Whether an operator ran that is not torch's own.
    """

    def __init__(self, *, workspaces: bool = False, assume_dense: bool = False, limit: int | None = None) -> None:
        """Start at zero.

        Args:
            workspaces: Whether to count the workspaces of convolutions.
            assume_dense: Whether a question about content ("are all tokens kept?") is answered with yes, which is the
                dense form of networks that prune; otherwise such a question ends the count with an error of torch.
            limit: Bytes above which the count ends with ``OverLimitError`` (default: no limit).
        """
        super().__init__()
        self.peak = 0
        self.custom_operators = False
        self._workspaces, self._assume_dense = workspaces, assume_dense
        self._limit = limit
        self._now = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self._assume_dense and func is torch.ops.aten._local_scalar_dense.default and args[0].dtype == torch.bool:
            return True
        self.custom_operators |= func.namespace == "gossamer"
        out = func(*args, **(kwargs or {}))
        if not func.is_view:  # a view of a weight is not new
            for leaf in tree_leaves(out):
                if isinstance(leaf, Tensor):
                    self._count(leaf)
        if self._workspaces and func is torch.ops.aten.convolution.default:
            self.peak = max(self.peak, self._now + convolution_workspace(*args[:9], out=out))
        return out

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes:
            return
        self._sizes[key] = storage.nbytes()
        self._now += storage.nbytes()
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._forget, key)
        if self._limit is not None and self.peak > self._limit:
            raise OverLimitError

    def _forget(self, key: int) -> None:
        self._now -= self._sizes.pop(key, 0)


def convolution_workspace(
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
    *,
    out: Tensor,
) -> int:
    """Return the bytes of the workspaces of a convolution on a CPU, without images, weights and result."""
    backend = torch._C._select_conv_backend(  # pyright: ignore[reportAttributeAccessIssue]
        images,
        weight,
        bias,
        stride,
        padding,
        dilation,
        transposed,
        output_padding,
        groups,
        bias_sizes=None if bias is None else list(bias.shape),
    )
    size, kernel = images.element_size(), weight.shape[2:]
    if str(backend).endswith("Slow2d"):
        unfolded = prod(kernel) > 1 or any(side != 1 for side in stride) or any(padding)
        return size * images.shape[0] * images.shape[1] * prod(kernel) * prod(out.shape[2:]) if unfolded else 0
    blocked_out = size * out.shape[0] * _pad_channels(out.shape[1]) * prod(out.shape[2:])
    # Images of few channels are not copied.
    few = images.shape[1] < CHANNEL_BLOCK
    blocked_images = 0 if few else size * images.shape[0] * _pad_channels(images.shape[1]) * prod(images.shape[2:])
    filters = size * weight.numel()
    # First the blocked images and filters with a blocked result; then that result and the plain one.
    return max(blocked_images + filters + blocked_out - size * out.numel(), blocked_out)


def _pad_channels(channels: int) -> int:
    return -(-channels // CHANNEL_BLOCK) * CHANNEL_BLOCK
