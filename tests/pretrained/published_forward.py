"""The published networks, written from their equations over a dict of weights: what an import must reproduce."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def layer_norm(state: State, name: str, x: Tensor, eps: float = 1e-6) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps)


def batch_norm(state: State, name: str, x: Tensor) -> Tensor:
    mean, variance, weight, bias = (
        state[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (variance + 1e-5).sqrt() * weight + bias


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """The sum of values by softmax of scaled products, written out (batch, tokens, dim)."""
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (q, k, v))
    weights = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(dim=-1)
    return (weights @ v).transpose(1, 2).flatten(2)


def timm_vit(state: State, images: Tensor, heads: int, depth: int) -> Tensor:
    """Class token and positions, pre-norm blocks, classifier of the class token; a distillation token is left out."""
    patch = state["patch_embed.proj.weight"].shape[-1]
    x = F.conv2d(images, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=patch)
    x, token = x.flatten(2).transpose(1, 2), state["cls_token"].expand(len(images), -1, -1)
    if state["pos_embed"].shape[1] == x.shape[1]:
        x = torch.cat([token, x + state["pos_embed"]], dim=1)
    else:
        x = torch.cat([token, x], dim=1) + state["pos_embed"]
    for index in range(depth):
        block = f"blocks.{index}"
        q, k, v = linear(state, f"{block}.attn.qkv", layer_norm(state, f"{block}.norm1", x)).chunk(3, dim=-1)
        branch = linear(state, f"{block}.attn.proj", softmax_attention(q, k, v, heads))
        x = x + branch * state.get(f"{block}.ls1.gamma", 1.0)
        hidden = F.gelu(linear(state, f"{block}.mlp.fc1", layer_norm(state, f"{block}.norm2", x)))
        x = x + linear(state, f"{block}.mlp.fc2", hidden) * state.get(f"{block}.ls2.gamma", 1.0)
    return linear(state, "head", layer_norm(state, "norm", x)[:, 0])


def hugging_face_vit(state: State, images: Tensor, heads: int, depth: int, *, later: bool) -> Tensor:
    body = "vit.embeddings"
    weight = state[f"{body}.patch_embeddings.projection.weight"]
    x = F.conv2d(images, weight, state[f"{body}.patch_embeddings.projection.bias"], stride=weight.shape[-1])
    token = state[f"{body}.cls_token"].expand(len(images), -1, -1)
    x = torch.cat([token, x.flatten(2).transpose(1, 2)], dim=1) + state[f"{body}.position_embeddings"]
    for index in range(depth):
        block = f"vit.layers.{index}" if later else f"vit.encoder.layer.{index}"
        parts = [f"attention.{p}_proj" for p in "qkv"] if later else [f"attention.attention.{p}" for p in _QKV]
        out, first, second = ("attention.o_proj", "mlp.fc1", "mlp.fc2") if later else _DENSE
        y = layer_norm(state, f"{block}.layernorm_before", x)
        q, k, v = (linear(state, f"{block}.{part}", y) for part in parts)
        x = x + linear(state, f"{block}.{out}", softmax_attention(q, k, v, heads))
        hidden = F.gelu(linear(state, f"{block}.{first}", layer_norm(state, f"{block}.layernorm_after", x)))
        x = x + linear(state, f"{block}.{second}", hidden)
    return linear(state, "classifier", layer_norm(state, "vit.layernorm", x)[:, 0])


_QKV = ("query", "key", "value")
_DENSE = ("attention.output.dense", "intermediate.dense", "output.dense")


def soft(state: State, images: Tensor, depths: tuple[int, ...], heads: tuple[int, ...], jitter: float) -> Tensor:
    """Released SOFT (the page's 2.1 to 2.3 and 3.1), with the inverse of 2022."""
    x = images
    for unit, stride in enumerate((2, 1, 2)):
        x = _convolution(state, "patch_embed1", unit, x, stride)
    for stage in range(4):
        if stage:
            x = _convolution(state, f"patch_embed{stage + 1}", 0, x, 2)
        grid, tokens = x.shape[2:], x.flatten(2).transpose(1, 2)
        if stage == 3:
            tokens = torch.cat([state["cls_token"].expand(len(x), -1, -1), tokens], dim=1)
        tokens = tokens + state[f"pos_embed{stage + 1}"]
        for index in range(depths[stage]):
            block = f"block{stage + 1}.{index}"
            if stage < 3:
                y = _soft_attention(state, f"{block}.att.mha", tokens, grid, heads[stage], jitter)
                tokens = layer_norm(state, f"{block}.att.norm1", tokens + y, 1e-5)
                hidden = F.gelu(linear(state, f"{block}.att.ff1", tokens), approximate="tanh")
                tokens = layer_norm(
                    state, f"{block}.att.norm2", tokens + linear(state, f"{block}.att.ff2", hidden), 1e-5
                )
                continue
            y = layer_norm(state, f"{block}.norm1", tokens)
            k, v = linear(state, f"{block}.attn.kv", y).chunk(2, dim=-1)
            y = softmax_attention(linear(state, f"{block}.attn.q", y), k, v, heads[stage])
            tokens = tokens + linear(state, f"{block}.attn.proj", y)
            hidden = F.gelu(linear(state, f"{block}.mlp.fc1", layer_norm(state, f"{block}.norm2", tokens)))
            tokens = tokens + linear(state, f"{block}.mlp.fc2", hidden)
        x = tokens.transpose(1, 2).unflatten(2, grid) if stage < 3 else tokens
    return linear(state, "head", layer_norm(state, "norm", x)[:, 0])


def _convolution(state: State, embed: str, unit: int, x: Tensor, stride: int) -> Tensor:
    name = f"{embed}.proj.{3 * unit}"
    x = F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride=stride, padding=1)
    return batch_norm(state, f"{embed}.proj.{3 * unit + 1}", x).relu()


