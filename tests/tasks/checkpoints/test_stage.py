import pytest

from models.errors import UserError
from tasks.checkpoints.stage import CheckpointsParams, TinyCheckpoint, make
from tests.places import small_files


def test_a_disk_that_fills_is_one_sentence_that_names_the_checkpoint(tmp_path):
    tiny = TinyCheckpoint(kind="bert", width=16, layers=1, heads=2)
    with small_files(8192), pytest.raises(UserError) as told:
        make(CheckpointsParams(models={"words": tiny}), tmp_path)
    assert str(told.value) == (
        f"cannot write {tmp_path / 'words'}: File too large; free space or allow writing there"
    )
    assert list(tmp_path.iterdir()) == []
