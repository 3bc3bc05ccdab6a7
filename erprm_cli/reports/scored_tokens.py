"""What a process reward model is given and where it is read, for people to look at.

B, T, ... as in prm.py
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from erprm_cli.prm.scorer import Scorer
from erprm_cli.prm.tagger import Tagged
from erprm_cli.rows.row import Row
from erprm_cli.terminal.text import visible


def described(scorer: Scorer) -> str:
    """Return one line about the format that a model is read by and the ids of its words."""
    form, ids = scorer.form, asdict(scorer.tagger.token_ids)
    words = [f"{name} {getattr(form, name)!r} is token {ids[name]}" for name in ids if ids[name] is not None]
    if form.kind == "head":
        words.append(f"score is the sum of classes {list(form.labels)} of {form.num_labels}")
    return ", ".join([f"format {form.name}, kind {form.kind}, built as {form.build}", *words])


def scored_tokens(scorer: Scorer, row: Row, tagged: Tagged) -> Iterator[Row]:
    """Yield a row for each step: which token it is scored at, and the score. One forward pass."""
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


def marked(scorer: Scorer, tagged: Tagged, tokens: Sequence[Row]) -> str:
    """Return what the model reads, decoded, with every scored token in ⟦ ⟧ and its step and score after it.

    Safe to print: no escape sequence, control or bidirectional character of a row or tokenizer is in it.
    """
    decode, ids = scorer.tagger.tokenizer.decode, tagged.ids.tolist()
    parts, done = [], ""
    for token in tokens:
        before = decode(ids[: token["position"]])
        up_to = decode(ids[: token["position"] + 1])
        text = up_to[len(before) :]
        if not text.strip():
            text = repr(text)[1:-1]  # a newline as a mark, not as a line
        mark = f"⟦{visible(text)}⟧({token['step']}: {token['score']:.4f})"
        parts.append(visible(before[len(done) :]) + mark)
        done = up_to
    return "".join(parts)
