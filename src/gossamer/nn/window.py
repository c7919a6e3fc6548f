"""Attention of each position over a k x k window, without unfolding.

Unfolding copies keys and values k*k times. Here two orders of evaluation share one operator:

- by offset: one elementwise product on a view for each of the k*k shifts; best for small windows and narrow heads;
- by tile: one batched product of a tile of 7 x 7 queries with the window of keys around the whole tile, where keys
  outside a query's own window are masked; best for wide heads.

Both work on bands of rows, so that they need a few megabytes at any size of image. The operator recomputes its bands in
the backward pass and keeps only its inputs. ``docs/decisions/0008-window-attention.md`` has the reasons.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

TILE = 7
"""Side of a tile of queries. The keys of a 7 x 7 window are 13 x 13, 3.4 times the work that is needed."""
BAND_BYTES = 2**20
"""Largest size of the logits of one band, which then stay in a core's own cache."""


def window_attention(
    queries: Tensor, keys: Tensor, values: Tensor, relative: Tensor, window: int, stride: int
) -> Tensor:
    """Return softmax attention of each query over the window of keys around it.

    Args:
        queries: Scaled queries (batch, rows, columns, heads, width).
        keys: Keys (batch, padded rows, padded columns, heads, width), padded by ``window // 2`` on every side.
        values: Values (batch, padded rows, padded columns, heads, value width), padded like the keys.
        relative: Embeddings (heads, window * window, width) that are added to each key of the window.
        window: Side k of the window, an odd number.
        stride: Distance between neighbouring queries; query (0, 0) is at key (window // 2, window // 2).

    Returns:
        Attended values (batch, rows, columns, heads, value width).
    """
    if torch.compiler.is_exporting():
        return _by_row(queries, keys, values, relative, window, stride)
    return torch.ops.gossamer.window_attention(queries, keys, values, relative, window, stride)


def window_attention_macs(queries: Tensor, values: Tensor, window: int) -> int:
    """Return the multiply-accumulates of the definition: logits, relative logits and values of each window."""
    batch, rows, columns, heads, width = queries.shape
    return batch * rows * columns * heads * window**2 * (2 * width + values.shape[-1])


def _by_offset(queries: Tensor, keys: Tensor, values: Tensor, relative: Tensor, window: int, stride: int) -> Tensor:
    logits = torch.einsum("brchd,hkd->brchk", queries, relative)
    rows, columns = queries.shape[1], queries.shape[2]
    products = [
        (queries * _shift_window(keys, place, window, stride, rows, columns)).sum(dim=-1) for place in range(window**2)
    ]
    weights = torch.softmax(logits + torch.stack(products, dim=-1), dim=-1)
    out = weights[..., 0, None] * _shift_window(values, 0, window, stride, rows, columns)
    for place in range(1, window**2):
        out = out + weights[..., place, None] * _shift_window(values, place, window, stride, rows, columns)
    return out


def _shift_window(padded: Tensor, place: int, window: int, stride: int, rows: int, columns: int) -> Tensor:
    """Return the view of the entries at one place of every query's window."""
    row, column = divmod(place, window)
    last = (row + stride * (rows - 1) + 1, column + stride * (columns - 1) + 1)
    return padded[:, row : last[0] : stride, column : last[1] : stride]


def _by_row(queries: Tensor, keys: Tensor, values: Tensor, relative: Tensor, window: int, stride: int) -> Tensor:
    """Return the same as ``_by_offset``, row by row with the ``k`` places of a row of the window at once.

    An exported graph uses it: operators for each of the k*k places would be thousands of nodes in a deep network.
    Places are selected by index rather than sliced, since an exporter spends most of its time on the ends of slices.
    """
    device, rows, columns = queries.device, queries.shape[1], queries.shape[2]
    place = torch.arange(window, device=device)
    down, across = (stride * torch.arange(count, device=device) for count in (rows, columns))
    seen = (across[:, None] + place).flatten()

    def rows_of_windows(padded: Tensor) -> list[Tensor]:
        """Return (batch, rows, columns, window, heads, width) for each row of the window."""
        wide = padded.index_select(2, seen).unflatten(2, (columns, window))
        return [wide.index_select(1, down + row) for row in range(window)]

    products = [(queries[:, :, :, None] * part).sum(dim=-1) for part in rows_of_windows(keys)]
    logits = torch.einsum("brchd,hkd->brckh", queries, relative) + torch.cat(products, dim=3)
    weights = torch.softmax(logits, dim=3).split(window, dim=3)
    parts = zip(weights, rows_of_windows(values), strict=True)
    return torch.stack([(weight[..., None] * part).sum(dim=3) for weight, part in parts]).sum(dim=0)


