"""Mechanisms of users: every door that takes ours takes them, and saved networks find them again."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import jaxtyping
import pytest
import torch

import gossamer
from gossamer import config
from gossamer.checkpoint import load_model, save_model
from gossamer.errors import ErrorCode, GossamerError
from gossamer.extension import describe_reference
from gossamer.nn.attention import (
    AttentionConfig,
    SoftConfig,
    attention_config,
    attention_text,
)
from gossamer.nn.models import config_from_json

LINEAR = Path(__file__).parents[2] / "made_mechanisms" / "linear.py"


@pytest.fixture
def linear(tmp_path: Path) -> Path:
    """A copy of the file of a user's mechanism, which a test may change."""
    return Path(shutil.copy(LINEAR, tmp_path / "linear.py"))


def test_every_form_describes_the_same_config(linear: Path) -> None:
    found = attention_config(f"{linear}:LinearConfig")
    kind = type(found)
    assert (found.name, found.offset) == ("linear", 1.0)  # type: ignore[attr-defined]
    for value in (
        str(linear),
        found,
        kind,
        kind(),
        {"name": str(linear)},
        json.dumps({"name": f"{linear}:LinearConfig"}),
    ):
        assert attention_config(value) == found
    assert attention_config({"name": str(linear), "offset": 2.0}) == kind(offset=2.0)  # type: ignore[call-arg]


def test_texts_describe_mechanisms_in_any_folder(linear: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(linear.parent)
    described = attention_config({"name": "linear.py", "offset": 2.0})
    texts = [attention_text(value) for value in ("./linear.py:LinearConfig", described)]
    monkeypatch.chdir("/")
    assert [attention_config(text).offset for text in texts] == [1.0, 2.0]  # type: ignore[attr-defined]
    linear.write_text(linear.read_text() + "\n")
    with pytest.raises(GossamerError) as caught:
        attention_config(texts[0])
    assert caught.value.code is ErrorCode.INTEGRITY


def test_texts_of_our_mechanisms_stay_as_they_are() -> None:
    given = '{"name": "soft", "inverse": "cholesky"}'
    assert [attention_text(value) for value in ("kv", given, SoftConfig())] == ["kv", given, "soft"]
    assert attention_config(attention_text(SoftConfig(steps=3))) == SoftConfig(steps=3)


def test_titles_hide_folders_and_digests(linear: Path) -> None:
    assert describe_reference(attention_text({"name": str(linear), "offset": 2.0})) == (
        '{"name": "linear.py:LinearConfig", "offset": 2.0}'
    )
    assert describe_reference(f"{linear}:LinearConfig") == "linear.py:LinearConfig"
    for text in ("kv", '{"name": "soft", "inverse": "cholesky"}'):
        assert describe_reference(text) == text


def test_unknown_parameters_are_refused(linear: Path) -> None:
    with pytest.raises(GossamerError) as caught:
        attention_config({"name": str(linear), "ofset": 2.0})
    assert caught.value.code is ErrorCode.CONFIG


def test_json_identifies_the_file(linear: Path) -> None:
    described = attention_config({"name": str(linear), "offset": 2.0})
    data = config.to_json(described)
    assert data["name"] == f"{linear.resolve()}:LinearConfig"
    assert len(data["sha256"]) == 64
    assert data["offset"] == 2.0
    assert attention_config(json.dumps(data)) == described


def test_networks_take_references_configs_and_classes(linear: Path) -> None:
    described = attention_config(str(linear))
    for value in (str(linear), described, type(described)):
        model = gossamer.create_model("vit_nano", attention=value)
        assert model.config.attention == described  # type: ignore[attr-defined]
        assert config_from_json(config.to_json(model.config)) == model.config


def test_conversions_take_references(linear: Path) -> None:
    before = gossamer.create_model("vit_nano", attention="softmax")
    after = gossamer.convert_attention(before, str(linear))
    name = "blocks.0.attention.qkv.weight"
    assert torch.equal(after.state_dict()[name], before.state_dict()[name])


@pytest.fixture
def saved(linear: Path, tmp_path: Path) -> Path:
    """A folder with a network of a user's mechanism."""
    folder = tmp_path / "saved"
    folder.mkdir()
    torch.manual_seed(0)
    save_model(gossamer.create_model("vit_nano", attention={"name": str(linear), "offset": 0.5}), folder)
    return folder


def refused(folder: Path) -> ErrorCode:
    with pytest.raises(GossamerError) as caught:
        load_model(folder)
    return caught.value.code


def test_a_saved_network_opens_again(saved: Path) -> None:
    assert load_model(saved).config.attention.offset == 0.5  # type: ignore[attr-defined]


def test_a_saved_network_needs_its_file_unchanged(saved: Path, linear: Path) -> None:
    linear.write_text(linear.read_text() + "\n")
    assert refused(saved) is ErrorCode.INTEGRITY
    linear.unlink()
    assert refused(saved) is ErrorCode.MISSING


def test_a_saved_network_never_runs_code_inside_of_its_folder(saved: Path, linear: Path) -> None:
    inside = shutil.copy(linear, saved / "linear.py")
    stored = json.loads((saved / "config.json").read_text())
    stored["model"]["attention"]["name"] = f"{inside}:LinearConfig"
    (saved / "config.json").write_text(json.dumps(stored))
    assert refused(saved) is ErrorCode.SECURITY


HEAD = """from dataclasses import dataclass
from typing import ClassVar
from gossamer.nn.attention import AttentionConfig
"""
BODY = "    def make(self, host): ...\n"


@pytest.mark.parametrize(
    "text",
    [
        'class Mine(AttentionConfig):\n    size: int = 3\n    name: ClassVar[str] = "mine"\n',
        "@dataclass(frozen=True)\nclass Mine(AttentionConfig):\n    size: int = 3\n",
        '@dataclass(frozen=True)\nclass Mine(AttentionConfig):\n    name: ClassVar[str] = "softmax"\n',
        '@dataclass(frozen=True)\nclass Mine(AttentionConfig):\n    name: ClassVar[str] = "a/b"\n',
        '@dataclass(frozen=True)\nclass Mine(AttentionConfig):\n    sha256: int = 0\n    name: ClassVar[str] = "me"\n',
    ],
)
def test_incomplete_configs_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.py").write_text(HEAD + text + BODY)
    with pytest.raises(GossamerError) as caught:
        attention_config(f"{tmp_path / 'mine.py'}:Mine")
    assert caught.value.code is ErrorCode.CONFIG
    assert caught.value.where == "Mine"


def test_a_class_that_is_not_a_config_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(GossamerError) as caught:
        attention_config(dict)  # type: ignore[arg-type]
    assert caught.value.code is ErrorCode.CONFIG


def test_a_config_of_a_notebook_builds_but_is_not_saved(linear: Path, phantom: Path, tmp_path: Path) -> None:
    kind = type(attention_config(str(linear)))
    local = dataclass(frozen=True)(type("LocalConfig", (kind,), {"__module__": "__main__"}))
    assert issubclass(local, AttentionConfig)
    model = gossamer.create_model("vit_nano", attention=local())
    with pytest.raises(GossamerError) as caught:
        config.to_json(model.config)
    assert caught.value.code is ErrorCode.UNSUPPORTED
    # A run with it is refused before anything is written.
    with pytest.raises(GossamerError) as caught:
        gossamer.train(phantom, model="vit_nano", attention=local(), epochs=1, threads=1, out=tmp_path / "run")
    assert caught.value.code is ErrorCode.UNSUPPORTED
    assert not (tmp_path / "run").exists()
