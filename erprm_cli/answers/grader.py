r"""Grading: whether a prediction equals the gold answer.

Equality goes from cheap to dear: the same text, the same canonical form, the same exact number, and only
then math-verify, in processes of its own (`workers`) that are killed when they take too long. Model
text is never evaluated in this process.
"""

import json
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache

from erprm_cli.answers.equality import MAX_LENGTH, compare_cheaply
from erprm_cli.answers.extraction import MAX_DEPTH, _unwrap
from erprm_cli.answers.workers import WorkerPool

CACHE_SIZE = 1 << 17  # pairs


# ---- Equality

TOWER = re.compile(r"(?:\^[\s{(]*(?:\d+|[A-Za-z]|\\[A-Za-z]+)[\s})]*){2}\^")  # 9^{9^{9^9}}, not x^2y^2z^2


Pair = tuple[str, str]  # gold and prediction


@dataclass(slots=True)
class Verdict:
    """Whether two answers are equal: known at once, or when math-verify has told."""

    found: bool | Future[bool | None]
    pair: Pair = ("", "")
    grader: "Grader | None" = None  # that is waiting for `found`

    def is_known(self) -> bool:
        """Return whether `equal` need not wait."""
        return isinstance(self.found, bool) or self.found.done()

    def equal(self) -> bool:
        """Wait for the verdict and return it; a pair without one is counted and told of here."""
        if isinstance(self.found, bool):
            return self.found
        assert self.grader is not None
        self.found = self.grader.settle(self.pair, self.found)
        return self.found

    def reward(self) -> float:
        """Wait for the verdict and return the outcome reward r(a, x): 1.0 if equal, else 0.0."""
        return float(self.equal())


class Grader:
    """Compares answers, and remembers what it compared. A context manager; usable from any thread.

    `unknown` counts the pairs that got no verdict, as they took too long or too much; they grade as unequal.
    A pair is counted, and told of, when someone waits for its verdict: in that order, whichever worker is
    first. The worker processes start with the first pairs that need them, and end with the grader or with
    this process.
    """

    def __init__(
        self, note: Callable[[str, str, str], object] | None = None, num_workers: int | None = None
    ) -> None:
        """Tell `note` (as `BadRows.note`: place, reason, the pair as JSON) of each pair without a verdict.

        At most `num_workers` processes compare; see WorkerPool for their default.
        """
        self._note = note
        self._num_workers = num_workers
        self._cheaply = lru_cache(CACHE_SIZE)(compare_cheaply)
        self._lock = threading.Lock()  # of what follows; `note` is called by one thread at a time
        self._pool: WorkerPool | None = None
        self._asked: dict[Pair, bool | Future[bool | None]] = {}  # the workers, the oldest question first
        self._unknown: set[Pair] = set()

    def __enter__(self) -> "Grader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the worker processes. The grader may be used again."""
        with self._lock:
            pool, self._pool = self._pool, None
            self._asked = {pair: found for pair, found in self._asked.items() if isinstance(found, bool)}
        if pool is not None:
            pool.close()

    @property
    def unknown(self) -> int:
        """How many pairs got no verdict."""
        return len(self._unknown)

    def reward(self, gold: str, prediction: str | None) -> float:
        """Return the outcome reward r(a, x): 1.0 if `prediction` equals the gold answer, else 0.0."""
        return float(self.equal(gold, prediction))

    def equal(self, gold: str, prediction: str | None) -> bool:
        """Return whether `prediction` is the same answer as `gold`; None and empty text equal nothing.

        Numbers are compared exactly, except that a decimal of ROUNDED_PLACES or more is what rounds to it.
        An answer longer than MAX_LENGTH equals only itself. EngineError if math-verify cannot be started.
        """
        return self.submit(gold, prediction).equal()

    def submit(self, gold: str, prediction: str | None) -> Verdict:
        """Begin to compare two answers, as `equal` does; pairs that are hard are compared side by side."""
        if prediction is None:
            return Verdict(False)
        if gold.strip() == prediction.strip():
            return Verdict(bool(gold.strip()))
        if max(len(gold), len(prediction)) > MAX_LENGTH:
            return Verdict(False)
        equal = self._cheaply(gold, prediction)
        if equal is not None:
            return Verdict(equal)
        pair = gold, prediction
        return Verdict(self._ask(pair), pair, self)

    def settle(self, pair: Pair, found: "Future[bool | None]") -> bool:
        """Return the verdict, when it is there; count the pair, and tell of it, if there is none."""
        verdict = found.result()
        with self._lock:
            if pair in self._asked:
                self._asked[pair] = bool(verdict)  # a future is large
            if verdict is None and pair not in self._unknown:
                self._unknown.add(pair)
                if self._note is not None:
                    text = json.dumps({"gold": pair[0], "prediction": pair[1]})
                    self._note("answers", "no verdict within the limits of time and memory; graded 0", text)
        return bool(verdict)

    def summary(self) -> str:
        """Return what a summary should say of pairs without a verdict: nothing where there are none."""
        answers = "1 answer" if self.unknown == 1 else f"{self.unknown:,} answers"
        return f", {answers} unknown (no verdict in time, graded 0)" if self.unknown else ""

    def _ask(self, pair: Pair) -> bool | Future[bool | None]:
        """Return what the workers found, or will find; a pair that is under way is asked once."""
        with self._lock:
            found = self._asked.get(pair)
            if found is None:
                if any(map(_is_monstrous, pair)):
                    found = Future()
                    found.set_result(None)
                else:
                    self._pool = self._pool or WorkerPool(self._num_workers)
                    found = self._pool.submit(*map(_inline, pair))
                self._asked[pair] = found
                if len(self._asked) > CACHE_SIZE:
                    del self._asked[next(iter(self._asked))]
            return found


def _inline(answer: str) -> str:
    """Return an answer as math-verify is to read it between dollars."""
    return re.sub(r"(?<!\\)\$|\s+", " ", _unwrap(answer)).strip()


def _is_monstrous(answer: str) -> bool:
    """Whether an answer is a tower of powers or nested so deep that no parser need see it."""
    depth = 0
    for bracket in re.findall(r"[{(\[\])}]", answer):
        depth += 1 if bracket in "{([" else -1
        if depth > MAX_DEPTH:
            return True
    return bool(TOWER.search(answer))
