"""Grading: whether a prediction equals the gold answer.

The cheap checks come first: the same text, the same canonical form, the same exact number. An answer that is
not understood as a whole equals only itself. Formulas that are left are evaluated, in processes (`workers`)
that are killed when they take too long. Text of a model is never evaluated in this process.
"""

import json
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache

from erprm_cli.answers.equality import MAX_LENGTH, Pair, compare_cheaply
from erprm_cli.answers.formulas import MAX_NESTING
from erprm_cli.answers.workers import WorkerPool

CACHE_SIZE = 1 << 17  # pairs
TOWER = re.compile(r"(?:\^[\s{(]*(?:\d+|[A-Za-z]|\\[A-Za-z]+)[\s})]*){2}\^")  # 9^{9^{9^9}}, not x^2y^2z^2


@dataclass(slots=True)
class Verdict:
    """Whether two answers are equal: known at once, or as soon as a worker has answered."""

    found: bool | Future[bool | None]
    pair: Pair = ("", "")
    grader: "Grader | None" = None  # to report to, if `found` has to be waited for

    def is_known(self) -> bool:
        """Return whether `equal` returns without waiting."""
        return isinstance(self.found, bool) or self.found.done()

    def equal(self) -> bool:
        """Wait for the verdict and return it; a pair without one is counted and reported now."""
        if isinstance(self.found, bool):
            return self.found
        assert self.grader is not None
        self.found = self.grader.settle(self.pair, self.found)
        return self.found

    def reward(self) -> float:
        """Wait for the verdict and return the outcome reward r(a, x): 1.0 if equal, else 0.0."""
        return float(self.equal())


class Grader:
    """Compares answers and caches the results. A context manager; safe to use from any thread.

    `unknown` counts the pairs without a verdict because they took too much time or memory; they grade as
    unequal. A pair is counted and reported when a caller waits for its verdict, so the order of the reports
    does not depend on which worker is fastest. Worker processes start with the first pairs that need them and
    end with the grader or with this process.
    """

    def __init__(
        self, note: Callable[[str, str, str], object] | None = None, num_workers: int | None = None
    ) -> None:
        """Call `note` (such as `BadRows.note`: place, reason, pair as JSON) for each pair without a verdict.

        At most `num_workers` processes compare formulas; see WorkerPool for the default.
        """
        self._note = note
        self._num_workers = num_workers
        self._cheaply = lru_cache(CACHE_SIZE)(compare_cheaply)
        self._lock = threading.Lock()  # for the fields below and for calls of `note`
        self._pool: WorkerPool | None = None
        self._asked: dict[Pair, bool | Future[bool | None]] = {}  # answers of the workers, oldest first
        self._unknown: set[Pair] = set()

    def __enter__(self) -> "Grader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the worker processes. The grader can still be used afterwards."""
        with self._lock:
            pool, self._pool = self._pool, None
            self._asked = {pair: found for pair, found in self._asked.items() if isinstance(found, bool)}
        if pool is not None:
            pool.close()

    @property
    def unknown(self) -> int:
        """Number of pairs without a verdict."""
        return len(self._unknown)

    def reward(self, gold: str, prediction: str | None) -> float:
        """Return the outcome reward r(a, x): 1.0 if `prediction` equals the gold answer, else 0.0."""
        return float(self.equal(gold, prediction))

    def equal(self, gold: str, prediction: str | None) -> bool:
        """Return whether `prediction` is the same answer as `gold`; None and empty text equal nothing.

        Numbers are compared exactly, except that a decimal with ROUNDED_PLACES or more places also equals
        the numbers that round to it. An answer longer than MAX_LENGTH equals only itself. docs/evaluation.md
        has all rules. Raises EngineError if no worker can be started.
        """
        return self.submit(gold, prediction).equal()

    def submit(self, gold: str, prediction: str | None) -> Verdict:
        """Start to compare two answers as `equal` does, without waiting; hard pairs run in parallel."""
        if prediction is None:
            return Verdict(False)
        if gold.strip() == prediction.strip():
            return Verdict(bool(gold.strip()))
        if max(len(gold), len(prediction)) > MAX_LENGTH:
            return Verdict(False)
        found = self._cheaply(gold, prediction)
        if isinstance(found, bool):
            return Verdict(found)
        pair = gold, prediction
        return Verdict(self._ask(pair, found), pair, self)

    def is_cheap(self, gold: str, prediction: str) -> bool:
        """Return whether `submit` knows the verdict at once, without evaluating formulas."""
        if gold.strip() == prediction.strip() or max(len(gold), len(prediction)) > MAX_LENGTH:
            return True
        return isinstance(self._cheaply(gold, prediction), bool)

    def settle(self, pair: Pair, found: "Future[bool | None]") -> bool:
        """Wait for the workers' verdict and return it; count and report the pair if there is none."""
        verdict = found.result()
        with self._lock:
            if pair in self._asked:
                self._asked[pair] = bool(verdict)  # a future takes much more memory
            if verdict is None and pair not in self._unknown:
                self._unknown.add(pair)
                if self._note is not None:
                    text = json.dumps({"gold": pair[0], "prediction": pair[1]})
                    self._note("answers", "no verdict within the time and memory limits; graded 0", text)
        return bool(verdict)

    def summary(self) -> str:
        """Return the summary's words on pairs without a verdict: empty if there are none."""
        answers = "1 answer" if self.unknown == 1 else f"{self.unknown:,} answers"
        return f", {answers} without a verdict in time (graded 0)" if self.unknown else ""

    def _ask(self, pair: Pair, formulas: Pair) -> bool | Future[bool | None]:
        """Return the workers' verdict or its future; a pair in progress is not asked again."""
        with self._lock:
            found = self._asked.get(pair)
            if found is None:
                if any(map(_is_refused, formulas)):
                    found = Future()
                    found.set_result(None)
                else:
                    self._pool = self._pool or WorkerPool(self._num_workers)
                    found = self._pool.submit(*formulas)
                self._asked[pair] = found
                if len(self._asked) > CACHE_SIZE:
                    del self._asked[next(iter(self._asked))]
            return found


def _is_refused(answer: str) -> bool:
    """Return whether an answer is a tower of powers or nested too deeply for any parser."""
    depth = 0
    for bracket in re.findall(r"[{(\[\])}]", answer):
        depth += 1 if bracket in "{([" else -1
        if depth > MAX_NESTING:
            return True
    return bool(TOWER.search(answer))
