"""``gossamer profile``: what a network costs on this machine, and where the time of a prediction goes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gossamer.api.environment import choose_threads, require_training_packages, set_torch_threads
from gossamer.cli.output import Answer, Common, parse_size, progress, say
from gossamer.errors import ErrorCode, GossamerError

if TYPE_CHECKING:
    from gossamer.inference.bundle import Bundle
    from gossamer.inference.engines import EngineName
    from gossamer.inference.predictor import Predictor
    from gossamer.profiling.figure import Figure
    from gossamer.profiling.scaling import Growth
    from gossamer.profiling.stages import PredictionTiming

_ROWS = {
    "open": "Opening it",
    "file": "Size of the network's file",
    "macs": "Multiply-accumulates, stated",
    "latency_p50": "Latency, median",
    "latency_p95": "Latency, 95th percentile",
    "peak_memory": "Peak memory of the process",
    "forward_memory": "Memory of a forward pass",
    "energy": "Energy of a call",
    "energy_modelled": "Energy of a call, modelled",
}
"""Of a bundle; a page, which needs more packages, has those of a network."""


def profile(
    model: str,
    /,
    *paths: Path,
    attention: str | None = None,
    image_size: str | None = None,
    patch_size: int | None = None,
    in_channels: int | None = None,
    num_classes: int | None = None,
    batch: int = 1,
    growth: str | None = None,
    training: bool = False,
    engine: Literal["onnxruntime", "openvino"] | None = None,
    threads: int | None = None,
    common: Common = Common(),
) -> Answer:
    """Measure what a network costs: parameters, MACs, latency, memory.

    MODEL is a preset of gossamer models, a run folder, whose own size is used, or a bundle, which needs no PyTorch. Of
    a bundle also energy, and which engine is faster here. With PATHS, a run or a bundle predicts them as gossamer
    predict would, keeps nothing, and says how long it reads, preprocesses, computes, postprocesses and writes.

    Example: gossamer profile vit_small --attention sequence_norm --image-size 224x224
    Example: gossamer profile bundles/chest new-images/ --threads 2
    Example: gossamer profile vit_tiny --attention softmax --growth 64x64,128x128,256x256

    Args:
        model: preset, run folder or bundle.
        paths: images, or folders of images, to be predicted by a run or a bundle.
        attention: a mechanism, by name or as JSON, for a preset.
        image_size: rows x columns, for a preset.
        patch_size: side of a patch, for a preset.
        in_channels: channels of an image, for a preset.
        num_classes: number of logits, for a preset.
        batch: images of one timed call.
        growth: image sizes, separated by commas: what a preset or a run costs at each, and with which exponent.
        training: whether to measure a training step of a preset or a run too.
        engine: what computes a bundle; both in turn if left out and installed, onnxruntime for PATHS.
        threads: of the processor; all that this process may use if left out.
        common: options of every verb.
    """
    from gossamer.inference.bundle_files import is_bundle

    given = {
        "attention": attention, "image_size": image_size, "in_channels": in_channels, "num_classes": num_classes,
        "patch_size": patch_size,
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    if batch < 1:
        raise GossamerError(ErrorCode.CONFIG, "--batch", f"{batch} is less than 1", "use 1 or more")
    folder = Path(model)
    if folder.is_dir() and given:
        problem = f"a {'bundle' if is_bundle(folder) else 'run'} keeps its own network"
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise GossamerError(ErrorCode.CONFIG, model, problem, f"leave {options} out")
    if folder.is_dir() and is_bundle(folder):
        if growth is not None or training:
            option = "--training" if growth is None else "--growth"
            problem = f"{model} is a bundle, whose network is built and does not train"
            raise GossamerError(ErrorCode.CONFIG, option, problem, "name a preset or a run")
        return _profile_bundle(folder, paths, batch, engine, threads)
    if engine is not None:
        problem = f"{engine} computes bundles, and {model} is none"
        raise GossamerError(ErrorCode.CONFIG, "--engine", problem, "leave it out, or gossamer export the run first")
    if paths and not folder.is_dir():
        problem = f"{model} is a preset, which has not learnt to predict {paths[0]}"
        raise GossamerError(ErrorCode.CONFIG, "PATHS", problem, "name a run or a bundle, or leave them out")
    return _profile_network(model, paths, given, batch, threads, growth, training)


def _profile_network(
    model: str,
    paths: tuple[Path, ...],
    given: Mapping[str, Any],
    batch: int,
    threads: int | None,
    growth: str | None,
    training: bool,
) -> Answer:
    require_training_packages("profile")
    used = set_torch_threads(threads)
    from gossamer.api.load import load
    from gossamer.checkpoint import load_model
    from gossamer.nn.models import create_model
    from gossamer.profiling.network import profile_model
    from gossamer.profiling.scaling import measure_growth, resize_models
    from gossamer.report.page import COST_ROWS

    if Path(model).is_dir():
        network = load_model(Path(model))
    else:
        network = create_model(model, **{**given, "image_size": parse_size(given.get("image_size"))})
    sizes = [size for part in (growth or "").split(",") if part and (size := parse_size(part, "--growth")) is not None]
    if growth is not None:  # before anything is measured, which takes a minute
        resize_models(network.config, sizes)
    figures = profile_model(network, batch=batch, forecasts=True)
    if training:
        from gossamer.profiling.training_step import training_figures

        figures |= training_figures(network.config, batch=batch, threads=used)
    table = _measure_stages(load(model, threads=threads), paths) if paths else None
    data = {"model": model, "threads": used, "cost": {name: figure.to_json() for name, figure in figures.items()}}
    if growth is not None:
        grown = measure_growth(network.config, sizes, batch=batch)
        data["growth"] = grown.to_json()
        return Answer(data, _texts(_figures(figures, COST_ROWS), table, "", _growth(grown)), _status(table))
    if table is not None:
        data["prediction"] = table.to_json()
    return Answer(data, _texts(_figures(figures, COST_ROWS), table), _status(table))


def _profile_bundle(
    folder: Path, paths: tuple[Path, ...], batch: int, engine: EngineName | None, threads: int | None
) -> Answer:
    from gossamer.inference.bundle import open_bundle
    from gossamer.inference.tasks import bundle_predictor
    from gossamer.profiling.bundle import compare_engines, measure_bundle
    from gossamer.profiling.figure import Figure

    used, name = choose_threads(threads), engine or "onnxruntime"
    begin = time.perf_counter()
    bundle = open_bundle(folder, engine=name, threads=used)
    opening = 1e3 * (time.perf_counter() - begin)
    figures = {"open": Figure(opening, "ms", "measured", f"once, {name} imported and every byte checked")}
    figures |= measure_bundle(bundle, batch=batch)
    engines: dict[str, Any] = {}
    verdict = None
    if engine is None:
        others = _other_engines(bundle)
        engines = compare_engines({name: bundle, **others}, batch=batch) if others else {}
        verdict = _verdict(engines) if others else "one engine is installed: onnxruntime"
    table = _measure_stages(bundle_predictor(bundle), paths) if paths else None
    data: dict[str, Any] = {
        "model": str(folder),
        "engine": bundle.engine.name,
        "engine_version": bundle.engine.version,
        "threads": used,
        "cost": _as_data(figures),
        "engines": {key: _as_data(cost) for key, cost in engines.items()},
        "faster": min(engines, key=lambda key: engines[key]["latency_p50"].value) if engines else None,
    }
    if table is not None:
        data["prediction"] = table.to_json()
    return Answer(data, _texts(_figures(figures, _ROWS), table, verdict), _status(table))


def _other_engines(bundle: Bundle) -> dict[str, Bundle]:
    """Return the bundle in every other engine that is installed and takes it."""
    from gossamer.inference.bundle import open_bundle
    from gossamer.inference.engines import ENGINES

    found = {}
    for name in ENGINES:
        if name != bundle.engine.name:
            try:
                found[name] = open_bundle(bundle.path, engine=name, threads=bundle.threads)  # type: ignore[arg-type]
            except GossamerError as error:
                if error.code is not ErrorCode.CODEC:  # it is installed, and does not take the network
                    say(f"note: {error}")
    return found


def _verdict(engines: Mapping[str, Mapping[str, Figure]]) -> str:
    """Return which engine is faster, in a line."""
    medians = {name: cost["latency_p50"].value or 0.0 for name, cost in engines.items()}
    fast, slow = min(medians, key=lambda name: medians[name]), max(medians, key=lambda name: medians[name])
    times = ", ".join(f"{name} {median:.2f} ms" for name, median in medians.items())
    return f"in turn: {times} (median): {fast} is {medians[slow] / medians[fast]:.2f} times faster here"


def _measure_stages(predictor: Predictor, paths: tuple[Path, ...]) -> PredictionTiming:
    from gossamer.inference.stage_timer import StageClock
    from gossamer.profiling.stages import measure_stages

    with progress("predicting") as tick:
        return measure_stages(predictor, StageClock(), paths, on_progress=tick)


def _status(table: PredictionTiming | None) -> int:
    if table is None:
        return 0
    for _, error in table.errors:
        say(f"gossamer: {error}")
    return ErrorCode.FORMAT.exit_status if table.errors else 0


def _as_data(cost: Mapping[str, Figure]) -> dict[str, Any]:
    return {name: figure.to_json() for name, figure in cost.items()}


def _figures(figures: Mapping[str, Figure], labels: Mapping[str, str]) -> Any:
    from gossamer.profiling.figure import format_quantity

    table = _table("figure", "value", "how", "")
    for name, figure in figures.items():
        table.add_row(labels[name], format_quantity(figure.value, figure.unit), figure.how, figure.detail)
    return table


def _stages(stages: PredictionTiming) -> Any:
    table = _table("stage", "seconds", "share", "median", "p95", "")
    for name, stage in stages.stages.items():
        times = (f"{stage.p50_ms:.2f} ms", f"{stage.p95_ms:.2f} ms")
        table.add_row(name, f"{stage.seconds:.3f}", f"{100 * stage.share:.1f} %", *times)
    table.add_row("together", f"{stages.wall_seconds:.3f}", "", "", "", f"wall time of {stages.images} inputs")
    return table


def _growth(growth: Growth) -> Any:
    from rich.console import Group

    from gossamer.profiling.figure import format_quantity

    table = _table("image", "tokens", "MACs", "tensors, forecast", "process, forecast", "latency", "")
    for size in growth.sizes:
        costs = [
            format_quantity(figure.value, figure.unit)
            for figure in (size.macs, size.tensors, size.memory, size.latency)
        ]
        rows = "x".join(str(side) for side in size.image_size)
        table.add_row(rows, str(size.tokens or "–"), *costs, size.latency.detail)
    lines = [
        f"{name}: {exponent.detail}, {exponent.how}"
        for name, exponent in (
            ("MACs", growth.macs_exponent), ("tensors", growth.memory_exponent), ("latency", growth.latency_exponent),
        )
    ]  # fmt: skip
    fixed = "A process rises by the tensors of a call and by what libraries take, which is the same at every size."
    return Group(table, *lines, fixed)


def _table(*headings: str) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("figure", "stage", "how", "") else "right")
    return table


def _texts(figures: Any, stages: PredictionTiming | None, *lines: Any) -> Any:
    from rich.console import Group

    parts = [figures, *(line for line in lines if line is not None)]
    return Group(*parts, *(("", _stages(stages)) if stages is not None else ()))
