"""Places of keys and values, against documents written with known places (TOML 1.0)."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config.locate import Locator, Path, Position


def test_tables_keys_and_array_elements_are_found() -> None:
    text = "\n".join(
        [
            "a = 1  # comment with [brackets] and = signs",
            "[b.c]",
            'd = "x # not a comment"',
            "e = [",
            "  1, # one, [",
            "  2,",
            "]",
            "[[f]]",
            "g = { h = 1, i.j = [ 'k' ] }",
            "[[f]]",
            "g = 2",
            "[f.l]",
            "m = 3",
        ]
    )
    tomllib.loads(text)
    locator = Locator(text)
    for path, line, column in [
        (("a",), 1, 1),
        (("b",), 2, 2),
        (("b", "c"), 2, 4),
        (("b", "c", "d"), 3, 1),
        (("b", "c", "e", 0), 5, 3),
        (("b", "c", "e", 1), 6, 3),
        (("f", 0, "g", "h"), 9, 7),
        (("f", 0, "g", "i", "j", 0), 9, 22),
        (("f", 1), 10, 3),
        (("f", 1, "g"), 11, 1),
        (("f", 1, "l", "m"), 13, 1),
    ]:
        assert locator.key(path) == Position(line, column), path
    assert locator.value(("b", "c", "d")) == Position(3, 5)


def test_what_is_absent_has_the_place_of_what_is_around_it() -> None:
    locator = Locator("x = 1\n[a.b]\nc = 1\n")
    assert locator.key(("a", "b", "nothing", "there")) == Position(2, 4)
    assert locator.value(("a", "b", "nothing")) == Position(2, 4)
    assert locator.key(("nothing",)) is None


@pytest.mark.parametrize(
    "value",
    [
        '"""a\n"" b = 1 """""',
        "'''\n[x]\ny = 1\n''''",
        '"\\" = ["',
        "'\\'",
        '""',
        '""""""',
        '"""\\\n  x\\""""',
        "1979-05-27T07:32:00Z",
        "1979-05-27 07:32:00",
        "[[1, 2], ['a', \"]\"], [ ] ]",
        "[ # c ]\n [ # d\n], # e\n]",
        "{ a = [ { b = '}' } ] }",
        "+1_000.0e-3",
        "[1,\n]",
    ],
)
def test_values_of_every_kind_are_skipped_whole(value: str) -> None:
    text = f"first = {value} # end\r\nsecond = 1\r\n"
    tomllib.loads(text)
    lines = text.replace("\r\n", "\n").split("\n")
    assert Locator(text).key(("second",)) == Position(len(lines) - 1, 1)


@pytest.mark.parametrize("key", ["a.b", '"a.b"', "'a.b'.c", '"\\u00e9 \\"="."x]"', '"" . a', "1.2", "a\t.\tb"])
def test_keys_of_every_kind_are_read(key: str) -> None:
    for text in (f"{key} = 1", f"[{key}]\nz = 1", f"[[ {key} ]]\nz = 1", f"x = {{ {key} = 1 }}"):
        locator = Locator(text)
        for path in paths(tomllib.loads(text)):
            assert path in known(locator), (text, path)


@given(st.text(alphabet="ab.=[]{}\"'#\\,\n 1", max_size=30))
def test_text_that_is_not_toml_has_places_as_far_as_it_goes(text: str) -> None:
    locator = Locator("first = 1\n" + text)
    assert locator.key(("first",)) == Position(1, 1)


def known(locator: Locator) -> set[Path]:
    return set(locator._keys)


def paths(value: Any, at: Path = ()) -> list[Path]:
    found: list[Path] = [at] if at else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += paths(inner, (*at, key))
    return found


names = st.one_of(st.sampled_from(["a", "b", "c-d", "é", "x.y", "", '"', "#", "]", "="]), st.text(max_size=4)).filter(
    lambda s: "\x7f" not in s and not any(ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 for c in s)
)
scalars = st.one_of(
    st.integers(-5, 5).map(str),
    st.booleans().map(lambda b: str(b).lower()),
    names.map(lambda s: json.dumps(s, ensure_ascii=False)),
    names.filter(lambda s: "'" not in s).map(lambda s: f"'{s}'"),
    names.filter(lambda s: '"' not in s and "\\" not in s).map(lambda s: f'"""{s}\n{s}"""'),
)
blank = st.sampled_from(["", " ", "\t", "\n", " # ] }\n", "\n\n  "])


@st.composite
def values(draw: st.DrawFn, depth: int = 2) -> str:
    kind = draw(st.integers(0, 3)) if depth else 0
    if kind == 1:
        parts = [draw(values(depth - 1)) for _ in range(draw(st.integers(0, 3)))]
        return "[" + draw(blank) + ",".join(draw(blank) + p + draw(blank) for p in parts) + "]"
    if kind == 2:
        keys = draw(st.lists(names, max_size=3, unique=True))
        return "{" + ", ".join(f"{json.dumps(k, ensure_ascii=False)} = {draw(values(depth - 1))}" for k in keys) + "}"
    return draw(scalars)


@st.composite
def documents(draw: st.DrawFn) -> str:
    out = []
    for header in [None, *draw(st.lists(names, max_size=4, unique=True))]:
        if header is not None:
            out += [draw(st.sampled_from(["[%s]", "[[%s]]"])) % json.dumps(header, ensure_ascii=False)]
        for key in draw(st.lists(names, max_size=3, unique=True)):
            out.append(f"{json.dumps(key + '·' if header is None else key, ensure_ascii=False)} = {draw(values())}")
    return "\n".join(out) + "\n"


@given(documents())
def test_everything_that_tomllib_reads_has_a_place_where_its_text_is(text: str) -> None:
    raw = tomllib.loads(text)
    locator = Locator(text)
    lines = text.replace("\r\n", "\n").split("\n")
    for path in paths(raw):
        assert path in known(locator), path
        position = locator.key(path)
        assert position is not None
        rest = lines[position.line - 1][position.column - 1 :]
        if isinstance(path[-1], str):
            assert rest.startswith(json.dumps(path[-1], ensure_ascii=False)), (path, rest)
        else:
            assert rest.strip()
