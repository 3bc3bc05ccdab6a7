"""The search methods by their names."""

from collections.abc import Callable

from erprm_cli.search.beam import beam
from erprm_cli.search.best_of_n import best_of_n
from erprm_cli.search.config import MethodName, SearchConfig
from erprm_cli.search.dvts import dvts
from erprm_cli.search.lookahead import lookahead
from erprm_cli.search.prefix import Random, Search, Value
from erprm_cli.search.smc import smc

METHODS: dict[MethodName, Callable[[SearchConfig, Value, Random], Search]] = {
    "smc": smc,
    "best-of-n": best_of_n,
    "beam": beam,
    "dvts": dvts,
    "lookahead": lookahead,
}
