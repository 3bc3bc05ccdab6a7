"""What is continued: an output of the same model, template, settings and problems, and nothing else."""

import json
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import orjson
import pytest
import typer
from typer.testing import Result

from erprm_cli.app import make_app
from erprm_cli.engines.config import EngineConfig
from erprm_cli.errors import EngineError, UsageError
from erprm_cli.io.provenance import START_AGAIN
from erprm_cli.rl.config import (
    GRPO_TRAINING,
    RAFT_ENGINE,
    RAFT_ONLY,
    RAFT_TRAINING,
    GrpoConfig,
)
from erprm_cli.training.config import PrmTrainingConfig
from tests.tiny_models import save_model, solution_rows
from tests.torture import rows
from tests.torture.program import ScriptedEngine, completion

Run = Callable[..., Result]

# Flags that may change when an output is continued. All others are compared.
STREAMS = {
    "source",
    "dry_run",
    "limit",
    "errors",
    "max_errors",
    "output",
    "directory",
    "overwrite",
    "quiet",
    "config",
}
FREE = {
    "sample": STREAMS | (EngineConfig.FREE - {"model", "revision"}) | {"n"},
    "rollout": STREAMS | (EngineConfig.FREE - {"model", "revision"}) | {"budget"},
    "score": STREAMS | (EngineConfig.FREE - {"revision"}) | {"batch_tokens"},
    "search": STREAMS
    | (EngineConfig.FREE - {"model", "revision"})
    | {"prm_engine"}
    | {"eta", "ess_threshold", "draws", "verify", "width", "aggregate", "ahead"},  # of other methods
    "rlhf": STREAMS
    | {"field"}
    | (EngineConfig.FREE - {"model"})
    | (PrmTrainingConfig.FREE - EngineConfig.FREE),
    "train": (STREAMS - {"limit"}) | PrmTrainingConfig.FREE | {"field", "plot", "table", "tokens_per_s"},
}
FREE["rlhf"] -= {"batch_size", "eval", "trust_remote_code", "allow_pickle"}  # compared there
FREE["grpo"] = FREE["rlhf"] | GrpoConfig.FREE
# Flags that the other algorithm of rlhf reads, and refuses with this one.
UNREAD = {
    "rlhf": {field.name for field in fields(GrpoConfig)} | GRPO_TRAINING,
    "grpo": RAFT_ONLY | RAFT_TRAINING | RAFT_ENGINE | {"algorithm"},
}
for command in ("sample", "rollout", "score", "search"):
    FREE[command] -= {"base_url"}  # a local model is compared by its content, which a server's does not have
# Another value of the flags that take text; numbers and switches find their own.
TEXTS = {
    "source": "tiny:train",
    "model": "OTHER",
    "base": "OTHER",
    "prm": "OTHER",
    "revision": "v2",
    "template": "gsm8k-chat",
    "prm_format": "math-shepherd",
    "format": "math-shepherd",
    "dtype": "float16",
    "engine": "transformers",
    "prm_engine": "transformers",
    "method": "beam",
    "quantization": "fp8",
    "engine_args": "kv_cache_dtype=fp8",
    "prm_base_url": "http://localhost:1/v1",
    "base_url": "http://localhost:1/v1",
    "shard": "1/2",
    "aggregate": "last",
    "eval": "tiny:test",
    "errors": "errors.jsonl",
    "optim": "sgd",
    "kind": "head",
    "target": "counts",
    "weighting": "solution",
    "report_to": "tensorboard",
    "attn_implementation": "eager",
    "accelerate_config": "multi-cpu",
    "algorithm": "grpo",
    "advantage": "outcome",
    "loss_type": "grpo",
    "scale_rewards": "none",
    "vllm_mode": "server",
    "vllm_server_base_url": "http://localhost:1",
    "trl_arg": "top_k=5",
    "chat_template_kwargs": "enable_thinking=false",
    "steps_of": "reasoning",
    "steps": "bisect",
    "for_estimator": "hard",
    "field": "answer=gold",
    "solutions": "scored.jsonl",
    "plot": "-",
    "table": "made.md",
}
CHAT = 'prompt = "{problem}"\nchat = true\n'  # two of the flags need a chat; one of them also needs reasoning


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("erprm_cli.engines.open.open_engine", lambda *_: ScriptedEngine(pause_s=0.0))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_model(tmp_path_factory.mktemp("model") / "model"))


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = save_model(tmp_path_factory.mktemp("other") / "model")
    flip_a_weight(folder)
    return str(folder)


