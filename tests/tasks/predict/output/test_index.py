"""The page that lists several files."""

import re
from html import unescape
from html.parser import HTMLParser

from tasks.predict.output.index import in_short, write_index
from tests.tasks.predict.answers import HOSTILE, answer, utterance


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.links = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name == "href"]


def test_each_file_has_a_row_with_a_link_or_the_reason(tmp_path):
    entries = [
        ("talk 1.mp4", answer(4), ""),
        ("a:b#.png", answer(1, kind="image"), ""),
        ("broken.mp4", None, "broken.mp4 is not a medium"),
    ]
    write_index(entries, tmp_path / "index.html")
    text = (tmp_path / "index.html").read_text()
    found = Links()
    found.feed(text)
    assert found.links[1:] == ["talk%201.mp4/timeline.html", "./a%3Ab%23.png/timeline.html"]
    assert "2 of 3 files understood" in text
    assert "broken.mp4 is not a medium" in text
    assert re.search(r'class="num">3 of 4<', text)
    assert "picture" in text


def test_text_stays_text(tmp_path):
    strange = answer(0, last=utterance(1, 0, 1, classes={}, values={}, reason=HOSTILE))
    entries = [(HOSTILE, None, HOSTILE), (HOSTILE, strange, "")]
    write_index(entries, tmp_path / "index.html")
    text = (tmp_path / "index.html").read_text()
    found = Links()
    found.feed(text)
    assert "script" not in found.tags
    assert "img" not in found.tags
    assert HOSTILE in unescape(text)


def test_an_answer_in_short_is_weighted_by_time():
    found = answer(
        0,
        last=utterance(1, 0, 3),
    )
    assert in_short(found) == "joy 100 %, valence +0.23, arousal -0.16, dominance +0.20"
    assert in_short(answer(0)) == "nothing could be said"
