"""The one list of reasons, and what is generated from it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from appliance.reasons import Reason, Refusal, generate

ROOT = Path(__file__).parents[2]


def test_generated_files_are_those_of_the_list() -> None:
    stale = [path.name for path, text in generate.outputs().items() if path.read_text() != text]
    assert stale == [], "run python -m appliance.reasons.generate"


def test_codes_of_drops_fit_seven_bits_and_no_code_is_used_twice() -> None:
    codes = [reason.value for reason in Reason]
    assert len(codes) == len(set(codes))
    assert all((reason.kind == "drop") == (1 <= reason.value <= 127) for reason in Reason)


@pytest.mark.parametrize("reason", list(Reason), ids=lambda reason: reason.name)
def test_every_reason_has_words_and_a_remedy_of_one_line(reason: Reason) -> None:
    for text in (reason.words, reason.remedy):
        assert text == text.strip() and "\n" not in text and len(text) > 8
        assert not text.endswith("."), "words stand inside sentences"


def test_a_refusal_tells_what_happened_and_the_particular_case() -> None:
    refusal = Refusal(Reason.NO_TUN, "no /dev/net/tun", remedy="modprobe tun")
    assert str(refusal) == f"{Reason.NO_TUN.words}: no /dev/net/tun"
    assert refusal.remedy == "modprobe tun"
    assert Refusal(Reason.NO_TUN).remedy == Reason.NO_TUN.remedy


def test_a_wrong_list_is_refused_by_the_name_of_its_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "HERE", tmp_path)
    entry = '[A]\ncode = 1\nkind = "drop"\nwords = "w"\nremedy = "r"\n'
    for text, wrong in (
        (entry.replace('kind = "drop"', 'kind = "oops"'), "A: kind"),
        (entry.replace("code = 1", "code = 200"), "A: codes"),
        (entry + entry.replace("[A]", "[B]"), "B: code 1 is A's"),
        (entry.replace("remedy", "cure"), "A: has"),
    ):
        (tmp_path / "reasons.toml").write_text(text)
        with pytest.raises(ValueError, match=re.escape(wrong)):
            generate.load()


def test_every_reason_is_used_somewhere() -> None:
    sources = "\n".join(
        path.read_text() for path in (ROOT / "appliance").rglob("*.py") if path.parent.name != "reasons"
    )
    unused = [reason.name for reason in Reason if not re.search(rf"\b{reason.name}\b", sources)]
    assert unused == []
