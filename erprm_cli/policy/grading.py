"""Grading: from solutions to predictions and rewards, while they are sampled or later."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator

from erprm_cli import shipped
from erprm_cli.answers.extraction import extract
from erprm_cli.answers.grader import Grader, Verdict
from erprm_cli.data_formats.field_names import FieldNames
from erprm_cli.data_formats.foreign_rows import ForeignRows
from erprm_cli.data_formats.problems import final_answer
from erprm_cli.engines.server_answers import Finish, finish_of
from erprm_cli.errors import UsageError, UserError
from erprm_cli.io.bad_rows import BadRows
from erprm_cli.io.output import Output
from erprm_cli.io.reading import read_rows
from erprm_cli.policy.reasoning import split
from erprm_cli.policy.templates import PolicyTemplate, load_template
from erprm_cli.rows import schema
from erprm_cli.rows.row import Row
from erprm_cli.rows.steps import split_steps, stepped_text
from erprm_cli.terminal.reporter import Reporter

GOLD_FIELD = "answer"
MAX_UNGRADED = 64  # rows that wait for a verdict while others are sampled or read
ANY_TEMPLATE = PolicyTemplate("default", "{problem}")  # for solutions of unknown origin: the rules by default
GRADED = ("solution", "steps", "prediction", "reward")  # fields that are graded, or made by grading


def grade(
    text: str, is_finished: bool, gold: str | None, template: PolicyTemplate, grader: Grader
) -> tuple[str | None, Verdict]:
    """Return the final answer of a whole solution and the verdict on it: wrong without a gold answer.

    An unfinished solution is wrong, as in the paper's protocol (section 4.1).
    """
    prediction = extract(text, template.answers)
    if gold is None or not is_finished:
        return prediction, Verdict(False)
    return prediction, grader.submit(gold, prediction)


def with_rewards(solutions: Iterable[tuple[Row, Verdict | None]]) -> Iterator[Row]:
    """Yield each row with its verdict as `reward`, in order; without a verdict it is null.

    At most MAX_UNGRADED rows wait behind a verdict that takes long. If `solutions` raises UserError, because
    of the engine or a bad row, the rows so far come first.
    """
    waiting: deque[tuple[Row, Verdict | None]] = deque()
    try:
        for solution in solutions:
            waiting.append(solution)
            while waiting and (len(waiting) > MAX_UNGRADED or _is_known(waiting[0][1])):
                yield _rewarded(*waiting.popleft())
    except UserError:
        yield from (_rewarded(*solution) for solution in waiting)
        raise
    yield from (_rewarded(*solution) for solution in waiting)


def _is_known(verdict: Verdict | None) -> bool:
    return verdict is None or verdict.is_known()


def _rewarded(row: Row, verdict: Verdict | None) -> Row:
    return row | {"reward": None if verdict is None else verdict.reward()}


def grade_to(
    out: Output,
    source: str,
    reporter: Reporter,
    *,
    template: PolicyTemplate | None = None,
    gold_field: str = GOLD_FIELD,
    bad: BadRows | None = None,
    limit: int | None = None,
    names: FieldNames | None = None,
) -> None:
    """Write to `out` the solutions of `source`, of any known format, with predictions and rewards; report.

    `template`, `gold_field` and `names` are those of SolutionGrader. Pairs of answers without a verdict go to
    `bad` as notes.
    """
    with Grader(bad.note if bad else None) as grader:
        solutions = SolutionGrader(grader, template, gold_field, names)
        rows = read_rows(source, solutions.submit, bad, limit, solutions.foreign, reporter)
        for row in with_rewards(rows):
            solutions.count(row)
            out.write(row)
            reporter.progress(out.count, "solutions")
    solutions.report(reporter)


class SolutionGrader:
    """Grades rows of solutions, whoever made them, and counts for the summary what that changes."""

    def __init__(
        self,
        grader: Grader,
        template: PolicyTemplate | None = None,
        gold_field: str = GOLD_FIELD,
        names: FieldNames | None = None,
    ) -> None:
        """Compare with the gold answer in the field `gold_field`; see `final_answer` for what it may hold.

        The rules of `template` find the answers and split missing steps. Without one, they are those of the
        shipped template that a row was sampled with, else of ANY_TEMPLATE. `names` finds fields under other
        names. Raises UsageError if the gold field is one of GRADED.
        """
        if gold_field in GRADED:
            where, remedy = f"--gold-field {gold_field}", "give the field of the gold answer"
            raise UsageError("this field is graded", where=where, remedy=remedy)
        self.grader = grader
        self.template = template
        self.gold_field = gold_field
        self.foreign = ForeignRows(names=names, split_steps=False)
        self.graded = self.correct = self.new = self.ungraded = self.failed = 0
        self.unfinished = self.without_prediction = 0
        self.changed_predictions = self.changed_rewards = self.stale = 0
        self.rules: Counter[str] = Counter()  # solutions by the template whose rules found their answers
        self._shipped = {name: load_template(name) for name in shipped.names("policy")}
        self._rewards_before: deque[object] = deque()  # of the rows that wait for a verdict

    def submit(self, row: Row) -> tuple[Row, Verdict | None]:
        """Return a row with its prediction, and the verdict that will be its reward.

        There is no verdict without a gold answer, and on a completion that failed or was filtered, which has
        no prediction either. `steps` and `answer` are added where they are missing. Raises RowError if the
        row is not a solution.
        """
        template = self.template or self._shipped.get(_sampled_with(row), ANY_TEMPLATE)
        schema.check_reasoning(row)
        if row.get("steps") is None and isinstance(row.get("solution"), str):
            row = row | {"steps": split_steps(stepped_text(row), template.step_break)}
        schema.check_solution(row)
        self.rules[template.name] += 1
        gold = final_answer(row, self.gold_field)
        answer, finish = _answer(row, template), _finish(row)
        is_failed, is_finished = finish in ("failed", "filtered"), finish == "stop" and answer is not None
        prediction: str | None = None
        verdict: Verdict | None = None
        if not is_failed:
            prediction, found = grade(answer or "", is_finished, gold, template, self.grader)
            verdict = None if gold is None else found
        before = row.get("prediction"), row.get("reward")
        self._rewards_before.append(before[1])
        self.changed_predictions += before != (None, None) and before[0] != prediction
        self.failed += is_failed
        self.unfinished += not is_finished and not is_failed
        self.without_prediction += prediction is None and not is_failed
        if gold is not None and row.get("answer") is None:
            row = row | {"answer": gold}
        return row | {"prediction": prediction}, verdict

    def count(self, row: Row) -> None:
        """Count a row with its reward; rows come in the order in which they were submitted."""
        before = self._rewards_before.popleft()
        self.graded += row["reward"] is not None
        self.ungraded += row["reward"] is None
        self.correct += schema.is_correct(row["reward"])
        self.new += before is None and row["reward"] is not None
        if before is not None and before != row["reward"]:
            self.changed_rewards += 1
            self.stale += any(row.get(name) is not None for name in ("rollouts", "labels"))

    def report(self, reporter: Reporter) -> None:
        """Report the counts, with a warning for each one that makes rewards doubtful."""
        self.foreign.report(reporter)
        if self.graded:
            counts = {"unfinished": self.unfinished, "without a prediction": self.without_prediction}
            reporter.info(
                f"{self.graded:,} solutions graded ({self.new:,} for the first time), "
                f"{self.correct / self.graded:.1%} correct, {self.changed_predictions:,} predictions and "
                f"{self.changed_rewards:,} rewards changed"
                + "".join(f", {count:,} {what}" for what, count in counts.items() if count)
                + self.grader.summary()
            )
        if self.rules:
            used = ", ".join(f"{name} ({count:,})" for name, count in self.rules.most_common())
            reporter.info(f"answers were found by these rules: {used}; -t NAME chooses others")
        if self.failed:
            reporter.warn(
                f"{self.failed:,} solutions were not graded because their completion failed or was filtered "
                "(finish_reason); sample them again"
            )
        if self.ungraded > self.failed:
            reporter.warn(
                f"{self.ungraded - self.failed:,} solutions were not graded because '{self.gold_field}' is "
                "missing; --gold-field NAME names the field of the gold answer"
            )
        if self.stale:
            reporter.warn(
                f"{self.stale:,} solutions have another reward now, but rollouts or labels made with the "
                "earlier one; `erprm rollout` and `erprm label` make them again"
            )


def _answer(row: Row, template: PolicyTemplate) -> str | None:
    """Return the answer of a solution, which may still have its reasoning in it; None if that is open."""
    text: str = row["solution"]
    return text if row.get("reasoning") is not None else split(text, template.marks).answer


def _finish(row: Row) -> Finish:
    """Return how a completion ended; one without a finish_reason is taken to be complete."""
    return finish_of(row["finish_reason"]) if row.get("finish_reason") else "stop"


def _sampled_with(row: Row) -> str:
    """Return the name of the template in the field `sampling`, or an empty string."""
    sampling = row.get("sampling")
    name = sampling.get("template") if isinstance(sampling, dict) else None
    return name if isinstance(name, str) else ""
