"""erprm rollout: which completions it makes, whatever the rule and however many runs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.torture import rows
from tests.torture.program import ScriptedEngine

Row = dict[str, Any]
Run = Callable[..., Any]
SOLUTIONS = [rows.solution(number) for number in range(40)]
SAMPLED = {"model": "tiny", "revision": None, "temperature": 1.0, "top_p": 1.0, "max_tokens": 1024}
SAMPLED |= {"template": "tiny", "seed": 5}


class CountingEngine(ScriptedEngine):
    """Counts completions over all runs of a test."""

    made = 0

    def generate(self, requests: Any, params: Any) -> Any:
        for completion in super().generate(requests, params):
            CountingEngine.made += 1
            yield completion


@pytest.fixture(autouse=True)
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    CountingEngine.made = 0

    def open_engine(config: Any, *_: Any) -> Any:
        from erprm_cli.engines.dry_engine import DryEngine

        return DryEngine(config) if config.dry_run else CountingEngine(pause_s=0.0)

    monkeypatch.setattr("erprm_cli.engines.open.open_engine", open_engine)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return rows.write(tmp_path / "solutions.jsonl", SOLUTIONS)


def rollouts(path: Path) -> dict[str, list[list[float] | None]]:
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(found) == len({row["id"] for row in found})
    return {row["id"]: row["rollouts"] for row in found}


def rolled(erprm: Run, source: Path, out: str, *flags: object) -> dict[str, list[list[float] | None]]:
    path = source.parent / out
    result = erprm("rollout", "-q", source, "-o", path, *flags)
    assert result.exit_code == 0, result.output
    return rollouts(path)


def told_by(result: Any) -> str:
    """Return what a run says, its error included."""
    return f"{result.stderr}{result.exception}"


def distinct(found: dict[str, list[list[float] | None]]) -> int:
    """Return the number of completions; no two of these solutions share a prefix."""
    return sum(len(rewards) for lists in found.values() for rewards in lists[:-1] if rewards is not None)


@pytest.mark.parametrize(
    "rule", [["--until-width", 0.45], ["--until-width", 0.5, "--for-eta", 2], ["--for", "hard"]]
)
def test_a_rule_keeps_the_first_completions_and_makes_no_others(
    erprm: Run, source: Path, rule: list[Any]
) -> None:
    whole = rolled(erprm, source, "whole.jsonl")
    CountingEngine.made = 0
    stopped = rolled(erprm, source, "stopped.jsonl", *rule)
    assert CountingEngine.made == distinct(stopped) < distinct(whole)
    for id_, lists in whole.items():
        for rewards, fewer in zip(lists, stopped[id_], strict=True):
            assert rewards is not None and fewer == rewards[: len(fewer or [])] and fewer
            if rule[0] == "--for":
                assert max(fewer) == max(rewards)  # the hard label is the same


@pytest.mark.parametrize(
    ("loose", "strict"),
    [
        (["--until-width", 0.6], ["--until-width", 0.3]),
        (["-k", 4], ["-k", 16]),
        (["--for", "hard"], []),
        (["--steps", "bisect"], ["--until-width", 0.4]),
        (["--count-own"], ["-k", 20]),
    ],
)
@pytest.mark.parametrize("text", [[], ["--keep-text"]])
def test_a_stricter_run_continues_a_looser_one_and_makes_nothing_twice(
    erprm: Run, tmp_path: Path, loose: list[Any], strict: list[Any], text: list[str]
) -> None:
    source = rows.write(tmp_path / "in.jsonl", [row | {"sampling": SAMPLED} for row in SOLUTIONS])
    rolled(erprm, source, "loose.jsonl", *loose, *text)
    continued = rolled(erprm, tmp_path / "loose.jsonl", "continued.jsonl", *strict, *text)
    made = CountingEngine.made
    CountingEngine.made = 0
    assert rolled(erprm, source, "direct.jsonl", *strict, *text) == continued
    assert made <= CountingEngine.made + sum(len(row["steps"]) for row in SOLUTIONS) * (loose[0] == "--steps")
    texts = [
        {r["id"]: r.get("completions") for r in map(json.loads, (tmp_path / name).open())}
        for name in ("continued.jsonl", "direct.jsonl")
    ]
    assert texts[0] == texts[1]


def test_rollouts_made_with_other_settings_are_made_again(erprm: Run, source: Path) -> None:
    rolled(erprm, source, "first.jsonl", "-k", 4)
    first = source.parent / "first.jsonl"
    result = erprm("rollout", first, "-o", source.parent / "second.jsonl", "-k", 4, "--seed", 1)
    assert f"the rollouts in {first} were made with seed 0, not 1; they are made again" in told_by(result)
    assert rollouts(source.parent / "second.jsonl") == rolled(
        erprm, source, "direct.jsonl", "-k", 4, "--seed", 1
    )
    again = erprm("rollout", first, "-o", source.parent / "third.jsonl", "-k", 8)
    assert f"continues the rollouts in {first}" in again.stderr


def test_another_rule_needs_another_output(erprm: Run, source: Path) -> None:
    rolled(erprm, source, "out.jsonl", "--until-width", 0.5)
    result = erprm("rollout", source, "-o", source.parent / "out.jsonl", "--until-width", 0.3)
    assert result.exit_code == 1
    assert "was made with until_width 0.5, not 0.3" in told_by(result)


@pytest.mark.parametrize(
    "rule", [["--until-width", 0.4], ["--for", "hard", "--count-own"], ["--steps", "bisect"]]
)
def test_shards_make_the_rows_of_the_whole_run(erprm: Run, tmp_path: Path, rule: list[Any]) -> None:
    source = rows.write(tmp_path / "in.jsonl", [row | {"sampling": SAMPLED} for row in SOLUTIONS])
    whole = rolled(erprm, source, "whole.jsonl", *rule)
    parts = [rolled(erprm, source, f"{part}.jsonl", *rule, "--shard", f"{part}/3") for part in range(3)]
    assert parts[0] | parts[1] | parts[2] == whole and sum(map(len, parts)) == len(whole)


@pytest.mark.parametrize(
    "rule", [["--until-width", 0.4], ["--steps", "bisect", "--count-own", "--keep-text"]]
)
def test_a_stopped_run_continues(erprm: Run, tmp_path: Path, rule: list[Any]) -> None:
    source = rows.write(tmp_path / "in.jsonl", [row | {"sampling": SAMPLED} for row in SOLUTIONS])
    whole = rolled(erprm, source, "whole.jsonl", *rule)
    path = tmp_path / "part.jsonl"
    erprm("rollout", "-q", source, "-o", path, *rule, "-L", 11)
    CountingEngine.made = 0
    assert rolled(erprm, source, "part.jsonl", *rule) == whole
    assert 0 < CountingEngine.made < 12 * 16 * 29


def test_bisection_leaves_the_steps_that_it_does_not_visit_null(erprm: Run, source: Path) -> None:
    found = rolled(erprm, source, "out.jsonl", "--steps", "bisect", "-k", 8)
    whole = rolled(erprm, source, "whole.jsonl", "-k", 8)
    visited = 0
    for row in SOLUTIONS:
        lists = found[row["id"]]
        known = [step for step, rewards in enumerate(lists) if rewards is not None]
        assert all(lists[step] == whole[row["id"]][step] for step in known) and known[-1] == len(lists) - 1
        if row["reward"]:
            assert known == [len(lists) - 1]
        else:
            assert len(known) <= (len(lists) - 1).bit_length() + 1
        visited += len(known) - 1
    assert visited > 20


def test_own_rollouts_come_after_the_others(erprm: Run, tmp_path: Path) -> None:
    source = rows.write(tmp_path / "in.jsonl", [row | {"sampling": SAMPLED} for row in SOLUTIONS])
    plain, own = (
        rolled(erprm, source, "plain.jsonl", "-k", 2),
        rolled(erprm, source, "own.jsonl", "-k", 2, "--count-own"),
    )
    for row in SOLUTIONS:
        *lists, last = plain[row["id"]]
        assert own[row["id"]] == [*([*(rewards or []), row["reward"]] for rewards in lists), last]
    hard = rolled(erprm, source, "hard.jsonl", "--for", "hard", "--count-own")
    right = next(row for row in SOLUTIONS if row["reward"] == 1)
    assert hard[right["id"]] == [[1.0]] * len(right["steps"])  # its success decides every label


def test_the_text_of_an_own_rollout_is_the_rest_of_the_solution(erprm: Run, tmp_path: Path) -> None:
    row = SOLUTIONS[3] | {"sampling": SAMPLED}
    source = rows.write(tmp_path / "in.jsonl", [row])
    rolled(erprm, source, "out.jsonl", "-k", 2, "--count-own", "--keep-text")
    made = json.loads((tmp_path / "out.jsonl").read_text())
    assert [len(texts) for texts in made["completions"]] == [len(rewards) for rewards in made["rollouts"]]
    assert made["solution"].endswith(made["completions"][0][-1]) and made["completions"][0][-1] != ""


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sampling": None}, "no 'sampling', which says how it was sampled; --count-own needs it"),
        (
            {"sampling": SAMPLED | {"temperature": 0.7}},
            "sampled with temperature 0.7, but rollouts have 1.0; --count-own needs the same settings",
        ),
        (
            {"sampling": SAMPLED | {"max_tokens": 2048}},
            "sampled with max_tokens 2048, but rollouts have 1024",
        ),
        ({"sampling": SAMPLED | {"model": "other"}}, "sampled with model other, but rollouts have tiny"),
        (
            {"score": 0.5, "n": 4, "aggregate": "min", "correct": True},
            "chosen among 4 candidates by `erprm bon`, so it is not a random rollout of its prefixes",
        ),
    ],
)
def test_a_solution_that_is_no_rollout_of_its_prefixes_is_refused(
    erprm: Run, tmp_path: Path, change: Row, told: str
) -> None:
    good = SOLUTIONS[0] | {"sampling": SAMPLED}
    source = rows.write(tmp_path / "in.jsonl", [good, SOLUTIONS[1] | {"sampling": SAMPLED} | change])
    assert told in told_by(erprm("rollout", source, "--count-own", "-k", 1))
    result = erprm("rollout", source, "--count-own", "-k", 1, "--errors", tmp_path / "bad.jsonl")
    assert result.exit_code == 1 and len(result.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--for", "hard", "--until-width", 0.3], "--for hard needs no width and no eta; give it alone"),
        (["--for-eta", 2], "--for-eta is for --until-width; give the width too"),
        (
            ["--until-width", 0.3, "--for-eta", "inf"],
            "--for-eta inf is not a finite number; --for hard is for",
        ),
        (["--budget", 1000], "--budget is for --dry-run, which proposes K and the number of solutions"),
    ],
)
def test_rules_that_contradict_each_other_are_wrong_usage(erprm: Run, flags: list[Any], told: str) -> None:
    result = erprm("rollout", *flags)
    assert told in told_by(result)


def test_the_summary_says_what_a_rule_saved(erprm: Run, source: Path) -> None:
    result = erprm("rollout", source, "--for", "hard")
    assert "% of 16 per step)" in told_by(result)


# Dry runs


def test_a_dry_run_counts_as_if_no_step_stopped_early(erprm: Run, source: Path) -> None:
    result = erprm("rollout", source, "--dry-run", "--until-width", 0.3, "-k", 8)
    assert "steps that stop early need less: the counts below are the most" in told_by(result)
    steps = sum(len(row["steps"]) - 1 for row in SOLUTIONS)
    assert json.loads(result.stdout)["completions"] == 8 * steps


def test_a_budget_is_divided_by_what_a_pilot_tells(erprm: Run, tmp_path: Path) -> None:
    pilot = rows.write(tmp_path / "pilot.jsonl", [rows.rollouts(number, 4) for number in range(40)])
    result = erprm("rollout", pilot, "--dry-run", "--budget", 100_000)
    assert result.exit_code == 0, result.stderr
    plan = json.loads(result.stdout)
    assert plan["pilot_solutions"] == 40 and plan["k"] in (2, 4, 8, 16, 32, 64)
    best = plan["k"]
    assert (plan[f"solutions_if_k_{best}"], plan[f"information_if_k_{best}"]) == (plan["solutions"], 1.0)
    rolling = plan["pilot_distinct_prefixes"] * best * plan["pilot_completion_tokens"]
    cost = plan["pilot_solution_tokens"] + rolling
    assert plan["solutions"] == pytest.approx(100_000 / cost, abs=1)
    poor = erprm("rollout", pilot, "--dry-run", "--budget", 5)
    assert poor.exit_code == 1 and "a budget of 5 tokens pays for no solution" in told_by(poor)


def test_a_pilot_without_rollouts_is_refused(erprm: Run, source: Path, tmp_path: Path) -> None:
    result = erprm("rollout", source, "--dry-run", "--budget", 1000)
    assert "no 'rollouts'" in told_by(result)
    single = rows.write(tmp_path / "single.jsonl", [rows.rollouts(number, 1) for number in range(4)])
    told = told_by(erprm("rollout", single, "--dry-run", "--budget", 1000))
    assert "the pilot has no step with two rollouts; `erprm rollout -k 4` on some solutions makes one" in told
    empty = rows.write(tmp_path / "empty.jsonl", [rows.rollouts(1) | {"num_tokens": 0}])
    told = told_by(erprm("rollout", empty, "--dry-run", "--budget", 1000))
    assert "'num_tokens' is 0, so the length of completions cannot be estimated" in told


@pytest.mark.parametrize("name", ["", ".", "a" * 300, "a" * 250, "a/" * 3000])
def test_an_input_with_any_name_is_refused_in_a_line(erprm: Run, name: str) -> None:
    failed = erprm("rollout", "-k", 1, name).exception
    assert type(failed).__name__ == "UserError" and "\n" not in str(failed)
