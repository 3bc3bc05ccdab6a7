"""Models and servers from strangers: mutated folders, templates and answers end in rows or in one line."""

import json
import os
import pickle
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from tests.scripted_server import Reply, ScriptedServer, completed, serving
from tests.torture.mutations import CONTROL, damaged, mutated, odd_value
from tests.torture.program import fresh
from tests.torture.tries import Tell, tries

# Folders


def folders(folder: Path, count: int, seed: int, tell: Tell) -> Counter[str]:
    """Damage the folder of a policy, a PRM or adapters in one or two places, and generate or score with it.

    Loading runs in this process, thousands of times; nothing that a folder holds may run or be unpickled.
    """
    from tests.torture import strange_folders

    bases = strange_folders.bases(folder / "bases")
    (folder / "outside.bin").write_bytes(pickle.dumps(strange_folders.Canary(folder / "ran")))

    def attempt(number: int) -> None:
        draw = random.Random(f"{seed} {number}")
        base = draw.choice(bases)
        copy = fresh(folder / "try") / "model"
        shutil.copytree(base, copy)
        for _ in range(draw.choice((1, 1, 2))):
            damage(copy, draw)
        strange_folders.use(copy, is_prm=base.name != "policy" or draw.random() < 0.3)

    found = tries("folders", count, attempt, folder, tell)
    found["written outside"] += (folder / "ran").exists()
    return found


def damage(folder: Path, draw: random.Random) -> None:
    """Change one file of a model: its bytes, a value in it, where it leads to, or what it names."""
    file = draw.choice(
        sorted(path for path in folder.iterdir() if path.is_file()) or [folder / "config.json"]
    )
    action = draw.random()
    if action < 0.1:
        file.unlink(missing_ok=True)
        target = odd_path(draw) or "/"
        draw.choice((str, file.mkdir, lambda: os.mkfifo(file), lambda: file.symlink_to(target)))()
    elif action < 0.2:
        target = draw.choice(("model.safetensors", "adapter_model.safetensors", "pytorch_model.bin"))
        names = {"model.embed_tokens.weight": odd_path(draw), "lm_head.weight": "model.safetensors"}
        index: Any = {"metadata": {}, "weight_map": names}
        replace(folder / f"{target}.index.json", json.dumps(mutated(index, draw)).encode())
        if draw.random() < 0.5:
            (folder / target).unlink(missing_ok=True)
    elif file.suffix == ".json" and action < 0.75:
        values: Any = {}
        with suppress(ValueError, RecursionError):  # it was damaged before
            values = json.loads(file.read_bytes())
        if isinstance(values, dict) and draw.random() < 0.1:
            values[draw.choice(HOSTILE_KEYS)] = draw.choice((odd_path(draw), odd_value(draw)))
        replace(file, json.dumps(mutated(values, draw)).encode())
    elif not file.is_symlink():  # /dev/zero has no end
        replace(file, damaged(file.read_bytes(), draw))


def replace(file: Path, data: bytes) -> None:
    """Write a new file: the old one may be a link to /etc/passwd by now, which must not be followed."""
    file.unlink(missing_ok=True)
    file.write_bytes(data)


HOSTILE_KEYS = (
    "transformers_weights",
    "auto_map",
    "fast_tokenizer_files",
    "tokenizer_class",
    "quantization_config",
    "num_labels",
    "id2label",
    "_attn_implementation",
    "base_model_name_or_path",
    "megatron_config",
    "chat_template",
    "eos_token_id",
    "torch_dtype",
    "text_config",
)


def odd_path(draw: random.Random) -> str:
    """Return the name of a file that a model should not name."""
    return draw.choice(
        ("../outside.bin", "/etc/passwd", "/dev/zero", "weights.bin", "gone", "", CONTROL, ".")
    )


# Chat templates

PIECES = r"""
{% for m in messages %}
{% endfor %}
{% for i in range(99) %}
{% for c in m.content %}
{{ m.role }}
{{ m['content'] }}
{{ bos_token }}
{{ 1/0 }}
{{ 'x' * 9 ** 13 }}
{{ nothing.at.all }}
{% if %}
{% if add_generation_prompt %}
{% else %}
{% endif %}
{{ messages[7] }}
{{ messages | tojson }}
{{ raise_exception('no') }}
{{ strftime_now('%Y') }}
{{ ''.__class__ }}
{{ self }}
{{ lipsum(9) }}
{#
#}
{{
}}
{% set x = messages %}
{% macro f() %}
{% endmacro %}
{{ f() }}
{{ range(10 ** 9) }}
{% include 'x' %}
{{ x | map('upper') | list }}
{% generation %}
{% endgeneration %}
{% break %}
text
""".split("\n")


