"""Arguments of wrong types and values: one ``GossamerError``, no output, no file, and the process unchanged."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

import gossamer
from gossamer.arguments import checked_arguments, parse_size
from gossamer.errors import ErrorCode, GossamerError
from gossamer.training.run_predictor import wrap_network

OLD = Path(__file__).resolve().parents[1] / "data" / "compat010"
RUN, CHEST = OLD / "classification_run", OLD / "data" / "classification"

BAD = [
    ("train", (5,), {}, "data"),
    ("train", ("",), {}, "data"),
    ("train", ("x" * 5000,), {}, "data"),
    ("train", ("a\0b",), {}, "data"),
    ("train", (CHEST,), {"threads": "2"}, "threads"),
    ("train", (CHEST,), {"threads": True}, "threads"),
    ("train", (CHEST,), {"progress": 5}, "progress"),
    ("train", (CHEST,), {"seed": 2**70}, "seed"),
    ("train", (CHEST,), {"attention": {}}, "attention"),
    ("train", (), {"resume": RUN}, "out"),
    ("load", (None,), {}, "path"),
    ("load", (RUN,), {"threads": 1.5}, "threads"),
    ("load", (RUN,), {"engine": "tensorrt"}, "engine"),
    ("predict", (RUN, 5), {}, "images"),
    ("evaluate", (RUN, 5), {}, "data"),
    ("evaluate", (RUN, CHEST), {"tolerance": "wide"}, "tolerance"),
    ("export", (5, "bundle"), {}, "run"),
    ("quantize", (RUN, "bundle"), {"max_drop": "small"}, "max_drop"),
    ("quantize", (RUN, "bundle"), {"scheme": "dynamical"}, "scheme"),
    ("profile", (None,), {}, "model"),
    ("profile", ("vit_nano",), {"batch": "one"}, "batch"),
    ("compare", (CHEST, "out"), {"models": 5}, "models"),
    ("compare", (CHEST, "out"), {"seeds": "three"}, "seeds"),
    ("plan_comparison", (CHEST,), {"model": "vit_nano"}, "model"),
    ("plan_comparison", (CHEST,), {"seeds": "three"}, "seeds"),
    ("plan", (CHEST,), {"max_latency_ms": "5"}, "max_latency_ms"),
    ("plan", (CHEST,), {"max_latency_ms": 5, "models": [5]}, "models"),
    ("plan", (CHEST,), {"max_latency_ms": 5, "image_sizes": [5.5]}, "image_sizes"),
    ("import_weights", (None, "out"), {}, "source"),
    ("check_data", (CHEST,), {"seed": -1}, "seed"),
    ("open_dataset", (CHEST,), {"task": "detect"}, "task"),
    ("read_image", ("a\0b",), {}, "path"),
    ("load_model", (5,), {}, "folder"),
    ("create_attention", (5, 8, 2), {}, "attention"),
    ("create_attention", ([], 8, 2), {}, "attention"),
    ("create_attention", ("kv", 0, 2), {}, "dim"),
    ("create_attention", ("kv", 8, 2), {"grid": (0, 8)}, "grid"),
    ("create_attention", ("kv", 8, 2), {"grid": ("a", "b")}, "grid"),
    ("create_attention", ("kv", 8, 2), {"dropout": 2}, "dropout"),
    ("create_attention", ("kv", 8, 2), {"num_prefix_tokens": -1}, "num_prefix_tokens"),
    ("check_attention", (5,), {}, "attention"),
    ("create_model", (5,), {}, "name"),
    ("draw_phantom", ("drawn",), {"image_size": (1, 1)}, "image_size"),
    ("draw_phantom", ("drawn",), {"nodule_radius": ("a", "b")}, "nodule_radius"),
    ("draw_phantom", ("drawn",), {"seed": -1}, "seed"),
]


@pytest.mark.parametrize(("function", "arguments", "options", "where"), BAD)
def test_bad_arguments_are_one_silent_error(
    function: str,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    where: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if options.get("resume") is not None:
        options = {**options, "out": tmp_path / "other"}
    threads = torch.get_num_threads()
    with pytest.raises(GossamerError) as caught:
        getattr(gossamer, function)(*arguments, **options)
    assert (caught.value.code, caught.value.where) == (ErrorCode.CONFIG, where)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []
    assert torch.get_num_threads() == threads


def test_unknown_option_of_a_comparison_names_the_nearest() -> None:
    with pytest.raises(GossamerError, match="did you mean models"):
        gossamer.plan_comparison(CHEST, model="vit_nano")


def test_keyword_outside_a_signature_stays_a_type_error() -> None:
    with pytest.raises(TypeError, match="load"):
        gossamer.load(RUN, thread=1)  # type: ignore[call-arg]


@pytest.mark.parametrize("value", [5.5, (1, 2, 3), (0, 1), "²x²", b"3"])
def test_malformed_sizes_are_refused(value: Any) -> None:
    with pytest.raises(GossamerError):
        parse_size(value)


def test_numbers_of_numpy_are_accepted() -> None:
    import numpy as np

    @checked_arguments
    def scale(count: int, factor: float | None = None) -> float:
        return count * (factor or 1)

    assert scale(np.int64(2), np.float32(1.5)) == 3
    assert scale(2, factor=3) == 6
    with pytest.raises(GossamerError):
        scale(2.0)  # type: ignore[arg-type]


def test_predictor_of_a_run_leaves_the_threads_of_pytorch() -> None:
    before = torch.get_num_threads()
    seen: list[int] = []

    class Recorder(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(torch.get_num_threads())
            return images.mean((2, 3))

    wrap_network(Recorder(), threads=1)(torch.zeros(1, 2, 4, 4).numpy())
    gossamer.load(RUN, threads=1)
    assert seen == [1]
    assert torch.get_num_threads() == before


def test_a_model_is_loaded_outside_of_the_main_thread() -> None:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(gossamer.load(RUN, threads=1).classes))
    thread.start()
    thread.join()
    assert found == [gossamer.load(RUN, threads=1).classes]
