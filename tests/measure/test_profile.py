"""Profiles carry every figure with how it was obtained; memory is that of a fresh process."""

from __future__ import annotations

import gossamer
from gossamer.measure.latency import time_calls
from gossamer.measure.machine import describe_machine, usable_cpus
from gossamer.measure.memory import measure_peak_memory
from gossamer.measure.profile import profile_model


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
        return  # this system does not report the peak of a process
    assert 50e6 < one.process_bytes < 2e9
    # 15 more images: at the least the 512 hidden features of 257 tokens are held for each.
    assert many.forward_bytes - one.forward_bytes > 15 * 257 * 512 * 4


def test_times_are_ordered_and_counted() -> None:
    latency = time_calls(lambda: sum(range(1000)), seconds=0.01, min_calls=7)
    assert latency.calls >= 7
    assert 0 < latency.p50_ms <= latency.p95_ms


def test_machine() -> None:
    found = describe_machine()
    assert 1 <= usable_cpus() <= 4096
    assert found["packages"]["numpy"]
    assert found["memory_bytes"] > 1e8
