"""What is compared and for how long; the times of steps are fakes, except in one test."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gossamer.comparison import planner
from gossamer.comparison.compare_plan import read_plan, write_plan
from gossamer.comparison.fingerprint import hash_contents, require_same_data, resume_plan, start_plan
from gossamer.comparison.folder import CompareFolder
from gossamer.comparison.forecast import START_S, TimedSteps
from gossamer.comparison.measure_variants import MOST_VARIANTS, group_variants
from gossamer.comparison.planner import BUDGET_SHARE, make_plan
from gossamer.comparison.request import CompareRequest
from gossamer.comparison.stages import list_stages
from gossamer.data import LabelledCase, Sample, SegmentationDataset
from gossamer.data.image import Image
from gossamer.data.label_map import LabelMap
from gossamer.data.synthetic.phantom import write_phantom
from gossamer.errors import ErrorCode, GossamerError
from gossamer.training.run_folder import RunConfig
from gossamer.variants import CostLimits, Variant

STEP_S = {"softmax": 3.0, "kv": 2.0, "local": 4.0, None: 1.0}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps take the times of ``STEP_S``; an epoch has two of them and validates ten images of 0.1 s each."""

    def time_steps(run: RunConfig, dataset: Any, *, base_bytes: int | None) -> TimedSteps:
        attention = run.model.attention
        step_s = STEP_S[None if attention is None else attention.name]
        return TimedSteps(step_s=step_s, image_s=0.1, steps=2, validated=10, memory_bytes=base_bytes, parameters=1000)

    monkeypatch.setattr(planner, "time_training_steps", time_steps)


def create_request(data: Path, **changes: Any) -> CompareRequest:
    fields: dict[str, Any] = {"models": ("vit_nano",), "attention": ("softmax", "kv"), "seeds": 2, "epochs": 3}
    return CompareRequest(data=str(data), threads=1, **{**fields, **changes})


def test_every_network_with_every_mechanism_that_fits(phantom: Path, quick: None) -> None:
    plan = make_plan(create_request(phantom, models=("vit_nano", "resnet_18_small", "cvt_classifier_small")))
    assert [variant.name for variant in plan.variants if variant.model != "cvt_classifier_small"] == [
        "vit_nano with softmax", "vit_nano with kv", "resnet_18_small",
    ]  # fmt: skip
    assert len(plan.variants) == 5
    assert plan.refused == ()
    assert (plan.training.seeds, plan.training.epochs) == ((0, 1), 3)
    assert (plan.data.task, plan.data.classes) == ("classify", ("clear", "nodule"))
    rows, columns = plan.training.image_size
    assert rows % 4 == columns % 4 == 0
    forecast = plan.forecasts[Variant(model="vit_nano", attention="kv").key]
    assert forecast.train_s == pytest.approx(START_S + 3 * (2 * 2.0 + 10 * 0.1))
    (note,) = plan.notes
    assert "6 patients" in note


def test_variants_that_do_not_fit_are_refused(phantom: Path, quick: None) -> None:
    models = ("resnet_18_small", "cvt_classifier_small")
    plan = make_plan(create_request(phantom, models=models, image_size=(24, 30)))
    assert [refused.variant.name for refused in plan.refused] == [
        "cvt_classifier_small with softmax", "cvt_classifier_small with kv",
    ]  # fmt: skip
    assert "24x30" in plan.refused[0].reason
    assert plan.training.image_size == (24, 30)
    assert len(plan.notes) == 1


def test_missing_baseline_is_noted(phantom: Path, quick: None) -> None:
    plan = make_plan(create_request(phantom, attention=("local",)))
    assert len(plan.notes) == 2
    assert "softmax" in plan.notes[0]


@pytest.mark.parametrize(
    ("changes", "where"), [({"attention": ("sofmax",)}, "attention"), ({"models": ("unet_16",)}, "models")]
)
def test_unknown_names_are_refused(phantom: Path, quick: None, changes: dict[str, Any], where: str) -> None:
    with pytest.raises(GossamerError) as error:
        make_plan(create_request(phantom, **changes))
    assert (error.value.code, error.value.where) == (ErrorCode.CONFIG, where)


def test_slowest_variant_decides_the_epochs_of_all(phantom: Path, quick: None) -> None:
    minutes = 2.0
    three = ("softmax", "kv", "local")
    plan = make_plan(create_request(phantom, epochs=None, budget_minutes=minutes, attention=three))
    assert plan.training.epochs == int(BUDGET_SHARE * 60 * minutes / (2 * 4.0 + 1.0)) == 11
    without = make_plan(create_request(phantom, epochs=None, budget_minutes=minutes))
    assert without.training.epochs == int(BUDGET_SHARE * 60 * minutes / (2 * 3.0 + 1.0)) == 14
    recipe = make_plan(create_request(phantom, epochs=None))
    plenty = make_plan(create_request(phantom, epochs=None, budget_minutes=1e6))
    assert plenty.training.epochs == recipe.training.epochs  # a budget is a limit and not a goal
    with pytest.raises(GossamerError) as error:
        make_plan(create_request(phantom, epochs=None, budget_minutes=0.1))
    assert (error.value.code, error.value.where) == (ErrorCode.LIMIT, "budget_minutes")


def test_stages_of_a_plan(phantom: Path, quick: None) -> None:
    plan = make_plan(create_request(phantom, precisions=("torch", "int8")))
    stages = list_stages(plan)
    softmax, kv = plan.variants
    assert [(stage.name, stage.variant, stage.seed) for stage in stages] == [
        ("train", softmax, 0), ("quantize", softmax, 0), ("train", kv, 0), ("quantize", kv, 0), ("measure", None, 0),
        ("train", softmax, 1), ("train", kv, 1),
    ]  # fmt: skip
    assert stages[0].seconds == plan.forecasts[softmax.key].train_s


