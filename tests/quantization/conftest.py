"""Small graphs made by hand, data in memory, and a bundle that may be quantized."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from made_graphs import transformer
from made_graphs import write as write_bundle

from gossamer.data import ClassificationDataset, open_dataset
from gossamer.exporting import write
from gossamer.quantization import accuracy_loss, classification, quantize


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer resamples and shorter timing than a user gets: neither is what these tests are about."""
    for module, name in ((accuracy_loss, "bootstrap_metrics"), (classification, "evaluate_predictions")):
        monkeypatch.setattr(module, name, partial(getattr(module, name), resamples=40))
    monkeypatch.setattr(quantize, "measure_int8_speeds", partial(quantize.measure_int8_speeds, seconds=0.01))
    monkeypatch.setattr(write, "measure_bundle", partial(write.measure_bundle, seconds=0.01))


@pytest.fixture(scope="session")
def graph() -> bytes:
    """A small transformer, see ``made_graphs``."""
    return transformer().SerializeToString()


@pytest.fixture(scope="session")
def windows() -> np.ndarray:
    """Images that the graph takes: an odd number of batches, another range than -1 to 1."""
    generator = np.random.default_rng(5)
    return (0.3 + 1.7 * generator.standard_normal((10, 1, 16, 24))).astype(np.float32)


@pytest.fixture(scope="session")
def chest(phantom: Path) -> ClassificationDataset:
    """The phantom that the bundle was trained on, as far as its manifest says."""
    dataset = open_dataset(phantom, seed=0, task="classify")
    assert isinstance(dataset, ClassificationDataset)
    return dataset


@pytest.fixture(scope="session")
def float_bundle(chest: ClassificationDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle in floating point; do not write into it."""
    return write_bundle(tmp_path_factory.mktemp("bundles") / "float32", chest)