def templates(folder: Path, count: int, seed: int, tell: Tell) -> Counter[str]:
    """Render random chat templates for a policy and a PRM, and read mutated template files of both."""
    from erprm_cli import shipped
    from erprm_cli.policy.prompts import make_prompt, render_end
    from erprm_cli.policy.templates import load_template
    from erprm_cli.prm.formats import load_prm_format
    from erprm_cli.prm.tagger import Tagger
    from tests.tiny_models import make_tokenizer

    chat, prm = load_template("gsm8k-chat"), load_prm_format("qwen")
    files = {
        kind: [shipped.template_path(kind, name, kind) for name in shipped.names(kind)]
        for kind in ("policy", "prm")
    }
    tokenizer = make_tokenizer(words=(prm.tag, "+", "-"))

    def attempt(number: int) -> None:
        draw = random.Random(f"{seed} {number}")
        if number % 4 == 0:
            kind = draw.choice(("policy", "prm"))
            file = folder / "odd.toml"
            file.write_bytes(damaged(draw.choice(files[kind]).read_bytes(), draw))
            load_template(str(file)) if kind == "policy" else load_prm_format(str(file))
            return
        tokenizer.chat_template = "".join(draw.choice(PIECES) for _ in range(draw.randint(1, 8)))
        if number % 4 == 1:
            Tagger(load_prm_format("rlhflow"), tokenizer).render("2 + 3?", ["5", "5"])
        else:
            make_prompt(chat, tokenizer, "2 + 3?")
            render_end(chat, tokenizer)

    return tries("templates", count, attempt, folder, tell)


# Servers


def endless(piece: bytes) -> Iterator[bytes]:
    while True:
        yield piece


def odd_reply(whole: Any, draw: random.Random) -> Reply:
    """Return the answer `whole`, damaged in its bytes, its values, its status or its headers."""
    action = draw.random()
    if action < 0.02:
        return Reply(endless(draw.choice((b"[", b" ", b'{"a":', bytes(65536)))))
    if action < 0.5:
        body: Any = json.dumps(mutated(whole, draw)).encode()
    elif action < 0.7:
        body = damaged(json.dumps(whole).encode(), draw)
    else:
        error = mutated({"error": {"message": "no", "code": 400}}, draw)
        body = json.dumps([error] if draw.random() < 0.1 else error).encode()
    status = draw.choice((200, 200, 200, 204, 301, 304, 400, 404, 413, 429, 500, 503, 599))
    names = ("Retry-After", "Location", "Content-Type", "Content-Encoding", "Set-Cookie", "Content-Length")
    values = (
        "0",
        "nan",
        "-1",
        "1e400",
        "http://[",
        "/v1/completions",
        "gzip",
        "gzip, br",
        "a" * 9_000,
        "; charset=zlib",
    )
    headers = {draw.choice(names): draw.choice(values)} if draw.random() < 0.2 else {}
    return Reply(body, status, headers)


def impatient() -> None:
    """Let clients of servers wait and retry less than they do, for thousands of tries."""
    from erprm_cli.engines import server_client

    server_client.RETRIES = server_client.RETRIES_OF_ONE = 1
    server_client.BACKOFF_S = 0.001
    server_client.MAX_RETRY_AFTER_S = 0.0
    server_client.BODY_TIMEOUT_S = 0.5
    server_client.READ_TIMEOUT_S = server_client.ABOUT_TIMEOUT_S = 2.0
    server_client.MAX_ANSWER_BYTES = 1 << 20


def servers(folder: Path, count: int, seed: int, tell: Tell) -> Counter[str]:
    """Ask a server that answers with mutations of a good answer, at the start and later, text or chats."""
    from erprm_cli.engines.base import Chat, Completion, Failure, Request, SamplingParams
    from erprm_cli.engines.server_engine import ServerEngine

    impatient()

    def attempt(number: int, server: ScriptedServer) -> None:
        draw = random.Random(f"{seed} {number}")
        server.say = lambda _, fields: odd_reply(completed(fields).body, draw)
        server.models = Reply(mutated({"data": [{"id": "m", "max_model_len": 9}]}, draw))
        chat = draw.random() < 0.5
        prompt: Any = Chat((("user", "hi"),)) if chat else "hi"
        with closing(ServerEngine(server.url, 4)) as engine:
            if draw.random() < 0.3:
                engine._portal.call(engine._dialect.choose_model, "m")
                engine._portal.call(engine._dialect.find_abilities)
            wanted = [Request("a", prompt, (0, 1), 0)]
            for result in engine.generate(wanted, SamplingParams(1.0, 1.0, 20)):
                assert isinstance(result, Completion | Failure)
                if isinstance(result, Completion):
                    json.dumps([result.text, result.num_tokens]).encode()
                    assert 0 <= result.num_tokens < 2**53

    def in_child(number: int) -> None:
        with serving(lambda _, fields: completed(fields)) as server:
            server.http.handle_error = lambda *_: None  # type: ignore[method-assign]  # the client left
            attempt(number, server)

    return tries("servers", count, in_child, folder, tell)
