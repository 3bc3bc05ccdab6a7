"""erprm.json, the card in a PRM's folder: its format, its tokens and the eta it was trained at."""

from pathlib import Path

from erprm_cli import shipped
from erprm_cli.errors import UsageError, UserError
from erprm_cli.io.files import read_json, read_object
from erprm_cli.io.typed_fields import from_table
from erprm_cli.labels.estimator import eta_of_row
from erprm_cli.models.folder import CARD
from erprm_cli.prm.formats import PrmFormat, known_format, load_prm_format
from erprm_cli.rows.row import Row

CARD_TYPES = {"format": dict, "token_ids": dict, "settings": dict, "result": dict, "eta": float | int | None}


def prm_format_of(name: str, card: Row | None = None, chosen: str | None = None) -> PrmFormat:
    """Return the format of the PRM `name`: the `chosen` one, else its card's, else that of a known model.

    Raises UsageError if none of these says, UserError if the card is not one of this version.
    """
    if chosen is not None:
        return load_prm_format(chosen)
    if card is not None:
        try:
            return from_table(PrmFormat, card["format"], f"{name}: 'format' in {CARD}")
        except UsageError as error:
            raise UserError(f"{error}; the file is from another version of erprm") from None
    known = known_format(name)
    if known is None:
        raise UsageError(
            f"{name} has no {CARD} and is not a public PRM that erprm knows, so --prm-format must say how to "
            f"read it: {', '.join(shipped.names('prm'))}, or a .toml file"
        )
    return load_prm_format(known)


def eta_learned(name: str, card: Row | None) -> float:
    """Return the eta of the labels that the scores of a PRM estimate.

    It is 0 (success rates) unless its card has another eta. Raises UsageError for an infinite eta, whose
    labels cannot be turned into labels at another eta.
    """
    if card is None or card.get("settings", {}).get("target") == "counts" or "eta" not in card:
        return 0.0
    eta = card["eta"]
    if eta is None:
        raise UsageError(
            f"{name} was trained on labels at an infinite eta, which cannot be turned into labels at another "
            "eta; leave out --eta"
        )
    return float(eta)


def read_card(name: str) -> Row | None:
    """Return erprm.json of a PRM folder, or None if there is none because erprm did not train the model."""
    path = Path(shipped.resolve(name)) / CARD
    if not path.exists():
        return None
    try:
        card = read_object(path)
    except ValueError as error:
        raise UserError(f"cannot be read: {error}", where=path) from None
    if not {"format", "token_ids"} <= card.keys():
        raise UserError("missing 'format' or 'token_ids'", where=path, remedy="`erprm train` writes them")
    for key, kind in CARD_TYPES.items():
        if key in card and not isinstance(card[key], kind):
            raise UserError(f"{key!r} has the wrong type", where=path, remedy="restore the file")
    return card


def trained_at(prm: str | None) -> float | None:
    """Return the eta of the labels that the PRM in the folder `prm` was trained on, or None if unknown."""
    try:
        card = read_json(Path(prm or "") / CARD)
        return eta_of_row(card["eta"], card["estimator"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
