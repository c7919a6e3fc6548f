"""What is compared, for how long, and what it would take; the times of steps are stand-ins but in one test."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gossamer.comparison import plan as planning
from gossamer.comparison.fingerprint import count_evaluated_patients, hash_contents
from gossamer.comparison.forecast import START_S, TimedSteps
from gossamer.comparison.measure_variants import MOST_VARIANTS, group_variants
from gossamer.comparison.plan import BUDGET_SHARE, list_stages, make_plan, require_same_data, resume_plan, start_plan
from gossamer.comparison.plan_file import read_plan
from gossamer.comparison.request import CompareRequest
from gossamer.data import LabelledCase, Sample, SegmentationDataset
from gossamer.data.image import Image
from gossamer.data.label_map import LabelMap
from gossamer.data.synthetic.phantom import write_phantom
from gossamer.errors import GossamerError
from gossamer.training.run_folder import RunConfig
from gossamer.variants import CostLimits, Variant

STEP_S = {"softmax": 3.0, "kv": 2.0, "local": 4.0, None: 1.0}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps take what ``STEP_S`` says; an epoch has two of them and validates ten images of 0.1 s each."""

    def timed(run: RunConfig, dataset: Any, *, base_bytes: int | None) -> TimedSteps:
        attention = run.model.attention
        step_s = STEP_S[None if attention is None else attention.name]
        return TimedSteps(step_s=step_s, image_s=0.1, steps=2, validated=10, memory_bytes=base_bytes, parameters=1000)

    monkeypatch.setattr(planning, "time_training_steps", timed)


def asked(phantom: Path, **more: Any) -> CompareRequest:
    fields: dict[str, Any] = {"models": ("vit_nano",), "attention": ("softmax", "kv"), "seeds": 2, "epochs": 3}
    return CompareRequest(data=str(phantom), threads=1, **{**fields, **more})


def test_every_network_with_every_mechanism_and_the_reason_where_it_does_not_fit(phantom: Path, quick: None) -> None:
    soft = '{"name": "soft", "inverse": "cholesky"}'
    options = asked(
        phantom, models=("vit_nano", "resnet_18_small", "cvt_classifier_small"), attention=("softmax", "kv")
    )
    plan, forecasts = make_plan(options, command="gossamer compare chest")
    assert [variant.name for variant in plan.variants if variant.model != "cvt_classifier_small"] == [
        "vit_nano with softmax", "vit_nano with kv", "resnet_18_small",
    ]  # fmt: skip
    assert len(plan.variants) == 5
    assert plan.refused == ()
    assert (plan.seeds, plan.epochs, plan.task, plan.classes) == ((0, 1), 3, "classify", ("clear", "nodule"))
    rows, columns = plan.options["image_size"]
    assert rows % 4 == columns % 4 == 0
    kv = Variant(model="vit_nano", attention="kv")
    assert forecasts[kv].train_s == pytest.approx(START_S + 3 * (2 * 2.0 + 10 * 0.1))
    assert plan.options["forecast"][kv.key]["train_s"] == forecasts[kv].train_s
    few = "intervals are wide and rough: the test split has 6 patients, fewer than 10"
    assert plan.options["notes"] == [few]
    options = asked(phantom, models=("resnet_18_small", "cvt_classifier_small"), image_size=(24, 30))
    odd, _ = make_plan(options)
    assert [refused.variant.name for refused in odd.refused] == [
        "cvt_classifier_small with softmax", "cvt_classifier_small with kv",
    ]  # fmt: skip
    assert "24x30 is not a multiple of 4" in odd.refused[0].reason
    assert odd.options["image_size"] == [24, 30]
    assert odd.options["notes"] == [few]
    local, _ = make_plan(asked(phantom, attention=("local",)))
    assert local.options["notes"][0] == "softmax was not asked for with vit_nano: there is no baseline to compare with"
    with pytest.raises(GossamerError, match="there is no attention 'sofmax'"):
        make_plan(asked(phantom, attention=("sofmax", soft)))
    with pytest.raises(GossamerError, match="unet_16 is a network to segment"):
        make_plan(asked(phantom, models=("unet_16",)))


def test_the_slowest_variant_decides_the_epochs_of_all(phantom: Path, quick: None) -> None:
    minutes = 2.0
    plan, _ = make_plan(asked(phantom, epochs=None, budget_minutes=minutes, attention=("softmax", "kv", "local")))
    assert plan.epochs == int(BUDGET_SHARE * 60 * minutes / (2 * 4.0 + 1.0)) == 11
    without, _ = make_plan(asked(phantom, epochs=None, budget_minutes=minutes))
    assert without.epochs == int(BUDGET_SHARE * 60 * minutes / (2 * 3.0 + 1.0)) == 14
    recipe, _ = make_plan(asked(phantom, epochs=None))
    plenty, _ = make_plan(asked(phantom, epochs=None, budget_minutes=1e6))
    assert plenty.epochs == recipe.epochs  # a budget is a limit, no goal
    with pytest.raises(GossamerError, match="an epoch of vit_nano with softmax takes about 0"):
        make_plan(asked(phantom, epochs=None, budget_minutes=0.1))


