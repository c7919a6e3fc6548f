"""Profiles of networks: every figure has its method, and memory is that of a fresh process."""

from __future__ import annotations

import pytest
import torch

import gossamer
from gossamer.errors import ErrorCode, GossamerError
from gossamer.profiling.latency import measure_latency
from gossamer.profiling.machine import describe_machine, usable_cpus
from gossamer.profiling.macs import count_macs
from gossamer.profiling.memory import measure_peak_memory
from gossamer.profiling.network import check_agreement, profile_model


def test_profile_of_a_small_network() -> None:
    model = gossamer.create_model("vit_nano", attention="softmax", image_size=(32, 32), patch_size=8, num_classes=2)
    figures = profile_model(model, seconds=0.1, memory=False)
    assert figures["macs"].value == figures["macs_closed_form"].value == model.cost().macs
    assert figures["exponentials"].value == 6 * 4 * 17 * 17
    assert figures["parameters"].value == sum(p.numel() for p in model.parameters())
    assert figures["latency_p50"].how == "measured"
    assert 0 < figures["latency_p50"].value <= figures["latency_p95"].value  # type: ignore[operator]
    assert "attention included" in figures["macs"].detail


def test_memory_grows_with_the_batch() -> None:
    description = gossamer.create_model("vit_nano", image_size=(64, 64), patch_size=4, num_classes=2).config
    one, many = (measure_peak_memory(description, batch=batch, threads=1) for batch in (1, 16))
    if one is None or many is None:
        pytest.skip("this system does not report the peak memory of a process")
    assert 50e6 < one.process_bytes < 2e9
    # 15 more images: at the least the 512 hidden features of 257 tokens are held for each.
    assert many.forward_bytes - one.forward_bytes > 15 * 257 * 512 * 4


def test_times_are_ordered_and_counted() -> None:
    latency = measure_latency(lambda: sum(range(1000)), seconds=0.01, min_calls=7)
    assert latency.calls >= 7
    assert 0 < latency.p50_ms <= latency.p95_ms


def test_machine() -> None:
    found = describe_machine()
    assert 1 <= usable_cpus() <= 4096
    assert found["packages"]["numpy"]
    assert found["memory_bytes"] > 1e8


def test_disagreeing_counts_are_an_error() -> None:
    model = gossamer.create_model("vit_nano", attention="kv", image_size=(32, 24), patch_size=8, num_classes=2)
    check_agreement(model, 1004, 1000)
    for counted in (1006, 994):
        with pytest.raises(GossamerError, match=r"[+-]0\.60 %") as caught:
            check_agreement(model, counted, 1000)
        assert caught.value.code is ErrorCode.BUG


def test_counted_work_does_not_depend_on_pruning() -> None:
    model = gossamer.create_model("apformer_small", image_size=(64, 96), num_classes=3)
    assert model.foreground_head is not None
    with torch.no_grad():
        model.foreground_head.bias.copy_(torch.tensor([9.0, -9.0]))  # every token is background and is pruned
    model.eval()
    black = torch.zeros(1, 3, 64, 96)
    figures = profile_model(model, seconds=0.01, memory=False)
    assert model.pruned_fraction(black).item() == 1.0
    assert figures["macs"].value == figures["macs_closed_form"].value == model.cost().macs
    assert count_macs(model, black).total < model.cost().macs


def test_forecasts_are_close_to_measurements() -> None:
    model = gossamer.create_model("vit_nano", image_size=(32, 24), patch_size=8, num_classes=2)
    figures = profile_model(model, seconds=0.05, forecasts=True)
    assert figures["peak_memory_forecast"].how in ("modelled", "unavailable")
    if figures["peak_memory"].value is not None and figures["peak_memory_forecast"].value is not None:
        assert figures["peak_memory"].value == pytest.approx(figures["peak_memory_forecast"].value, rel=0.15)
