"""A bundle says what numpy says of the same weights; one that was touched is refused, and nothing is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image as PillowImage

from gossamer.cli.main import run
from gossamer.errors import ErrorCode, GossamerError
from gossamer.files import sha256_hexdigest
from gossamer.inference.bundle import is_bundle, open_bundle
from gossamer.inference.manifest import CARD, MANIFEST, MODEL, Manifest
from gossamer.inference.tasks import bundle_predictor
from made_bundles import WINDOW, numpy_logits, onnx_model, write_classifier, write_segmenter


def images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("threads", [None, 1, 2])
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_logits_of_a_classifier_equal_numpy(classifier_bundle: Path, batch: int, threads: int | None) -> None:
    bundle = open_bundle(classifier_bundle, threads=threads)
    windows = images(batch, 1, *WINDOW)
    logits = bundle.compute_logits(windows)
    assert (logits.dtype, bundle.threads) == (np.float32, threads)
    np.testing.assert_allclose(logits, numpy_logits(windows, 3, pooled=True), rtol=0, atol=2e-5)


@pytest.mark.parametrize("sides", [WINDOW, (8, 16), (56, 24)])
def test_logits_of_a_segmenter_equal_numpy_at_any_size(mask_bundle: Path, sides: tuple[int, int]) -> None:
    windows = images(3, 3, *sides)
    logits = open_bundle(mask_bundle, threads=1).compute_logits(windows)
    np.testing.assert_allclose(logits, numpy_logits(windows, 3, pooled=False), rtol=0, atol=2e-5)


@pytest.mark.parametrize("shape", [(2, 2, *WINDOW), (2, 1, WINDOW[1], WINDOW[0]), (1, *WINDOW), (2, 1, 8, 8)])
def test_windows_of_another_shape_are_refused(classifier_bundle: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(GossamerError) as caught:
        open_bundle(classifier_bundle).compute_logits(images(*shape))
    assert caught.value.code is ErrorCode.GEOMETRY
    assert "24x40" in caught.value.problem


@pytest.mark.parametrize("sides", [(24, 41), (7, 40), (0, 8)])
def test_sides_that_are_not_multiples_are_refused(mask_bundle: Path, sides: tuple[int, int]) -> None:
    with pytest.raises(GossamerError) as caught:
        open_bundle(mask_bundle).compute_logits(images(2, 3, *sides))
    assert caught.value.code is ErrorCode.GEOMETRY


def test_only_a_folder_with_a_manifest_is_a_bundle(classifier_bundle: Path, tmp_path: Path) -> None:
    assert is_bundle(classifier_bundle)
    assert not is_bundle(tmp_path)
    assert not is_bundle(classifier_bundle / MANIFEST)
    assert not is_bundle(tmp_path / "absent")


# Each spoils a copy of a bundle, whose manifest it may change.
def a_changed_byte(folder: Path, manifest: dict[str, Any]) -> None:
    data = bytearray((folder / MODEL).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / MODEL).write_bytes(data)


def a_changed_card(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / CARD).write_bytes(b"# Made by Hand\n")


def a_wrong_size(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / MODEL).write_bytes((folder / MODEL).read_bytes()[:-30])


def a_wrong_hash(folder: Path, manifest: dict[str, Any]) -> None:
    manifest["members"][MODEL]["sha256"] = "0" * 64


def a_missing_model(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / MODEL).unlink()


def a_missing_card(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / CARD).unlink()


def a_missing_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / MANIFEST).unlink()
    manifest.clear()


def an_unlisted_model(folder: Path, manifest: dict[str, Any]) -> None:
    del manifest["members"][MODEL]


def an_extra_file(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / "model.onnx.data").write_bytes(b"1234")


def an_extra_folder(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / "more").mkdir()


def a_folder_as_a_member(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / CARD).unlink()
    (folder / CARD).mkdir()


def a_newer_schema(folder: Path, manifest: dict[str, Any]) -> None:
    manifest["schema"] = 99


def no_schema(folder: Path, manifest: dict[str, Any]) -> None:
    del manifest["schema"]


def an_unknown_key(folder: Path, manifest: dict[str, Any]) -> None:
    manifest["taks"] = "segment"


def an_unknown_step(folder: Path, manifest: dict[str, Any]) -> None:
    manifest["preprocessing"].append({"name": "sharpen"})


def a_negative_window(folder: Path, manifest: dict[str, Any]) -> None:
    manifest["input"]["window"] = [24, -40]


def classes_that_occur_twice(folder: Path, manifest: dict[str, Any]) -> None:
    manifest["output"]["classes"] = ["a", "b", "a"]


def thresholds_of_others(folder: Path, manifest: dict[str, Any]) -> None:
    manifest["output"]["thresholds"] = {"rule": "f1", "labels": ["x"], "values": [0.5]}


def too_few_classes(folder: Path, manifest: dict[str, Any]) -> None:
    manifest["output"]["classes"] = ["a", "b"]


def other_channels(folder: Path, manifest: dict[str, Any]) -> None:
    manifest["input"]["channels"] = 3


def another_window(folder: Path, manifest: dict[str, Any]) -> None:
    manifest["input"]["window"] = [40, 24]


def no_preprocessing(folder: Path, manifest: dict[str, Any]) -> None:
    del manifest["preprocessing"]


def an_unknown_precision(folder: Path, manifest: dict[str, Any]) -> None:
    manifest["precision"] = "float16"


def step_of(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    return next(step for step in manifest["preprocessing"] if step["name"] == name)


def a_deviation_of_zero(folder: Path, manifest: dict[str, Any]) -> None:
    step_of(manifest, "standardize")["std"] = 0.0


def an_empty_range(folder: Path, manifest: dict[str, Any]) -> None:
    step_of(manifest, "scale_intensity")["high"] = 0


def a_size_of_no_pixels(folder: Path, manifest: dict[str, Any]) -> None:
    step_of(manifest, "fit_within")["rows"] = 0


def a_size_that_the_network_does_not_take(folder: Path, manifest: dict[str, Any]) -> None:
    manifest["preprocessing"].append({"name": "resize", "rows": 1_000_000, "columns": 40})


def a_window_of_too_many_pixels(folder: Path, manifest: dict[str, Any]) -> None:
    manifest["input"]["window"] = [10_000_000, 40]


def a_link_out_of_the_folder(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / CARD).rename(folder.parent / "image.png")
    (folder / CARD).symlink_to(folder.parent / "image.png")


def a_manifest_that_is_a_link(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / MANIFEST).rename(folder.parent / "image.png")
    (folder / MANIFEST).symlink_to(folder.parent / "image.png")
    manifest.clear()


def no_json(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / MANIFEST).write_text("{'schema': 1}")
    manifest.clear()


def deep_json(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / MANIFEST).write_text("[" * 200_000)
    manifest.clear()


def a_list(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / MANIFEST).write_text("[1, 2]")
    manifest.clear()


def a_member(name: str) -> Callable[[Path, dict[str, Any]], None]:
    def spoil(folder: Path, manifest: dict[str, Any]) -> None:
        manifest["members"][name] = manifest["members"][CARD]

    spoil.__name__ = f"member_{name}"
    return spoil


def _replace(folder: Path, manifest: dict[str, Any], data: bytes) -> None:
    """Put another model into the bundle, with a manifest that fits it."""
    (folder / MODEL).write_bytes(data)
    manifest["members"][MODEL] = {"bytes": len(data), "sha256": sha256_hexdigest(data)}


def external_data(folder: Path, manifest: dict[str, Any]) -> None:
    model = onnx_model(1, 3, pooled=True, sides=WINDOW)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", CARD), ("offset", "0"), ("length", "108")):
        tensor.external_data.add(key=key, value=value)
    _replace(folder, manifest, model.SerializeToString())


def text_as_a_model(folder: Path, manifest: dict[str, Any]) -> None:
    _replace(folder, manifest, b"the patient has no fever")


def an_unknown_operator(folder: Path, manifest: dict[str, Any]) -> None:
    model = onnx_model(1, 3, pooled=True, sides=WINDOW)
    model.graph.node[1].op_type = "Prelude"
    _replace(folder, manifest, model.SerializeToString())


def one_image_at_a_time(folder: Path, manifest: dict[str, Any]) -> None:
    _replace(folder, manifest, onnx_model(1, 3, pooled=True, sides=WINDOW, batch=1).SerializeToString())


FAULTS: list[tuple[Any, str, str, tuple[str, ...]]] = [
    (a_changed_byte, "E-INTEGRITY", "/model.onnx", ("SHA-256",)),
    (a_changed_card, "E-INTEGRITY", "/README.md", ("SHA-256",)),
    (a_wrong_size, "E-INTEGRITY", "/model.onnx", ("367 bytes", "397")),
    (a_wrong_hash, "E-INTEGRITY", "/model.onnx", ("SHA-256",)),
    (a_missing_model, "E-MISSING", "/model.onnx", ()),
    (a_missing_card, "E-MISSING", "/README.md", ()),
    (a_missing_manifest, "E-MISSING", "", ("manifest.json",)),
    (an_unlisted_model, "E-MISSING", "/manifest.json", ("model.onnx",)),
    (an_extra_file, "E-INTEGRITY", "/model.onnx.data", ()),
    (an_extra_folder, "E-INTEGRITY", "/more", ()),
    (a_folder_as_a_member, "E-INTEGRITY", "/README.md", ()),
    (a_newer_schema, "E-UNSUPPORTED", "/manifest.json", ("99",)),
    (no_schema, "E-CONFIG", "/manifest.json", ("schema",)),
    (an_unknown_key, "E-CONFIG", "/manifest.json", ("taks", "task")),
    (an_unknown_step, "E-CONFIG", "/manifest.json: preprocessing step", ("sharpen",)),
    (no_preprocessing, "E-CONFIG", "/manifest.json", ("preprocessing",)),
    (an_unknown_precision, "E-CONFIG", "/manifest.json", ("precision", "float16", "float32, int8")),
    (a_deviation_of_zero, "E-CONFIG", "/manifest.json: standardize.std", ("0.0", "1e-30", "1e+30")),
    (an_empty_range, "E-CONFIG", "/manifest.json: scale_intensity.low", ("0.0",)),
    (a_size_of_no_pixels, "E-CONFIG", "/manifest.json: fit_within.rows", ("0",)),
    (a_size_that_the_network_does_not_take, "E-CONFIG", "/manifest.json: preprocessing", ("1000000x40", "24x40")),
    (a_window_of_too_many_pixels, "E-CONFIG", "/manifest.json: input.window", ("10000000x40", "178956970")),
    (a_link_out_of_the_folder, "E-SECURITY", "/README.md", ("link",)),
    (a_manifest_that_is_a_link, "E-SECURITY", "/manifest.json", ("link",)),
    (a_negative_window, "E-CONFIG", "/manifest.json: input.columns", ("-40",)),
    (classes_that_occur_twice, "E-CONFIG", "/manifest.json: output.classes", ("a, b, a",)),
    (thresholds_of_others, "E-VALUE", "/manifest.json", ("x",)),
    (too_few_classes, "E-FORMAT", "/model.onnx", ("anyx3", "anyx2")),
    (other_channels, "E-FORMAT", "/model.onnx", ("anyx1x24x40", "anyx3x24x40")),
    (another_window, "E-FORMAT", "/model.onnx", ("anyx1x24x40", "anyx1x40x24")),
    (no_json, "E-FORMAT", "/manifest.json", ("JSON",)),
    (deep_json, "E-FORMAT", "/manifest.json", ("JSON",)),
    (a_list, "E-CONFIG", "/manifest.json", ("schema",)),
    *((a_member(name), "E-SECURITY", "/manifest.json", (repr(name),)) for name in (
        "../x", "/etc/x", "a/b", "..", ".", "", "a\\b", "C:x", "a\0b", "manifest.json",
    )),
    (external_data, "E-SECURITY", "/model.onnx", ("tensors",)),
    (text_as_a_model, "E-FORMAT", "/model.onnx", ("ONNX",)),
    (an_unknown_operator, "E-FORMAT", "/model.onnx", ("Prelude",)),
    (one_image_at_a_time, "E-FORMAT", "/model.onnx", ("1x1x24x40", "anyx1x24x40")),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "code", "where", "values"), FAULTS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_damaged_bundle_is_one_line_and_nothing_is_written(
    spoil: Callable[[Path, dict[str, Any]], None],
    code: str,
    where: str,
    values: tuple[str, ...],
    classifier_bundle: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(classifier_bundle, folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["digest"]  # so that its content is checked
    spoil(folder, manifest)
    if manifest:
        (folder / MANIFEST).write_text(json.dumps(manifest))
    if not (tmp_path / "image.png").exists():
        PillowImage.fromarray(np.arange(96, dtype=np.uint8).reshape(8, 12)).save(tmp_path / "image.png")
    with pytest.raises(GossamerError) as caught:
        open_bundle(folder)
    error = caught.value
    assert (error.code.label, error.where) == (code, f"{folder}{where}")
    for value in values:
        assert value in error.problem + error.remedy
    arguments = [str(folder), str(tmp_path / "image.png"), "--out", str(tmp_path / "out.csv"), "--threads", "1"]
    found = run(["predict", *arguments])
    captured = capfd.readouterr()
    assert found == error.code.exit_status, captured.err
    (line,) = captured.err.splitlines()
    assert line.startswith(f"gossamer: {code}: {folder}")
    assert len(line) < 200 + 3 * len(str(folder))
    assert line.endswith(f"; {error.remedy}")
    assert captured.out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "image.png"]


@pytest.mark.parametrize(
    "edit",
    [
        lambda manifest: manifest["preprocessing"][-2].update(std=0.21),
        lambda manifest: manifest["output"]["classes"].reverse(),
        lambda manifest: manifest["source"].update(seed=4),
        lambda manifest: manifest.update(note="looks good"),
        lambda manifest: manifest.update(digest=None),
    ],
)
def test_a_manifest_that_was_edited_is_refused(
    edit: Callable[[dict[str, Any]], object], classifier_bundle: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(classifier_bundle, folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    # Written in another way and order it says the same.
    (folder / MANIFEST).write_text(json.dumps(dict(reversed(manifest.items())), indent=1, ensure_ascii=False))
    assert open_bundle(folder).manifest == open_bundle(classifier_bundle).manifest
    without = {key: value for key, value in manifest.items() if key != "digest"}  # as the first bundles are
    (folder / MANIFEST).write_text(json.dumps(without))
    assert open_bundle(folder).manifest == open_bundle(classifier_bundle).manifest
    edit(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(GossamerError) as caught:
        open_bundle(folder)
    assert (caught.value.code, caught.value.where) == (ErrorCode.INTEGRITY, str(folder / MANIFEST))


def test_the_digest_covers_the_values_as_read(classifier_bundle: Path) -> None:
    manifest = replace(
        open_bundle(classifier_bundle).manifest,
        quality={"auroc": {"value": 0.1 + 0.2, "low": float("nan"), "trivial": 1e-17}, "dice": {"value": 3}},
        licence={"weights": "frei für alle \N{SNOWMAN}", "data": None},
    )
    found = Manifest.from_json(json.loads(json.dumps(manifest.to_json())), "here")
    assert found.quality == {"auroc": {"value": 0.1 + 0.2, "low": None, "trivial": 1e-17}, "dice": {"value": 3}}
    assert found.licence == manifest.licence


@pytest.mark.parametrize("value", [{"stack": 2}, {"overlap": 1.0}])
def test_windows_outside_of_their_range_are_refused(value: dict[str, Any], mask_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(mask_bundle, folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["digest"]
    manifest["input"] |= value
    (folder / MANIFEST).write_text(json.dumps(manifest))
    assert run(["predict", str(folder), str(folder), "--out", str(tmp_path / "out")]) in (65, 78)
    assert not (tmp_path / "out").exists()


def test_bundles_of_every_kind_open(tmp_path: Path) -> None:
    labels = {"rule": "f1", "labels": ["a", "b"], "values": [0.25, 0.75], "kept": ["b"]}
    several = open_bundle(write_classifier(tmp_path / "a", ("a", "b"), multi_label=True, thresholds=labels, channels=3))
    thresholds = bundle_predictor(several).thresholds
    assert thresholds is not None
    assert thresholds.values == (0.25, 0.75)
    assert several.outputs == 2
    assert open_bundle(write_segmenter(tmp_path / "b", ("a", "b"))).outputs == 3
    assert open_bundle(write_segmenter(tmp_path / "c", ("a", "b"), multi_label=True)).outputs == 2
