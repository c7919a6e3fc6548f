"""Bundles that every test of inference may read."""

from __future__ import annotations

from pathlib import Path

import pytest

from made_bundles import write_classifier, write_segmenter


@pytest.fixture(scope="session")
def classifier_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that classifies grey 8-bit pictures; do not write into it."""
    return write_classifier(tmp_path_factory.mktemp("bundles") / "classifier")


@pytest.fixture(scope="session")
def mask_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that segments grey pictures and volumes, three slices at a time; do not write into it."""
    return write_segmenter(tmp_path_factory.mktemp("bundles") / "segmenter", stack=3)
