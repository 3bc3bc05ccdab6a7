"""The real vLLM with the shipped policy: one engine for the module, and commands in their own processes."""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from transformers import AutoConfig, AutoModelForCausalLM
from typer.testing import Result

from erprm_cli.answers.grader import Grader
from erprm_cli.data_formats.problems import as_problem
from erprm_cli.engines.base import LATER, Completion, Request, SamplingParams
from erprm_cli.engines.config import EngineConfig
from erprm_cli.engines.transformers_engine import TransformersEngine
from erprm_cli.engines.vllm_stream import engine_args
from erprm_cli.errors import UsageError
from erprm_cli.io.reading import read_rows
from erprm_cli.options import Dtype
from erprm_cli.policy.rollouts import Roller
from erprm_cli.policy.sampling import SamplingSettings, sample_solutions
from erprm_cli.policy.stopping import StoppingRule
from erprm_cli.policy.templates import load_template
from erprm_cli.rows.row import Row
from erprm_cli.rows.steps import prefixes
from tests.models.test_tokenizer_file import byte_level

needs_vllm = [
    pytest.mark.vllm,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed"),
]
TEMPLATE = load_template("tiny")
# Little memory, and one thread: with more, OpenMP's threads wait for each other in busy loops when the cores
# have other work, which made these tests up to twenty times slower.
SETTINGS = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}
UNTIL_DEATH = "-L 40 -n 8 -o rows.jsonl".split()  # what a command is asked for whose engine dies
VLLM = "--engine vllm --enforce-eager".split()
Commands = dict[str, subprocess.Popen[str]]


def problems(limit: int) -> list[Row]:
    return list(read_rows("tiny:test", as_problem, limit=limit))


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    from erprm_cli.engines.vllm_engine import VllmEngine

    with pytest.MonkeyPatch.context() as patch:
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        running = VllmEngine(EngineConfig("tiny", enforce_eager=True))
    yield running
    running.close()


@pytest.fixture(scope="module")
def reference() -> TransformersEngine:
    return TransformersEngine.load(EngineConfig("tiny"))


def run(
    engine: Any, params: SamplingParams, indices: tuple[int, ...], limit: int = 100
) -> dict[Any, Completion]:
    requests = (
        Request(row["id"], TEMPLATE.fill(row["problem"]), indices, number)
        for number, row in enumerate(problems(limit))
    )
    done = [completion for completion in engine.generate(requests, params)]
    assert len(done) == limit * len(indices)
    return {(completion.key, completion.index): completion for completion in done}