def other(flag: Any) -> list[str]:
    """Return the words that give a flag another value than its default."""
    name = max(flag.opts, key=len)
    if flag.is_flag:
        return [name]
    if flag.type.name.startswith("int"):
        return [name, str((flag.default or 1) + 1)]
    if flag.type.name.startswith("float"):
        return [name, str((flag.default or 0.0) / 2 + 0.25)]
    return [name, TEXTS[flag.name]]


def flags(command: str) -> list[Any]:
    """Return the declared options of a command, without --help."""
    declared: list[Any] = typer.main.get_command(make_app()).commands[command].params  # type: ignore[attr-defined]
    return [flag for flag in declared if flag.name != "help" and flag.opts[0].startswith("-")]


SOURCES = {
    "sample": [rows.problem(1)],
    "rollout": [rows.solution(1)],
    "score": solution_rows(1),
    "search": [rows.problem(1)],
    "train": solution_rows(10, labels=True),
    "rlhf": [rows.problem(number) for number in range(8)],  # of a step of GRPO
    "grpo": [rows.problem(number) for number in range(8)],
}
WORDS = {
    "sample": "-m MODEL -t tiny -n 1",
    "rollout": "-m MODEL -t tiny -k 1",
    "score": "--prm MODEL --prm-format er-prm",
    "search": "--method best-of-n -m MODEL -t tiny -n 4 --prm MODEL --prm-format er-prm",
    "train": "--base MODEL --lr 1e-3",
    "rlhf": "-m MODEL -t tiny --prm MODEL --prm-format er-prm",
    "grpo": "-m MODEL -t tiny --prm MODEL --prm-format er-prm --algorithm grpo",
}
# What some flags need beside them, or another value that suits GRPO.
ALSO = {
    "n": ["-n", "32"],
    "limit": ["-L", "9"],  # as many problems as before
    "batch_size": ["--batch-size", "32"],
    "merge_lora": ["--lora-rank", "1"],
    "for_eta": ["--until-width", "1"],
    "vllm_mode": ["--vllm-server-base-url", "http://localhost:1"],
    "vllm_server_base_url": ["--vllm-mode", "server"],
}


def given(command: str, model: str, folder: Path) -> list[object]:
    """Return a command line that makes an output in `folder`."""
    source = rows.write(folder / "in.jsonl", SOURCES[command])
    words = [model if word == "MODEL" else word for word in WORDS[command].split()]
    return ["rlhf" if command == "grpo" else command, source, *words, "-o", folder / "out", "-q"]