def test_groups_hold_the_baseline_of_every_variant(phantom: Path, quick: None) -> None:
    plan = make_plan(create_request(phantom))
    assert [group.variants for group in group_variants(plan)] == [plan.variants]
    names = ["softmax", *(f"m{number}" for number in range(MOST_VARIANTS + 1))]
    variants = tuple(Variant(model="vit_nano", attention=name) for name in names)
    forecast = plan.forecasts[plan.variants[0].key]
    many = dataclasses.replace(plan, variants=variants, forecasts={each.key: forecast for each in variants})
    first, second = group_variants(many)
    assert (first.variants, first.company) == (variants[:MOST_VARIANTS], ())
    assert (second.variants, second.company) == (variants[MOST_VARIANTS:], (variants[0],))
    heavy = dataclasses.replace(forecast, parameters=90_000_000)
    large = dataclasses.replace(many, forecasts={each.key: heavy for each in variants})
    assert len(group_variants(large)) == len(variants)


def test_other_data_are_refused(phantom: Path, quick: None, tmp_path: Path) -> None:
    plan = make_plan(create_request(phantom))
    require_same_data(plan, str(phantom))
    other = write_phantom(tmp_path / "other", count=64, size=(16, 16))
    with pytest.raises(GossamerError) as error:
        require_same_data(plan, str(other))
    assert error.value.code is ErrorCode.INTEGRITY


def test_changed_pixels_are_refused(quick: None, tmp_path: Path) -> None:
    data = write_phantom(tmp_path / "chest", count=60, size=(18, 14))
    plan = start_plan(make_plan(create_request(data)))
    require_same_data(plan, str(data))
    moved = data.rename(tmp_path / "moved")
    require_same_data(plan, str(moved))
    first, second = sorted(moved.rglob("*.png"))[:2]
    first.write_bytes(second.read_bytes())
    with pytest.raises(GossamerError) as error:
        require_same_data(plan, str(moved))
    assert error.value.code is ErrorCode.INTEGRITY
    older = dataclasses.replace(plan, data=dataclasses.replace(plan.data, contents=None))
    require_same_data(older, str(moved))  # started by a version that did not hash pixels


def test_changed_mask_changes_the_hash() -> None:
    planes = np.zeros((2, 3, 5, 4), bool)

    def create_dataset(planes: np.ndarray) -> SegmentationDataset:
        def read(sample: Sample) -> LabelledCase:
            image = Image(np.ones((3, 5, 4), np.int16), ("slices", "rows", "columns"), source="a")
            return LabelledCase(image, LabelMap(planes, ("organ", "tumour"), overlapping=True, source="a"))

        samples = (Sample("a", (), "train"), Sample("b", (), "test", "p"))
        fields = {
            "source": "d",
            "layout": "decathlon",
            "classes": ("organ", "tumour"),
            "samples": samples,
            "volumes": True,
        }
        return SegmentationDataset(**fields, overlapping=True, reader=read)

    changed = planes.copy()
    changed[1, 2, 4, 3] = True
    assert (
        hash_contents(create_dataset(planes))
        == hash_contents(create_dataset(planes.copy()))
        != hash_contents(create_dataset(changed))
    )


def test_resumed_plan_has_the_limits_of_the_last_call(phantom: Path, quick: None, tmp_path: Path) -> None:
    plan = make_plan(create_request(phantom), command="gossamer compare once")
    again = create_request(phantom, limits=CostLimits(latency_ms=7.0))
    later = resume_plan(plan, again, "gossamer compare again --max-latency-ms 7", tmp_path)
    assert later.command.endswith("--max-latency-ms 7")
    assert later.limits.latency_ms == 7.0
    assert later.training == plan.training
    with pytest.raises(GossamerError) as error:
        resume_plan(plan, create_request(phantom, seeds=3), "", tmp_path)
    assert (error.value.code, error.value.where) == (ErrorCode.CONFIG, str(tmp_path))
    foreign = Variant(model="vit_nano", attention="./other.py:Config")
    forecast = plan.forecasts[plan.variants[0].key]
    changed = dataclasses.replace(plan, variants=(foreign,), forecasts={foreign.key: forecast})
    with pytest.raises(GossamerError) as error:
        resume_plan(changed, again, "", tmp_path)
    assert error.value.code is ErrorCode.SECURITY


def test_damaged_plan_is_refused(phantom: Path, quick: None, tmp_path: Path) -> None:
    folder = CompareFolder(tmp_path)
    write_plan(folder, make_plan(create_request(phantom)))
    plan = json.loads(folder.plan_path.read_text())
    for key in ("asked", "forecast"):
        damaged = {**plan, "options": {name: value for name, value in plan["options"].items() if name != key}}
        folder.plan_path.write_text(json.dumps(damaged))
        with pytest.raises(GossamerError) as error:
            read_plan(folder.plan_path)
        assert error.value.where == str(folder.plan_path)
    folder.plan_path.write_text("{")
    with pytest.raises(GossamerError) as error:
        read_plan(folder.plan_path)
    assert (error.value.code, error.value.where) == (ErrorCode.FORMAT, str(folder.plan_path))


def test_steps_are_timed(phantom: Path) -> None:
    plan = make_plan(create_request(phantom, attention=("softmax",), batch_size=7))
    (found,) = plan.forecasts.values()
    assert found.parameters > 1e6
    assert 0 < found.step_s < found.epoch_s < found.train_s
    assert found.memory_bytes is None or found.memory_bytes > 16 * found.parameters
    assert plan.training.batch_size == 7
