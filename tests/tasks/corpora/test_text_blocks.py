"""Text files read block by block: cut anywhere they say the same."""

import polars as pl
import pytest

from models.errors import UserError
from tasks.corpora import text_blocks
from tasks.corpora.files import read_csv, read_text
from tasks.corpora.text_blocks import csv_blocks, form_of

CELLS = [(f"ä{n}", "€ \n" * (n % 4) + "x") for n in range(200)]
TEXT = "\ufeffid,words\n" + "".join(f'{one},"{two}"\n' for one, two in CELLS)


@pytest.mark.parametrize("piece", [1, 7, 1 << 22])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "auto"])
def test_pieces_cut_no_character(tmp_path, monkeypatch, piece, encoding):
    monkeypatch.setattr(text_blocks, "_PIECE", piece)
    path = tmp_path / "t.csv"
    text = TEXT if encoding in ("utf-8", "auto") else TEXT.removeprefix("\ufeff")
    path.write_bytes(text.encode("utf-8" if encoding == "auto" else encoding))
    blocks = list(csv_blocks(path, encoding=encoding, block=300))
    assert len(blocks) > 5
    whole = pl.concat(blocks)
    assert whole.select("id", "words").rows() == CELLS
    assert whole["row"].to_list() == list(range(1, 201))
    assert whole.equals(read_csv(path, encoding=encoding))


def test_auto_takes_cp1252_where_a_late_byte_is_no_utf8(tmp_path, monkeypatch):
    monkeypatch.setattr(text_blocks, "_PIECE", 10)
    path = tmp_path / "t.csv"
    path.write_bytes(b"id\n" + b"a\n" * 100 + "é\n".encode("cp1252"))
    assert form_of(path, "auto").encoding == "cp1252"
    assert read_csv(path, encoding="auto")["id"][-1] == "é"
    with pytest.raises(UserError, match=r"t\.csv is not utf-8 text; save it as UTF-8"):
        next(csv_blocks(path))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("piece", [1, 1 << 22])
def test_line_ends_of_all_kinds(tmp_path, monkeypatch, end, piece):
    monkeypatch.setattr(text_blocks, "_PIECE", piece)
    path = tmp_path / "t.csv"
    path.write_bytes(end.join(["id,words", *("a,b" for _ in range(50)), ""]).encode())
    found = pl.concat(csv_blocks(path, block=40))
    assert found["words"].to_list() == ["b"] * 50
    path.write_bytes(f"id,words{end}{end} ".encode())
    assert [block.height for block in csv_blocks(path)] == [0]
    assert read_text(path) == f"id,words{end}{end} "


def test_a_row_of_a_late_block_is_named(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id,words\n" + "a,b\n" * 500 + "a,b,c\n" + "a,b\n" * 500)
    blocks = csv_blocks(path, block=100)
    assert next(blocks).height
    with pytest.raises(UserError, match=r"Row #502: Expected 2 columns, got 3: a,b,c; mend"):
        list(blocks)
