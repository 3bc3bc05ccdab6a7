"""Diverse verifier tree search: beam search in N / M subtrees, each of which keeps one prefix.

It was proposed with the library search-and-learn of Hugging Face. Subtrees never compete, so the solutions
stay more diverse than those of one beam.
"""

from erprm_cli.search.beam import Judged, best, extensions
from erprm_cli.search.config import SearchConfig
from erprm_cli.search.prefix import Found, Prefix, Random, Search, Value


def dvts(config: SearchConfig, value: Value, random: Random) -> Search:
    """Yield M extensions of the prefix of each subtree; return the N / M solutions."""
    kept: Judged = [(Prefix(), 0.0)] * (config.n // config.width)
    while growing := [tree for tree, (prefix, _) in enumerate(kept) if not prefix.is_finished]:
        extended = yield extensions(kept, config.width)
        for number, tree in enumerate(growing):
            own = extended[number * config.width : (number + 1) * config.width]
            (kept[tree],) = best([(prefix, value(prefix)) for prefix in own], 1)
    return Found([prefix for prefix, _ in kept])
