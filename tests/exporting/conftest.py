"""Runs and bundles that tests may read."""

from __future__ import annotations

import json
from pathlib import Path

import jaxtyping
import pytest
import torch

import gossamer
from gossamer.checkpoint import save_model
from gossamer.data import open_dataset
from gossamer.data.synthetic.abdomen import CLASSES, write_abdomen
from gossamer.data.transforms import Channels, Preprocessing, StandardizeEach
from gossamer.inference.segmentation import SlidingWindow
from gossamer.training.recipe import Recipe
from gossamer.training.run_folder import RunConfig, RunFolder

WINDOW, STACK = (32, 48), 3


@pytest.fixture
def traceable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run-time checks of shapes are Python that an exporter cannot trace."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="session")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a small classifier; do not write into it."""
    from gossamer.cli.main import run

    out = tmp_path_factory.mktemp("bundles") / "chest"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(jaxtyping.config, "jaxtyping_disable", True)
        options = ["--licence-data", "public domain", "--threads", "1"]
        assert run(["export", str(trained), "--out", str(out), *options]) == 0
    return out


@pytest.fixture(scope="session")
def untrained_segmenter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a network with fresh weights on a phantom of volumes, whose classes overlap."""
    root = tmp_path_factory.mktemp("segmenter")
    data = write_abdomen(root / "abdomen", cases=5, days=1, slices=4, size=(30, 44))
    dataset = open_dataset(data, seed=3, task="segment")
    torch.manual_seed(0)
    size = {"image_size": WINDOW, "in_channels": STACK, "num_classes": len(CLASSES)}
    network = gossamer.create_model("sumnet_small", **size)
    folder = RunFolder(root / "run")
    folder.create()
    described = RunConfig(
        data=str(data),
        layout=dataset.layout,
        data_fingerprint=dataset.fingerprint(),
        classes=CLASSES,
        multi_label=True,
        seed=3,
        preset="sumnet_small",
        model=network.config,
        preprocessing=Preprocessing((Channels(1), StandardizeEach("slice"))),
        recipe=Recipe(epochs=1, batch_size=2, learning_rate=1e-3),
        monitor="val_dice",
        task="segment",
        inference=SlidingWindow(WINDOW, STACK),
    )
    folder.write_config(described, {})
    save_model(network, folder.path)
    estimate = {"value": 0.5, "low": 0.25, "high": 0.75}
    summary = {
        "splits": {"train": 3, "val": 1, "test": 1}, "split": "val", "groups": 1, "distance_unit": "mm",
        "metrics": {"dice": estimate, "hd95": {"value": 4.0, "low": None, "high": None}},
        "trivial": {"dice": 0.0, "hd95": None},
    }  # fmt: skip
    folder.summary.write_text(json.dumps(summary))
    return folder.path
