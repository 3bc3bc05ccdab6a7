import gzip
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erprm_cli.errors import UserError
from erprm_cli.labels.estimator import entropy_regularized
from erprm_cli.labels.labeller import Labeller

ROW = b'{"id":"p1","rollouts":[[1.0,0.0],[0,1,1,1],[1.0]]}'
LABELLED = (
    b'{"id":"p1","rollouts":[[1.0,0.0],[0,1,1,1],[1.0]],"labels":[0.5,0.75,1.0],"eta":0.0,"estimator":"soft"}'
)

Run = Callable[..., Any]


def label(lines: list[bytes], eta: float = 1.0) -> tuple[list[dict[str, Any]], list[str]]:
    """Label lines without a file; return the rows and why the others were refused."""
    refused: list[str] = []
    done = b"".join(Labeller(eta).label(lines, lambda _, reason: refused.append(reason)))
    return [json.loads(line) for line in done.splitlines()], refused


def fails(result: Any) -> str:
    """Return what a run in process failed with."""
    assert isinstance(result.exception, UserError), result.exception
    return str(result.exception)


def test_labels_are_added_and_the_rest_stays_byte_for_byte(erprm: Run) -> None:
    strange = b'{ "z" : 1.10, "big":123456789012345678901234567890, "e":1E2,"t":"\\u00e9\xc3\xa9\\/"'
    line = strange + b', "d":{"a" :[ ]}, "rollouts": [[1.0, 0.0], [1]] }'
    done = erprm("label", "--eta", "0", "-q", stdin=line + b"\n")
    assert done.exit_code == 0
    assert done.stdout_bytes == line[:-1] + b',"labels":[0.5,1.0],"eta":0.0,"estimator":"soft"}\n'


def test_a_field_given_twice_is_refused_where_one_would_be_lost() -> None:
    line = b'{"id":"a","id":"b","rollouts":[[1.0]]%b}'
    kept, refused = label([line % b""])
    assert kept[0]["labels"] == [1.0] and not refused  # it leaves as it came
    kept, refused = label([line % b',"labels":[0.5]', ROW])
    assert len(kept) == 1 and refused == ["duplicate field 'id'"]


def test_the_example_of_the_paper(erprm: Run) -> None:
    rewards = [[1] * wins + [0] * (16 - wins) for wins in range(17)]
    done = erprm("label", stdin=json.dumps({"rollouts": rewards}))
    row = json.loads(done.stdout)
    assert [round(value, 3) for value in row["labels"][:4]] == [0.0, 0.102, 0.195, 0.279]
    assert (row["eta"], row["estimator"]) == (1.0, "er")
    assert "erprm label: 1 rows, 17 steps, eta 1, K 16, " in done.stderr


@pytest.mark.parametrize(
    ("flags", "labels", "eta", "estimator"),
    [
        (["--eta", "0"], [0.5, 0.75, 1.0], 0.0, "soft"),
        (["--estimator", "soft"], [0.5, 0.75, 1.0], 0.0, "soft"),
        (["--eta", "inf"], [1.0, 1.0, 1.0], None, "hard"),
        (["--estimator", "hard"], [1.0, 1.0, 1.0], None, "hard"),
        (["--eta", "-inf"], [0.0, 0.0, 1.0], None, "min"),
        (["--estimator", "min"], [0.0, 0.0, 1.0], None, "min"),
        (["--estimator", "hard", "--eta", "inf"], [1.0, 1.0, 1.0], None, "hard"),
        (["--eta", "2"], [math.log((1 + math.e**2) / 2) / 2, None, 1.0], 2.0, "er"),
        (["--estimator", "er", "--eta", "-2"], [-math.log((1 + math.e**-2) / 2) / 2, None, 1.0], -2.0, "er"),
    ],
)
def test_estimators_by_number_and_by_name(
    erprm: Run, flags: list[str], labels: list[float | None], eta: float | None, estimator: str
) -> None:
    done = erprm("label", *flags, stdin=ROW)
    row = json.loads(done.stdout)
    for found, expected in zip(row["labels"], labels, strict=True):
        assert isinstance(found, float)
        assert expected is None or found == pytest.approx(expected, abs=1e-15)
    assert (row["eta"], row["estimator"]) == (eta, estimator)


