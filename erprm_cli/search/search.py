"""Solutions found with a policy and a PRM: rows, what is done already, and the summary."""

from collections.abc import Container, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np

from erprm_cli.answers.grader import Grader, Verdict
from erprm_cli.data_formats.field_names import FieldNames
from erprm_cli.data_formats.problems import as_problem
from erprm_cli.engines import open as opening
from erprm_cli.engines.base import Completion, Engine
from erprm_cli.engines.config import EngineConfig
from erprm_cli.engines.dry_engine import DryEngine
from erprm_cli.engines.plan import report_plan
from erprm_cli.errors import RowError
from erprm_cli.hashing import derive_seed
from erprm_cli.io.bad_rows import BadRows
from erprm_cli.io.output import Output
from erprm_cli.policy.grading import with_rewards
from erprm_cli.policy.reasoning import Parts
from erprm_cli.policy.sampling import SamplingSettings, Tally, missing_samples, same_as, solution_row
from erprm_cli.policy.templates import PolicyTemplate
from erprm_cli.prm.scoring import LazyScorer
from erprm_cli.rows import schema
from erprm_cli.rows.row import Row, to_line
from erprm_cli.rows.streams import peek
from erprm_cli.search.config import SearchConfig
from erprm_cli.search.extender import Extender, check_template, check_tokenizer
from erprm_cli.search.methods import METHODS
from erprm_cli.search.prefix import Found, Value
from erprm_cli.search.reader import DryReader, Reader
from erprm_cli.search.running import Running
from erprm_cli.search.stream import Stream
from erprm_cli.search.values import make_value
from erprm_cli.terminal.reporter import Reporter

GPU_SHARE = 0.45  # of the GPU's memory for each of two vLLM engines; one alone would take nearly all of it
SAME_SCORE = 1e-6  # scores that differ by less tell no prefixes apart


@dataclass(frozen=True, slots=True)
class Searcher:
    """Everything that a search needs beside the problems."""

    config: SearchConfig
    value: Value
    extender: Extender
    reader: Reader
    grader: Grader
    prm: str

    def rows(self, problems: Iterable[Row], done: Container[tuple[str, int]], bad: BadRows) -> Iterator[Row]:
        """Yield the rows of each problem, those in `done` left out, as its search ends.

        They depend only on the settings and on the problem, so a search that was interrupted gives the same
        rows again. A problem whose prefixes cannot be extended or scored is a bad row.
        """

        def found() -> Iterator[tuple[Row, Verdict | None]]:
            stream = Stream(map(self._start, problems), self.extender, self.reader)
            for running, result in stream.run():
                if result is None:
                    error, problem = running.error, running.problem
                    bad.add(f"id {problem['id']!r}", str(error), to_line(problem), type(error))  # type: ignore[arg-type]
                    continue
                for row, verdict in self._rows(running, result):
                    if (row["id"], row["sample"]) not in done:
                        yield row, verdict

        return with_rewards(found())

    def _start(self, problem: Row) -> Running:
        seed = derive_seed(self.extender.sampling.seed, problem["id"], "resampling")
        search = METHODS[self.config.method](self.config, self.value, np.random.default_rng(seed))
        return Running(problem, search, self.extender.prompt(problem))

    def _rows(self, running: Running, found: Found) -> Iterator[tuple[Row, Verdict | None]]:
        """Yield the solution rows of one problem, with the verdict that will be the reward."""
        tokens = running.tokens
        figures: Row = self.config.row() | {
            "prompt_tokens": tokens.prompt,
            "prompt_new_tokens": tokens.prompt_new,
            "generated_tokens": tokens.generated,
            "prm_tokens": tokens.prm or None,
            "prm_new_tokens": tokens.prm_new or None,
            "distinct": len({prefix.text for prefix in found.solutions}),
            "ess": found.ess,
            "resamplings": found.resamplings,
            "log_z": found.log_z,
        }
        for sample, prefix in enumerate(found.solutions):
            log_weight = None if found.log_weights is None else found.log_weights[sample]
            reason = prefix.finish_reason or ""
            completion = Completion(running.problem["id"], sample, prefix.text, prefix.num_tokens, reason)
            row, verdict = solution_row(
                running.problem,
                completion,
                Parts(None, prefix.text),
                self.extender.template,
                self.extender.sampling,
                self.grader,
            )
            row |= {"scores": list(prefix.scores), "prm": self.prm, "method": self.config.method}
            yield row | {"log_weight": log_weight, "search": figures}, verdict


