from pathlib import Path

import pytest

from erprm_cli import shipped
from erprm_cli.errors import UsageError
from erprm_cli.prm.formats import known_format, load_prm_format
from erprm_cli.prm.scorer import Scorer
from erprm_cli.prm.tagger import Tagger
from tests.real_tokenizers import llama3
from tests.tiny_models import save_model


def test_public_models_are_known_by_their_name_on_the_hub_and_in_a_folder() -> None:
    assert known_format("RLHFlow/Llama3.1-8B-PRM-Mistral-Data") == "rlhflow"
    assert known_format("/models/Qwen2.5-Math-PRM-72B") == "qwen"
    assert known_format("trl-lib/Qwen2-0.5B-Reward-Math-Sheperd") is None
    assert known_format("meta-llama/Llama-3.1-8B") is None


def test_an_unknown_format_or_model_lists_the_formats(tmp_path: Path) -> None:
    for name in shipped.names("prm"):
        with pytest.raises(UsageError, match=name):
            load_prm_format("nonsense")
    save_model(tmp_path)
    with pytest.raises(UsageError, match="--prm-format must say .*er-prm, .*qwen"):
        Scorer(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('prompt = "x"\ntag = "y"\ngood = "+"\nbad = "-"', "'prompt' must contain {problem}"),
        ('prompt = "{problem}"\ntag = "y"\ngood = "+"', "needs 'good' and 'bad'"),
        ('prompt = "{problem}"\ntag = ""\ngood = "+"\nbad = "-"', "needs a 'tag'"),
        ('prompt = "{problem}"\ntag = "y"\nkind = "magic"', "token, head, value"),
        ('prompt = "{problem}"\ntag = "y"\nkind = "head"\nlabels = [2]', "some of the 2 classes"),
        ("prompt = ", "Invalid|Expected"),
    ],
)
def test_contradictory_fields_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        load_prm_format(str(path))


GOOD_KEYS = {"prompt": '"{problem}"', "tag": '"y"', "good": '"+"', "bad": '"-"'}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"foo": "1"}, "unknown key 'foo'; known keys: prompt, tag, good, bad, between, kind"),
        ({"name": '"x"'}, "unknown key 'name'"),
        ({"prompt": None}, "missing key 'prompt'"),
        ({"tag": None}, "missing key 'tag'"),
        ({"tag": "3"}, "'tag' must be a string, not 3"),
        ({"good": "true"}, "'good' must be a string, not True"),
        ({"offset": "1.5"}, "'offset' must be an integer, not 1.5"),
        ({"num_labels": "true"}, "'num_labels' must be an integer, not True"),
        ({"labels": "true"}, "'labels' must be a list of integers, not True"),
        ({"labels": '["1"]'}, "'labels' must be a list of integers, not ['1']"),
        ({"models": "3"}, "'models' must be a list of strings, not 3"),
        ({"kind": '"magic"'}, "'kind' must be one of token, head, value, not 'magic'"),
        ({"build": '"word"'}, "'build' must be one of text, chat, turns, pieces, not 'word'"),
        ({"prompt": '"x"'}, "'prompt' must contain {problem}"),
        ({"bad": '""'}, "kind token needs 'good' and 'bad'"),
        ({"build": '"turns"', "kind": '"value"', "good": '""'}, "build turns needs 'good'"),
        ({"kind": '"head"', "labels": "[0, 2]"}, "'labels' must be some of the 2 classes, 0 .. 1"),
        ({"kind": '"head"', "labels": "[]"}, "kind head needs 'labels', the classes that mean good"),
    ],
)
def test_a_wrong_key_is_named_with_its_file(
    tmp_path: Path, keys: dict[str, str | None], message: str
) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("".join(f"{key} = {value}\n" for key, value in (GOOD_KEYS | keys).items() if value))
    with pytest.raises(UsageError) as caught:
        load_prm_format(str(path))
    assert str(caught.value).startswith(f"{path}: {message}")


def test_every_shipped_format_is_valid() -> None:
    assert [load_prm_format(name).name for name in shipped.names("prm")] == shipped.names("prm")


@pytest.mark.slow
def test_a_format_can_be_a_file(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('prompt = "Q: {problem}\\n"\ntag = " ки"\nbetween = "\\n"\ngood = " yes"\nbad = " no"')
    prm_format = load_prm_format(str(path))
    assert (
        prm_format.name == "own"
        and prm_format.render("{problem}", ["a", "b"])[0] == "Q: {problem}\na ки\nb ки"
    )
    assert Tagger(prm_format, llama3()).encode("Why?", ["a", "b"]).tags.size == 2