@pytest.mark.parametrize(
    ("flags", "remedy"),
    [
        (["--eta", "2", "--estimator", "soft"], "--estimator soft is --eta 0; --eta 2 needs --estimator er"),
        (["--eta", "0", "--estimator", "hard"], "--estimator hard is --eta inf"),
        (["--eta", "nan"], "--eta nan"),
        (["--max-errors", "3"], "--errors"),
    ],
)
def test_flags_that_do_not_go_together_are_a_wrong_usage(erprm: Run, flags: list[str], remedy: str) -> None:
    done = erprm("label", *flags, stdin=ROW)
    assert remedy in fails(done)
    assert done.exception.exit_status == 2


def test_labels_that_are_there_are_replaced(erprm: Run) -> None:
    once = erprm("label", "--eta", "2", "-q", stdin=ROW).stdout_bytes
    again = erprm("label", "--eta", "0", "-q", stdin=once).stdout_bytes
    assert again == LABELLED + b"\n"
    mixed = b'{"labels":[9.0],"a":1.10,"eta":3,"rollouts":[[1.0]],"b":{"labels":0},"estimator":null}'
    done = erprm("label", "--eta", "0", "-q", stdin=mixed).stdout_bytes
    assert done == (
        b'{"a":1.10,"rollouts":[[1.0]],"b":{"labels":0},"labels":[1.0],"eta":0.0,"estimator":"soft"}\n'
    )


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n \n",
        ROW,
        ROW + b"\n",
        b"\xef\xbb\xbf" + ROW + b"\r\n\r\n" + ROW + b"\r\n",
        ROW + b"  \n\n" + ROW,
    ],
)
def test_lines_may_end_as_they_like(erprm: Run, tmp_path: Path, text: bytes) -> None:
    expected = (LABELLED + b"\n") * text.count(ROW)
    assert erprm("label", "--eta", "0", "-q", stdin=text).stdout_bytes == expected
    packed = tmp_path / "in.jsonl.gz"
    packed.write_bytes(gzip.compress(text))
    assert erprm("label", "--eta", "0", "-q", packed).stdout_bytes == expected


@pytest.mark.parametrize(
    ("rollouts", "reason"),
    [
        ("[]", "'rollouts' is empty"),
        ("[[]]", "'rollouts[0]' (counted from 0) must be a non-empty list"),
        ("[[1.0],[]]", "'rollouts[1]' (counted from 0) must be a non-empty list"),
        ("[1.0]", "'rollouts[0]' (counted from 0) must be a non-empty list"),
        ("null", "no 'rollouts' (one list of rewards per step"),
        ('"[[1.0]]"', "'rollouts' is a string, not a list"),
        ("{}", "'rollouts' is an object, not a list"),
        ("[[[1.0]]]", "'rollouts[0]' (counted from 0) contains a list"),
        ("[[[1.0]],[[0.0]]]", "'rollouts[0]' (counted from 0) contains a list"),
        ('[["1.0"]]', "'rollouts[0]' (counted from 0) contains a string"),
        ('[["1.0],[0.0"]]', "'rollouts[0]' (counted from 0) contains a string"),
        ("[[true]]", "'rollouts[0]' (counted from 0) contains true"),
        ("[[null]]", "'rollouts[0]' (counted from 0) contains null"),
        ("[[1.0,{}]]", "'rollouts[0]' (counted from 0) contains an object"),
        ("[[1.0 0.0]]", "not JSON"),
        ("[[1.0,]]", "not JSON"),
        ("[[1.0],,[0.0]]", "not JSON"),
        ("[[01.0]]", "not JSON"),
        ("[[1.0.0]]", "not JSON"),
        ("[[NaN]]", "not JSON"),
        ("[[Infinity]]", "not JSON"),
        ("[[1e400]]", "not JSON"),
        ("[[1.0]", "not JSON"),
    ],
)
@pytest.mark.parametrize("warm", [False, True])
def test_rollouts_that_are_none_are_refused(rollouts: str, reason: str, warm: bool) -> None:
    good = [b'{"rollouts":[[1.0,0.0],[0.0]]}', b'{"rollouts":[[1.0],[0.0]]}', b'{"rollouts":[[0.5]]}'] * warm
    rows, refused = label([*good, f'{{"rollouts":{rollouts}}}'.encode()])
    assert len(rows) == len(good)
    assert len(refused) == 1 and reason in refused[0]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"rollouts":[[1.0]],"steps":["a","b"]}', "'rollouts' has 1 list for 2 steps"),
        (b'{"rollouts":[[1.0]],"steps":null}', "no 'steps'"),
        (b'{"id":1}', "no 'rollouts'"),
        (b"[[1.0]]", "not a JSON object"),
        (b'{"rollouts":[[1.0]],"x":"\xff"}', "not UTF-8"),
        (b'{"rollouts":[[1.0]],"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not JSON"),
        (b'{"rollouts":[[1.0]]} {"rollouts":[[1.0]]}', "not JSON"),
        (b'{"rollouts":[[1.0]]', "not JSON"),
    ],
    ids=["few", "null", "none", "list", "utf8", "nested", "two", "torn"],
)
def test_a_bad_line_is_refused(line: bytes, reason: str) -> None:
    rows, refused = label([line, b'{"rollouts":[[1.0]]}'])
    assert [row["labels"] for row in rows] == [[1.0]]
    assert len(refused) == 1 and reason in refused[0]


