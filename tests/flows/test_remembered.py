"""What was found right is known again, by whatever name the folder is called."""

from pathlib import Path

from flows import remembered


def test_a_folder_is_the_same_by_every_name(tmp_path, monkeypatch):
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "walk.py").write_text("x = 1\n")
    (tmp_path / "params.yaml").write_text("a: 1\n")
    monkeypatch.chdir(tmp_path)
    assert not remembered.is_right(Path(), "params.yaml")
    remembered.remember(Path(), "params.yaml")
    assert remembered.is_right(Path(), "params.yaml")
    assert remembered.is_right(tmp_path, "params.yaml")
    (tmp_path / "flows" / "walk.py").write_text("x = 22\n")
    assert not remembered.is_right(tmp_path, "params.yaml")