def _by_tile(
    queries: Tensor, keys: Tensor, values: Tensor, relative: Tensor, window: int, places: Tensor, *, in_place: bool
) -> Tensor:
    """Return the attention of queries at stride 1, one tile at a time; ``in_place`` works only without gradients."""
    batch, rows, columns, heads, width = queries.shape
    down, across = -(-rows // TILE), -(-columns // TILE)
    missing = (down * TILE - rows, across * TILE - columns)
    queries = F.pad(queries, (0, 0, 0, 0, 0, missing[1], 0, missing[0]))
    keys, values = (F.pad(part, (0, 0, 0, 0, 0, missing[1], 0, missing[0])) for part in (keys, values))
    side = TILE + window - 1
    shape = (batch, down, TILE, across, TILE, heads, width)
    tiles = queries.reshape(shape).permute(0, 1, 3, 5, 2, 4, 6).flatten(4, 5)
    spans = [
        part.unfold(1, side, TILE).unfold(2, side, TILE).permute(0, 1, 2, 3, 5, 6, 4).flatten(4, 5)
        for part in (keys, values)
    ]
    offsets = tiles @ relative.transpose(1, 2)
    offsets = F.pad(offsets, (0, 1), value=float("-inf")).gather(-1, places.expand(*offsets.shape[:4], -1, -1))
    if in_place:
        logits = offsets.flatten(0, 3).baddbmm_(tiles.flatten(0, 3), spans[0].flatten(0, 3).transpose(1, 2))
        out = torch.softmax(logits, dim=-1).bmm(spans[1].flatten(0, 3)).unflatten(0, tiles.shape[:4])
    else:
        out = torch.softmax(offsets + tiles @ spans[0].transpose(-2, -1), dim=-1) @ spans[1]
    out = out.unflatten(4, (TILE, TILE))
    out = out.permute(0, 1, 4, 2, 5, 3, 6).reshape(batch, down * TILE, across * TILE, heads, -1)
    return out[:, :rows, :columns]


def _window_places(window: int, device: torch.device) -> Tensor:
    """Return, for each query of a tile and each key of its span, the key's place in the query's window.

    A key outside the window has the place ``window * window``, whose logit is minus infinity.
    """
    side = TILE + window - 1
    query, key = torch.arange(TILE, device=device), torch.arange(side, device=device)
    offset = key[None] - query[:, None]
    inside = (offset >= 0) & (offset < window)
    rows, columns = offset[:, None, :, None], offset[None, :, None, :]
    both = inside[:, None, :, None] & inside[None, :, None, :]
    return torch.where(both, rows * window + columns, window**2).flatten(0, 1).flatten(1)


def _split_bands(queries: Tensor, window: int, stride: int) -> Iterator[tuple[slice, slice]]:
    """Yield the rows of queries of each band, and the padded rows of keys that they see."""
    batch, rows, columns, heads, width = queries.shape
    if _offsets_are_faster(window, width, stride):
        per_query, multiple = window**2 + 2 * width, 1
    else:
        per_query, multiple = 2 * (TILE + window - 1) ** 2, TILE
    fitting = BAND_BYTES // max(1, batch * columns * heads * per_query * queries.element_size())
    count = max(multiple, fitting // multiple * multiple)
    for start in range(0, rows, count):
        stop = min(start + count, rows)
        yield slice(start, stop), slice(start * stride, (stop - 1) * stride + window)


def _offsets_are_faster(window: int, width: int, stride: int) -> bool:
    return window <= 3 or width < 16 or stride > 1


def _attend_band(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    relative: Tensor,
    window: int,
    stride: int,
    places: Tensor | None,
    *,
    in_place: bool,
) -> Tensor:
    """Return the attention of one band: by tile if the places of a tile are given, else by offset."""
    if places is None:
        return _by_offset(queries, keys, values, relative, window, stride)
    return _by_tile(queries, keys, values, relative, window, places, in_place=in_place)


def _places_for(queries: Tensor, window: int, stride: int) -> Tensor | None:
    """Return the places of a tile, which are the same in every band, or None if the order by offset is faster."""
    if _offsets_are_faster(window, queries.shape[-1], stride):
        return None
    return _window_places(window, queries.device)


_SCHEMA = "(Tensor queries, Tensor keys, Tensor values, Tensor relative, int window, int stride) -> Tensor"


@torch.library.custom_op("gossamer::window_attention", mutates_args=(), schema=_SCHEMA)
def _window_attention(
    queries: Tensor, keys: Tensor, values: Tensor, relative: Tensor, window: int, stride: int
) -> Tensor:
    out, places = queries.new_empty(*queries.shape[:-1], values.shape[-1]), _places_for(queries, window, stride)
    for rows, seen in _split_bands(queries, window, stride):
        band = (queries[:, rows], keys[:, seen], values[:, seen], relative)
        out[:, rows] = _attend_band(*band, window, stride, places, in_place=True)
    return out


@_window_attention.register_fake
def _(queries: Tensor, keys: Tensor, values: Tensor, relative: Tensor, window: int, stride: int) -> Tensor:
    return queries.new_empty(*queries.shape[:-1], values.shape[-1])


def _save_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.window, ctx.stride = inputs[4:]


def _backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    saved = ctx.saved_tensors
    sums = [torch.zeros_like(part) for part in saved]
    queries, keys, values, relative = saved
    places = _places_for(queries, ctx.window, ctx.stride)
    for rows, seen in _split_bands(queries, ctx.window, ctx.stride):
        parts = (queries[:, rows], keys[:, seen], values[:, seen], relative)
        leaves = [part.detach().requires_grad_() for part in parts]
        with torch.enable_grad():
            out = _attend_band(
                leaves[0], leaves[1], leaves[2], leaves[3], ctx.window, ctx.stride, places, in_place=False
            )
        found = torch.autograd.grad(out, leaves, gradient[:, rows])
        sums[0][:, rows] = found[0]
        sums[1][:, seen] += found[1]
        sums[2][:, seen] += found[2]
        sums[3] += found[3]
    return *sums, None, None


_window_attention.register_autograd(_backward, setup_context=_save_context)
