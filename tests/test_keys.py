"""How keys are written on a server: distinct, printable, bounded, the subject as hash tag."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from headgate.keys import held, stored_key, subject

# Around what has a meaning: separators, escapes, the marks of an empty key and of a digest, and the length that is cut.
TEXT = st.one_of(st.text(), st.text("%~{}:0aZé\0", max_size=6), st.text("ab%", min_size=80, max_size=300))


@given(st.lists(TEXT, min_size=2, max_size=8, unique=True))
def test_no_two_keys_are_written_alike(keys: list[str]):
    assert len({subject(key) for key in keys}) == len(keys)
    assert len({held(key) for key in keys}) == len(keys)


@given(TEXT)
def test_a_subject_is_printable_bounded_and_a_hash_tag(key: str):
    assert re.fullmatch(r"[A-Za-z0-9._@:/+=%~-]{1,256}", subject(key))
    tag = re.search(r"\{(.*?)\}", stored_key("headgate:", "sliding-window:x:1", key))
    assert tag
    assert tag[1] == subject(key)


def test_a_subject_reads_like_its_key():
    assert subject("user:alice@example.com/v1") == "user:alice@example.com/v1"
    assert subject("a b{c}") == "a%20b%7Bc%7D"
    assert subject("") == "%"
    assert subject("x" * 257).startswith("~")