reward = st.sampled_from([0.0, 1.0, 0, 1, 0.5, 0.1, 1.1, 10.0, -1.0, -0.0, 1e-9, 1e300]) | st.floats(
    -1e3, 1e3
)
step = st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=5) | st.lists(
    reward, min_size=1, max_size=5
)


@given(st.lists(st.lists(step, min_size=1, max_size=4), max_size=6), st.sampled_from([0.0, 1.0, 2.0, -3.0]))
def test_the_fast_way_gives_the_labels_of_the_formula(rows: list[list[list[float]]], eta: float) -> None:
    compact = [json.dumps({"rollouts": row}, separators=(",", ":")).encode() for row in rows]
    spaced = [json.dumps({"rollouts": row}).encode() for row in rows]
    odd = [json.dumps({"rollouts": row}, separators=("\t, ", ":\t")).encode() for row in rows]
    done, refused = label([*compact, *spaced, *odd, *compact], eta)
    assert not refused
    for row in done:
        assert row["labels"] == [entropy_regularized(rewards, eta) for rewards in row["rollouts"]]


def test_many_rollouts_are_labelled_too() -> None:
    long = [1.0] * 3 + [0.0] * 4997
    rows, _ = label([json.dumps({"rollouts": [long, [1.0]]}).encode()] * 2, 0.0)
    assert [row["labels"] for row in rows] == [[3 / 5000, 1.0]] * 2


def test_a_bad_row_stops_or_is_set_aside(erprm: Run, tmp_path: Path) -> None:
    source, output, errors = tmp_path / "in.jsonl", tmp_path / "out.jsonl", tmp_path / "errors.jsonl"
    source.write_bytes(ROW + b"\n\n" + b'{"id":"p2"}\n' + ROW + b"\n")
    done = erprm("label", "--eta", "0", source, "-q")
    told = "no 'rollouts' (one list of rewards per step; the last holds the reward of the solution; `erprm "
    told += "rollout` writes it)"
    assert fails(done) == f"{source}:3: {told}. --errors FILE writes such rows to FILE and goes on"
    assert done.stdout_bytes == LABELLED + b"\n"  # what was done before it is there
    done = erprm("label", "--eta", "0", source, "-o", output, "-q")
    assert fails(done)
    assert not output.exists()  # but a file is whole or not there
    done = erprm("label", "--eta", "0", source, "-o", output, "--errors", errors, "-q")
    assert "1 bad row was written to" in fails(done)
    assert output.read_bytes() == (LABELLED + b"\n") * 2
    assert json.loads(errors.read_bytes()) == {
        "place": f"{source}:3",
        "reason": told,
        "line": '{"id":"p2"}',
    }
    done = erprm("label", source, "--errors", errors, "--max-errors", "0", "-q")
    assert "more than 0 bad rows" in fails(done)