@pytest.mark.parametrize("command", FREE)
def test_every_flag_is_compared_or_listed_as_free(
    command: str,
    erprm: Run,
    model: str,
    other_model: str,
    tmp_path: Path,
    scripted: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The flags are those that the command declares, so a new one fails here until it is one or the other."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("erprm_cli.prm.server_scorer.served_hash", lambda *_: "of another PRM")
    (tmp_path / "thinking.toml").write_text(
        CHAT + 'reasoning = "think"\n' * (command not in ("rollout", "search"))
    )
    rows.write(tmp_path / "scored.jsonl", [rows.scores(1, 0)])
    words = ["thinking.toml" if word == "tiny" else word for word in given(command, model, tmp_path)]
    if command in UNREAD:

        def fail(*_: object) -> None:
            raise EngineError("no engine")

        monkeypatch.setattr("erprm_cli.engines.open.open_engine", fail)
        monkeypatch.setattr("erprm_cli.rl.fit.fit", fail)
    first = erprm(*words)
    assert isinstance(first.exception, EngineError) if command in UNREAD else first.exit_code == 0, first
    assert isinstance(first.exception, type(erprm(*words).exception))  # it is continued
    seen = []
    for flag in flags(str(words[0])):
        if flag.name in {"output", "directory", "overwrite", "config"} | UNREAD.get(command, set()):
            continue
        changed = [other_model if word == "OTHER" else word for word in other(flag)]
        done = erprm(*words, *changed, *ALSO.get(flag.name, []))
        refused = "was made with" in str(done.exception)
        assert refused == (flag.name not in FREE[command]), (flag.name, done.exception)
        seen.append(flag.name)
    assert len(seen) > 10


# Content


def refused(done: Result, *texts: str) -> None:
    message = str(done.exception)
    assert type(done.exception).__name__ == "UserError", done.exception
    assert all(text in message for text in texts) and "\n" not in message, message


@pytest.mark.parametrize("command", ["sample", "rollout", "score", "search"])
def test_a_model_that_was_trained_again_in_the_same_folder_is_another_one(
    command: str, erprm: Run, tmp_path: Path, scripted: None
) -> None:
    folder = save_model(tmp_path / "model")
    words = given(command, str(folder), tmp_path)
    assert erprm(*words).exit_code == 0
    assert erprm(*words).exit_code == 0  # it is continued
    copy = shutil.copytree(folder, tmp_path / "copy")
    moved = [copy if word in (folder, str(folder)) else word for word in words]
    assert erprm(*moved).exit_code == 0  # the same content, whatever its name
    flip_a_weight(folder)
    refused(erprm(*words), f"was made with another version of {'prm' if command == 'score' else 'model'}")
    assert erprm(*words, "--overwrite").exit_code == 0


def flip_a_weight(folder: Path) -> None:
    """Change one weight; names, sizes and headers stay."""
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("command", ["sample", "rollout", "score"])
def test_a_template_is_known_by_its_content_and_not_by_its_name(
    command: str, erprm: Run, model: str, tmp_path: Path, scripted: None
) -> None:
    flag = "--prm-format" if command == "score" else "--template"
    text = 'prompt = "{problem} "\n' + 'tag = " ки"\ngood = " +"\nbad = " -"\n' * (command == "score")
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "t.toml").write_text(text)
    one, theirs = (tmp_path / name / "t.toml" for name in ("one", "other"))
    words = given(command, model, tmp_path)
    assert erprm(*words, flag, one).exit_code == 0
    theirs.write_text("# a comment changes nothing\n" + text)
    assert erprm(*words, flag, theirs).exit_code == 0
    theirs.write_text(text.replace("{problem} ", "Q: {problem} "))
    refused(erprm(*words, flag, theirs), "was made with", str(theirs) if command == "score" else "version of")


