"""Gossamer: compute-efficient transformers for medical image analysis.

The names of this module are the public interface. Each is loaded on first use, so that ``import gossamer`` needs no
PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from gossamer.api.attention import check_attention, create_attention
    from gossamer.api.check_data import check_data
    from gossamer.api.compare import ComparisonResults, compare, plan_comparison
    from gossamer.api.demo import run_demo
    from gossamer.api.doctor import check_environment
    from gossamer.api.draw_phantom import draw_phantom
    from gossamer.api.evaluate import evaluate
    from gossamer.api.export import ExportedBundle, export
    from gossamer.api.import_weights import import_weights
    from gossamer.api.load import load
    from gossamer.api.models import describe_models
    from gossamer.api.plan import Plan, plan
    from gossamer.api.predict import predict
    from gossamer.api.profile import Profile, profile
    from gossamer.api.quantize import LimitNotMetError, QuantizationResult, quantize
    from gossamer.api.read_image import read_image
    from gossamer.api.run import Run
    from gossamer.api.train import train
    from gossamer.checkpoint import load_model
    from gossamer.data import open_dataset
    from gossamer.errors import GossamerError
    from gossamer.nn.models import create_model, list_models
    from gossamer.nn.transfer import convert_attention

_PUBLIC = {
    "ComparisonResults": "gossamer.api.compare",
    "ExportedBundle": "gossamer.api.export",
    "GossamerError": "gossamer.errors",
    "LimitNotMetError": "gossamer.api.quantize",
    "Plan": "gossamer.api.plan",
    "Profile": "gossamer.api.profile",
    "QuantizationResult": "gossamer.api.quantize",
    "Run": "gossamer.api.run",
    "check_attention": "gossamer.api.attention",
    "check_data": "gossamer.api.check_data",
    "check_environment": "gossamer.api.doctor",
    "compare": "gossamer.api.compare",
    "convert_attention": "gossamer.nn.transfer",
    "create_attention": "gossamer.api.attention",
    "create_model": "gossamer.nn.models",
    "describe_models": "gossamer.api.models",
    "draw_phantom": "gossamer.api.draw_phantom",
    "evaluate": "gossamer.api.evaluate",
    "export": "gossamer.api.export",
    "import_weights": "gossamer.api.import_weights",
    "list_models": "gossamer.nn.models",
    "load": "gossamer.api.load",
    "load_model": "gossamer.checkpoint",
    "open_dataset": "gossamer.data",
    "plan": "gossamer.api.plan",
    "plan_comparison": "gossamer.api.compare",
    "predict": "gossamer.api.predict",
    "profile": "gossamer.api.profile",
    "quantize": "gossamer.api.quantize",
    "read_image": "gossamer.api.read_image",
    "run_demo": "gossamer.api.demo",
    "train": "gossamer.api.train",
}
"""Module of each public name. A new name also needs an import for type checkers above and a place in ``__all__``."""

__all__ = [
    "ComparisonResults",
    "ExportedBundle",
    "GossamerError",
    "LimitNotMetError",
    "Plan",
    "Profile",
    "QuantizationResult",
    "Run",
    "__version__",
    "check_attention",
    "check_data",
    "check_environment",
    "compare",
    "convert_attention",
    "create_attention",
    "create_model",
    "describe_models",
    "draw_phantom",
    "evaluate",
    "export",
    "import_weights",
    "list_models",
    "load",
    "load_model",
    "open_dataset",
    "plan",
    "plan_comparison",
    "predict",
    "profile",
    "quantize",
    "read_image",
    "run_demo",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'gossamer' has no attribute {name!r}")
    from importlib import import_module

    try:
        return getattr(import_module(_PUBLIC[name]), name)
    except ModuleNotFoundError:
        import_module("gossamer.api.environment").require_training_packages(name)
        raise


def __dir__() -> list[str]:
    return sorted(__all__)
