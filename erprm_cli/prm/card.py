"""erprm.json, what a PRM's folder says of itself: its format, its tokens, the eta it has learned."""

from pathlib import Path

import orjson

from erprm_cli import shipped
from erprm_cli.errors import UsageError, UserError
from erprm_cli.labels.estimator import eta_of_row
from erprm_cli.models.folder import CARD
from erprm_cli.prm.formats import PrmFormat, known_format, prm_format
from erprm_cli.rows.row import Row


def format_of(name: str, card: Row | None = None, form: str | None = None) -> PrmFormat:
    """Return the format that is asked for, else the card's, else that of a known model; or UsageError."""
    if form is not None:
        return prm_format(form)
    if card is not None:
        try:
            return PrmFormat(**card["format"])
        except TypeError as error:
            raise UserError(f"{name}: the format in {CARD} is not one of this version: {error}") from None
    known = known_format(name)
    if known is None:
        raise UsageError(
            f"{name} has no {CARD} and is no public PRM known here, so --prm-format must say how it is read: "
            f"{', '.join(shipped.names('prm'))}, or a .toml file"
        )
    return prm_format(known)


def eta_learned(name: str, card: Row | None) -> float:
    """Return the eta of the labels that a model's scores are: 0, of rates, unless its card says another."""
    if card is None or card.get("settings", {}).get("target") == "counts" or "eta" not in card:
        return 0.0
    eta = card["eta"]
    if eta is None:
        raise UsageError(
            f"{name} has learned labels at an infinite eta, from which no other can be made; leave --eta out"
        )
    return float(eta)


def read_card(name: str) -> Row | None:
    """Return erprm.json of a PRM folder, or None if it has none (then it is some other model)."""
    path = Path(shipped.resolve(name)) / CARD
    try:
        card: Row = orjson.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if not {"format", "token_ids"} <= card.keys():
        raise UserError(f"{path} has no 'format' and 'token_ids'; `erprm train` writes them")
    return card


def trained_at(prm: str | None) -> float | None:
    """Return the eta of the labels that the PRM in folder `prm` was trained on, or None if unknown."""
    try:
        card = orjson.loads((Path(prm or "") / "erprm.json").read_bytes())  # prm.CARD; prm loads torch
        return eta_of_row(card["eta"], card["estimator"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