class TestEngine:
    pytestmark = needs_vllm

    def test_greedy_completions_equal_those_of_transformers(self, engine: Any, reference: Any) -> None:
        params = SamplingParams(0.0, 1.0, 160)
        found, expected = (run(one, params, (0,)) for one in (engine, reference))
        # One of 100 texts may differ, where two logits are equal apart from rounding.
        assert sum(found[key] == expected[key] for key in expected) >= 99

    def test_rewards_agree_in_distribution(self, engine: Any, reference: Any) -> None:
        """Rewards and lengths of 1,000 completions by each engine, compared with Welch's t statistic."""
        settings = SamplingSettings("tiny", None, 1.0, 1.0, 160, 0, TEMPLATE.name)
        samples = []
        for one in (engine, reference):
            with Grader() as grader:
                rows = list(sample_solutions(problems(100), one, TEMPLATE, settings, 10, grader))
            samples.append(np.array([(row["reward"], row["num_tokens"]) for row in rows]))
        assert [len(sample) for sample in samples] == [1_000, 1_000]
        mean, other = (sample.mean(0) for sample in samples)
        error = sum(sample.var(0) / len(sample) for sample in samples) ** 0.5
        assert 0.1 < mean[0] < 0.9
        assert np.all(np.abs(mean - other) < 3.5 * error)

    def test_rows_are_those_of_the_other_engine(self, engine: Any, reference: Any) -> None:
        settings = SamplingSettings("tiny", None, 0.0, 1.0, 160, 0, TEMPLATE.name)
        with Grader() as grader:
            found, expected = (
                {row["id"]: row for row in sample_solutions(problems(8), one, TEMPLATE, settings, 1, grader)}
                for one in (engine, reference)
            )
        assert [list(row) for row in found.values()] == [list(expected[name]) for name in found]
        assert found == expected

    def test_missing_completions_can_be_requested_alone(self, engine: Any) -> None:
        params = SamplingParams(1.0, 0.95, 80)
        whole, part = (run(engine, params, indices, 20) for indices in (tuple(range(8)), (6, 2)))
        same = [part[key] == whole[key] for key in part]
        assert sum(same) >= len(same) - 1  # rounding may change one
        assert len({completion.text for completion in whole.values()}) > 40

    def test_a_stopping_rule_keeps_the_first_completions(self, engine: Any) -> None:
        settings = SamplingSettings("tiny", None, 1.0, 1.0, 160, 0, TEMPLATE.name)
        with Grader() as grader:
            rows = list(sample_solutions(problems(10), engine, TEMPLATE, settings, 2, grader))
            found = [
                {
                    (row["id"], row["sample"]): row["rollouts"]
                    for row in Roller(engine, TEMPLATE, settings, 8, grader, rule=rule).roll(rows)
                }
                for rule in (StoppingRule(), StoppingRule(0.5), StoppingRule(1.0, math.inf))
            ]
        whole, *stopped = found
        for lists in stopped:
            pairs = [pair for key in whole for pair in zip(whole[key], lists[key], strict=True)]
            assert sum(map(len, (fewer for _, fewer in pairs))) < sum(map(len, (all_ for all_, _ in pairs)))
            # Rounding may change a completion.
            assert sum(fewer == all_[: len(fewer)] for all_, fewer in pairs) >= 0.97 * len(pairs)

    def test_a_greedy_continuation_is_the_rest_of_the_greedy_solution(self, engine: Any) -> None:
        settings = SamplingSettings("tiny", None, 0.0, 1.0, 160, 0, TEMPLATE.name)
        with Grader() as grader:
            rows = list(sample_solutions(problems(20), engine, TEMPLATE, settings, 1, grader))
            rolled = list(Roller(engine, TEMPLATE, settings, 2, grader, keep_text=True).roll(rows))
        rests = [
            (prefix + text, row["solution"])
            for row in rolled
            for prefix, texts in zip(
                prefixes(row["solution"], row["steps"]), row["completions"], strict=False
            )
            for text in texts
        ]
        assert len(rests) > 80
        assert sum(found == whole for found, whole in rests) >= len(rests) - 2  # rounding
        assert engine.usage.prefix_cache_hit_rate > 0.2

    def test_a_stop_text_ends_a_completion_before_it(self, engine: Any) -> None:
        params = SamplingParams(0.0, 1.0, 160, ("\nStep 2",))
        whole = run(engine, SamplingParams(0.0, 1.0, 160), (0,), 10)
        for key, completion in run(engine, params, (0,), 10).items():
            assert completion.text == whole[key].text.partition("\nStep 2")[0]
            assert completion.finish_reason == "stop"

    def test_a_token_ends_a_completion_before_it(self, engine: Any, reference: Any) -> None:
        end = engine.tokenizer("5.\nStep", add_special_tokens=False).input_ids[-2]
        params = SamplingParams(0.0, 1.0, 160, stop_token_ids=(end,))
        found, expected = (run(one, params, (0,), 20) for one in (engine, reference))
        assert sum(found[key] == expected[key] for key in expected) >= 19  # rounding may change one
        assert all("Step 2" not in completion.text for completion in found.values())

    def test_a_prompt_that_fills_the_context_completes_to_nothing(self, engine: Any) -> None:
        before = engine.usage.too_long
        requests = [Request("long", (5,) * 512, (0, 1), 0), Request("short", (5,) * 500, (0,), 0)]
        done = {(c.key, c.index): c for c in engine.generate(requests, SamplingParams(1.0, 1.0, 99))}
        assert done["long", 1] == Completion("long", 1, "", 0, "length")
        assert done["short", 0].num_tokens <= 12
        assert engine.usage.too_long == before + 2

    def test_more_prompt_tokens_than_one_step_reads(self, engine: Any) -> None:
        """vLLM 0.32 on a CPU crashes if a seeded prompt is read in parts."""
        prompts = [tuple(5 + (number * place) % 97 for place in range(450)) for number in range(1, 13)]
        requests = (Request(number, ids, (0, 1), number) for number, ids in enumerate(prompts))
        done = list(engine.generate(requests, SamplingParams(1.0, 1.0, 8)))
        assert len(done) == 24

    def test_requests_may_depend_on_completions_of_the_same_call(self, engine: Any) -> None:
        """The second request follows the first; the third is too long, and the last one is greedy."""
        ids, params, found = (5, 6, 7), SamplingParams(1.0, 1.0, 4), list[Completion]()

        def requests() -> Iterator[Request]:
            yield Request(0, ids, (0,), 0)
            for number in range(1, 4):
                while len(found) < number:
                    yield LATER
                prompt = ids * (1000 if number == 2 else 1) + (found[0].token_ids or ())
                yield Request(number, prompt, (0,), 0, greedy=number == 3)

        for completion in engine.generate(requests(), params):
            found.append(completion)
        assert [completion.key for completion in found] == [0, 1, 2, 3]
        assert found[2] == Completion(2, 0, "", 0, "length")
        last = Request(3, ids + (found[0].token_ids or ()), (0,), 1)
        assert list(engine.generate([last], replace(params, temperature=0.0))) == found[3:]

    def test_completions_leave_before_the_last_request_enters(self, engine: Any) -> None:
        entered = 0

        def requests() -> Iterator[Request]:
            nonlocal entered
            for number in range(3 * engine.stream.depth):
                entered += 1
                yield Request(number, (5, 6, 7), (0,), number)

        stream = engine.generate(requests(), SamplingParams(1.0, 1.0, 2))
        next(stream)
        assert entered <= engine.stream.depth
        assert sum(1 for _ in stream) == 3 * engine.stream.depth - 1


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")
def test_a_replaced_tokenizer_is_the_one_of_vllm_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from erprm_cli.engines.vllm_engine import VllmEngine

    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    folder = byte_level(tmp_path / "model", "LlamaTokenizerFast")
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 32}
    config = AutoConfig.for_model(
        "llama", vocab_size=400, num_attention_heads=2, num_key_value_heads=2, initializer_range=0.3, **sizes
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    params = SamplingParams(0.0, 1.0, 40)
    found = []
    for make in (TransformersEngine.load, VllmEngine):
        running: Any = make(EngineConfig(folder, enforce_eager=True, dtype=Dtype.float32))
        found.append(list(running.generate([Request("a", "So 2 + 3 = 5.\n\nThe", (0,), 0)], params)))
        running.close()
    # vLLM holds back the bytes of a letter that has no end yet.
    texts = [one.text.rstrip("\N{REPLACEMENT CHARACTER}") for (one,) in found]
    assert texts[0] == texts[1]
    assert [one.num_tokens for (one,) in found] == [40, 40]


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """Three commands with vLLM, by name. They start together, because loading vLLM takes most of their time.

    The first test below must come first: it stops its command before all rows are written.
    """
    folder = tmp_path_factory.mktemp("commands")
    words = {
        "dies": ["tiny:train", *UNTIL_DEATH, "--batch-size", "4"],
        "is killed": "tiny:train -n 8 --batch-size 4".split(),
        "ends": "tiny:test -L 6 -n 4".split(),
    }
    with ExitStack() as stack:
        running = {}
        for name, own in words.items():
            command = [sys.executable, "-m", "erprm_cli", "sample", *own, *VLLM]
            pipe = subprocess.PIPE
            process = subprocess.Popen(
                command, text=True, stdout=pipe, stderr=pipe, cwd=folder, env=os.environ | SETTINGS
            )
            running[name] = stack.enter_context(process)
            stack.callback(process.kill)
        yield running


def descendants(process_id: int) -> list[psutil.Process]:
    """Return the processes that a process has started, directly or not."""
    return list(psutil.Process(process_id).children(recursive=True))


class TestCommand:
    pytestmark = needs_vllm

    def test_a_dead_engine_keeps_the_rows_and_another_run_continues(
        self, commands: Commands, erprm: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        process = commands["dies"]
        monkeypatch.chdir(psutil.Process(process.pid).cwd())
        path = Path("rows.jsonl")
        deadline = time.monotonic() + 300
        while (not path.exists() or path.stat().st_size < 2_000) and time.monotonic() < deadline:
            time.sleep(0.05)
        children = descendants(process.pid)
        (core,) = (child for child in children if "EngineCore" in " ".join(child.cmdline()))
        core.kill()
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (4, ""), err
        assert "the vLLM engine died" in err and "to continue: erprm sample tiny:train" in err
        assert "\nTraceback" not in err  # vLLM's log may contain one
        kept = path.read_text().splitlines()
        assert 0 < len(kept) < 320
        assert all(json.loads(line) for line in kept)
        assert psutil.wait_procs(children, 20)[1] == []
        done = erprm("sample", "tiny:train", *UNTIL_DEATH, "--engine", "transformers")
        assert done.exit_code == 0, done.output
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert path.read_text().splitlines()[: len(kept)] == kept
        assert len({(row["id"], row["sample"]) for row in rows}) == len(rows) == 320

    def test_a_killed_command_takes_its_engine_with_it(self, commands: Commands) -> None:
        process = commands["is killed"]
        assert process.stdout
        json.loads(process.stdout.readline())
        children = descendants(process.pid)
        process.kill()
        assert len(children) >= 2
        assert psutil.wait_procs(children, 20)[1] == []

    def test_stdout_has_rows_only_and_the_summary_reports_the_cache(self, commands: Commands) -> None:
        out, err = commands["ends"].communicate(timeout=300)
        assert commands["ends"].returncode == 0, err
        assert len([json.loads(line)["solution"] for line in out.splitlines()]) == 24
        assert "24 solutions" in err and "prompt tokens (prefix cache " in err


KNOWN = {
    "model",
    "dtype",
    "max_num_seqs",
    "block_size",
    "swap_space",
    "kv_cache_memory_bytes",
    "max_model_len",
}


def test_engine_arguments_are_vllms_own() -> None:
    config = EngineConfig(
        "tiny", batch_size=3, engine_args=["swap-space=4", 'dtype="auto"', "block_size=None"]
    )
    found = engine_args(config, KNOWN)
    assert (found["swap_space"], found["dtype"], found["max_num_seqs"]) == (4, "auto", 3)
    assert Path(found["model"]).is_dir()
    assert not {"block_size", "max_model_len", "quantization"} & set(found)


@pytest.mark.parametrize(
    "text, near", [("swap_spice=4", "did you mean swap_space"), ("swap_space", "is not KEY=VALUE")]
)
def test_an_engine_argument_that_vllm_does_not_know_is_wrong_usage(text: str, near: str) -> None:
    with pytest.raises(UsageError, match=near):
        engine_args(EngineConfig("tiny", engine_args=[text]), KNOWN)
