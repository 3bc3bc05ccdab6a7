"""The input of a process reward model, token by token, with the score of each step: for `erprm inspect`."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from erprm_cli.prm.scorer import Scorer
from erprm_cli.prm.tagger import Tagged
from erprm_cli.rows.row import Row
from erprm_cli.terminal.text import visible


def description(scorer: Scorer) -> str:
    """Return one line about the format of a PRM and the ids of its special tokens."""
    prm_format, ids = scorer.prm_format, asdict(scorer.tagger.token_ids)
    values = {name: getattr(prm_format, name) for name, id_ in ids.items() if id_ is not None}
    parts = [f"{name} {value!r} is token {ids[name]}" for name, value in values.items()]
    if prm_format.kind == "head":
        parts.append(f"score is the sum of classes {list(prm_format.labels)} of {prm_format.num_labels}")
    heading = f"format {prm_format.name}, kind {prm_format.kind}, build {prm_format.build}"
    return ", ".join([heading, *parts])


def scored_tokens(scorer: Scorer, row: Row, tagged: Tagged) -> Iterator[Row]:
    """Yield a row for each step: the token at which it is scored, and the score. One forward pass."""
    scores = next(scorer.score_encoded([(row, tagged)]))["scores"]
    assert len(scores) == len(tagged.tags) == len(row["steps"])
    for number, (position, score) in enumerate(zip(tagged.tags.tolist(), scores, strict=True), start=1):
        token_id = int(tagged.ids[position])
        token = scorer.tagger.tokenizer.convert_ids_to_tokens(token_id)
        yield {
            "id": row["id"],
            "sample": row["sample"],
            "step": number,
            "position": position,
            "token_id": token_id,
            "token": token,
            "score": score,
        }


def marked_text(scorer: Scorer, tagged: Tagged, tokens: Sequence[Row]) -> str:
    """Return the decoded input of the model, with every scored token in ⟦ ⟧ and its step and score after it.

    It is safe to print: escape sequences, control and bidirectional characters are removed.
    """
    decode, ids = scorer.tagger.tokenizer.decode, tagged.ids.tolist()
    parts, done = [], ""
    for token in tokens:
        before = decode(ids[: token["position"]])
        up_to = decode(ids[: token["position"] + 1])
        text = up_to[len(before) :]
        if not text.strip():
            text = repr(text)[1:-1]  # show a newline as \n
        mark = f"⟦{visible(text)}⟧({token['step']}: {token['score']:.4f})"
        parts.append(visible(before[len(done) :]) + mark)
        done = up_to
    return "".join(parts)
