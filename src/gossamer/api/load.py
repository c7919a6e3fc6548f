"""``gossamer.load``: a run or a bundle as a predictor."""

from __future__ import annotations

from pathlib import Path

from gossamer.api.environment import choose_threads, require_training_packages
from gossamer.arguments import checked_arguments
from gossamer.errors import ErrorCode, GossamerError
from gossamer.inference.bundle_files import is_bundle
from gossamer.inference.engines import EngineName
from gossamer.inference.predictor import Predictor
from gossamer.inference.tasks import open_predictor


@checked_arguments
def load(path: Path | str, *, engine: EngineName | None = None, threads: int | None = None) -> Predictor:
    """Return a trained model that is ready to predict. A bundle needs no PyTorch, a run does.

    Args:
        path: Folder of a run, or of a bundle.
        engine: Engine that computes a bundle (default: ``onnxruntime``).
        threads: Number of CPU threads (default: all available).

    Raises:
        GossamerError: The folder cannot be used; ``E-CODEC`` for a run without PyTorch or an engine that is not
            installed, ``E-CONFIG`` for an engine with a run.
    """
    path = Path(path)
    if not path.exists():
        remedy = "name a folder of gossamer train or gossamer export"
        raise GossamerError(ErrorCode.MISSING, path, "there is no such folder", remedy)
    if is_bundle(path):
        return open_predictor(path, engine=engine or "onnxruntime", threads=choose_threads(threads))
    if engine is not None:
        problem = f"{path} is not a bundle; {engine} computes bundles only"
        raise GossamerError(ErrorCode.CONFIG, "engine", problem, "leave it out, or export the run first")
    require_training_packages("predict")
    from gossamer.training.run_predictor import load_run_predictor

    return load_run_predictor(path, choose_threads(threads))


def as_predictor(model: Path | str | Predictor, engine: EngineName | None, threads: int | None) -> Predictor:
    """Return the predictor that ``model`` is or that its folder holds.

    Raises:
        GossamerError: The errors of ``load``, or ``E-CONFIG`` for options of loading with a predictor.
    """
    if not isinstance(model, Predictor):
        return load(model, engine=engine, threads=threads)
    for name, value in (("engine", engine), ("threads", threads)):
        if value is not None:
            problem = f"{value} has no effect on a model that is loaded already"
            raise GossamerError(ErrorCode.CONFIG, name, problem, f"give {name} to gossamer.load")
    return model
