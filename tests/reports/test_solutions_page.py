"""The page of `erprm show --html` as a file: what it holds and what its policy allows."""

import json
import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import pytest

from erprm_cli.errors import RowError
from erprm_cli.reports.solutions_page import ComparedScores, SolutionsPage
from tests.reports.viewer_rows import OTHER, ROWS, page_of, write_rows


def test_the_page_is_one_file_whose_policy_allows_its_own_script_and_style_only() -> None:
    html = page_of(ROWS)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    rules = dict(rule.split(" ", 1) for rule in policy[1].split("; "))
    assert rules.pop("default-src") == rules.pop("base-uri") == rules.pop("form-action") == "'none'"
    for tag, name in (("script", "script-src"), ("style", "style-src")):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        assert rules.pop(name) == f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
    assert rules == {"require-trusted-types-for": "'script'", "trusted-types": "'none'"}
    assert not re.search(r'\b(src|href|style|on\w+)="', html)


def test_rows_of_every_stage_are_shown_with_what_they_have() -> None:
    problem = {"question": "How many?", "answer": "#### 7"}
    judged = {"id": "g1", "generator": "m", "problem": "p", "steps": ["a", "b", "c"], "label": 1}
    rolled = {"problem": "p", "steps": ["a", "b"], "rollouts": [[1.0, 0.0], [0.0]]}
    data = json.loads(page_of([problem, judged, rolled]).partition('id="data">')[2].partition("</script>")[0])
    assert data["columns"] == ["label", "k/K", "score"]
    assert [row["values"] for row in data["rows"]] == [
        [None, None, None],
        [[1.0, 0.0, None], None, None],  # what ProcessBench's label says of each step
        [None, [0.5, 0.0], None],
    ]
    assert [row["error"] for row in data["rows"]] == [None, 1, 1]
    assert [row["counts"] for row in data["rows"]] == [None, None, ["1/2", "0/1"]]
    assert [row["origin"] for row in data["rows"]] == [[], ["m"], []]


def test_a_comparison_needs_scores_of_the_same_steps(tmp_path: Path) -> None:
    other = ComparedScores(write_rows(tmp_path / "other.jsonl", OTHER))
    page = SolutionsPage("rows.jsonl", other)
    with pytest.raises(RowError, match="no 'scores'"):
        page.check({name: value for name, value in ROWS[0].items() if name != "scores"})
    changed = ROWS[0] | {"steps": ["Step 1", "Step 2"]}
    with pytest.raises(RowError, match="steps differ in .*other.jsonl"):
        page.check(changed)
    list(page.parts(map(page.check, ROWS)))
    assert other.unmatched == 1
