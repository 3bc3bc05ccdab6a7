"""Scoring through a real `vllm serve`, started with the command that erprm's error names."""

import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest

from erprm_cli.engines.config import EngineConfig
from erprm_cli.prm.loading import load_tagger
from erprm_cli.prm.scoring import open_scorer
from erprm_cli.prm.vllm_classifier import start_command
from tests.prm.prm_kinds import KINDS
from tests.tiny_models import solution_rows
from tests.vllm_server import VllmServer

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed"),
]


@pytest.mark.parametrize(
    "kind", ["qwen-math-prm", *(pytest.param(kind, marks=pytest.mark.thorough) for kind in ("token", "trl"))]
)
def test_scores_of_a_vllm_server_equal_those_of_transformers(kind: str, tmp_path: Path) -> None:
    make, prm_format = KINDS[kind]
    prm = make(tmp_path / kind)
    command = start_command(EngineConfig(prm), load_tagger(prm, prm_format)[1])
    _, _, name, *arguments = shlex.split(command.strip("`"))
    server = VllmServer(tmp_path, name, *arguments)
    try:
        rows = solution_rows(24)
        expected = list(open_scorer(EngineConfig(prm, "transformers"), 0, prm_format).score(rows))
        server.wait()
        scorer = open_scorer(EngineConfig(prm, base_url=server.url), 0, prm_format)
        scored = list(scorer.score(rows))
        scorer.close()
    finally:
        server.kill()
    assert [row["id"] for row in scored] == [row["id"] for row in rows]  # in order
    for ours, theirs in zip(scored, expected, strict=True):
        assert ours["scores"] == pytest.approx(theirs["scores"], abs=1e-5)
        assert ours | {"scores": None} == theirs | {"scores": None}
