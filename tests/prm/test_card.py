import json
from pathlib import Path
from typing import Any

import pytest

from erprm_cli.errors import UsageError, UserError
from erprm_cli.prm.card import eta_learned, prm_format_of, read_card, trained_at

FORMAT = {"name": "own", "prompt": "{problem} ", "tag": " ки", "good": " +", "bad": " -", "labels": [1]}


def write(folder: Path, card: Any) -> str:
    (folder / "erprm.json").write_text(json.dumps(card))
    return str(folder)


def test_the_format_is_the_chosen_one_or_the_cards_or_that_of_a_known_model() -> None:
    assert prm_format_of("x", {"format": FORMAT}, "qwen").name == "qwen"
    assert prm_format_of("x", {"format": FORMAT}).name == "own"
    assert prm_format_of("/models/Qwen2.5-Math-PRM-7B").name == "qwen"
    with pytest.raises(UsageError, match="--prm-format must say how to read it: er-prm"):
        prm_format_of("x")


@pytest.mark.parametrize(
    ("change", "message"),
    [({"new": 1}, "unknown key 'new'"), ({"tag": 3}, "'tag' must be a string, not 3")],
)
def test_a_card_of_another_version_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"x: 'format' in erprm.json: {message}") as caught:
        prm_format_of("x", {"format": FORMAT | change})
    assert caught.value.exit_status == 1
    with pytest.raises(UserError, match="missing key 'prompt'"):
        prm_format_of("x", {"format": {"name": "own", "tag": "x"}})


def test_a_folder_without_a_card_has_none_and_a_broken_one_is_named(tmp_path: Path) -> None:
    assert read_card(str(tmp_path)) is None
    with pytest.raises(UserError, match="missing 'format' or 'token_ids'"):
        read_card(write(tmp_path, {"format": {}}))
    cards: tuple[Any, ...] = ([1], 3)
    for card in cards:
        with pytest.raises(UserError, match=r"erprm.json: cannot be read: not a JSON object"):
            read_card(write(tmp_path, card))
    (tmp_path / "erprm.json").write_text("{")
    with pytest.raises(UserError, match=r"erprm.json: cannot be read"):
        read_card(str(tmp_path))


def test_the_eta_of_the_scores_is_the_cards_or_0() -> None:
    assert eta_learned("x", None) == eta_learned("x", {}) == 0.0
    assert eta_learned("x", {"eta": 2.0}) == 2.0
    assert eta_learned("x", {"eta": 2.0, "settings": {"target": "counts"}}) == 0.0
    with pytest.raises(UsageError, match="infinite eta"):
        eta_learned("x", {"eta": None})


def test_the_eta_of_the_labels_is_unknown_without_a_card(tmp_path: Path) -> None:
    assert trained_at(None) is None and trained_at(str(tmp_path)) is None
    assert trained_at(write(tmp_path, {"eta": 2.0, "estimator": "er"})) == 2.0
