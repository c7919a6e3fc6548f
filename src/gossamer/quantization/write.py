"""A quantized network as a bundle: the same folder, another graph, and what was found about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from gossamer import __version__
from gossamer.exporting.parity import bundle_pipeline, measure_parity, parity_samples
from gossamer.exporting.write import write_card_and_manifest
from gossamer.files import new_folder, replace_nonfinite, write_bytes
from gossamer.inference.bundle import open_bundle
from gossamer.inference.manifest import MODEL, Manifest
from gossamer.profiling.bundle import machine_of_bundles, measure_bundle
from gossamer.quantization.quantize import QuantizationOutcome
from gossamer.quantization.source import QuantizationSource


def write_quantized_bundle(
    out: Path,
    source: QuantizationSource,
    outcome: QuantizationOutcome,
    *,
    on_stage: Callable[[str], None] = lambda text: None,
) -> Manifest:
    """Write the bundle of a network in 8 bits and return its manifest. Nothing is left of a bundle that fails.

    Args:
        out: folder of the bundle; it does not exist, or is empty.
        source: the network in floating point.
        outcome: of quantizing it, which has met its limit.
        on_stage: told what is being done.

    Raises:
        GossamerError: ``E-OUTPUT`` or ``E-NOSPACE`` where it cannot be written.
    """
    assert outcome.result is not None
    with new_folder(out) as made:
        write_bytes(made / MODEL, outcome.result.candidate.model)
        manifest = dataclasses.replace(
            source.bundle.manifest,
            gossamer=__version__,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            precision="int8",
            quality=replace_nonfinite(outcome.result.quality),
            quantization=replace_nonfinite(outcome.record()),
            parity=None,
            cost={name: figure for name, figure in source.bundle.manifest.cost.items() if name == "macs"},
            members={},
        )
        write_card_and_manifest(made, manifest)
        bundle = open_bundle(made, threads=source.bundle.threads)
        reference, candidate = bundle_pipeline(source.bundle), bundle_pipeline(bundle)
        samples = parity_samples(source.dataset)
        on_stage(f"comparing it with float32 on {len(samples)} images of the validation split")
        parity = measure_parity(reference, candidate, source.dataset, samples, strict=False)
        on_stage("measuring its cost")
        cost = {name: figure.to_json() for name, figure in measure_bundle(bundle).items()}
        cost["machine"] = machine_of_bundles()
        manifest = write_card_and_manifest(made, dataclasses.replace(manifest, parity=parity, cost=cost))
        open_bundle(made, threads=1)
    return manifest
