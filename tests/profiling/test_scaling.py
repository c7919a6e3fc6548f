"""Costs over image sizes: which sizes are run, and the fitted exponents."""

from __future__ import annotations

import pytest

from gossamer.errors import ErrorCode, GossamerError
from gossamer.nn.models import NetworkConfig, model_config
from gossamer.profiling.scaling import measure_growth


def vit(attention: str, **changes: object) -> NetworkConfig:
    given = {
        "image_size": (8, 12), "patch_size": 4, "dim": 8, "depth": 2, "num_heads": 2, "in_channels": 2,
        "num_classes": 3, **changes,
    }  # fmt: skip
    return model_config("vit_nano", attention=attention, **given)  # type: ignore[arg-type]


def test_softmax_is_quadratic_and_sequence_norm_linear() -> None:
    sizes = [(256, 128), (128, 128), (512, 256)]
    growth = measure_growth(vit("softmax"), sizes, seconds=0.01, max_call_seconds=0)
    linear = measure_growth(vit("sequence_norm"), sizes, seconds=0.01, max_call_seconds=0)
    assert [size.image_size for size in growth.sizes] == [(128, 128), (256, 128), (512, 256)]
    assert [size.tokens for size in growth.sizes] == [32 * 32 + 1, 64 * 32 + 1, 128 * 64 + 1]
    # 2 N^2 C of 2 N^2 C + 12 N C^2: nearly all of it at these sizes.
    assert growth.macs_exponent.value == pytest.approx(2.0, abs=0.05)
    assert linear.macs_exponent.value == pytest.approx(1.0, abs=0.02)
    assert growth.sizes[1].macs.value == vit("softmax", image_size=(256, 128)).build().cost().macs
    # In fused attention no memory grows with the square of the tokens.
    assert growth.memory_exponent.value == pytest.approx(1.0, abs=0.05)
    # Memory of tensors grows with the exponent; libraries add the same amount at every size.
    least, most = growth.sizes[0], growth.sizes[-1]
    assert most.tensors.value / least.tensors.value == pytest.approx(8**growth.memory_exponent.value, rel=0.05)  # type: ignore[operator]
    assert most.memory.value - most.tensors.value == least.memory.value - least.tensors.value > 0  # type: ignore[operator]
    # Only the smallest size was run: a call of the others would have taken longer than 0 s.
    assert [size.latency.how for size in growth.sizes] == ["measured", "unavailable", "unavailable"]
    assert "a call is forecast to take" in growth.sizes[1].latency.detail
    assert growth.latency_exponent.how == "unavailable"


def test_sizes_are_timed_in_turns() -> None:
    growth = measure_growth(vit("kv"), [(16, 24), (8, 12), (32, 20)], batch=2, seconds=0.02)
    details = {size.latency.detail for size in growth.sizes}
    assert len(details) == 1
    assert "in turns" in details.pop()
    assert all(size.latency.value > 0 for size in growth.sizes)  # type: ignore[operator]
    assert growth.latency_exponent.how == "measured"
    assert set(growth.to_json()["exponents"]) == {"macs", "memory", "latency"}


def test_a_size_that_needs_too_much_memory_is_not_run() -> None:
    small, large = measure_growth(vit("kv"), [(8, 12), (512, 256)], seconds=0.01, memory_limit=15 * 2**20).sizes
    assert small.latency.how == "measured"
    assert large.latency.how == "unavailable"
    assert "may be used" in large.latency.detail
    assert large.memory.value > 15 * 2**20 > small.memory.value  # type: ignore[operator]


def test_networks_that_prune_or_have_no_tokens_are_measured() -> None:
    pruning = measure_growth(model_config("apformer_small"), [(32, 64), (64, 64)], seconds=0.01)
    assert [size.tokens for size in pruning.sizes] == [32, 64]
    plain = measure_growth(model_config("unet_16"), [(32, 64), (64, 64)], seconds=0.01)
    assert [size.tokens for size in plain.sizes] == [None, None]
    assert plain.macs_exponent.value == pytest.approx(1.0)


def test_sizes_of_one_area_are_refused() -> None:
    with pytest.raises(GossamerError) as caught:
        measure_growth(vit("kv"), [(8, 12), (12, 8)])
    assert (caught.value.code, caught.value.where) == (ErrorCode.CONFIG, "growth")


def test_sizes_that_do_not_fit_are_refused_with_the_nearest_one() -> None:
    with pytest.raises(GossamerError, match=r"12x16.* patch_size$") as caught:
        measure_growth(vit("kv"), [(8, 12), (9, 16)])
    assert (caught.value.code, caught.value.where) == (ErrorCode.CONFIG, "growth")
    with pytest.raises(GossamerError, match=r"32x32$") as caught:
        measure_growth(model_config("unet_16"), [(32, 32), (64, 64), (17, 18)])
    assert (caught.value.code, caught.value.where) == (ErrorCode.CONFIG, "growth")
