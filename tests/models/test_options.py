"""Options without an effect are refused, and only these."""

from dataclasses import fields
from typing import Any

import pytest

from models.errors import UserError
from models.method import Method, Spec, configure, find_method
from tests.factories import CATEGORY, DIMS, VAD_TARGET

#: What makes which options idle.
IDLE: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {
    "corect": [
        ({"use_graph": False}, {"window": [3, 3], "edges": "temporal", "graph_heads": 2}),
        ({"use_graph_transformer": False}, {"graph_heads": 2}),
        ({"edges": "cross"}, {"window": [3, 3], "window_semantics": "paper"}),
        ({"use_cross_modal": False}, {"pair_layers": 1, "self_layers": 1, "cross_heads": 1}),
        ({"use_speaker": False}, {"speaker_scale": 2.0, "speakers": "corpus"}),
        ({"use_cross_modal": False, "text_encoder": "lstm"}, {"mask_padding": False}),
    ],
    "multidag_cl": [({"curriculum": False}, {"buckets": 3, "unlabelled_is_a_class": True})],
    "mi_cga": [
        (
            {"missing_rate": 0.0},
            {"mask_seed": 1, "reconstruction": "kl", "reconstruct": "smoothed"},
        ),
        ({"feature_estimation": False}, {"smoothing": 0.5, "reconstruction_weight": 2.0}),
        ({"graph_attention": False}, {"graph_heads": 2, "head_width": 5, "attention_dropout": 0.0}),
        ({"graph_attention": False, "feature_estimation": False}, {"window_past": 1}),
        ({"cross_attention": False}, {"cross_residual": True}),
        (
            {"reconstruction": "none"},
            {"reconstruction_weight": 2.0, "reconstruction_mean": "valid"},
        ),
        ({"reconstruction_weight": 0.0}, {"reconstruction_target": "raw"}),
        ({"smoothing": 0.0}, {"smooth_observed_only": True}),
    ],
    "ada2i": [
        (
            {"afw_layers": 0},
            {"rank": 3, "beta": 0.5, "afw_target": "output", "feature_weight": 0.5},
        ),
        ({"feature_weight": 0.0}, {"afw_target": "output"}),
        ({"has_amw": False}, {"amw_norm": "class", "amw_scale": 3.0}),
        ({"has_modulation": False}, {"alpha": 0.1, "has_noise": False, "modulates": "update"}),
    ],
    "cage": [
        ({"variant": "discrete"}, {"alpha": 1.0, "beta": 1.0}),
        ({"variant": "combined"}, {"beta": 1.0}),
        ({"variant": "valence_arousal"}, {"class_weights": "none", "pos_weight": "none"}),
        ({}, {"balanced_seed": 1}),
    ],
    "huo_ge_vad": [
        ({"graded": True}, {"zero_tol": 0.1}),
        ({}, {"graded_width": 2.0}),
        ({"consistency_weight": 0.0}, {"table": "code", "relax": "softplus", "detach_vad": True}),
        ({"anneal": 3}, {"temperature": 0.2}),
        ({"orth_weight": 0.0}, {"orth_padding": "code"}),
    ],
    "emi": [
        ({"fusion": "late"}, {"vad_mode": "none", "vad_width": 4, "kl_weight": 0.1}),
        ({"vad_mode": "none"}, {"anchor_weight": 0.2, "prior_sd": 0.1}),
        ({"vad_mode": "anchor"}, {"kl_weight": 0.2}),
        ({"vad_mode": "prior"}, {"anchor_weight": 0.2}),
        ({"kl_weight": 0.0}, {"prior_sd": 0.1}),
    ],
    "haemsa": [
        ({"no_hierarchy": True}, {"no_shared": True}),
        ({"no_router": True}, {"weight_balance": 0.1}),
        ({"no_transfer": True}, {"temperature": 1.0, "teacher_temperature": 1.0}),
    ],
}
SMALL = {
    "cage": {"backbone": "small", "pretrained": "", "image_px": 16},
    "huo_ge_vad": {"width": 2, "image_px": 16, "crop_px": 12},
}
TARGETS = {"discrete": (CATEGORY,), "valence_arousal": (VAD_TARGET,)}
CASES = [
    pytest.param(name, switch, {option: value}, id=f"{name}-{'-'.join(switch)}-{option}")
    for name, pairs in IDLE.items()
    for switch, idle in pairs
    for option, value in idle.items()
]


def built(name: str, options: dict[str, Any]) -> Method:
    kind = find_method(name)
    config = configure(kind.config_type, SMALL.get(name, {}) | options, name)
    targets = TARGETS.get(options.get("variant", ""), (CATEGORY, VAD_TARGET))
    dims = {} if name in SMALL else DIMS
    return kind(Spec(dims, targets if kind.is_joint else targets[:1], 2, dims), config)


@pytest.mark.parametrize(("name", "switch", "idle"), CASES)
def test_an_option_without_effect_is_refused_by_name(name, switch, idle):
    (option,) = idle
    with pytest.raises(UserError, match=f"{name}: {option} is .* no effect with"):
        built(name, switch | idle)


@pytest.mark.parametrize(
    ("name", "switch"),
    [(name, switch) for name, pairs in IDLE.items() for switch, _ in pairs],
)
def test_defaults_are_no_reason_to_refuse(name, switch):
    defaults = {f.name: f.default for f in fields(find_method(name).config_type)}
    assert built(name, defaults | SMALL.get(name, {}) | switch)