def test_a_file_is_made_again_by_the_same_command_and_kept_from_others(erprm: Run, tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(ROW + b"\n")
    for _ in range(2):
        assert erprm("label", "--eta", "0", source, "-o", output, "-q").exit_code == 0
        assert output.read_bytes() == LABELLED + b"\n"
    assert "made with estimator soft, not er" in fails(erprm("label", source, "-o", output))
    assert erprm("label", source, "-o", output, "--overwrite", "-q").exit_code == 0
    assert json.loads(output.read_bytes())["eta"] == 1.0
    assert "is also the input" in fails(erprm("label", source, "-o", source, "--overwrite"))
    assert "is also the input" in fails(erprm("label", source, "--errors", source))
    both = tmp_path / "both.jsonl"
    assert "is also -o" in fails(erprm("label", source, "--errors", both, "-o", both))
    assert source.read_bytes() == ROW + b"\n"


def test_the_limit_ends_the_reading(erprm: Run) -> None:
    text = (b"\n" + ROW + b"\n") * 3 + b"bad\n"
    assert erprm("label", "--eta", "0", "-L", "2", "-q", stdin=text).stdout_bytes == (LABELLED + b"\n") * 2
    assert erprm("label", "-L", "0", "-q", stdin=text).stdout_bytes == b""


def test_an_infinite_eta_is_null_in_the_sidecar_and_still_told_apart(erprm: Run, tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(ROW + b"\n")
    assert erprm("label", "--eta", "inf", source, "-o", output, "-q").exit_code == 0
    assert "made with estimator hard, not min" in fails(erprm("label", "--eta", "-inf", source, "-o", output))


# As a process


def start(*flags: str, **options: Any) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "erprm_cli", "label", *flags]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)


def test_a_row_is_through_a_slow_pipe_before_the_next_comes() -> None:
    with start("--eta", "0", "-q") as process:
        assert process.stdin and process.stdout
        for turn in range(3):
            began = time.monotonic()
            process.stdin.write(ROW + b"\n")
            process.stdin.flush()
            assert process.stdout.readline() == LABELLED + b"\n"
            assert turn == 0 or time.monotonic() - began < 0.2  # the first waits for the start
        process.stdin.close()
        assert process.wait() == 0


def test_a_closed_pipe_is_quiet() -> None:
    with start(stderr=subprocess.PIPE) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(ROW + b"\n")
        process.stdin.flush()
        process.stdout.readline()
        process.stdout.close()
        try:
            process.stdin.write((ROW + b"\n") * 10_000)
            process.stdin.close()
        except BrokenPipeError:
            pass
        assert process.stderr.read() == b""


