"""Lookahead search: beam search that judges a prefix k greedy steps later (arXiv 2408.03314, section 5.2)."""

from erprm_cli.search.beam import Judged, best, extensions, finished
from erprm_cli.search.config import SearchConfig
from erprm_cli.search.prefix import Extension, Found, Prefix, Random, Search, Value


def lookahead(config: SearchConfig, value: Value, random: Random) -> Search:
    """Yield as beam search does, and greedy steps after each extension; return the N / M best solutions.

    The greedy steps serve to judge: the search continues from the prefix without them.
    """
    kept: Judged = [(Prefix(), 0.0)] * (config.n // config.width)
    while growing := extensions(kept, config.width):
        new = yield growing
        later = list(new)
        for _ in range(config.ahead):
            greedy = [
                Extension(prefix, slot, "greedy step")
                for slot, prefix in enumerate(later)
                if not prefix.is_finished
            ]
            if not greedy:
                break
            for extension, prefix in zip(greedy, (yield greedy), strict=True):
                later[extension.slot] = prefix
        candidates = [(prefix, value(ahead)) for prefix, ahead in zip(new, later, strict=True)]
        kept = best(candidates + finished(kept), len(kept))
    return Found([prefix for prefix, _ in kept])
