"""What is compared, for how long, and what it would take; the times of steps are stand-ins but in one test."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from gossamer.compare import plan as planning
from gossamer.compare.asked import Asked
from gossamer.compare.folder import Kind, key_of
from gossamer.compare.forecast import START_S, Timed
from gossamer.compare.measure_kinds import MOST_KINDS, groups_of
from gossamer.compare.plan import BUDGET_SHARE, make_plan, require_same_data, stages_of
from gossamer.errors import GossamerError
from gossamer.train.run import RunConfig

STEP_S = {"softmax": 3.0, "kv": 2.0, "local": 4.0, None: 1.0}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps take what ``STEP_S`` says; an epoch has two of them and validates ten images of 0.1 s each."""

    def timed(run: RunConfig, dataset: Any, *, base_bytes: int | None) -> Timed:
        attention = getattr(run.model, "attention", None)
        step_s = STEP_S[None if attention is None else attention.name]
        return Timed(step_s=step_s, image_s=0.1, steps=2, validated=10, memory_bytes=base_bytes, parameters=1000)

    monkeypatch.setattr(planning, "time_run", timed)


def asked(phantom: Path, **more: Any) -> Asked:
    fields: dict[str, Any] = {"models": ("vit_nano",), "attention": ("softmax", "kv"), "seeds": 2, "epochs": 3}
    return Asked(data=str(phantom), threads=1, **{**fields, **more})


def test_every_network_with_every_mechanism_and_the_reason_where_it_does_not_fit(phantom: Path, quick: None) -> None:
    soft = '{"name": "soft", "inverse": "cholesky"}'
    options = asked(
        phantom, models=("vit_nano", "resnet_18_small", "cvt_classifier_small"), attention=("softmax", "kv")
    )
    plan, forecasts = make_plan(options, command="gossamer compare chest")
    assert [kind.name for kind in plan.kinds if kind.model != "cvt_classifier_small"] == [
        "vit_nano with softmax", "vit_nano with kv", "resnet_18_small",
    ]  # fmt: skip
    assert len(plan.kinds) == 5
    assert plan.refused == ()
    assert (plan.seeds, plan.epochs, plan.task, plan.classes) == ((0, 1), 3, "classify", ("clear", "nodule"))
    rows, columns = plan.options["image_size"]
    assert rows % 4 == columns % 4 == 0
    kv = Kind(model="vit_nano", attention="kv")
    assert forecasts[kv].train_s == pytest.approx(START_S + 3 * (2 * 2.0 + 10 * 0.1))
    assert plan.options["forecast"][key_of(kv)]["train_s"] == forecasts[kv].train_s
    assert plan.options["notes"] == []
    options = asked(phantom, models=("resnet_18_small", "cvt_classifier_small"), image_size=(24, 30))
    odd, _ = make_plan(options)
    assert [refused.kind.name for refused in odd.refused] == [
        "cvt_classifier_small with softmax", "cvt_classifier_small with kv",
    ]  # fmt: skip
    assert "24x30 is not a multiple of 4" in odd.refused[0].reason
    assert odd.options["image_size"] == [24, 30]
    assert odd.options["notes"] == []
    local, _ = make_plan(asked(phantom, attention=("local",)))
    assert local.options["notes"] == ["softmax was not asked for with vit_nano: there is no twin to compare with"]
    with pytest.raises(GossamerError, match="there is no attention 'sofmax'"):
        make_plan(asked(phantom, attention=("sofmax", soft)))
    with pytest.raises(GossamerError, match="unet_16 is a network to segment"):
        make_plan(asked(phantom, models=("unet_16",)))


def test_the_slowest_kind_decides_the_epochs_of_all(phantom: Path, quick: None) -> None:
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
    stages = stages_of(plan)
    softmax, kv = plan.kinds
    assert [(stage.what, stage.kind, stage.seed) for stage in stages] == [
        ("train", softmax, 0), ("quantize", softmax, 0), ("train", kv, 0), ("quantize", kv, 0), ("measure", None, 0),
        ("train", softmax, 1), ("train", kv, 1),
    ]  # fmt: skip
    assert stages[0].seconds == forecasts[softmax].train_s


def test_groups_hold_the_twin_of_every_kind(phantom: Path, quick: None) -> None:
    plan, _ = make_plan(asked(phantom))
    assert [group.kinds for group in groups_of(plan)] == [plan.kinds]
    names = ["softmax", *(f"m{number}" for number in range(MOST_KINDS + 1))]
    kinds = tuple(Kind(model="vit_nano", attention=name) for name in names)
    costs = {key_of(kind): {"parameters": 1000} for kind in kinds}
    many = dataclasses.replace(plan, kinds=kinds, options={**plan.options, "forecast": costs})
    first, second = groups_of(many)
    assert (first.kinds, first.company) == (kinds[:MOST_KINDS], ())
    assert (second.kinds, second.company) == (kinds[MOST_KINDS:], (kinds[0],))
    large = dataclasses.replace(many, options={"forecast": {key: {"parameters": 90_000_000} for key in costs}})
    assert len(groups_of(large)) == len(kinds)


def test_other_data_are_refused(phantom: Path, quick: None, tmp_path: Path) -> None:
    from gossamer.data.datasets.phantom import write_phantom

    plan, _ = make_plan(asked(phantom))
    require_same_data(plan, str(phantom))
    other = write_phantom(tmp_path / "other", count=64, size=(16, 16))
    with pytest.raises(GossamerError, match="not those that the comparison was begun with"):
        require_same_data(plan, str(other))


def test_steps_are_timed(phantom: Path) -> None:
    plan, forecasts = make_plan(asked(phantom, attention=("softmax",), batch_size=7))
    (found,) = forecasts.values()
    assert found.parameters > 1e6
    assert 0 < found.step_s < found.epoch_s < found.train_s
    assert found.memory_bytes is None or found.memory_bytes > 16 * found.parameters
    assert plan.options["batch_size"] == 7
