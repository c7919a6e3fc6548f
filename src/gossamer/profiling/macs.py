"""Multiply-accumulates counted from the operators that run.

PyTorch's counter returns 0 for fused attention on a CPU, for fused encoder layers, for matrix inverses and for all
other operators without a formula, which favours softmax attention in comparisons. Here attention runs unfused while it
is counted, and an operator that is neither counted nor known to be free of contractions is an error, not a zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.window import window_attention_macs

# Operators that read or move values, or reduce them, without multiplying two tensors along a summed axis.
WITHOUT_CONTRACTION = frozenset(
    """
    _adaptive_avg_pool2d _adaptive_avg_pool3d alias all amax amin any arange argmax argsort as_strided avg_pool2d
    bernoulli bitwise_not cat clone constant_pad_nd copy copy_ cumprod cumsum detach detach_ diagonal empty empty_like
    empty_strided expand eye fill_ flip floor_divide full full_like gather index index_put index_put_ index_select lerp
    lift_fresh _linalg_check_errors linalg_vector_norm linspace _local_scalar_dense _log_softmax logical_and_
    logical_not masked_fill masked_fill_ masked_select max max_pool2d max_pool2d_with_indices max_unpool2d mean min
    nan_to_num native_batch_norm native_dropout native_group_norm native_layer_norm new_empty new_empty_strided new_full
    new_ones new_zeros ones ones_like permute pixel_unshuffle _prelu_kernel rand rand_like randn repeat reshape resize_
    roll _safe_softmax scalar_tensor scatter scatter_add select select_scatter set_ slice slice_scatter smooth_l1_loss
    _softmax sort split split_with_sizes squeeze stack std sum t _to_copy topk transpose tril triu unbind unfold
    _unsafe_view unsqueeze upsample_bicubic2d upsample_bilinear2d upsample_nearest2d var var_mean view view_as_real
    xlogy zero_ zeros zeros_like
    """.split()  # noqa: SIM905
)

# Doubled multiply-accumulates of operators that PyTorch's counter has no formula for.
FORMULAS: dict[str, Callable[..., int]] = {
    "window_attention": lambda queries, keys, values, relative, window, stride, out_val: (
        2 * window_attention_macs(queries, values, window)
    ),
    "linalg_cholesky_ex": lambda matrix, out_val, **options: 2 * _count_matrices(matrix) * (matrix.shape[-1] ** 3 // 6),
    "cholesky_inverse": lambda factor, out_val, **options: 2 * _count_matrices(factor) * (factor.shape[-1] ** 3 // 3),
}


def _count_matrices(matrices: Tensor) -> int:
    return math.prod(matrices.shape[:-2])


@dataclass(frozen=True)
class MacCount:
    """Multiply-accumulates of one call.

    Attributes:
        total: Multiply-accumulates of all operators.
        by_operator: Multiply-accumulates of each operator, largest first.
    """

    total: int
    by_operator: Mapping[str, int]


def count_macs(model: nn.Module, images: Tensor) -> MacCount:
    """Return the multiply-accumulates of ``model(images)`` in evaluation, attention included. 1 MAC = 2 FLOPs.

    Args:
        model: Network to count.
        images: Images ``(batch, channels, rows, columns)``.

    Raises:
        GossamerError: ``E-UNSUPPORTED`` for an operator without a formula.
    """
    was_training = model.training
    model.eval()
    counter = _MacCounter()
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
            model(images)
    finally:
        model.train(was_training)
    if counter.unknown:
        problem = f"operators without a formula: {', '.join(sorted(counter.unknown))}"
        raise GossamerError(ErrorCode.UNSUPPORTED, "count_macs", problem, "register a formula for them")
    ordered = sorted(counter.macs.items(), key=lambda item: -item[1])
    return MacCount(sum(counter.macs.values()), dict(ordered))


class _MacCounter(TorchDispatchMode):
    """Sees every operator that reaches the backend, below autograd and autocast."""

    def __init__(self) -> None:
        super().__init__()
        self.macs: dict[str, int] = {}
        self.unknown: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        packet = func._overloadpacket
        name = packet.__name__
        if name not in FORMULAS and packet not in flop_registry and func not in flop_registry:
            decomposed = func.decompose(*args, **kwargs) if _is_composite(func) else NotImplemented
            if decomposed is not NotImplemented:
                return decomposed
        result = func(*args, **kwargs)
        formula: Callable[..., int] | None = FORMULAS.get(name) or flop_registry.get(packet) or flop_registry.get(func)
        if formula is not None:
            self.macs[name] = self.macs.get(name, 0) + formula(*args, **kwargs, out_val=result) // 2
        elif not (torch.Tag.pointwise in func.tags or name in WITHOUT_CONTRACTION or func.is_view):
            self.unknown.add(name)
        return result


def _is_composite(func: Any) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), torch._C.DispatchKey.CompositeImplicitAutograd)