def test_a_base_or_a_format_that_changed_trains_another_model(
    erprm: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_model(tmp_path / "model")
    own = tmp_path / "own.toml"
    own.write_text('prompt = "{problem} "\ntag = " ки"\ngood = " +"\nbad = " -"\n')
    words = [*given("train", str(folder), tmp_path), "--prm-format", own]
    assert erprm(*words).exit_code == 0 and erprm(*words).exit_code == 0
    own.write_text(own.read_text().replace("{problem} ", "Q: {problem} "))
    refused(erprm(*words), "another version of format", "--overwrite replaces it")
    own.write_text(own.read_text().replace("Q: ", ""))
    flip_a_weight(folder)
    refused(erprm(*words), f"another version of base {folder}"[:60])


@pytest.mark.parametrize("command", ["sample", "rollout", "score", "search"])
@pytest.mark.parametrize("field", ["problem", "answer"])
def test_a_problem_that_changed_under_its_id_is_refused(
    command: str, field: str, erprm: Run, model: str, tmp_path: Path, scripted: None
) -> None:
    words = given(command, model, tmp_path)
    assert erprm(*words).exit_code == 0
    kept = (tmp_path / "out").read_bytes()
    row = SOURCES[command][0]
    is_problem = command in ("sample", "search")
    changed = [row | {field: "12"}, rows.problem(2) if is_problem else row | {"id": "new"}]
    rows.write(tmp_path / "in.jsonl", changed)
    more = ["-n", 3] if command == "sample" else []
    message = f"id '{row['id']}': another problem or answer than in {tmp_path / 'out'}"
    refused(erprm(*words, *more), message, "give what has changed another id", "--overwrite starts again")
    assert (tmp_path / "out").read_bytes() == kept
    done = erprm(*words, *more, "--errors", tmp_path / "bad.jsonl")
    refused(done, "1 bad row was written")
    ids = [json.loads(line)["id"] for line in (tmp_path / "out").read_bytes().splitlines()]
    assert set(ids) == {row["id"], changed[1]["id"]}
    assert ids.count(row["id"]) == (4 if command == "search" else 1)


@pytest.mark.parametrize("command", ["rollout", "score"])
def test_a_solution_that_changed_is_refused(
    command: str, erprm: Run, model: str, tmp_path: Path, scripted: None
) -> None:
    words = given(command, model, tmp_path)
    assert erprm(*words).exit_code == 0
    row = SOURCES[command][0]
    rows.write(tmp_path / "in.jsonl", [row | {"solution": "So. 1", "steps": ["So. 1"]}])
    refused(erprm(*words), f"id '{row['id']}', sample 0: another solution than in {tmp_path / 'out'}")


@pytest.mark.parametrize(
    "changed", [{"problem": "Why?"}, {"answer": "12"}, {"solution": "So.", "steps": ["So."]}]
)
def test_scores_of_another_version_are_not_compared(changed: rows.Row, erprm: Run, tmp_path: Path) -> None:
    ours = [rows.scores(1, sample) for sample in range(3)]
    theirs = [row | {"scores": [0.5] * len(row["steps"])} for row in ours]
    source, good = (rows.write(tmp_path / name, each) for name, each in (("a", ours), ("b", theirs)))
    assert erprm("bon", source, "--compare", good).exit_code == 0
    theirs[1] |= changed
    theirs[1]["scores"] = [0.5] * len(theirs[1]["steps"])
    rows.write(good, theirs)
    what = ", sample 1: another solution" if "solution" in changed else ": another problem or answer"
    refused(erprm("bon", source, "--compare", good), f"b:2: id '{ours[0]['id']}'{what} than in")
    refused(erprm("bon", good), f"b:2: id '{ours[0]['id']}': another") if "steps" not in changed else None


@pytest.mark.parametrize("field", ["problem", "answer"])
def test_prefixes_that_a_stopped_run_finished_are_those_of_their_problem(
    field: str, erprm: Run, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row is not there yet, so only the journal knows the problem."""
    asked: list[int] = []

    class Engine(ScriptedEngine):
        """Completes one prefix of each run and fails, or all of them."""

        def generate(self, requests: Any, params: Any) -> Any:
            for request in requests:
                asked[-1] += len(request.indices)
                for index in request.indices:
                    yield completion(request, index)
                if len(asked) == 1:
                    raise EngineError("gone")

    monkeypatch.setattr("erprm_cli.engines.open.open_engine", lambda *_: Engine())
    row = rows.solution(1) | {"solution": "One.\nTwo.\nThree.", "steps": ["One.", "Two.", "Three."]}
    words = [*given("rollout", model, tmp_path), "-k", 3]
    results: dict[bool, Result] = {}
    for is_same in (True, False):
        asked[:] = [0]
        rows.write(tmp_path / "in.jsonl", [row])
        assert isinstance(erprm(*words, "--overwrite").exception, EngineError) and asked == [3]
        rows.write(tmp_path / "in.jsonl", [row if is_same else row | {field: "12"}])
        asked.append(0)
        results[is_same] = erprm(*words)
        assert results[is_same].exit_code == 0
        assert asked[1] == (3 if is_same else 6)  # of two prefixes


def cached_on_the_hub(cache: Path, name: str, commit: str, folder: Path) -> None:
    """Make `commit` the newest one of the model `name` in a cache of the Hub."""
    repository = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, repository / "snapshots" / commit, dirs_exist_ok=True)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(commit)


@pytest.mark.parametrize("command", ["search", "rlhf"])
def test_a_prm_of_the_hub_is_known_by_its_commit(
    command: str, erprm: Run, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    first, second = "1" * 40, "2" * 40
    words = given(command, model, tmp_path)
    words[words.index("--prm") + 1] = "h/prm"
    if command == "rlhf":
        monkeypatch.setattr("erprm_cli.training.raft.Raft.run", lambda *_: ())
    else:
        words[words.index("tiny")] = "math"  # its rows are made by steps, and the words of the model are few
        words += ["--max-tokens", 4]
    cached_on_the_hub(tmp_path / "hub", "h/prm", first, Path(model))
    assert erprm(*words).exit_code == 0
    rows.write(tmp_path / "in.jsonl", SOURCES[command] + [rows.problem(9)] * (command == "search"))
    cached_on_the_hub(tmp_path / "hub", "h/prm", second, Path(model))
    told = f"commit {first} of the PRM, not {second}" if command == "search" else f"{first}, not {second}"
    refused(erprm(*words), "was made with ", told, START_AGAIN)
    cached_on_the_hub(tmp_path / "hub", "h/prm", first, Path(model))
    assert erprm(*words).exit_code == 0


def test_a_base_of_the_hub_is_known_by_its_commit(
    erprm: Run, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    first, second = "1" * 40, "2" * 40
    words = ["h/base" if word == model else word for word in given("train", model, tmp_path)]
    cached_on_the_hub(tmp_path / "hub", "h/base", first, Path(model))
    trained = erprm(*words)
    assert trained.exit_code == 0
    cached_on_the_hub(tmp_path / "hub", "h/base", second, Path(model))
    refused(erprm(*words), f"{first}, not {second}")
    cached_on_the_hub(tmp_path / "hub", "h/base", first, Path(model))
    assert erprm(*words).stdout == trained.stdout.splitlines(keepends=True)[-1]


@pytest.mark.parametrize("changed", [{"solution": "So."}, {"reasoning": "Hm."}, {"scores": [0.25]}])
def test_given_solutions_are_compared_by_all_that_the_policy_learns(
    changed: rows.Row, erprm: Run, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("erprm_cli.training.raft.Raft.run", lambda *_: ())
    row = rows.scores(1) | {"solution": "So. ", "steps": ["So."], "scores": [0.5]}
    solutions = rows.write(tmp_path / "scored.jsonl", [row])
    words = [*given("rlhf", model, tmp_path), "--solutions"]
    assert erprm(*words, solutions).exit_code == 0
    assert erprm(*words, f"{tmp_path}/./scored.jsonl").exit_code == 0  # the same file
    rows.write(solutions, [row | changed])
    refused(erprm(*words, solutions), f"another version of solutions {tmp_path}"[:50])


@pytest.mark.parametrize("command", ["score", "search"])
def test_a_content_that_cannot_be_known_is_one_line(
    command: str, erprm: Run, model: str, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = given(command, model, tmp_path)
    del words[(place := words.index("--prm-format")) : place + 2]
    refused_usage = erprm(*words)
    assert isinstance(refused_usage.exception, UsageError), refused_usage.exception
    assert "--prm-format must say how to read it" in str(refused_usage.exception)
    url = "--base-url" if command == "score" else "--prm-base-url"
    done = erprm(*words, url, "http://localhost:1/v1")
    assert isinstance(done.exception, EngineError) and "localhost:1" in str(done.exception)


def test_rlhf_does_not_continue_with_other_problems(
    erprm: Run, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise EngineError("no engine")

    monkeypatch.setattr("erprm_cli.engines.open.open_engine", fail)
    held_out = rows.write(tmp_path / "eval.jsonl", [rows.problem(5)])
    words = [*given("rlhf", model, tmp_path), "--eval", held_out]
    for _ in range(2):
        assert isinstance(erprm(*words).exception, EngineError)
    rows.write(held_out, [rows.problem(6)])
    refused(erprm(*words), f"another version of eval {tmp_path}"[:50])
    rows.write(held_out, [rows.problem(5)])
    rows.write(tmp_path / "in.jsonl", [rows.problem(1) | {"answer": "12"}])
    refused(erprm(*words), f"another version of input {tmp_path}"[:50])


# Damage

ROW_DAMAGE: dict[str, Callable[[rows.Row], object]] = {
    "{}": lambda row: {},
    "a list": lambda row: [row],
    "a number": lambda row: 7,
    "an id that is a list": lambda row: row | {"id": [1]},
    "no id": lambda row: {name: value for name, value in row.items() if name != "id"},
    "a sample that is text": lambda row: row | {"sample": "0"},
    "no steps": lambda row: row | {"steps": []},
    "steps that are null": lambda row: row | {"steps": None},
    "a solution that is null": lambda row: row | {"solution": None},
    "results that are null": lambda row: row | dict.fromkeys(("rollouts", "scores")),
    "results in a list": lambda row: row | {"rollouts": [[None]], "scores": ["high"]},
    "half": lambda row: row["steps"],
}
SPARED = {("sample", "results that are null"), ("sample", "results in a list")}  # it has no such fields


@pytest.mark.parametrize("command", ["sample", "rollout", "score"])
def test_a_damaged_row_of_an_output_is_named_with_its_place(
    command: str, erprm: Run, model: str, tmp_path: Path, scripted: None
) -> None:
    words = given(command, model, tmp_path)
    assert erprm(*words).exit_code == 0
    (line,) = (tmp_path / "out").read_bytes().splitlines(keepends=True)
    for how, damage in ROW_DAMAGE.items():
        if (command, how) not in SPARED:
            damaged = line[: len(line) // 2] if how == "half" else orjson.dumps(damage(json.loads(line)))
            (tmp_path / "out").write_bytes(line + damaged + b"\n")
            refused(
                erprm(*words), f"{tmp_path / 'out'}:2: ", "delete the line, and what it held is made again"
            )
    (tmp_path / "out").write_bytes(line * 2)
    refused(erprm(*words), f"{tmp_path / 'out'}:2: duplicate id")
    (tmp_path / "out").write_bytes(line)
    assert erprm(*words).exit_code == 0


META_DAMAGE = {
    "no file": None,
    "empty": b"",
    "half": b'{"settings": {"command"',
    "a list": b"[1]",
    "null": b"null",
    "no settings": b'{"runs": [{}]}',
    "settings that are a list": b'{"settings": [], "runs": [{}]}',
    "no runs": b'{"settings": {}}',
    "runs that are empty": b'{"settings": {}, "runs": []}',
    "runs of numbers": b'{"settings": {}, "runs": [1]}',
    "not UTF-8": b'{"settings": {"\xff": 1}, "runs": [{}]}',
    "deep": b'{"settings": {"seed": ' + b"[" * 900 + b"]" * 900 + b'}, "runs": [{}]}',
    "huge": b'{"settings": {}, "runs": [{"command": "' + b"a" * (1 << 24) + b'"}]}',
}


@pytest.mark.parametrize("how", META_DAMAGE)
@pytest.mark.parametrize("command", ["sample", "rollout", "score", "rlhf"])
def test_a_damaged_sidecar_is_one_line(
    command: str, how: str, erprm: Run, model: str, tmp_path: Path, scripted: None
) -> None:
    words = given(command, model, tmp_path)
    out = tmp_path / "out"
    if command == "rlhf":
        out.mkdir()
        out = out / "run"
        (tmp_path / "out" / "mine").write_text("")
    else:
        out.write_bytes(orjson.dumps(SOURCES[command][0]) + b"\n")
    if META_DAMAGE[how] is not None:
        out.with_name(out.name + ".meta.json").write_bytes(META_DAMAGE[how] or b"")
    refused(
        erprm(*words),
        f"{tmp_path / 'out'} is not empty, and no readable {out.name}.meta.json",
        "move it away, or give -o another name",
    )


def test_settings_without_any_content_are_not_those_of_an_earlier_version(
    erprm: Run, model: str, tmp_path: Path, scripted: None
) -> None:
    words = given("sample", model, tmp_path)
    assert erprm(*words).exit_code == 0
    sidecar = tmp_path / "out.meta.json"
    meta = json.loads(sidecar.read_bytes())
    sidecar.write_bytes(orjson.dumps(meta | {"settings": {}}))
    refused(erprm(*words), "was made with command None, not sample")


@pytest.mark.parametrize(
    "damage", [b"{}", b'{"id": [1]}', b"7", b'{"id": "a", "prefix": "b", "rewards": null}']
)
def test_a_damaged_journal_is_one_line(
    damage: bytes, erprm: Run, model: str, tmp_path: Path, scripted: None
) -> None:
    words = given("rollout", model, tmp_path)
    assert erprm(*words).exit_code == 0
    (tmp_path / "out.journal").write_bytes(damage + b"\n")
    shutil.copy(tmp_path / "out.meta.json", tmp_path / "out.journal.meta.json")
    refused(erprm(*words), f"{tmp_path / 'out.journal'}:1: ", "delete the line")


# Files of an earlier version


def as_before_contents(sidecar: Path, started: str) -> None:
    """Make a sidecar what the version before contents wrote."""
    meta = json.loads(sidecar.read_bytes())
    kept = {name: value for name, value in meta["settings"].items() if not name.endswith("_content")}
    meta["runs"][0]["started"] = started
    sidecar.write_bytes(orjson.dumps(meta | {"settings": kept}))


@pytest.mark.parametrize("command", ["sample", "rollout", "score"])
def test_a_file_of_an_earlier_version_is_continued_while_nothing_has_changed(
    command: str, erprm: Run, tmp_path: Path, scripted: None
) -> None:
    model = str(save_model(tmp_path / "model"))
    words = given(command, model, tmp_path)
    assert erprm(*words).exit_code == 0
    sidecar = tmp_path / "out.meta.json"
    as_before_contents(sidecar, "2001-01-01T00:00:00+00:00")  # before the model was made
    refused(erprm(*words), "made by an earlier version", "may have changed since", START_AGAIN)
    as_before_contents(sidecar, "2099-01-01T00:00:00+00:00")
    assert erprm(*words).exit_code == 0
    flip_a_weight(tmp_path / "model")  # its content was recorded when the file was continued
    refused(erprm(*words), "another version of")


def test_a_file_of_an_earlier_version_is_continued_by_its_own_command_only(
    erprm: Run, model: str, tmp_path: Path, scripted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it did not record, such as --max-model-len, is known from its command."""
    words = given("sample", model, tmp_path)
    monkeypatch.setattr("sys.argv", ["erprm", "sample", "in", "-n", "1"])
    assert erprm(*words).exit_code == 0
    sidecar = tmp_path / "out.meta.json"
    for argv, is_same in (
        (["-n", "4"], True),
        (["--n=4"], True),
        (["-n", "1", "--engine-arg", "a=b"], False),
    ):
        as_before_contents(sidecar, "2099-01-01T00:00:00+00:00")
        monkeypatch.setattr("sys.argv", ["erprm", "sample", "in", *argv])
        done = erprm(*words)
        assert (
            done.exit_code == 0 if is_same else "only the same command can continue it" in str(done.exception)
        )
