"""From the scores of a PRM to the values of prefixes that a search method works with."""

from erprm_cli.errors import UsageError
from erprm_cli.evaluation.aggregation import aggregate
from erprm_cli.labels.estimator import relabel
from erprm_cli.prm.card import eta_learned, read_card
from erprm_cli.search.config import SearchConfig
from erprm_cli.search.prefix import Prefix, Value


def make_value(config: SearchConfig, prm: str, served_eta: float | None = None) -> Value:
    """Return the value of a prefix by the scores of the PRM named `prm`.

    For SMC it is the process reward at `config.eta`, a label in [0, 1]: the last score, converted from the
    eta that the PRM learned (0 for success rates, so those of soft labels and of counts become f_eta), which
    its card says if its server does not. The
    outcome of a verified solution takes its place. For the other methods it is the aggregate of the scores.

    Raises UsageError for a PRM whose scores cannot be used: of labels at an infinite eta with SMC, because
    they do not tell success rates; of whole solutions, unless nothing but whole solutions is scored.
    """
    card = read_card(prm)
    if config.method != "best-of-n" and card and card.get("settings", {}).get("outcome_only"):
        raise UsageError(
            f"{prm} scores whole solutions only (--outcome-only), but {config.method} needs scores of steps; "
            "use --method best-of-n"
        )
    if config.method != "smc":
        return lambda prefix: aggregate(prefix.scores, config.aggregate.value)
    try:
        learned = eta_learned(prm, card) if served_eta is None else served_eta
    except UsageError:
        raise UsageError(
            f"{prm} was trained on labels at an infinite eta (hard), which do not tell how likely success "
            "is, so they are not the values that smc needs; use --method beam, or a PRM trained on soft or "
            "er labels or on counts"
        ) from None

    def process_reward(prefix: Prefix) -> float:
        if prefix.outcome is not None:
            return prefix.outcome
        return relabel(prefix.scores[-1], learned, config.eta)

    return process_reward
