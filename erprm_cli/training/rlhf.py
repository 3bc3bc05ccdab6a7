"""What RAFT and GRPO share: one policy, one PRM and a run directory, and what is checked before a run."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

from erprm_cli.data_formats.field_names import FieldNames
from erprm_cli.data_formats.problems import as_problem
from erprm_cli.engines.config import EngineConfig
from erprm_cli.errors import UserError
from erprm_cli.hashing import content_hash, digest
from erprm_cli.io.bad_rows import BadRows
from erprm_cli.io.content import Content
from erprm_cli.io.reading import read_rows
from erprm_cli.models.content import hub_commit
from erprm_cli.policy.prompts import render_end
from erprm_cli.policy.templates import PolicyTemplate
from erprm_cli.prm.scoring import output_settings as score_settings
from erprm_cli.rows.row import Row
from erprm_cli.rows.streams import unique
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.training.config import PolicyTrainingConfig, RlhfConfig


@dataclass(eq=False)
class Rlhf:
    """One run in `directory`, from the policy `engine.model`.

    `bad` receives notes on answers without a verdict (see Grader). `names` finds fields of --eval under other
    names.
    """

    config: RlhfConfig
    training: PolicyTrainingConfig
    engine: EngineConfig
    template: PolicyTemplate
    directory: Path
    reporter: Reporter
    bad: BadRows | None = None
    names: FieldNames = field(default_factory=FieldNames)

    @cached_property
    def eval_problems(self) -> list[Row]:
        """The problems of --eval; UserError if there are none in the file."""
        if self.config.eval is None:
            return []
        check = unique(partial(as_problem, names=self.names), "id")
        found = list(read_rows(self.config.eval, check, self.bad))
        if not found:
            raise UserError("no problem to evaluate on", where=f"--eval {self.config.eval}")
        return found

    def check(self) -> None:
        """Open what later phases need: settings, both tokenizers, the PRM's files, the --eval problems.

        Raises UserError for what would stop them. No weights are loaded.
        """
        from erprm_cli.models.loading import load_tokenizer  # torch
        from erprm_cli.prm.loading import check_prm
        from erprm_cli.training.arguments import check_names

        _ = self.eval_problems
        check_names(self.training)
        check_prm(self.scorer_config(), self.config.prm_format)
        tokenizer = load_tokenizer(self.engine.model, trust_remote_code=self.engine.trust_remote_code)
        render_end(self.template, tokenizer)

    def check_problems(self, problems: list[Row]) -> None:
        """Raise UserError for problems that the algorithm cannot use."""

    def contents(self, source: str, problems: list[Row]) -> dict[str, Content | str | None]:
        """Return the contents behind the names in the settings; `problems` are those of the file `source`.

        A model on the Hub is known by its commit, which `check` has found.
        """
        held_out = self.config.eval
        scores = score_settings(self.scorer_config(), self.config.prm_format)
        return {
            "policy_content": self.engine.content(),
            "policy_commit": hub_commit(self.engine.model, self.engine.revision),
            "prm_commit": hub_commit(self.config.prm, self.engine.revision),
            "prm_content": scores["prm_content"],
            "prm_format_content": scores["prm_format_content"],
            "template_content": self.template.content(),
            "input_content": problems_content(source, lambda: problems),
            "eval_content": held_out and problems_content(held_out, lambda: self.eval_problems),
        }

    def scorer_config(self) -> EngineConfig:
        """Return how the PRM runs: the policy's context length and vLLM options do not apply to it."""
        return replace(
            self.engine, model=self.config.prm, max_model_len=None, quantization=None, engine_args=None
        )


def problems_content(source: str, problems: Callable[[], Iterable[Row]]) -> Content:
    """Return the content of the file `source` of problems: their ids, texts and answers, in order."""

    def hash_all() -> str:
        parts = (digest(row["id"], row["problem"], row["answer"]).hex() for row in problems())
        return content_hash("".join(parts))

    path = Path(source)
    return Content(hash_all, (path,) if path.exists() else ())
