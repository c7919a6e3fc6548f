"""Compare every attention mechanism with fused softmax, and the fast forms with plain ones.

Example: python benchmarks/attention.py --out benchmarks/attention.json

Everything is one thread, float32 and CPU time unless it says otherwise; ratios are of lower quartiles of interleaved
rounds in one process, memory is the growth of the peak of a fresh process over one call, divided by the size of the
input tokens. Weights are random, since time and memory do not depend on them. --quick omits grids of more than
16,384 tokens.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import plain_forms
from gossamer.files import write_text
from gossamer.nn.attention import MECHANISMS, Attention, AttentionConfig, attention_config
from gossamer.nn.inverse import symmetric_inverse
from gossamer.profiling.machine import processor_name
from timing import Call, extra_memory, interleaved, rise_of_peak

GRIDS = {197: (1, 197), 1024: (32, 32), 4096: (64, 64), 16384: (128, 128), 65536: (256, 256), 1048576: (1024, 1024)}
QUADRATIC = ("softmax", "kv", "kv_pos", "adaptive")
MOST_QUADRATIC = 16_384
MOST_ADAPTIVE = 4096


def build(described: str | dict[str, Any] | AttentionConfig, dim: int, heads: int, tokens: int) -> Attention:
    """Return a mechanism in evaluation mode."""
    torch.manual_seed(0)
    return attention_config(described).build(dim, heads, grid=GRIDS[tokens]).eval()


def random_tokens(tokens: int, dim: int, *, mean: float = 0.0, batch: int = 1) -> Tensor:
    """Return tokens of unit variance, with the same generator every time."""
    return torch.randn(batch, tokens, dim, generator=torch.Generator().manual_seed(1)) + mean


def evaluating(attention: Attention, x: Tensor, grid: tuple[int, int]) -> Call:
    """Return a call of the forward pass without gradients."""

    def call() -> object:
        with torch.inference_mode():
            return attention(x, grid)

    return call


def training(module: Callable[..., Tensor], x: Tensor, *rest: object) -> Call:
    """Return a call of forward and backward."""
    x = x.clone().requires_grad_()

    def call() -> object:
        return module(x, *rest).square().sum().backward()

    return call


def growth(quick: bool) -> dict[str, Any]:
    """Return seconds of every mechanism at every number of tokens, and the exponent of the last step."""
    dim, heads = 384, 6
    sizes = [tokens for tokens in GRIDS if not quick or tokens <= 16_384]
    seconds: dict[str, dict[str, float]] = {name: {} for name in MECHANISMS}
    for tokens in sizes:
        calls: dict[str, Call] = {}
        x = random_tokens(tokens, dim)
        for name in MECHANISMS:
            most = MOST_ADAPTIVE if name == "adaptive" else MOST_QUADRATIC if name in QUADRATIC else max(GRIDS)
            if name == "softmax" and not quick:
                most = 65_536
            if tokens <= most:
                calls[name] = evaluating(build(name, dim, heads, tokens), x, GRIDS[tokens])
        for name, value in interleaved(calls).items():
            seconds[name][str(tokens)] = value
            print(f"growth {name} {tokens}: {1e3 * value:.2f} ms", file=sys.stderr, flush=True)
    exponents = {}
    for name, found in seconds.items():
        known = [(int(tokens), value) for tokens, value in found.items() if 4096 <= int(tokens) <= 65_536]
        if len(known) > 1:
            (n0, t0), (n1, t1) = known[0], known[-1]
            exponents[name] = math.log(t1 / t0) / math.log(n1 / n0)
    return {"dim": dim, "heads": heads, "seconds": seconds, "exponent_4k_to_64k": exponents}


def sequence_norm(quick: bool) -> dict[str, Any]:
    """Return sequence normalization against its plain form and against softmax, forward and with gradients."""
    out: dict[str, Any] = {"over_softmax": {}, "over_plain": {}, "training_over_softmax_c192": {}}
    for tokens in (197, 1024, 4096, 16384):
        attention, x = build("sequence_norm", 384, 6, tokens), random_tokens(tokens, 384)
        fused = plain_forms.SoftmaxBlock(384, 6).eval()
        found = interleaved(
            {
                "ours": evaluating(attention, x, GRIDS[tokens]),
                "plain": _without_gradients(lambda a=attention, x=x: plain_forms.sequence_norm(a, x)),
                "softmax": _without_gradients(lambda f=fused, x=x: f(x)),
            }
        )
        out["over_softmax"][tokens] = found["softmax"] / found["ours"]
        out["over_plain"][tokens] = found["plain"] / found["ours"]
        print(f"sequence_norm {tokens}: {found}", file=sys.stderr, flush=True)
    for tokens in (4096, 16384):
        attention, x = build("sequence_norm", 192, 3, tokens), random_tokens(tokens, 192)
        fused = plain_forms.SoftmaxBlock(192, 3)
        found = interleaved({"ours": training(attention, x, GRIDS[tokens]), "softmax": training(fused, x)}, rounds=5)
        out["training_over_softmax_c192"][tokens] = found["softmax"] / found["ours"]
        print(f"sequence_norm training {tokens}: {found}", file=sys.stderr, flush=True)
    if not quick:
        attention, x = build("sequence_norm", 384, 6, 65536), random_tokens(65536, 384)
        fused = plain_forms.SoftmaxBlock(384, 6).eval()
        found = interleaved(
            {"ours": evaluating(attention, x, GRIDS[65536]), "softmax": _without_gradients(lambda: fused(x))}
        )
        out["over_softmax"][65536] = found["softmax"] / found["ours"]
    return out


def _without_gradients(call: Call) -> Call:
    def inner() -> object:
        with torch.inference_mode():
            return call()

    return inner


def errors() -> dict[str, Any]:
    """Return relative errors of the float32 forms against float64, for growing channel means, and of the gradients."""
    out: dict[str, Any] = {}
    for mean in (0.0, 1.0, 10.0, 100.0):
        attention = build("sequence_norm", 192, 3, 4096)
        x = random_tokens(4096, 192, mean=mean)
        with torch.no_grad():
            ours, plain = attention(x, (64, 64)), plain_forms.sequence_norm(attention, x)  # type: ignore[arg-type]
            exact = plain_forms.sequence_norm(attention.double(), x.double())  # type: ignore[arg-type]
            out[f"mean {mean:g}"] = {
                name: float((found - exact).norm() / (exact - attention.output.bias).norm())
                for name, found in (("ours", ours), ("plain", plain))
            }
    attention, x = build("sequence_norm", 192, 3, 4096), random_tokens(4096, 192)
    parameters = [parameter for name, parameter in attention.named_parameters() if name != "qkv.bias"]
    weight = random_tokens(4096, 192).flip(1)
    leaf = x.clone().requires_grad_()
    ours = torch.autograd.grad((attention(leaf, (64, 64)) * weight).sum(), [leaf, *parameters])
    plain = torch.autograd.grad((plain_forms.sequence_norm(attention, leaf) * weight).sum(), [leaf, *parameters])  # type: ignore[arg-type]
    out["gradients against the plain form"] = max(
        float((one - other).norm() / other.norm()) for one, other in zip(ours, plain, strict=True)
    )
    return out


def key_value() -> dict[str, float]:
    """Return kv_pos over kv at 1,024 tokens of 12 heads of 64."""
    tokens, dim, heads = 1024, 768, 12
    x = random_tokens(tokens, dim)
    blocks = {name: build(name, dim, heads, tokens) for name in ("kv", "kv_pos")}
    found = interleaved({name: evaluating(block, x, GRIDS[tokens]) for name, block in blocks.items()}, rounds=9)
    trained = interleaved({name: training(block, x, GRIDS[tokens]) for name, block in blocks.items()}, rounds=9)
    return {"evaluation": found["kv_pos"] / found["kv"], "training": trained["kv_pos"] / trained["kv"]}


def soft() -> dict[str, Any]:
    """Return SOFT with Cholesky against its published algorithm, and the errors of both inverses."""
    out: dict[str, Any] = {"over_published": {}}
    for grid, dim, heads in (((56, 56), 64, 1), ((28, 28), 128, 2), ((14, 14), 320, 5)):
        torch.manual_seed(0)
        attention = attention_config({"name": "soft", "inverse": "cholesky"}).build(dim, heads, grid=grid).eval()
        x = random_tokens(grid[0] * grid[1], dim)
        found = interleaved(
            {
                "ours": evaluating(attention, x, grid),
                "published": _without_gradients(lambda a=attention, x=x, g=grid: plain_forms.soft(a, x, g)),
            }
        )
        out["over_published"][grid[0] * grid[1]] = found["published"] / found["ours"]
    basis = torch.linalg.qr(torch.randn(49, 49, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    matrix = basis @ torch.diag(torch.logspace(0, -4, 49, dtype=torch.float64)) @ basis.T
    exact = torch.linalg.inv(matrix)
    for method in ("cholesky", "newton"):
        inverse = symmetric_inverse(matrix.float(), method, steps=20)  # type: ignore[arg-type]
        out[f"error of {method} at condition 1e4"] = float((inverse.double() - exact).norm() / exact.norm())
    return out


def local() -> dict[str, float]:
    """Return local attention of 56 x 56 x 64, 2 heads, 7 x 7, against unfolding and a convolution of its width."""
    grid = (56, 56)
    torch.manual_seed(0)
    attention = attention_config("local").build(64, 2, grid=grid).eval()
    x = random_tokens(56 * 56, 64)
    convolution, plane = nn.Conv2d(64, 64, 3, padding=1).eval(), x.transpose(1, 2).unflatten(2, grid).contiguous()
    queries, both = attention._projected(x, grid, None)  # type: ignore[operator]
    keys, values = F.pad(both, (0, 0, 0, 0, 0, 0, 3, 3, 3, 3)).unbind(3)
    relative = attention._relative().detach()  # type: ignore[operator]
    window = torch.ops.gossamer.window_attention
    found = interleaved(
        {
            "ours": evaluating(attention, x, grid),
            "window": _without_gradients(lambda: window(queries, keys, values, relative, 7, 1)),
            "unfolding": _without_gradients(lambda: plain_forms.local(attention, x, grid)),  # type: ignore[arg-type]
            "projections": _without_gradients(lambda: attention.output(attention.qkv(x)[..., :64])),  # type: ignore[operator]
            "convolution": _without_gradients(lambda: convolution(plane)),
        }
    )
    return {
        "over_unfolding": found["unfolding"] / found["ours"],
        "window_over_unfolding": (found["unfolding"] - found["projections"]) / found["window"],
        "layer_over_convolution": found["ours"] / found["convolution"],
        "window_over_convolution": found["window"] / found["convolution"],
    }


def adaptive() -> dict[str, Any]:
    """Return time and executed MACs of gathered queries and keys at 4,096 tokens over dense."""
    out: dict[str, Any] = {}
    for gate in ("none", "straight_through"):
        attention = build({"name": "adaptive", "gate": gate}, 384, 6, 4096)
        x = random_tokens(4096, 384)
        calls: dict[str, Call] = {"1": evaluating(attention, x, (64, 64))}
        executed = {}
        for fraction in (0.75, 0.5, 0.25):
            kept = (torch.arange(4096) % 4 < 4 * fraction)[None]

            def call(a: Attention = attention, kept: Tensor = kept, x: Tensor = x) -> object:
                with torch.inference_mode():
                    return a(x, (64, 64), kept_queries=kept, kept_keys=kept)

            calls[str(fraction)] = call
            count = int(4096 * fraction)
            executed[str(fraction)] = attention.cost((64, 64)).macs / attention.executed_cost(count, count).macs  # type: ignore[operator]
        found = interleaved(calls, rounds=5)
        out[gate] = {
            "faster_than_dense": {key: found["1"] / value for key, value in found.items() if key != "1"},
            "fewer_macs": executed,
        }
    return out


def memory(quick: bool) -> dict[str, Any]:
    """Return extra memory over the size of the input."""
    script = str(Path(__file__).resolve())
    out: dict[str, Any] = {}
    for name in MECHANISMS:
        for tokens in (4096, 65536):
            if tokens == 4096 or (name not in QUADRATIC and not quick):
                extra = extra_memory(script, {"attention": name, "dim": 384, "heads": 6, "tokens": tokens})
                out.setdefault(name, {})[tokens] = extra / (4 * tokens * 384)
                print(f"memory {name} {tokens}: {out[name][tokens]:.2f}", file=sys.stderr, flush=True)
    local_bytes = extra_memory(script, {"attention": "local", "dim": 64, "heads": 2, "tokens": 65536})
    out["local 256x256x64"] = local_bytes / (4 * 65536 * 64)
    if not quick:
        large = extra_memory(script, {"attention": "sequence_norm", "dim": 192, "heads": 3, "tokens": 1048576})
        out["sequence_norm 1,048,576 tokens, C = 192, all in all, GiB"] = (large + 4 * 1048576 * 192) / 2**30
    return out


def half_precision() -> dict[str, Any]:
    """Return whether forward and backward under autocast are finite, at 65,536 tokens or, where quadratic, at 4,096."""
    out: dict[str, Any] = {}
    for name in MECHANISMS:
        tokens = 4096 if name in QUADRATIC else 65536
        for dtype in (torch.bfloat16, torch.float16):
            attention = build(name, 64, 2, tokens).train()
            x = random_tokens(tokens, 64).requires_grad_()
            with torch.autocast("cpu", dtype):
                result = attention(x, GRIDS[tokens])
            result.float().square().mean().backward()
            gradients = [x.grad, *(parameter.grad for parameter in attention.parameters())]
            finite = bool(torch.isfinite(result).all()) and all(
                bool(torch.isfinite(g).all()) for g in gradients if g is not None
            )
            out.setdefault(name, {})[f"{str(dtype)[6:]} at {tokens}"] = finite
    return out


def _probe(request: dict[str, Any]) -> int:
    attention = build(request["attention"], request["dim"], request["heads"], request["tokens"])
    grid = GRIDS[request["tokens"]]
    evaluating(attention, random_tokens(1024, request["dim"]), (32, 32))()
    return rise_of_peak(evaluating(attention, random_tokens(request["tokens"], request["dim"]), grid))


def main() -> None:
    """Measure everything and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", help="names of the parts to measure")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.memory:
        print(_probe(json.loads(options.memory)))
        return
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "sequence_norm": lambda: sequence_norm(options.quick),
        "errors": errors,
        "key_value": key_value,
        "soft": soft,
        "local": local,
        "adaptive": adaptive,
        "half_precision": half_precision,
        "memory": lambda: memory(options.quick),
        "growth": lambda: growth(options.quick),
    }
    found: dict[str, Any] = {"torch": torch.__version__, "processor": processor_name()}
    for name, part in parts.items():
        if options.only is None or name in options.only:
            found[name] = part()
            print(name, json.dumps(found[name], indent=1), file=sys.stderr, flush=True)
    text = json.dumps(found, indent=1)
    if options.out:
        write_text(options.out, text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    main()
