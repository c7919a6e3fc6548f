"""``gossamer.profile``: what a network costs on this machine, and where the time of a prediction goes.

A bundle is profiled without PyTorch.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gossamer.api.environment import choose_threads, require_training_packages
from gossamer.api.load import load
from gossamer.api.predict import list_paths
from gossamer.api.progress import choose_progress
from gossamer.arguments import checked_arguments
from gossamer.checks import require
from gossamer.errors import ErrorCode, GossamerError
from gossamer.inference.bundle import Bundle, open_bundle
from gossamer.inference.bundle_files import is_bundle
from gossamer.inference.engines import ENGINES, EngineName
from gossamer.inference.stage_timer import StageClock
from gossamer.profiling.bundle import compare_engines, measure_bundle
from gossamer.profiling.figure import FIGURE_LABELS, Costs, Figure, costs_to_json
from gossamer.profiling.growth import Growth
from gossamer.profiling.stages import PredictionTiming, measure_stages
from gossamer.progress import Progress
from gossamer.summary import Result, SummaryTable

ImageSizes = str | Sequence[str | tuple[int, int]]
"""Image sizes such as ``64x64,128x128``, or a sequence of sizes."""


@dataclass(frozen=True, repr=False, kw_only=True)
class Profile(Result):
    """Cost of a network on this machine.

    Attributes:
        model: Name of the preset, or folder of the run or bundle.
        threads: Number of CPU threads.
        cost: Figures by name, see ``gossamer.profiling.figure.FIGURE_LABELS``.
        engine: Name of the engine of a bundle; None for PyTorch.
        engine_version: Version of the engine of a bundle.
        engines: Latency in each engine, if several were compared.
        growth: Cost over image sizes, if some were given.
        prediction: Time of each stage of a prediction, if images were given.
    """

    model: str
    threads: int
    cost: Costs
    engine: str | None = None
    engine_version: str | None = None
    engines: Mapping[str, Costs] = field(default_factory=dict)
    growth: Growth | None = None
    prediction: PredictionTiming | None = None

    @property
    def faster(self) -> str | None:
        """Name of the engine with the smallest median latency; None if engines were not compared."""
        medians = _median_latencies(self.engines)
        return min(medians, key=lambda name: medians[name]) if medians else None

    def to_dict(self) -> dict[str, Any]:
        """Return all figures as data."""
        data: dict[str, Any] = {"model": self.model, "threads": self.threads, "cost": costs_to_json(self.cost)}
        if self.engine is not None:
            engines = {name: costs_to_json(cost) for name, cost in self.engines.items()}
            data |= {"engine": self.engine, "engine_version": self.engine_version}
            data |= {"engines": engines, "faster": self.faster}
        if self.growth is not None:
            data["growth"] = self.growth.to_json()
        if self.prediction is not None:
            data["prediction"] = self.prediction.to_json()
        return data

    def summary_tables(self) -> tuple[SummaryTable, ...]:
        """Return the figures, and where they were measured the engines, stages and growth, as tables."""
        rows = tuple(
            (FIGURE_LABELS[name], str(figure), figure.how, figure.detail) for name, figure in self.cost.items()
        )
        tables = [SummaryTable("", ("figure", "value", "how", "detail"), rows, self._engines_caption(), (0, 2, 3))]
        if self.prediction is not None:
            tables.append(self.prediction.summary_table())
        if self.growth is not None:
            tables.append(self.growth.summary_table())
        return tuple(tables)

    def _engines_caption(self) -> str:
        """Return one line on the compared engines."""
        medians = _median_latencies(self.engines)
        if not medians:
            return ""
        fast, slow = min(medians.values()), max(medians.values())
        times = ", ".join(f"{name} {median:.2f} ms" for name, median in medians.items())
        return f"median latency in turns: {times}; {self.faster} is {slow / fast:.2f} times faster here"


@checked_arguments
def profile(
    model: str | Path,
    images: str | Path | Iterable[str | Path] = (),
    *,
    attention: str | Mapping[str, Any] | None = None,
    image_size: str | tuple[int, int] | None = None,
    patch_size: int | None = None,
    in_channels: int | None = None,
    num_classes: int | None = None,
    batch: int = 1,
    growth: ImageSizes | None = None,
    training: bool = False,
    engine: EngineName | None = None,
    threads: int | None = None,
    progress: bool | Progress | None = None,
) -> Profile:
    """Measure what a network costs: parameters, MACs, latency, memory.

    Example:
        >>> costs = gossamer.profile("vit_small", attention="sequence_norm", image_size=(224, 224))  # doctest: +SKIP
        >>> costs.cost["latency_p50"].value  # doctest: +SKIP

    Args:
        model: Preset of ``gossamer models``, or folder of a run or a bundle.
        images: Image files, or folders of images, that a run or a bundle predicts to time each stage (default: none).
        attention: Attention mechanism of a preset, by name or as JSON.
        image_size: Rows x columns of a preset's input.
        patch_size: Side of a patch of a preset, in pixels.
        in_channels: Number of image channels of a preset.
        num_classes: Number of logits of a preset.
        batch: Number of images in one timed call.
        growth: Image sizes at which the cost of a preset or a run is measured, with fitted exponents (default: none).
        training: Whether to measure a training step of a preset or a run too.
        engine: Engine of a bundle (default: all that are installed, in turns; ``onnxruntime`` for images).
        threads: Number of CPU threads (default: all available).
        progress: True to show progress, or an object with the methods of ``gossamer.progress.Progress`` (default:
            silent).

    Raises:
        GossamerError: ``E-CONFIG`` for options that do not apply to the model, or the errors of opening and measuring.
    """
    paths = list_paths(images)
    preset = {
        "attention": attention, "image_size": image_size, "in_channels": in_channels, "num_classes": num_classes,
        "patch_size": patch_size,
    }  # fmt: skip
    preset = {name: value for name, value in preset.items() if value is not None}
    require(batch >= 1, "batch", f"{batch} is less than 1", "use 1 or more")
    folder, shown = Path(model), choose_progress(progress)
    if folder.is_dir() and is_bundle(folder):
        _require_no_network_options("bundle", preset, growth=growth, training=training)
        return _profile_bundle(folder, paths, batch, engine, choose_threads(threads), shown)
    if engine is not None:
        problem = f"{model} is not a bundle; only bundles run in {engine}"
        raise GossamerError(ErrorCode.CONFIG, "engine", problem, "omit engine, or export the run first")
    if folder.is_dir():
        _require_no_network_options("run", preset, growth=None, training=False)
    elif paths:
        problem = f"{model} is an untrained preset and cannot predict {paths[0]}"
        raise GossamerError(ErrorCode.CONFIG, "images", problem, "give a run or a bundle, or omit the images")
    require_training_packages("profile")
    from gossamer.api.network_profile import profile_network

    used, cost, grown = profile_network(
        str(model), preset, batch=batch, growth=growth, training=training, threads=threads
    )
    prediction = _time_prediction(folder, paths, None, threads, shown) if paths else None
    return Profile(model=str(model), threads=used, cost=cost, growth=grown, prediction=prediction)


def _profile_bundle(
    folder: Path, paths: list[Path], batch: int, engine: EngineName | None, threads: int, progress: Progress
) -> Profile:
    name: EngineName = engine or "onnxruntime"
    begin = time.perf_counter()
    bundle = open_bundle(folder, engine=name, threads=threads)
    opening = 1e3 * (time.perf_counter() - begin)
    cost = {"open": Figure(opening, "ms", "measured", f"once, with the import of {name} and the check of every byte")}
    cost |= measure_bundle(bundle, batch=batch)
    others = {} if engine is not None else _open_in_other_engines(bundle, progress)
    return Profile(
        model=str(folder),
        threads=threads,
        cost=cost,
        engine=bundle.engine.name,
        engine_version=bundle.engine.version,
        engines=compare_engines({name: bundle, **others}, batch=batch) if others else {},
        prediction=_time_prediction(folder, paths, name, threads, progress) if paths else None,
    )


def _open_in_other_engines(bundle: Bundle, progress: Progress) -> dict[str, Bundle]:
    """Return the bundle in every other engine that is installed and accepts it."""
    found = {}
    for name in ENGINES:
        if name != bundle.engine.name:
            try:
                found[name] = open_bundle(bundle.path, engine=name, threads=bundle.threads)  # type: ignore[arg-type]
            except GossamerError as error:
                if error.code is not ErrorCode.CODEC:  # installed, but it does not accept the network
                    progress.show_message(f"note: {error}")
    return found


def _time_prediction(
    folder: Path, paths: list[Path], engine: EngineName | None, threads: int | None, progress: Progress
) -> PredictionTiming:
    predictor = load(folder, engine=engine, threads=threads)
    with progress.track_steps("predicting") as update:
        return measure_stages(predictor, StageClock(), paths, on_progress=update)


def _require_no_network_options(
    kind: str, preset: Mapping[str, Any], *, growth: ImageSizes | None, training: bool
) -> None:
    """Raise if options of a network were given that a run or a bundle has already decided.

    Raises:
        GossamerError: ``E-CONFIG``, naming the first option.
    """
    if preset:
        problem = f"applies to a preset; a {kind} has a network already"
        raise GossamerError(ErrorCode.CONFIG, next(iter(preset)), problem, f"omit {', '.join(preset)}")
    for name, given in (("growth", growth is not None), ("training", training)):
        require(not given, name, "does not apply to a bundle, whose network is fixed", "give a preset or a run")


def _median_latencies(engines: Mapping[str, Costs]) -> dict[str, float]:
    return {name: cost["latency_p50"].value or 0.0 for name, cost in engines.items()}
