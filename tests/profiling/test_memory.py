"""Forecasts of memory compared with formulas and with a process."""

from __future__ import annotations

import pytest

from gossamer.nn.models import model_config
from gossamer.profiling.memory import (
    COMPILER_BYTES,
    KERNEL_BYTES,
    PeakMemory,
    bare_process_bytes,
    forecast_memory,
    measure_peak_memory,
)

VIT = {"patch_size": 8, "dim": 48, "depth": 2, "num_heads": 3, "in_channels": 2, "num_classes": 3}


def test_the_peak_of_a_transformer_is_its_hidden_layer() -> None:
    config = model_config("vit_nano", attention="softmax", image_size=(40, 72), **VIT)  # type: ignore[arg-type]
    forecast = forecast_memory(config, batch=5)
    assert forecast is not None
    parameters = sum(parameter.numel() for parameter in config.build().parameters())
    assert forecast.weights == 4 * parameters
    assert forecast.images == 4 * 5 * 2 * 40 * 72
    # Four times the width before and after GELU; and the tokens once or a few times.
    tokens = 4 * 5 * (5 * 9 + 1) * 48
    assert 9 * tokens <= forecast.activations <= 14 * tokens
    assert forecast.forward_bytes == forecast.activations + KERNEL_BYTES


def test_fused_attention_has_no_matrix_of_scores() -> None:
    def activations(side: int, batch: int) -> int:
        config = model_config("vit_nano", attention="kv", image_size=(side, side), **VIT)  # type: ignore[arg-type]
        forecast = forecast_memory(config, batch=batch)
        assert forecast is not None
        return forecast.activations

    # Linear in the tokens and in the batch; the second image shares its positions.
    assert activations(512, 1) == pytest.approx(16 * activations(128, 1), rel=0.03)
    assert activations(128, 6) == pytest.approx(6 * activations(128, 1), rel=0.03)


def test_networks_that_prune_are_forecast_dense() -> None:
    pruning = forecast_memory(model_config("apformer_small", image_size=(64, 96)), batch=2)
    assert pruning is not None
    dense = model_config("apformer_small", image_size=(64, 96), attention={"name": "adaptive", "gate": "none"})
    plain = forecast_memory(dense, batch=2)
    assert plain is not None
    assert pruning.activations == pytest.approx(plain.activations, rel=0.25)


def test_custom_operators_need_the_compiler_of_torch() -> None:
    own, others = (
        forecast_memory(model_config(name, image_size=(64, 96))) for name in ("sadnn_classifier_small", "unet_16")
    )
    assert own is not None
    assert others is not None
    assert own.forward_bytes - own.activations == KERNEL_BYTES + COMPILER_BYTES
    assert others.forward_bytes - others.activations == KERNEL_BYTES


@pytest.mark.parametrize(("name", "size", "batch"), [("vit_tiny", (384, 256), 8), ("unet_16", (256, 192), 4)])
def test_the_forecast_is_near_the_measured_peak(name: str, size: tuple[int, int], batch: int) -> None:
    config = model_config(name, image_size=size)
    forecast, bare = forecast_memory(config, batch=batch), bare_process_bytes()
    assert forecast is not None
    if bare is None:
        pytest.skip("this system does not report the memory of a process")
    found = measure_peak_memory(config, batch=batch, threads=1, returning=True)
    assert isinstance(found, PeakMemory)
    assert found.process_bytes == pytest.approx(forecast.process_bytes(bare), rel=0.15)
    assert found.forward_bytes == pytest.approx(forecast.forward_bytes, rel=0.15)
