"""Time of the stages of a prediction: all time belongs to a stage, and to an image if there is one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gossamer.errors import GossamerError
from gossamer.inference import stage_timer
from gossamer.inference.bundle import open_bundle
from gossamer.inference.stage_timer import STAGES, StageClock, time_calls
from gossamer.inference.tasks import bundle_predictor
from gossamer.profiling.stages import measure_stages
from made_bundles import write_classifier, write_inputs, write_segmenter


class FakeClock:
    """A clock that only advances when a test sets it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 5.0
        monkeypatch.setattr(stage_timer.time, "perf_counter", lambda: self.now)


def test_the_stages_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeClock(monkeypatch)
    clock = StageClock()

    def compute(images: np.ndarray) -> np.ndarray:
        fake.now += 7
        return images

    network = time_calls(compute, clock.lap)
    for read in (1.0, 2.0):
        fake.now += read
        clock.lap("read")
        for _ in range(2):  # two bands: their windows are cut, computed, and decided
            fake.now += 0.25
            network(np.zeros((2, 1, 3, 5)))
            fake.now += 0.5
            clock.lap("postprocess")
        clock.end_image()
        fake.now += 100  # a bar that is drawn
        clock.skip()
    fake.now += 4
    clock.lap("write")
    clock.end()
    assert [image["read"] for image in clock.images] == [1, 2]
    assert {stage: clock.total(stage) for stage in STAGES} == {
        "read": 3, "preprocess": 1, "network": 28, "postprocess": 2, "write": 4,
    }  # fmt: skip
    assert clock.rest["write"] == 4


@pytest.mark.parametrize("kind", ["pictures", "volumes"])
def test_a_segmenter_is_timed_as_it_predicts(kind: str, tmp_path: Path) -> None:
    pictures, volumes = write_inputs(tmp_path)
    folder = pictures if kind == "pictures" else volumes
    bundle, clock = open_bundle(write_segmenter(tmp_path / "organs", stack=3), threads=1), StageClock()
    seen: list[tuple[int, int]] = []
    table = measure_stages(bundle_predictor(bundle), clock, [folder], on_progress=lambda *done: seen.append(done))
    count = len(list(folder.iterdir()))
    assert (table.images, len(seen), table.errors) == (count, count, ())
    assert tuple(table.stages) == STAGES
    assert all(stage.seconds > 0 and 0 < stage.p50_ms <= stage.p95_ms for stage in table.stages.values())
    assert sum(stage.share for stage in table.stages.values()) == pytest.approx(1)
    assert sum(stage.seconds for stage in table.stages.values()) == pytest.approx(table.wall_seconds)


def test_an_image_that_fails_is_counted_and_named(tmp_path: Path) -> None:
    pictures, _ = write_inputs(tmp_path)
    (pictures / "0.png").write_bytes(b"no picture")  # the first, which also warms up
    bundle, clock = open_bundle(write_classifier(tmp_path / "chest"), threads=1), StageClock()
    table = measure_stages(bundle_predictor(bundle), clock, [pictures])
    assert table.images == 5
    assert [path.name for path, _ in table.errors] == ["0.png"]
    assert table.to_json()["stages"]["network"]["seconds"] > 0
    for file in pictures.iterdir():
        file.write_bytes(b"no picture")
    with pytest.raises(GossamerError, match="5"):  # the number of images that cannot be used
        measure_stages(bundle_predictor(bundle), clock, [pictures])