def _soft_attention(
    state: State, name: str, tokens: Tensor, grid: tuple[int, ...], heads: int, jitter: float
) -> Tensor:
    q, v = (linear(state, f"{name}.{part}", tokens) for part in ("W_q", "W_v"))
    q, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (q, v))
    width = q.shape[-1]
    q = q / width**0.25
    weight = state[f"{name}.attn.Qlandmark_op.weight"]
    planes = q.transpose(2, 3).unflatten(3, grid).flatten(0, 1)
    found = F.conv2d(planes, weight, stride=weight.shape[-1]).flatten(2).transpose(1, 2)
    found = F.gelu(layer_norm(state, f"{name}.attn.Qnorm_act.0", found, 1e-5)).unflatten(0, (-1, heads))
    a, p = ((-0.5 * torch.cdist(found, other).square()).exp() for other in (found, q))
    largest = a.sum(dim=-1).amax(dim=-1)[..., None, None]
    inverse = 1.8 / largest.square() * (a + jitter * torch.eye(a.shape[-1], dtype=a.dtype))
    for _ in range(20):
        inverse = 2 * inverse - inverse @ (a + jitter * torch.eye(a.shape[-1], dtype=a.dtype)) @ inverse
    y = p.transpose(2, 3) @ (inverse @ (p @ v))
    local = state[f"{name}.attn.conv.weight"]
    planes = v.permute(0, 3, 1, 2).unflatten(3, grid).flatten(0, 1)
    convolved = F.conv2d(planes, local, padding=local.shape[-1] // 2, groups=heads)
    y = y + convolved.unflatten(0, (-1, width)).permute(0, 2, 3, 4, 1).flatten(2, 3)
    return linear(state, f"{name}.ff", y.transpose(1, 2).flatten(2))


def transunet(state: State, images: Tensor, units: tuple[int, ...], heads: int, depth: int, steps: int) -> Tensor:
    """R50-ViT and the cascaded upsampler (the page's 3.2)."""
    body = "transformer.embeddings.hybrid_model"
    x = _group_norm(state, f"{body}.root.gn", _standardized(state, f"{body}.root.conv", images, 2, 3)).relu()
    skips, x = [x], F.max_pool2d(x, 3, stride=2)
    for stage, count in enumerate(units):
        for unit in range(count):
            x = _bottleneck(state, f"{body}.body.block{stage + 1}.unit{unit + 1}", x, 2 if stage and not unit else 1)
        wanted = [side // 2 ** (stage + 2) for side in images.shape[2:]]
        skips.append(F.pad(x, (0, wanted[1] - x.shape[3], 0, wanted[0] - x.shape[2])))
    name = "transformer.embeddings.patch_embeddings"
    x = F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"])
    grid, x = x.shape[2:], x.flatten(2).transpose(1, 2) + state["transformer.embeddings.position_embeddings"]
    for index in range(depth):
        block = f"transformer.encoder.layer.{index}"
        y = layer_norm(state, f"{block}.attention_norm", x)
        q, k, v = (linear(state, f"{block}.attn.{part}", y) for part in _QKV)
        x = x + linear(state, f"{block}.attn.out", softmax_attention(q, k, v, heads))
        hidden = F.gelu(linear(state, f"{block}.ffn.fc1", layer_norm(state, f"{block}.ffn_norm", x)))
        x = x + linear(state, f"{block}.ffn.fc2", hidden)
    x = layer_norm(state, "transformer.encoder.encoder_norm", x).transpose(1, 2).unflatten(2, grid)
    x = _unit(state, "decoder.conv_more", x)
    kept = skips[-2::-1]
    for index in range(steps):
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        x = torch.cat([x, kept[index]], dim=1) if index < len(kept) else x
        x = _unit(state, f"decoder.blocks.{index}.conv2", _unit(state, f"decoder.blocks.{index}.conv1", x))
    return F.conv2d(x, state["segmentation_head.0.weight"], state["segmentation_head.0.bias"], padding=1)


def _standardized(state: State, name: str, x: Tensor, stride: int, padding: int) -> Tensor:
    weight = state[f"{name}.weight"]
    variance, mean = torch.var_mean(weight, dim=(1, 2, 3), keepdim=True, unbiased=False)
    return F.conv2d(x, (weight - mean) / (variance + 1e-5).sqrt(), stride=stride, padding=padding)


def _group_norm(state: State, name: str, x: Tensor, groups: int = 32, eps: float = 1e-6) -> Tensor:
    return F.group_norm(x, groups, state[f"{name}.weight"], state[f"{name}.bias"], eps)


def _bottleneck(state: State, name: str, x: Tensor, stride: int) -> Tensor:
    shortcut = x
    if f"{name}.downsample.weight" in state:
        shortcut = _standardized(state, f"{name}.downsample", x, stride, 0)
        shortcut = _group_norm(state, f"{name}.gn_proj", shortcut, shortcut.shape[1], 1e-5)
    y = _group_norm(state, f"{name}.gn1", _standardized(state, f"{name}.conv1", x, 1, 0)).relu()
    y = _group_norm(state, f"{name}.gn2", _standardized(state, f"{name}.conv2", y, stride, 1)).relu()
    y = _group_norm(state, f"{name}.gn3", _standardized(state, f"{name}.conv3", y, 1, 0))
    return (shortcut + y).relu()


def _unit(state: State, name: str, x: Tensor) -> Tensor:
    return batch_norm(state, f"{name}.1", F.conv2d(x, state[f"{name}.0.weight"], padding=1)).relu()
