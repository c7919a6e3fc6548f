"""The identity of a comparison's data, and what of a plan may change when the comparison is resumed."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

from gossamer.comparison.compare_plan import ComparePlan
from gossamer.comparison.request import CompareRequest
from gossamer.data import Dataset, open_dataset
from gossamer.errors import ErrorCode, GossamerError
from gossamer.extension import find_origin
from gossamer.nn.attention import MECHANISMS, attention_config


def hash_contents(dataset: Dataset) -> str:
    """Return a SHA-256 of the pixels of every image and of its masks, in the order of the samples.

    Names, labels and splits are covered by ``Dataset.fingerprint``. A file that is written again with the same pixels
    has the same hash. It takes as long as one training needs to read its data.

    Args:
        dataset: Data set, which is read image by image.

    Raises:
        GossamerError: An image or a mask cannot be read.
    """
    digest = hashlib.sha256()
    for sample in dataset.samples:
        digest.update(dataset.content_digest(sample))
    return digest.hexdigest()


def hash_mechanisms(request: CompareRequest) -> dict[str, str]:
    """Return the SHA-256 of the file of each requested mechanism that a user defined.

    Args:
        request: Options of the comparison.

    Raises:
        GossamerError: A mechanism cannot be loaded.
    """
    classes = {text: type(attention_config(text)) for text in request.attention}
    own = {text: each for text, each in classes.items() if each not in MECHANISMS.values()}
    return {text: find_origin(each).sha256 for text, each in own.items()}


def start_plan(plan: ComparePlan) -> ComparePlan:
    """Return a plan with the hash of its data's pixels, all of which are read once."""
    contents = hash_contents(open_dataset(Path(plan.data.source), seed=0))
    return dataclasses.replace(plan, data=dataclasses.replace(plan.data, contents=contents))


def resume_plan(plan: ComparePlan, request: CompareRequest, command: str, folder: Path) -> ComparePlan:
    """Return a plan with the limits, the path of the data and the command of the current call.

    Args:
        plan: Plan that the comparison was started with.
        request: Options of the current call.
        command: Command line of the current call.
        folder: Folder of the comparison.

    Raises:
        GossamerError: ``E-CONFIG`` for another changed option, ``E-INTEGRITY`` for other data or a changed mechanism,
            ``E-SECURITY`` for a mechanism in the plan that was not requested.
    """
    request.require_same(plan.request, folder)
    for variant in plan.variants:
        if variant.attention is not None and variant.attention not in request.attention:
            problem = f"plan.json holds the mechanism {variant.attention}, which was not requested"
            raise GossamerError(ErrorCode.SECURITY, folder, problem, "use another folder")
    if hash_mechanisms(request) != plan.mechanism_hashes:
        problem = "the file of a mechanism has changed since the comparison was started"
        raise GossamerError(ErrorCode.INTEGRITY, folder, problem, "restore the file, or use another folder")
    require_same_data(plan, request.data)
    return dataclasses.replace(
        plan, request=request, data=dataclasses.replace(plan.data, source=request.data), command=command
    )


def require_same_data(plan: ComparePlan, data: str) -> None:
    """Raise unless data are those of the plan: the same samples and, if the plan has their hash, the same pixels.

    Args:
        plan: Plan of the comparison.
        data: Path of a data set.

    Raises:
        GossamerError: ``E-INTEGRITY``.
    """
    dataset = open_dataset(Path(data), seed=0)
    remedy = "restore the data, or use another folder"
    if dataset.fingerprint() != plan.data.fingerprint:
        problem = "samples, labels or splits differ from those that the comparison was started with"
        raise GossamerError(ErrorCode.INTEGRITY, data, problem, remedy)
    if plan.data.contents is not None and hash_contents(dataset) != plan.data.contents:
        problem = "pixels of images or masks differ from those that the comparison was started with"
        raise GossamerError(ErrorCode.INTEGRITY, data, problem, remedy)
