"""What people and their tools get of an answer: files, pages, films."""
