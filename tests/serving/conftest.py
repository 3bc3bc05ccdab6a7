import pytest

from tests.serving.servers import SlowScorer
from tests.tiny_models import save_model


@pytest.fixture(scope="package")
def prm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a small random PRM of the format er-prm."""
    folder = tmp_path_factory.mktemp("prm") / "Llama3.1-Math-PRM"
    return str(save_model(folder, max_positions=64))


@pytest.fixture(scope="package")
def loaded(prm: str) -> SlowScorer:
    return SlowScorer(prm)


@pytest.fixture
def scorer(loaded: SlowScorer) -> SlowScorer:
    """The PRM, loaded once; a test may set its `pause_s`."""
    loaded.pause_s = 0.0
    return loaded
