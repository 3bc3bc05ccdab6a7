"""Beam search over steps: extend, keep the best, repeat (Snell et al., arXiv 2408.03314, section 5.2)."""

from erprm_cli.search.config import SearchConfig
from erprm_cli.search.prefix import Extension, Found, Prefix, Random, Search, Value

Judged = list[tuple[Prefix, float]]  # prefixes with their values


def beam(config: SearchConfig, value: Value, random: Random) -> Search:
    """Yield the extensions of the kept prefixes; return the N / M best solutions, the best one first.

    Each of the N / M prefixes that are kept is extended M times. A finished one stays a candidate as it is.
    """
    kept: Judged = [(Prefix(), 0.0)] * (config.n // config.width)
    while growing := extensions(kept, config.width):
        candidates = [(prefix, value(prefix)) for prefix in (yield growing)]
        kept = best(candidates + finished(kept), len(kept))
    return Found([prefix for prefix, _ in kept])


def extensions(kept: Judged, width: int) -> list[Extension]:
    """Return `width` extensions by one step of each unfinished prefix."""
    growing = [prefix for prefix, _ in kept if not prefix.is_finished for _ in range(width)]
    return [Extension(prefix, slot) for slot, prefix in enumerate(growing)]


def finished(kept: Judged) -> Judged:
    """Return the prefixes that are whole solutions."""
    return [judged for judged in kept if judged[0].is_finished]


def best(candidates: Judged, size: int) -> Judged:
    """Return the `size` candidates with the highest values; one with the text of a better one comes last.

    Equal texts would use up the beam, and a policy often writes a likely step several times. Of equal values,
    the first one is better.
    """
    texts: set[str] = set()
    first, again = Judged(), Judged()
    for judged in sorted(candidates, key=lambda one: -one[1]):
        (again if judged[0].text in texts else first).append(judged)
        texts.add(judged[0].text)
    return (first + again)[:size]
