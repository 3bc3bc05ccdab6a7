"""Best-of-n: N independent solutions, scored when they are complete. The baseline of every comparison."""

from erprm_cli.search.config import SearchConfig
from erprm_cli.search.prefix import Extension, Found, Prefix, Random, Search, Value


def best_of_n(config: SearchConfig, value: Value, random: Random) -> Search:
    """Yield N solutions at once and return them all; `erprm bon` chooses among them."""
    return Found((yield [Extension(Prefix(), slot, "end") for slot in range(config.n)]))