def check_search(config: SearchConfig, prm: str, template: PolicyTemplate) -> Value:
    """Return the value of a prefix (see make_value); UsageError if this search is not possible."""
    check_template(template, by_steps=config.method != "best-of-n")
    return make_value(config, prm)


def check_problem(row: Row, config: SearchConfig, names: FieldNames) -> Row:
    """Return the problem in a row (see `as_problem`); RowError if --verify lacks its answer."""
    problem = as_problem(row, names)
    if config.verify and problem["answer"] is None:
        fields = f"its fields are {schema.fields_of(row)}"
        raise RowError(f"no 'answer', which --verify needs; {fields}", remedy="--field answer=NAME reads one")
    return problem


def share_gpu(policy: EngineConfig, prm: EngineConfig) -> tuple[EngineConfig, EngineConfig]:
    """Return the two with GPU_SHARE for those in vLLM, if both models run on a GPU of this machine.

    A share that was given is kept.
    """
    elsewhere = policy.base_url is not None or prm.base_url is not None
    if elsewhere or policy.gpu_memory_utilization is not None or opening.local_engine() != "vllm":
        return policy, prm
    policy, prm = (
        one if one.engine == "transformers" else replace(one, gpu_memory_utilization=GPU_SHARE)
        for one in (policy, prm)
    )
    return policy, prm


def search_to(
    out: Output,
    problems: Iterable[Row],
    engine: EngineConfig,
    prm: LazyScorer,
    template: PolicyTemplate,
    sampling: SamplingSettings,
    config: SearchConfig,
    value: Value,
    reporter: Reporter,
    bad: BadRows,
) -> None:
    """Write to `out` the solutions of those problems that are not complete in it yet, and a summary.

    The models are loaded only if there is such a problem. `bad` receives the problems that could not be
    searched. The caller opens `out`, with the settings by which a later run may continue it.
    """
    done = out.solutions(schema.check_scores)
    count = config.num_solutions
    unfinished = (row for row in same_as(done, problems, bad) if missing_samples(row, count, done))
    missing = peek(reporter.counted(unfinished, lambda row: len(missing_samples(row, count, done))))
    if missing is None:
        if done:
            reporter.info(f"nothing is missing: the output has {len(done):,} solutions")
        return
    prm.check()  # before the policy is loaded
    with (
        closing(opening.open_engine(engine, reporter)) as running,
        closing(prm),
        Grader(bad.note) as grader,
    ):
        by_steps = config.method != "best-of-n"
        if by_steps:
            check_tokenizer(running.tokenizer)
        prm.on_load = lambda scorer: prm.report_format(scorer, reporter)
        verifier = grader if config.verify else None
        extender = Extender(running, template, sampling, by_steps=by_steps, verifier=verifier)
        reader = (DryReader if isinstance(running, DryEngine) else Reader)(prm.scorer)
        if prm.scorer.served_eta is not None:
            value = make_value(config, prm.config.model, prm.scorer.served_eta)
        out.add_provenance(opening.provenance(running, engine) | prm.commits())
        searcher = Searcher(config, value, extender, reader, grader, prm.config.model)
        reporter.start("solutions")
        tally = Tally()
        for row in searcher.rows(missing, done, bad):
            out.write(row)
            tally.add(row)
            tokens = reporter.rate_of(running.usage.generated_tokens, "tokens")
            reporter.progress(out.count, "solutions", note=tokens)
        if isinstance(running, DryEngine):
            # How much the PRM would read depends on what the policy would write, so nothing was counted.
            counts = ("steps", "tokens")
            size = {f"prm_{name}": value for name, value in prm.plan().items() if name not in counts}
            report_plan({"solutions": out.count} | running.plan() | size, reporter, engine.tokens_per_s)
            return
        _report(running, reader, tally, reporter)


def _report(engine: Engine, reader: Reader, tally: Tally, reporter: Reporter) -> None:
    count = tally.graded + tally.ungraded
    num_read = reader.scorer.num_tokens
    read = f"; the PRM read {num_read:,} tokens" if num_read else ""  # a server may not say
    usage = engine.usage.summary(reporter.seconds)
    reporter.info(f"{count:,} solutions, {tally.correct:,} correct, {usage}{read}")
    if tally.ungraded:
        reporter.warn(tally.ungraded_warning())
    if 0 <= reader.highest - reader.lowest < SAME_SCORE:  # negative without any score
        reporter.warn(
            f"{reader.scorer.name} gave every step the score {reader.highest:.6g}, so the search was "
            "left to chance; --prm-format may not suit the model, or its weights may be untrained"
        )
