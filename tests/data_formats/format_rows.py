"""Rows that tests share: real samples, a row of erprm, and a row of every other format."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from erprm_cli.data_formats.converter import Converter
from erprm_cli.data_formats.foreign_rows import ForeignRows
from erprm_cli.data_formats.tagged_text import TAG
from erprm_cli.errors import RowError
from erprm_cli.io.reading import read_rows
from erprm_cli.rows.row import Row

DATA = Path(__file__).parents[1] / "data" / "formats"
SAMPLES = {path.stem: list(read_rows(str(path), dict)) for path in sorted(DATA.iterdir())}
TEXT = "Tom has 2. Step 1: He gets 3. ки\nStep 2: So 5. ки"
OURS: Row = {
    "id": "p7",
    "problem": "Tom has 2.",
    "answer": "5",
    "sample": 3,
    "solution": "Step 1: He gets 3.\nStep 2: So 5.",
    "steps": ["Step 1: He gets 3.", "Step 2: So 5."],
    "prediction": "5",
    "reward": 1.0,
    "finish_reason": "stop",
    "num_tokens": 9,
    "sampling": {"model": "tiny"},
    "labels": [1.0, 0.0],
    "eta": 2.0,
    "estimator": "er",
    "source": "mine",
}
# One row of every format but the real samples, what it becomes, and how many solutions it holds.
ROWS: dict[str, tuple[Row, Row]] = {
    "er-prm": ({"text": TEXT, "value": [0.25, 1]}, {"labels": [0.25, 1.0], "eta": None, "estimator": None}),
    "openrlhf": ({"input": TEXT, "value": ["+", "-"]}, {"labels": [1.0, 0.0]}),
    "trl": (
        {"prompt": "Tom has 2.", "completions": ["He gets 3.", "So 5."], "labels": [True, False]},
        {"solution": "He gets 3.\nSo 5.", "labels": [1.0, 0.0]},
    ),
    "rlhflow": (
        {
            "conversations": [
                {"role": "user", "content": "Tom has 2. Step 1: He gets 3."},
                {"role": "assistant", "content": "+"},
                {"role": "user", "content": "Step 2: So 5."},
                {"role": "assistant", "content": "-"},
            ]
        },
        {"steps": OURS["steps"], "labels": [1.0, 0.0]},
    ),
    "rlhflow-test": (
        {
            "prompt": "Tom has 2.",
            "answers": ["Step 1: 2+3 ки\nThe answer is: 5 ки", "So\n\n6"],
            "label": [1, 0],
        },
        {"steps": ["Step 1: 2+3", "The answer is: 5"], "reward": 1.0, "prediction": "5"},
    ),
    "openr": (
        {"question": "Tom has 2.", "process": "He gets 3. ки\nSo 5. ки", "label": ["+", "-"]},
        {"steps": ["He gets 3.", "So 5."], "labels": [1.0, 0.0]},
    ),
    "prmbench": (
        {
            "original_question": "q",
            "modified_question": "Tom has 2.",
            "original_process": ["1. x"],
            "modified_process": ["1. a", "2. b", "3. c"],
            "modified_steps": [2, 3],
            "error_steps": [2],
            "reason": "r",
            "idx": "circular_1",
            "classification": "circular",
        },
        {
            "id": "circular_1",
            "labels": [1.0, 0.0, 1.0],
            "classification": "circular",
            "original_process": ["1. x"],
        },
    ),
    "math-aps-tree": (
        {
            "question": "Tom has 2.",
            "final_answer": 5,
            "reasoning_steps": {
                "text": "Tom has 2.",
                "mc_value": 0.5,
                "children": [
                    {
                        "text": "He gets 3.",
                        "mc_value": 0.75,
                        "children": [
                            {"text": "So 5.", "mc_value": 1.0, "children": []},
                            {"text": "So 6.", "mc_value": 0.0, "children": []},
                        ],
                    }
                ],
            },
        },
        {
            "answer": "5",
            "steps": ["He gets 3.", "So 5."],
            "labels": [0.75, 1.0],
            "eta": 0.0,
            "estimator": "soft",
        },
    ),
    "math-aps-node": (
        {
            "text": "Tom has 2.",
            "mc_value": 0.5,
            "children": [{"text": "So 5.", "mc_value": 1.0, "children": []}],
        },
        {"problem": "Tom has 2.", "steps": ["So 5."], "labels": [1.0], "mc_value": 0.5},
    ),
    "distilabel": (
        {
            "instruction": "Tom has 2.",
            "golden_solution": ["He gets 3.", "The answer is: 5"],
            "solutions": [["He gets 3. +", "So 6. -"]],
        },
        {"steps": ["He gets 3.", "So 6."], "labels": [1.0, 0.0], "answer": "5"},
    ),
    "dump": (
        {"input": "Tom has 2.", "output": "He gets 3.\n\nThe answer is: 5", "reward": -2},
        {
            "steps": ["He gets 3.", "The answer is: 5"],
            "model_reward": -2.0,
            "reward": None,
            "prediction": "5",
        },
    ),
    "dump-list": (
        {"prompt": "Tom has 2.", "responses": ["a\nb", "c"], "rewards": [0.5, 2.5], "tag": 1},
        {"steps": ["a", "b"], "model_reward": 0.5, "tag": 1},
    ),
    "dump-chat": (
        {"messages": [{"role": "user", "content": "Tom has 2."}, {"role": "assistant", "content": "5"}]},
        {"problem": "Tom has 2.", "solution": "5", "steps": ["5"]},
    ),
    "math-shepherd": (SAMPLES["math_shepherd"][0], {"labels": [1.0] * 4 + [0.0], "estimator": "hard"}),
    "prm800k": (
        SAMPLES["prm800k"][0],
        {
            "answer": "29",
            "labels": [1.0, 0.0],
            "prm800k": {"total_time": 293250, "finish_reason": "solution"},
        },
    ),
    "processbench": (
        SAMPLES["processbench"][0],
        {"id": "gsm8k-0", "labels": [1.0, 0.0, 0.0, 0.0], "label": 1},
    ),
    "math-aps": (SAMPLES["math_aps"][0], {"estimator": "soft", "eta": 0.0, "mc_value": 0.1875}),
}
WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"], exclude_characters=TAG), min_size=1
).map(str.strip)
PART = WORDS.filter(lambda text: bool(text) and "Step 1:" not in text)
GAPS = {True: st.sampled_from(["", " ", "\n", "\n\n", "\n \n"]), False: st.just("\n")}


def read(row: Row, **options: Any) -> list[Row]:
    return list(ForeignRows(**options)(row))


def convert(row: Row, to: str = "erprm", **options: Any) -> list[Row]:
    converter = Converter(None, to, **options)
    return [converter(own) for own in converter.expand(row)]


def refusal(row: Row, **options: Any) -> str:
    with pytest.raises(RowError) as caught:
        read(row, **options)
    return str(caught.value)
