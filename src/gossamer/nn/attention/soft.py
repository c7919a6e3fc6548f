"""SOFT: softmax-free attention with a Gaussian kernel (Lu et al., arXiv 2110.11945; SOFT++: arXiv 2207.03341).

Queries and keys share one projection, so the kernel is symmetric; a low-rank expansion from m landmarks replaces it::

    q = X W_q / d^(1/4) ;  A = exp(-|l_a - l_b|^2 / 2) ;  P = exp(-|l_a - q_i|^2 / 2)      l = landmarks(q)
    out = concat_h(P^T (inv(A + jitter I) (P V))) W_O + b_O

evaluated from the right, in ``3 N m C`` multiply-accumulates. By default the landmarks are the averages of 7 x 7 cells
of any grid, so the work is linear in the tokens; the released code pools by a fixed ratio, which is quadratic.
``soft_norm`` multiplies the inverse by ``D^(-1/2)`` on both sides, D the row sums of A, for each matrix independently.
``docs/decisions/0009-soft.md`` lists the differences between paper, released code and this file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gossamer.checks import require, require_at_least, require_positive
from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.attention.base import (
    Attention,
    AttentionConfig,
    Grid,
    Host,
    MechanismNote,
    refuse_mask,
    split_heads,
    with_zero_gradient,
)
from gossamer.nn.cost import Cost
from gossamer.nn.gaussian_kernel import gaussian_kernel, pool_cells
from gossamer.nn.inverse import InverseMethod, symmetric_inverse
from gossamer.nn.precision import widen

CHUNK = 1024
"""Number of tokens of a chunk, if the kernel is formed in chunks."""
LARGEST_KERNEL = 2**21
"""Largest number of entries of a kernel that is formed in one piece, without gradients."""
SMALLEST_ROW_SUM = 1e-3
"""Row sums of the low-rank matrix may be slightly negative; ``scale="full"`` divides by their root."""


@dataclass(frozen=True)
class SoftConfig(AttentionConfig):
    """Parameters of SOFT.

    Attributes:
        landmarks: Source of the landmarks: ``pooling`` averages the tokens of each cell; ``convolution`` is the
            released form, a strided convolution shared by all heads, LayerNorm and GELU.
        cells: Rows and columns of cells that ``pooling`` divides the grid into, 1 or more; fewer if the grid is
            smaller.
        ratio: Kernel and stride of ``convolution``, 1 or more.
        inverse: Inverse of A: ``newton`` with ``steps`` steps, as published; ``newton_tolerance``; or ``cholesky``,
            which is faster on a CPU and a different function if A is ill-conditioned.
        steps: Number of Newton steps, 1 or more.
        tolerance: Residual at which ``newton_tolerance`` stops, above 0.
        jitter: Number added to the diagonal of A, 0 or more.
        closed_form_gradient: Whether ``newton`` uses the gradient of an exact inverse, as published.
        scale: Factor on the matrix: ``reference`` is (tokens of the grid that the network was built for) / (tokens),
            since row sums grow with the tokens; ``full`` normalizes by the root of the row sums of the whole matrix;
            ``none`` is 1.
        local_kernel: Odd side of a depthwise convolution of the values that is added, as released; 0 for none.

    Raises:
        GossamerError: ``E-CONFIG``, for a number out of range.
    """

    landmarks: Literal["pooling", "convolution"] = "pooling"
    cells: tuple[int, int] = (7, 7)
    ratio: int = 8
    inverse: InverseMethod = "newton"
    steps: int = 20
    tolerance: float = 1e-5
    jitter: float = 0.01
    closed_form_gradient: bool = False
    scale: Literal["none", "reference", "full"] = "reference"
    local_kernel: int = 0
    name: ClassVar[str] = "soft"
    note: ClassVar[MechanismNote] = MechanismNote(
        source="Lu et al., arXiv 2110.11945",
        equation=(
            "Pᵀ inv(A + 0.01 I) P V with Gaussian kernels A between m landmarks and P between landmarks and tokens"
        ),
        cost=(
            "N C² + N m C + the smaller of 2 N C (C + m) and 2 m C (h N + C), and the inverse of h matrices m × m; m "
            "= 49"
        ),
        use=(
            "When linear cost is needed with weights that are positive and local in feature space. For new training "
            'on a CPU, choose `{"name": "soft", "inverse": "cholesky"}`.'
        ),
        departures=(
            "Landmarks are the means of 7 × 7 cells of any grid, so the cost is linear; the released form is an "
            "option. [Decision 9](decisions/0009-soft.md) lists all points."
        ),
    )
    normalized: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_at_least(self, 1, "ratio", "steps")
        require(min(self.cells) >= 1, "cells", f"{self.cells} is less than 1", "use 1 or more, such as (7, 7)")
        require_at_least(self, 0, "jitter")
        require_positive(self, "tolerance")
        odd = self.local_kernel == 0 or (self.local_kernel > 0 and self.local_kernel % 2 == 1)
        require(odd, "local_kernel", f"{self.local_kernel} is not odd", "use an odd side, or 0 for none")

    def make(self, host: Host) -> SoftAttention:
        """Return the mechanism for a network with the choices of ``host``."""
        return SoftAttention(self, host)


@dataclass(frozen=True)
class SoftNormConfig(SoftConfig):
    """Parameters of SOFT with the symmetric normalization of SOFT++, the same as those of ``SoftConfig``."""

    name: ClassVar[str] = "soft_norm"
    note: ClassVar[MechanismNote] = MechanismNote(
        source="Lu et al., arXiv 2207.03341",
        equation="Pᵀ D^(−½) inv(A + 0.01 I) D^(−½) P V, D the row sums of A",
        cost="as soft",
        use="Like soft, when the output should not grow with the number of landmarks.",
        departures=(
            "The published code cannot be constructed, takes its first Newton step from the whole batch, and has no "
            "jitter; here every matrix is inverted independently. See [decision 9](decisions/0009-soft.md)."
        ),
    )
    normalized: ClassVar[bool] = True


class SoftAttention(Attention):
    """``P^T inv(A) P V`` for each head, with a Gaussian kernel between tokens and landmarks."""

    def __init__(self, config: SoftConfig, host: Host) -> None:
        super().__init__(host)
        if len(host.grid) != 2 and (config.landmarks == "convolution" or config.local_kernel):
            problem = f"convolutions need a grid of 2 axes, not {len(host.grid)}"
            raise GossamerError(ErrorCode.UNSUPPORTED, config.name, problem, "use pooling landmarks")
        self.config = config
        self._pinned: bool | None = None
        self.reference_tokens = host.num_prefix_tokens + math.prod(host.grid)
        self.shared = nn.Linear(host.dim, host.dim, bias=host.qkv_bias)
        self.value = nn.Linear(host.dim, host.dim, bias=host.qkv_bias)
        if config.landmarks == "convolution":
            width = self.head_dim
            self.landmark = nn.Conv2d(width, width, config.ratio, config.ratio, bias=False)
            self.landmark_norm = nn.LayerNorm(width)
        if config.local_kernel:
            side = config.local_kernel
            self.local = nn.Conv2d(
                self.num_heads, self.num_heads, (side, side), padding=side // 2, groups=self.num_heads, bias=False
            )

    def forward(self, tokens: Tensor, grid: Grid, token_mask: Tensor | None = None) -> Tensor:
        """Return the attended tokens, in time and memory linear in their number.

        Raises:
            GossamerError: ``E-UNSUPPORTED`` for a mask, since the cells of the landmarks include padding.
        """
        points, landmarks = self._checked_points(tokens, grid, token_mask)
        if self.folds(grid):
            return self._folded(points, landmarks, tokens, grid)
        values = self._values(tokens)
        with torch.autocast(tokens.device.type, enabled=False):
            kernel, inverse = gaussian_kernel(landmarks, points, self.head_dim**-0.5), self._inverse(landmarks)
            if self.config.scale == "full":
                root = self._row_scale(kernel, inverse)
                heads = root * (kernel.transpose(-2, -1) @ (inverse @ (kernel @ (values * root))))
            else:
                heads = kernel.transpose(-2, -1) @ (inverse @ (kernel @ values) * self._scale(grid, values))
            heads = heads.to(tokens.dtype)
        if self.config.local_kernel:
            heads = heads + self._local(values.to(tokens.dtype), grid)
        return self.project(heads)

    def _folded(self, points: Tensor, landmarks: Tensor, tokens: Tensor, grid: Grid) -> Tensor:
        """Project the m landmarks' sums of tokens instead of the tokens, so that values and heads are never formed.

        A kernel too large for a core's cache is formed twice, in chunks, which is faster than writing and reading it.
        """
        power, inverse = self.head_dim**-0.5, self._inverse(landmarks)
        with torch.autocast(tokens.device.type, enabled=False):
            if not self._streams(grid):
                kernel = gaussian_kernel(landmarks, points, power)
                sums = kernel.flatten(1, 2) @ tokens.to(kernel.dtype)
                mixed, bias = self._mixed(sums, kernel.sum(dim=-1, keepdim=True), inverse, grid)
                return self.dropout(torch.baddbmm(bias, kernel.flatten(1, 2).transpose(1, 2), mixed).to(tokens.dtype))
            sums = points.new_zeros(tokens.shape[0], landmarks.shape[1] * landmarks.shape[2], self.dim)
            weights = points.new_zeros(*landmarks.shape[:3], 1)
            chunks = [slice(start, start + CHUNK) for start in range(0, tokens.shape[1], CHUNK)]
            for rows in chunks:
                kernel = gaussian_kernel(landmarks, points[:, :, rows], power)
                sums.baddbmm_(kernel.flatten(1, 2), tokens[:, rows].to(kernel.dtype))
                weights += kernel.sum(dim=-1, keepdim=True)
            mixed, bias = self._mixed(sums, weights, inverse, grid)
            out = torch.empty_like(tokens)
            for rows in chunks:
                kernel = gaussian_kernel(landmarks, points[:, :, rows], power)
                factors = (bias, kernel.flatten(1, 2).transpose(1, 2), mixed)
                if out.dtype == kernel.dtype:
                    torch.baddbmm(*factors, out=out[:, rows])
                else:
                    out[:, rows] = torch.baddbmm(*factors)
        return self.dropout(out)

    def _mixed(self, sums: Tensor, weights: Tensor, inverse: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """Return the factor of P^T (batch, heads x landmarks, dim), and the bias that is added to the product.

        Args:
            sums: Product P X (batch, heads x landmarks, dim).
            weights: Row sums of P (batch, heads, landmarks, 1).
            inverse: Inverse kernel of the landmarks (batch, heads, landmarks, landmarks).
            grid: Number of tokens along each axis.
        """
        value, output = (layer.weight.to(sums.dtype).t() for layer in (self.value, self.output))
        values = sums.unflatten(1, (self.num_heads, -1)) @ value.unflatten(1, (self.num_heads, -1)).transpose(0, 1)
        if self.value.bias is not None:
            values = values + weights * self.value.bias.to(sums.dtype).unflatten(0, (self.num_heads, 1, -1))
        mixed = (inverse @ values * self._scale(grid, values)) @ output.unflatten(0, (self.num_heads, -1))
        return mixed.flatten(1, 2), self.output.bias.to(sums.dtype)[None, None]

    def _streams(self, grid: Grid) -> bool:
        """Return whether the kernel is formed twice, in chunks: if it is large, and without gradients."""
        if torch.is_grad_enabled() or torch.compiler.is_exporting():
            return False
        return self.num_heads * self._num_landmarks(grid) * self.num_tokens(grid) > LARGEST_KERNEL

    def folds(self, grid: Grid) -> bool:
        """Return whether landmarks are projected rather than tokens: the pinned choice, or the one of less work."""
        if self._pinned is not None:
            return self._pinned
        if self.config.local_kernel or self.config.scale == "full":
            return False
        n, c, m = self.num_tokens(grid), self.dim, self._num_landmarks(grid)
        return m * (self.num_heads * n + c) < n * (c + m)

    def pin(self, grid: Grid) -> None:
        """Fix the order of evaluation to the one for ``grid``."""
        self._pinned = None
        self._pinned = self.folds(grid)

    def dense_form(self, tokens: Tensor, grid: Grid, token_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``P^T inv(A) P`` and V; the local convolution is one more matrix, added to it."""
        points, landmarks = self._checked_points(tokens, grid, token_mask)
        values = self._values(tokens)
        with torch.autocast(tokens.device.type, enabled=False):
            kernel, inverse = gaussian_kernel(landmarks, points, self.head_dim**-0.5), self._inverse(landmarks)
            matrix = kernel.transpose(-2, -1) @ inverse @ kernel
            if self.config.scale == "full":
                root = matrix.sum(dim=-1, keepdim=True).clamp(min=SMALLEST_ROW_SUM).rsqrt()
                matrix = root * matrix * root.transpose(-2, -1)
            matrix = matrix * self._scale(grid, values)
        return matrix + self._local_matrix(matrix, grid) if self.config.local_kernel else matrix, values

    def cost(self, grid: Grid) -> Cost:
        """Return the cost of the kernels, the inverse, and the projections of tokens or of landmarks."""
        n, c, h, d = self.num_tokens(grid), self.dim, self.num_heads, self.head_dim
        cells, m = self._landmark_grid(grid), self._num_landmarks(grid)
        # The shared projection of tokens and of their mean, kernels P and A, and the product with the inverse.
        macs = (n + 1) * c * c + h * (n * m * d + 2 * m * m * d)
        if self.folds(grid):
            macs += 2 * m * c * (h * n + c)
            # In evaluation a large kernel is formed twice.
            macs += h * n * m * d if h * n * m > LARGEST_KERNEL else 0
        else:
            macs += 2 * n * c * (c + m)
        if self.config.inverse == "cholesky":
            macs += h * (m**3 // 6 + m**3 // 3)
        else:
            # Steps to a tolerance depend on the image; the closed form counts the configured number.
            macs += h * self.config.steps * 2 * m**3
        if self.config.scale == "full":
            macs += h * (2 * n * m + m * m)
        if self.config.landmarks == "convolution":
            macs += h * math.prod(cells) * d * d * self.config.ratio**2 - c * c
        if self.config.local_kernel:
            macs += c * math.prod(grid) * self.config.local_kernel**2
        exponentials = h * (n * m + m * m)
        return Cost(macs, exponentials, max(n * c, h * n * m))

    def _values(self, tokens: Tensor) -> Tensor:
        """Return V (batch, heads, tokens, head_dim), in float32 or wider."""
        (values,) = split_heads(self.value(tokens), 1, self.num_heads)
        return widen(values)

    def _checked_points(self, tokens: Tensor, grid: Grid, token_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return points and landmarks in float32 or wider, after checking grid and mask."""
        self.check_grid(tokens, grid)
        refuse_mask(self.config.name, token_mask)
        points, landmarks = self._points(tokens, grid)
        return widen(points), widen(landmarks)

    def _inverse(self, landmarks: Tensor) -> Tensor:
        """Return the inverse of the landmarks' kernel (batch, heads, landmarks, landmarks)."""
        with torch.autocast(landmarks.device.type, enabled=False):
            square = gaussian_kernel(landmarks, landmarks, self.head_dim**-0.5)
            eye = torch.eye(square.shape[-1], dtype=square.dtype, device=square.device)
            inverse = symmetric_inverse(
                square + self.config.jitter * eye,
                self.config.inverse,
                steps=self.config.steps,
                tolerance=self.config.tolerance,
                closed_form_gradient=self.config.closed_form_gradient,
                step_of=square,
                condition=self._condition(),
            )
            if not self.config.normalized:
                return inverse
            root = square.sum(dim=-1).rsqrt()
            return root[..., :, None] * inverse * root[..., None, :]

    def _condition(self) -> float:
        """Return a bound on ``|A + jitter I|_1`` over its smallest eigenvalue, since no entry of A exceeds 1."""
        pooling = self.config.landmarks == "pooling"
        most = self.num_prefix_tokens + math.prod(self.config.cells) if pooling else self.reference_tokens
        return 1.0 + most / self.config.jitter if self.config.jitter else math.inf

    def _landmark_grid(self, grid: Grid) -> Grid:
        if self.config.landmarks == "pooling":
            cells = self.config.cells if len(grid) == 2 else self.config.cells[:1] * len(grid)
            return tuple(min(cell, side) for cell, side in zip(cells, grid, strict=True))
        if min(grid) < self.config.ratio:
            problem = f"a grid of {'x'.join(map(str, grid))} is smaller than the ratio of {self.config.ratio}"
            raise GossamerError(ErrorCode.UNSUPPORTED, self.config.name, problem, "use pooling landmarks")
        return tuple(side // self.config.ratio for side in grid)

    def _num_landmarks(self, grid: Grid) -> int:
        return self.num_prefix_tokens + math.prod(self._landmark_grid(grid))

    def _points(self, tokens: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """Return the shared projection (batch, heads, tokens, head_dim) and its landmarks (batch, heads, m, head_dim).

        The kernel depends only on differences, so both may be shifted together; near zero fewer digits cancel.
        """
        prefix = self.num_prefix_tokens
        if self.config.landmarks == "pooling":
            # The mean is subtracted like a bias of the projection, on which the kernel does not depend.
            weight = self.shared.weight.t()
            mean = tokens.detach().mean(dim=1, keepdim=True) @ weight.detach()
            projected = torch.baddbmm(-mean.to(tokens.dtype), tokens, weight[None].expand(tokens.shape[0], -1, -1))
            projected = with_zero_gradient(projected, self.shared.bias)
            cells = pool_cells(projected[:, prefix:], grid, self._landmark_grid(grid))
            landmarks = torch.cat([projected[:, :prefix], cells], dim=1) if prefix else cells
            points, landmarks = (split_heads(part, 1, self.num_heads)[0] for part in (projected, landmarks))
            return points, landmarks
        (points,) = split_heads(self.shared(tokens), 1, self.num_heads)
        scale = self.head_dim**-0.25
        plane = (points[:, :, prefix:] * scale).flatten(0, 1).transpose(1, 2).unflatten(2, grid)
        self._landmark_grid(grid)
        found = self.landmark(plane.to(self.landmark.weight.dtype)).flatten(2).transpose(1, 2)
        found = F.gelu(self.landmark_norm(found)).unflatten(0, (-1, self.num_heads)) / scale
        landmarks = torch.cat([points[:, :, :prefix], found.to(points.dtype)], dim=2)
        mean = points.mean(dim=2, keepdim=True)
        return points - mean, landmarks - mean

    def _scale(self, grid: Grid, like: Tensor) -> Tensor:
        """Return the factor on the matrix, as a tensor since a graph may leave the grid open."""
        one = torch.ones((), dtype=like.dtype, device=like.device)
        return self.reference_tokens / (one * self.num_tokens(grid)) if self.config.scale == "reference" else one

    def _row_scale(self, kernel: Tensor, inverse: Tensor) -> Tensor:
        """Return one over the root of the row sums of the whole matrix."""
        ones = torch.ones_like(kernel[:, :, :1]).transpose(-2, -1)
        sums = kernel.transpose(-2, -1) @ (inverse @ (kernel @ ones))
        return sums.clamp(min=SMALLEST_ROW_SUM).rsqrt()

    def _local(self, values: Tensor, grid: Grid) -> Tensor:
        """Return the depthwise convolution of the values, one kernel a head; zero for prefix tokens."""
        spatial = values[:, :, self.num_prefix_tokens :].unflatten(2, grid)
        planes = spatial.permute(0, 4, 1, 2, 3).flatten(0, 1)
        found = self.local(planes).unflatten(0, (-1, self.head_dim)).permute(0, 2, 3, 4, 1).flatten(2, 3)
        return F.pad(found, (0, 0, self.num_prefix_tokens, 0))

    def _local_matrix(self, like: Tensor, grid: Grid) -> Tensor:
        """Return the matrix (1, heads, tokens, tokens) of the local convolution."""
        count = math.prod(grid)
        units = torch.eye(count, dtype=like.dtype, device=like.device).view(count, 1, *grid)
        found = self.local(units.expand(-1, self.num_heads, -1, -1)).flatten(2)
        return F.pad(found.permute(1, 2, 0), (self.num_prefix_tokens, 0, self.num_prefix_tokens, 0))[None]
