"""Costs over image sizes: what is run and what is not, and the exponents that are fitted."""

from __future__ import annotations

import pytest

from gossamer.errors import GossamerError
from gossamer.nn.models import NetworkConfig, model_config
from gossamer.profiling.scaling import fit_exponent, measure_growth


def vit(attention: str, **changes: object) -> NetworkConfig:
    given = {
        "image_size": (8, 12), "patch_size": 4, "dim": 8, "depth": 2, "num_heads": 2, "in_channels": 2,
        "num_classes": 3, **changes,
    }  # fmt: skip
    return model_config("vit_nano", attention=attention, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("power", [1.0, 1.5, 2.0])
def test_the_exponent_of_a_power_is_that_power(power: float) -> None:
    found = fit_exponent([(pixels, 3.7 * pixels**power) for pixels in (48, 200, 1024)], "computed")
    assert found.value == pytest.approx(power)
    assert found.how == "computed"
    assert "3 sizes" in found.detail


def test_no_exponent_of_one_point() -> None:
    assert fit_exponent([(48, 5.0), (96, None)], "measured").how == "unavailable"
    assert fit_exponent([(48, 5.0), (48, 6.0)], "measured").value is None


def test_softmax_grows_with_the_square_and_sequence_norm_with_the_pixels() -> None:
    sizes = [(256, 128), (128, 128), (512, 256)]
    growth = measure_growth(vit("softmax"), sizes, seconds=0.01, seconds_a_call=0)
    linear = measure_growth(vit("sequence_norm"), sizes, seconds=0.01, seconds_a_call=0)
    assert [size.image_size for size in growth.sizes] == [(128, 128), (256, 128), (512, 256)]
    assert [size.tokens for size in growth.sizes] == [32 * 32 + 1, 64 * 32 + 1, 128 * 64 + 1]
    # 2 N^2 C of 2 N^2 C + 12 N C^2: nearly all of it at these sizes.
    assert growth.macs_exponent.value == pytest.approx(2.0, abs=0.05)
    assert linear.macs_exponent.value == pytest.approx(1.0, abs=0.02)
    assert growth.sizes[1].macs.value == vit("softmax", image_size=(256, 128)).build().cost().macs
    # Of a fused attention nothing grows with the square of the tokens.
    assert growth.memory_exponent.value == pytest.approx(1.0, abs=0.05)
    # The column that the exponent is of, and beside it what libraries add at every size alike.
    least, most = growth.sizes[0], growth.sizes[-1]
    assert most.tensors.value / least.tensors.value == pytest.approx(8**growth.memory_exponent.value, rel=0.05)  # type: ignore[operator]
    assert most.memory.value - most.tensors.value == least.memory.value - least.tensors.value > 0  # type: ignore[operator]
    # Only the smallest was run: the others would have taken longer than nothing.
    assert [size.latency.how for size in growth.sizes] == ["measured", "unavailable", "unavailable"]
    assert "a call is forecast to take" in growth.sizes[1].latency.detail
    assert growth.latency_exponent.how == "unavailable"


def test_every_size_is_timed_in_turns_where_nothing_forbids_it() -> None:
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


def test_networks_that_prune_or_have_no_tokens_have_a_growth_too() -> None:
    pruning = measure_growth(model_config("apformer_small"), [(32, 64), (64, 64)], seconds=0.01)
    assert [size.tokens for size in pruning.sizes] == [32, 64]
    plain = measure_growth(model_config("unet_16"), [(32, 64), (64, 64)], seconds=0.01)
    assert [size.tokens for size in plain.sizes] == [None, None]
    assert plain.macs_exponent.value == pytest.approx(1.0)


def test_one_size_shows_no_growth() -> None:
    with pytest.raises(GossamerError, match="cannot show growth"):
        measure_growth(vit("kv"), [(8, 12), (12, 8)])
    with pytest.raises(GossamerError, match=r"^E-CONFIG: --growth: .*pad to 12x16, or choose another --patch-size"):
        measure_growth(vit("kv"), [(8, 12), (9, 16)])
    with pytest.raises(GossamerError, match=r"pad to 32x32$"):
        measure_growth(model_config("unet_16"), [(32, 32), (64, 64), (17, 18)])
