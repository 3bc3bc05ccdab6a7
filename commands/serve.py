"""erprm serve: a process reward model as an HTTP service."""

from dataclasses import replace
from typing import Annotated

from erprm_cli import options
from erprm_cli.engines.config import ScoringConfig
from erprm_cli.prm.config import BatchTokens, ScoreEta
from erprm_cli.serving.config import ServiceConfig
from erprm_cli.terminal.reporter import Reporter


@options.grouped
def serve(
    prm: options.Prm,
    engine: Annotated[
        ScoringConfig,
        options.Without("model", "batch_size", "base_url", "concurrency", "dry_run", "tokens_per_s"),
    ],
    service: ServiceConfig,
    prm_format: options.PrmFormatName = None,
    eta: ScoreEta = None,
    batch_tokens: BatchTokens = 0,
    quiet: options.Quiet = False,
) -> None:
    """Serve a reward model over HTTP.

    Clients send solutions and get one score per step: the scores of `erprm score`. OpenRLHF's remote reward
    model and vLLM's /pooling are understood too; the page /docs describes the API. Solutions of many clients
    share forward passes. With ERPRM_API_KEY in the environment, clients must send that key. SIGTERM or Ctrl-C
    ends the server after it has answered what it accepted.

    Example: erprm serve --prm prm --port 8000
    """
    from erprm_cli.packages import SERVING, check_packages
    from erprm_cli.policy.templates import load_template
    from erprm_cli.prm.scoring import LazyScorer

    check_packages(SERVING, "`erprm serve`")
    model, reporter = replace(engine, model=prm), Reporter("serve", quiet)
    model.report_unread("vllm" if model.engine == "vllm" else "transformers", reporter)
    scorer = LazyScorer(model, batch_tokens=batch_tokens, prm_format=prm_format, eta=eta)
    template = load_template(service.template)
    from erprm_cli.serving.server import serve_prm  # loads torch

    serve_prm(scorer, service, template, reporter)
