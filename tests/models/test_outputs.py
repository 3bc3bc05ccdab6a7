import pytest
import torch

from erprm_cli.errors import UserError
from erprm_cli.models.outputs import check_token, output_at
from tests.tiny_models import make_model


def test_the_output_layer_is_itself_again_after_an_error() -> None:
    model = make_model("llama", 50)
    ids = torch.tensor([[1, 2, 3]])
    before = model(ids).logits
    with pytest.raises(IndexError), output_at(model, torch.tensor([7]), (1, 2)):
        model(ids)
    assert torch.equal(model(ids).logits, before)


def test_a_token_beyond_the_embeddings_is_refused() -> None:
    model = make_model("llama", 50)
    size = model.get_input_embeddings().weight.shape[0]
    check_token(model, size - 1)
    with pytest.raises(
        UserError, match=f"gives the token {size}, but the model has {size}; the folder mixes"
    ):
        check_token(model, size)
