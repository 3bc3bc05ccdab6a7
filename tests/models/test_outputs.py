import pytest
import torch

from erprm_cli.models.outputs import output_at
from tests.tiny_models import make_model


def test_the_output_layer_is_itself_again_after_an_error() -> None:
    model = make_model("llama", 50)
    ids = torch.tensor([[1, 2, 3]])
    before = model(ids).logits
    with pytest.raises(IndexError), output_at(model, torch.tensor([7]), (1, 2)):
        model(ids)
    assert torch.equal(model(ids).logits, before)