def test_stages_of_a_plan(phantom: Path, quick: None) -> None:
    plan, forecasts = make_plan(asked(phantom, precisions=("torch", "int8")))
    stages = list_stages(plan)
    softmax, kv = plan.variants
    assert [(stage.what, stage.variant, stage.seed) for stage in stages] == [
        ("train", softmax, 0), ("quantize", softmax, 0), ("train", kv, 0), ("quantize", kv, 0), ("measure", None, 0),
        ("train", softmax, 1), ("train", kv, 1),
    ]  # fmt: skip
    assert stages[0].seconds == forecasts[softmax].train_s


def test_groups_hold_the_baseline_of_every_variant(phantom: Path, quick: None) -> None:
    plan, _ = make_plan(asked(phantom))
    assert [group.variants for group in group_variants(plan)] == [plan.variants]
    names = ["softmax", *(f"m{number}" for number in range(MOST_VARIANTS + 1))]
    variants = tuple(Variant(model="vit_nano", attention=name) for name in names)
    costs = {variant.key: {"parameters": 1000} for variant in variants}
    many = dataclasses.replace(plan, variants=variants, options={**plan.options, "forecast": costs})
    first, second = group_variants(many)
    assert (first.variants, first.company) == (variants[:MOST_VARIANTS], ())
    assert (second.variants, second.company) == (variants[MOST_VARIANTS:], (variants[0],))
    large = dataclasses.replace(many, options={"forecast": {key: {"parameters": 90_000_000} for key in costs}})
    assert len(group_variants(large)) == len(variants)


def test_other_data_are_refused(phantom: Path, quick: None, tmp_path: Path) -> None:
    plan, _ = make_plan(asked(phantom))
    require_same_data(plan, str(phantom))
    other = write_phantom(tmp_path / "other", count=64, size=(16, 16))
    with pytest.raises(GossamerError, match="not those that the comparison was begun with"):
        require_same_data(plan, str(other))


def test_pixels_of_images_and_masks_are_known_again(quick: None, tmp_path: Path) -> None:
    data = write_phantom(tmp_path / "chest", count=60, size=(18, 14))
    plan = start_plan(make_plan(asked(data))[0])
    require_same_data(plan, str(data))
    moved = data.rename(tmp_path / "moved")
    require_same_data(plan, str(moved))
    first, second = sorted(moved.rglob("*.png"))[:2]
    first.write_bytes(second.read_bytes())
    with pytest.raises(GossamerError, match="pixels of images or masks are not those"):
        require_same_data(plan, str(moved))
    older = dataclasses.replace(plan, options={k: v for k, v in plan.options.items() if k != "contents"})
    require_same_data(older, str(moved))  # begun by a version that did not look


def test_a_mask_that_changes_is_noticed() -> None:
    planes = np.zeros((2, 3, 5, 4), bool)

    def made(planes: np.ndarray) -> SegmentationDataset:
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
    assert hash_contents(made(planes)) == hash_contents(made(planes.copy())) != hash_contents(made(changed))
    assert count_evaluated_patients(made(planes)) == (1, "patient", "test")


def test_what_may_change_is_that_of_the_last_call(phantom: Path, quick: None, tmp_path: Path) -> None:
    plan, _ = make_plan(asked(phantom), command="gossamer compare once")
    again = asked(phantom, limits=CostLimits(latency_ms=7.0))
    later = resume_plan(plan, again, "gossamer compare again --max-latency-ms 7", tmp_path / "plan.json")
    assert later.command.endswith("--max-latency-ms 7")
    assert later.limits.latency_ms == later.options["asked"]["limits"]["latency_ms"] == 7.0
    assert later.epochs == plan.epochs
    with pytest.raises(GossamerError, match="was begun with --seeds 2, now 3"):
        resume_plan(plan, asked(phantom, seeds=3), "", tmp_path / "plan.json")
    damaged = dataclasses.replace(plan, options={"forecast": {}})
    with pytest.raises(GossamerError, match=r"plan.json: lacks options.asked; give another --out"):
        resume_plan(damaged, again, "", tmp_path / "plan.json")
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(GossamerError, match=r"is not JSON .*give another --out"):
        read_plan(tmp_path / "plan.json")


def test_steps_are_timed(phantom: Path) -> None:
    plan, forecasts = make_plan(asked(phantom, attention=("softmax",), batch_size=7))
    (found,) = forecasts.values()
    assert found.parameters > 1e6
    assert 0 < found.step_s < found.epoch_s < found.train_s
    assert found.memory_bytes is None or found.memory_bytes > 16 * found.parameters
    assert plan.options["batch_size"] == 7