def test_an_error_is_one_line_and_a_status(shell: Run, tmp_path: Path) -> None:
    done = shell("label", stdin='{"id":1}\n')
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "erprm: stdin:1: no 'rollouts' (one list of rewards per step; the last holds the reward of the "
        "solution; `erprm rollout` writes it). "
        "--errors FILE writes such rows to FILE and goes on\n"
    )
    done = shell("label", "--eta", "2", "--estimator", "soft")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_nothing_heavy_is_loaded() -> None:
    code = (
        "import sys; from erprm_cli.labels.labeller import Labeller\n"
        "list(Labeller(2.0).label([b'{\"rollouts\":[[0.5]]}'], print))\n"
        "print(*{'torch', 'numpy', 'rich', 'transformers', 'math_verify', 'jsonlines'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Rewards that never repeat fill what the command remembers of them."""
    source = tmp_path / "in.jsonl"
    with source.open("w") as file:
        for number in range(30_000):
            rewards = [(number * 16 + k) / 7 for k in range(16)]
            ones = [[float(number >> k & 1) for k in range(number % 23 + 1)] for _ in range(3)]
            file.write(json.dumps({"rollouts": [rewards, *ones, [1.0]]}) + "\n")
    measure = (  # a small process starts it, as the peak of a child begins with that of its parent
        "import os, sys; pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)\n"
        "_, status, usage = os.wait4(pid, 0); print(status, usage.ru_maxrss)"
    )
    command = [
        sys.executable,
        "-m",
        "erprm_cli",
        "label",
        str(source),
        "-o",
        str(tmp_path / "out.jsonl"),
        "-q",
    ]
    done = subprocess.run(
        [sys.executable, "-c", measure, *command], capture_output=True, text=True, check=True
    )
    status, peak_kb = map(int, done.stdout.split())
    assert status == 0
    assert peak_kb / 1024 < 60


# Rows of your own


def rows_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_field_that_is_given_twice_is_refused_wherever_it_is(erprm: Run) -> None:
    for line in (
        '{"rollouts":[[1.0]],"rollouts":[[0.0]]}',
        '{"rollouts":[[1.0]],"rollouts":[[1.0]]}',
        '{"rollouts": [[1.0]], "id": "a", "rollouts": [[0.0]]}',
        '{"rollouts":[[1.0]],"labels":[0.0],"labels":[1.0]}',
    ):
        assert "stdin:1: duplicate field" in str(erprm("label", stdin=line).exception)
    for first, second in (
        ("rollouts", "\\u0072ollouts"),
        ("\\u0072ollouts", "rollouts"),
    ):  # one name, spelled twice
        line = f'{{"{first}":[[1.0]],"{second}":[[0.0]]}}\n'
        assert "stdin:1: duplicate field 'rollouts'" in str(erprm("label", stdin=line).exception)
    assert erprm("label", stdin='{"text":"\\u00e9","rollouts":[[1.0]]}\n').exit_code == 0
    text = '{"rollouts":[[1.0]],"id":"rollouts","of":["rollouts"]}'
    assert rows_of(erprm("label", stdin=text).stdout)[0]["labels"] == [1.0]


def test_success_rates_and_counts_are_labelled(erprm: Run) -> None:
    rates = [0.5, 1.0, 0.0]
    rollouts = [[1.0, 0.0, 1.0, 0.0], [1.0] * 4, [0.0] * 4]
    expected = rows_of(erprm("label", "--eta", 2, stdin=json.dumps({"rollouts": rollouts})).stdout)[0]
    accepted: list[dict[str, Any]] = [
        {"rates": rates},
        {"successes": [2, 4, 0], "trials": 4},
        {"successes": [1, 4, 0], "trials": [2, 4, 8], "steps": ["a", "b", "c"]},
    ]
    for own in accepted:
        (row,) = rows_of(erprm("label", "--eta", 2, stdin=json.dumps(own)).stdout)
        assert row == own | {name: expected[name] for name in ("labels", "eta", "estimator")}
    refused: list[tuple[dict[str, Any], str]] = [
        ({"rates": [1.5]}, "'rates' contains 1.5, outside [0, 1]"),
        ({"rates": [0.5], "steps": ["a", "b"]}, "'rates' has 1 number for 2 steps"),
        ({"successes": [5], "trials": 4}, "'successes[0]' (counted from 0) is 5 of 4 trials"),
        ({"successes": [0], "trials": [0]}, "is 0 of 0 trials"),
        ({"successes": [1, 2], "trials": [2]}, "'trials' has 1 number for 2 numbers of successes"),
        ({"successes": [1]}, "no 'trials' (the number of completions after each step"),
        ({"successes": ["1"], "trials": 4}, "'successes[0]' (counted from 0) is a string, not an integer"),
    ]
    for own, told in refused:
        assert told in str(erprm("label", stdin=json.dumps(own)).exception)


def test_fields_under_other_names_are_labelled(erprm: Run) -> None:
    line = '{"mc":[[1.0],[0.0]],"x":1}'
    (row,) = rows_of(erprm("label", "--field", "rollouts=mc", stdin=line).stdout)
    assert (row["labels"], row["mc"], row["x"]) == ([1.0, 0.0], [[1.0], [0.0]], 1)
    (row,) = rows_of(erprm("label", "--eta", 0, "--field", "rates=values", stdin='{"values":[0.25]}').stdout)
    assert row["labels"] == [0.25]
