"""Readers of the formats of other projects: a row in, our fields for each solution in it out.

The fields are `problem`, `solution`, `steps` and, where known, `id`, `answer`, `reward`, `prediction`,
`labels`, `eta`, `estimator`, `scores` and `model_reward`. The caller keeps the other fields of the row.
Readers raise RowError for an invalid row.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import orjson

from erprm_cli.answers.extraction import extract
from erprm_cli.data_formats.tagged_text import TAG, problem_end, signs, split_tagged
from erprm_cli.errors import RowError
from erprm_cli.rows.row import Row
from erprm_cli.rows.schema import REASONING_NAMES, check_numbers, check_strings, need
from erprm_cli.rows.steps import split_steps

VERDICTS = {"+": 1.0, "-": 0.0}
PARAGRAPHS, LINES = r"\n\s*\n", r"\n+"


@dataclass
class Context:
    """What readers share: known problems, with which texts may begin, and notes for the user."""

    problems: Collection[str] = ()
    notes: Counter[str] = field(default_factory=Counter)  # text of a note: how often it applies


Reader = Callable[[Row, Context], list[Row]]


def er_prm(row: Row, context: Context) -> list[Row]:
    return [_tagged(row, need(row, "text", str), context) | {"labels": _floats(row, "value")}]


def math_shepherd(row: Row, context: Context) -> list[Row]:
    text = need(row, "input", str)
    labels = _verdicts(signs(need(row, "label", str), text), "label")
    return [_tagged(row, text, context) | {"labels": labels, "estimator": "hard"}]


def openrlhf(row: Row, context: Context) -> list[Row]:
    values = need(row, "value", list)
    labels = _verdicts(values, "value") if values and isinstance(values[0], str) else _floats(row, "value")
    return [_tagged(row, need(row, "input", str), context) | {"labels": labels}]


def trl(row: Row, _: Context) -> list[Row]:
    steps = _texts(row, "completions")
    labels = [float(label) if isinstance(label, bool) else label for label in need(row, "labels", list)]
    check_numbers(labels, "'labels'", 0.0, 1.0)
    found = _joined(need(row, "prompt", str), steps, "\n")
    return [found | {"labels": list(map(float, labels))}]


def rlhflow(row: Row, context: Context) -> list[Row]:
    turns = need(row, "conversations", list)
    if not turns or len(turns) % 2:
        raise RowError(
            f"'conversations' has {len(turns)} turns, not one of the user and one of the assistant per step"
        )
    for number, turn in enumerate(turns):
        if (
            not isinstance(turn, dict)
            or turn.get("role") != ("user", "assistant")[number % 2]
            or not isinstance(turn.get("content"), str)
        ):
            raise RowError(
                f"'conversations[{number}]' must be a turn of the {('user', 'assistant')[number % 2]}"
            )
    texts = [turn["content"] for turn in turns]
    end = problem_end(texts[0], row.get("problem"), context.problems)
    found = _joined(texts[0][:end], [texts[0][end + 1 :], *texts[2::2]], "\n")
    return [found | {"labels": _verdicts(texts[1::2], "conversations")}]


def rlhflow_test(row: Row, _: Context) -> list[Row]:
    answers, labels = _texts(row, "answers"), need(row, "label", list)
    if len(labels) != len(answers):
        raise RowError(f"'label' has {len(labels)} entries for {len(answers)} answers")
    scores = row.get("step_scores") or [None] * len(answers)
    if not isinstance(scores, list) or len(scores) != len(answers):
        raise RowError("'step_scores' must be a list with one entry per answer")
    problem, rows = need(row, "prompt", str), []
    for answer, label, score_L in zip(answers, labels, scores, strict=True):
        solution = answer.replace(f" {TAG}", "").replace(TAG, "")
        parts = answer.split(TAG) if TAG in answer else split_steps(answer, "\n\n")
        steps = [step for part in parts if (step := part.strip())] or [solution]
        found = {"problem": problem, "solution": solution, "steps": steps}
        found |= {"reward": 1.0 if label == 1 else 0.0, "prediction": extract(solution)}
        rows.append(found if score_L is None else found | {"scores": score_L})
    return rows


def prm800k(row: Row, context: Context) -> list[Row]:
    """Return the chosen path, and for each other rated completion the path up to it (as TRL converts it).

    Rating 0 counts as good, and so does a step that the labeler wrote. The other fields of the question and
    the label are kept as `prm800k`.
    """
    question, label = need(row, "question", dict), need(row, "label", dict)
    problem = need(question, "problem", str)
    used = ("problem", "ground_truth_answer", "ground_truth_solution", "steps")
    rest = {name: value for name, value in (question | label).items() if name not in used}
    about: Row = {"answer": question.get("ground_truth_answer"), "prm800k": rest}
    about["reference_solution"] = question.get("ground_truth_solution")
    path: list[str] = []
    labels: list[float] = []
    rows: list[Row] = []

    def add(steps: list[str], values: list[float]) -> None:
        rows.append(about | _joined(problem, steps, "\n") | {"labels": values})

    ends_chosen = False
    for step in _objects(need(label, "steps", list), "steps"):
        completions = _objects(step.get("completions") or [], "completions")
        chosen = _chosen(step, completions)
        ends_chosen = False
        for number, completion in enumerate(completions):
            if number != chosen and completion.get("rating") is None:
                context.notes["completions of prm800k without a rating were left out"] += 1
            elif number != chosen:
                add([*path, need(completion, "text", str)], [*labels, _rating(completion)])
        if chosen is not None and completions[chosen].get("rating") is not None:
            path.append(need(completions[chosen], "text", str))
            labels.append(_rating(completions[chosen]))
        elif step.get("human_completion") is not None:
            context.notes["steps of prm800k that a labeler wrote count as good"] += 1
            path.append(need(need(step, "human_completion", dict), "text", str))
            labels.append(1.0)
        else:
            break
        ends_chosen = True
    if ends_chosen:
        add(path, labels)
    if not rows:
        raise RowError("'label' has no rated step")
    return rows


def processbench(row: Row, _: Context) -> list[Row]:
    steps, first_wrong = _texts(row, "steps"), need(row, "label", int)
    if not -1 <= first_wrong < len(steps):
        raise RowError(f"'label' is {first_wrong}, which is not in -1 .. {len(steps) - 1}")
    good = len(steps) if first_wrong < 0 else first_wrong
    found = _joined(need(row, "problem", str), steps, "\n\n")
    labels = [1.0] * good + [0.0] * (len(steps) - good)
    right = row.get("final_answer_correct")
    return [found | {"labels": labels, "reward": float(right) if isinstance(right, bool) else None}]


def prmbench(row: Row, context: Context) -> list[Row]:
    """Return the modified solution; its steps in `error_steps`, counted from 1, are wrong.

    As in PRMBench's own evaluation, numbers beyond the last step say nothing. Empty steps are left out.
    """
    steps, wrong = _texts(row, "modified_process"), need(row, "error_steps", list)
    if not all(isinstance(number, int) and not isinstance(number, bool) and number >= 1 for number in wrong):
        raise RowError("'error_steps' must be a list of step numbers from 1")
    context.notes["rows of prmbench name a wrong step beyond the last, which is ignored"] += any(
        number > len(steps) for number in wrong
    )
    numbers = [number for number, step in enumerate(steps, start=1) if step.strip()]
    context.notes["empty steps of prmbench were left out"] += len(steps) - len(numbers)
    if not numbers:
        raise RowError("'modified_process' has only empty steps")
    labels = [0.0 if number in wrong else 1.0 for number in numbers]
    kept = [steps[number - 1] for number in numbers]
    found = _joined(need(row, "modified_question", str), kept, "\n") | {"labels": labels}
    return [found if row.get("idx") is None else found | {"id": row["idx"]}]


def openr(row: Row, _: Context) -> list[Row]:
    labels = need(row, "label", list)
    solution, steps = split_tagged(need(row, "process", str))
    values = [VERDICTS.get(label, label) if isinstance(label, str) else label for label in labels]
    check_numbers(values, "'label'", 0.0, 1.0)
    found = {"problem": need(row, "question", str), "solution": solution, "steps": steps}
    return [found | {"labels": list(map(float, values))}]


def math_aps(row: Row, context: Context) -> list[Row]:
    """Return a solution for each prefix that no other one continues; its steps are the shorter prefixes.

    A label is the share of right completions (eta 0); for a prefix with several values, their mean. The value
    of the question alone is kept as `mc_value`.
    """
    problem, states = need(row, "question", str), need(row, "reasoning_steps", list)
    values: dict[str, list[float]] = {}
    for number, state in enumerate(states):
        if not isinstance(state, dict):
            raise RowError(f"'reasoning_steps[{number}]' must be an object")
        prefix = need(state, "solution_prefix", str)
        if not prefix.startswith(problem):
            raise RowError(f"'solution_prefix' of 'reasoning_steps[{number}]' does not begin with 'question'")
        at_root = not prefix[len(problem) :].strip()
        values.setdefault("" if at_root else prefix[len(problem) :], []).append(_rate(state))
    root = values.pop("", None)
    if not values:
        raise RowError("'reasoning_steps' has no step after the question")
    about = {"answer": row.get("final_answer"), "mc_value": math.fsum(root) / len(root) if root else None}
    repeated = sum(len(rates) > 1 for rates in values.values())
    context.notes["prefixes of math-aps have several values; their mean is used"] += repeated
    rows = []
    for whole in _leaves(values):
        ends = sorted(prefix for prefix in values if whole.startswith(prefix))  # each continues the last
        cuts = [0, *map(len, ends)]
        steps = [whole[begin:end].strip() for begin, end in pairwise(cuts)]
        labels = [math.fsum(values[prefix]) / len(values[prefix]) for prefix in ends]
        kept = [index for index, step in enumerate(steps) if step]  # not a prefix that only adds spaces
        found = {"problem": problem, "solution": whole.strip(), "steps": [steps[index] for index in kept]}
        rows.append(found | _soft([labels[index] for index in kept]) | about)
    return rows


def math_aps_tree(row: Row, _: Context) -> list[Row]:
    """Return a solution for each path from the root, which is the question, to a leaf."""
    root = need(row, "reasoning_steps", dict) if "reasoning_steps" in row else row
    problem = need(root, "text", str)
    rows = [
        _joined(problem, [text for text, _ in path], "\n\n")
        | _soft([rate for _, rate in path])
        | {"answer": row.get("final_answer"), "mc_value": root.get("mc_value")}
        for child in need(root, "children", list)
        for path in _paths(child)
    ]
    if not rows:
        raise RowError("'children' is empty: the tree has no step after the question")
    return rows


def distilabel(row: Row, context: Context) -> list[Row]:
    golden = row.get("golden_solution")
    if isinstance(golden, list):
        golden = "\n".join(map(str, golden))
    solutions = row.get("solutions")
    if isinstance(solutions, str):  # JSON, as distilabel's generator writes them
        try:
            solutions = orjson.loads(solutions)
        except ValueError:
            raise RowError("'solutions' is a string but not JSON") from None
    if isinstance(solutions, list) and solutions and isinstance(solutions[0], str):
        solutions = [solutions]  # after distilabel's ExpandColumns
    if not isinstance(solutions, list) or not solutions:
        raise RowError("'solutions' must be a non-empty list of solutions")
    problem, rows = need(row, "instruction", str), []
    for number, steps in enumerate(solutions):
        _texts({"solutions": steps}, "solutions")
        tags = [step[-1:] for step in steps]
        found: Row = {"answer": extract(golden) if isinstance(golden, str) else None}
        if all(tag in VERDICTS for tag in tags):
            steps = [step[:-1].removesuffix(" ") for step in steps]
            found |= {"labels": _verdicts(tags, "solutions"), "estimator": "hard"}
        elif any(step[-2:] in (" +", " -") for step in steps):
            raise RowError(f"'solutions[{number}]' has steps with + or - at the end and steps without")
        rows.append(found | _joined(problem, steps, "\n"))
    return rows


def dump(row: Row, _: Context, problem: str = "input", solution: str = "output") -> list[Row]:
    return _whole(need(row, problem, str), [need(row, solution, str)], [row.get("reward")])


def dump_list(row: Row, _: Context, problem: str = "prompt", solutions: str = "responses") -> list[Row]:
    texts = _texts(row, solutions)
    rewards = row.get("rewards") or [None] * len(texts)
    if not isinstance(rewards, list) or len(rewards) != len(texts):
        raise RowError("'rewards' must be a list with one number per response")
    return _whole(need(row, problem, str), texts, rewards)


def dump_chat(row: Row, _: Context) -> list[Row]:
    problem, solution, reasoning = _chat(need(row, "messages", list))
    (found,) = _whole(problem, [solution], [row.get("reward")])
    return [found if reasoning is None else found | {"reasoning": reasoning}]


def paragraphs(solution: str) -> list[str]:
    """Return the paragraphs of a solution, or its lines if there is only one: steps that nobody marked."""
    steps = split_steps(solution, PARAGRAPHS)
    return steps if len(steps) > 1 else split_steps(solution, LINES)


def _whole(problem: str, solutions: list[str], rewards: list[Any]) -> list[Row]:
    """Return whole solutions, perhaps with a reward."""
    rows = []
    for solution, reward in zip(solutions, rewards, strict=True):
        found: Row = {"problem": problem, "solution": solution, "steps": paragraphs(solution)}
        found["prediction"] = extract(solution)
        if reward is not None:
            check_numbers([reward], "the reward")
            found["model_reward"] = float(reward)
        rows.append(found)
    return rows


def _tagged(row: Row, text: str, context: Context) -> Row:
    end = problem_end(text, row.get("problem"), context.problems)
    if TAG in (rest := text[end + 1 :]) and f" {TAG}" not in rest:
        context.notes[f"texts have {TAG!r} without a space before it"] += 1
    solution, steps = split_tagged(rest)
    return {"problem": text[:end], "solution": solution, "steps": steps}


def _joined(problem: str, steps: list[str], gap: str) -> Row:
    return {"problem": problem, "solution": gap.join(steps), "steps": steps}


def _soft(labels: list[float]) -> Row:
    return {"labels": labels, "eta": 0.0, "estimator": "soft"}


def _floats(row: Row, name: str) -> list[float]:
    check_numbers(values := need(row, name, list), f"'{name}'", 0.0, 1.0)
    return list(map(float, values))


def _verdicts(values: list[Any], name: str) -> list[float]:
    for number, value in enumerate(values, start=1):
        if not isinstance(value, str) or value not in VERDICTS:
            raise RowError(f"'{name}' has {value!r} as label {number}, not + or -")
    return [VERDICTS[value] for value in values]


def _texts(row: Row, name: str) -> list[str]:
    texts: list[str] = need(row, name, list)
    check_strings(texts, f"'{name}'")
    return texts


def _objects(values: object, name: str) -> list[Row]:
    """Return a list of objects; RowError if it is something else."""
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise RowError(f"'{name}' must be a list of objects")
    return values


def _chosen(step: Row, completions: list[Row]) -> int | None:
    """Return the index of the completion that a labeler of prm800k chose, or None."""
    chosen = step.get("chosen_completion")
    if chosen is None:
        return None
    if isinstance(chosen, bool) or not isinstance(chosen, int) or not 0 <= chosen < len(completions):
        raise RowError(f"'chosen_completion' is {chosen!r}, with {len(completions)} completions")
    return chosen


def _rating(completion: Row) -> float:
    rating = completion.get("rating")
    if isinstance(rating, bool) or rating not in (-1, 0, 1):
        raise RowError(f"'rating' is {rating!r}, not -1, 0 or 1")
    return 0.0 if rating < 0 else 1.0


def _rate(state: Row) -> float:
    value = need(state, "mc_value", float)
    check_numbers([value], "'mc_value'", 0.0, 1.0)
    return float(value)


def _leaves(prefixes: Collection[str]) -> list[str]:
    """Return the prefixes that no other one continues, in the order given."""
    ordered = sorted(prefixes)  # a continuation comes right after its prefix
    inner = {before for before, after in pairwise(ordered) if after.startswith(before)}
    return [prefix for prefix in prefixes if prefix not in inner]


def _paths(node: Row) -> Iterator[list[tuple[str, float]]]:
    if not isinstance(node, dict):
        raise RowError("'children' must be a list of objects")
    here = [(need(node, "text", str), _rate(node))]
    children = need(node, "children", list)
    for child in children:
        for path in _paths(child):
            yield here + path
    if not children:
        yield here


def _chat(messages: list[Any]) -> tuple[str, str, str | None]:
    """Return the problem, the solution and the reasoning before it, if there is any."""
    if not all(isinstance(turn, dict) and isinstance(turn.get("content"), str) for turn in messages):
        raise RowError("'messages' has a turn without 'content'")
    turns = [turn for turn in messages if turn.get("role") != "system"]
    if [turn.get("role") for turn in turns] != ["user", "assistant"]:
        raise RowError("'messages' must have one turn of the user and one of the assistant")
    problem, solution = turns
    thoughts = (solution.get(name) for name in REASONING_NAMES)
    reasoning = next((text for text in thoughts if isinstance(text, str) and text), None)
    return problem["content"], solution["content"], reasoning
