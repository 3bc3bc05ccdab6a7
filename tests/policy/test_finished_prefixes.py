"""The cache of finished prefixes."""

import time

from erprm_cli.policy.finished_prefixes import MAX_CACHED, FinishedPrefixes


def test_prefixes_beyond_the_limit_cost_no_more_than_those_before(no_collection: None) -> None:
    finished = FinishedPrefixes()
    seconds = []
    for part in range(2):
        begin = time.process_time()
        for number in range(MAX_CACHED):
            finished.add(("p", str(part * MAX_CACHED + number)), [1.0], [])
        seconds.append(time.process_time() - begin)
    assert finished.get(("p", "0")) == ([], []) and finished.get(("p", str(MAX_CACHED))) == ([1.0], [])
    assert seconds[1] < 4 * seconds[0]  # it was 30 times as much
