"""The JSON of requests and answers, from which the page /docs is made."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator


def whole_characters(text: str) -> str:
    """Return a text, unless JSON's escapes made half a character of it, which has no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"half a character (a lone surrogate) at {error.start}") from None
    return text


Text = Annotated[str, AfterValidator(whole_characters)]
Score = Annotated[float, Field(ge=0, le=1)]
TokenId = Annotated[int, Field(ge=0, strict=True)]


class Prm(BaseModel):
    """The process reward model that is served."""

    model: str = Field(description="The name given to --prm.")
    format: str = Field(description="The input format, such as er-prm.")
    kind: Literal["token", "head", "value"] = Field(description="What the model gives at a step.")
    eta: float | None = Field(
        description="Entropy regularization of the labels that scores estimate: --eta, or that of the "
        "training; null if unknown or infinite."
    )
    outcome_only: bool = Field(description="Whether the model scores whole solutions only.")
    max_tokens: int | None = Field(description="The longest solution in tokens, its problem included.")
    hash: str | None = Field(
        description="Of all files that decide what a local model computes; of a model on the Hub, its commit."
    )
    erprm: str = Field(description="The version of erprm.")


class Solution(BaseModel):
    """A solution to score; other fields of a row are ignored."""

    problem: Text
    steps: list[Text] | None = Field(None, min_length=1, description="The solution in steps.")
    solution: Text | None = Field(None, description="The text; split into steps if `steps` is missing.")

    @model_validator(mode="after")
    def _has_text(self) -> Self:
        if self.steps is None and self.solution is None:
            raise ValueError("no 'steps' and no 'solution'; give one of them")
        return self


class ScoreRequest(BaseModel):
    """Solutions to score."""

    rows: list[Solution]
    partial: bool = Field(
        False,
        description="Answer null for solutions that cannot be scored, such as one that is too long, with the "
        "reasons in `errors`. By default such a solution makes the whole request fail with status 422.",
    )


class Unscored(BaseModel):
    """A solution that cannot be scored."""

    row: int = Field(description="Its place in the request, from 0.")
    message: str


class ScoreAnswer(BaseModel):
    """The scores of each solution, in the order of the request."""

    scores: list[list[Score] | None] = Field(
        description="For each solution, a list with one score per step: the probability that there is no "
        "error so far."
    )
    prm: Prm
    errors: list[Unscored] = Field(description="With `partial`: the solutions whose scores are null.")


class RewardRequest(BaseModel):
    """What OpenRLHF sends to a remote reward model (--reward.remote_url)."""

    query: list[Text] = Field(description="Prompts with their responses, special tokens included.")
    prompts: list[Text] = Field(description="The prompts, with which the queries begin.")
    labels: list[Any] | None = Field(None, description="Ignored.")

    @model_validator(mode="after")
    def _have_one_length(self) -> Self:
        if len(self.query) != len(self.prompts):
            raise ValueError(f"{len(self.query)} in 'query', but {len(self.prompts)} in 'prompts'")
        return self


class RewardAnswer(BaseModel):
    """What OpenRLHF expects of a remote reward model, and the scores of the steps."""

    rewards: list[Score] = Field(description="One per query: its step scores, aggregated (--aggregate).")
    scores: list[Score] = Field(description="The same; OpenRLHF's dynamic filtering reads them.")
    extra_logs: dict[str, list[float]] = Field(description="What OpenRLHF logs: the number of steps.")
    step_scores: list[list[Score]]


class PoolingRequest(BaseModel):
    """A request to vLLM's /pooling for the task token_classify."""

    model: str | None = None
    input: Text | list[Text] | list[TokenId] | list[list[TokenId]]
    task: Literal["token_classify"] | None = None
    add_special_tokens: bool = True
    encoding_format: Literal["float"] = "float"
    use_activation: Literal[True] | None = None
    truncate_prompt_tokens: None = None
    dimensions: None = None

    @property
    def inputs(self) -> list[str | list[int]]:
        """The inputs, each a text or a list of token ids."""
        if isinstance(self.input, str):
            return [self.input]
        ids = [one for one in self.input if isinstance(one, int)]
        return [ids] if ids else [one for one in self.input if not isinstance(one, int)]


class PoolingData(BaseModel):
    """The probabilities of one input."""

    index: int
    object: Literal["pooling"] = "pooling"
    data: list[list[Score]] = Field(description="Per token one list with one number, P(good).")


class Usage(BaseModel):
    """How many tokens were read."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int = 0


class PoolingAnswer(BaseModel):
    """An answer of vLLM's /pooling."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[PoolingData]
    usage: Usage


class Model(BaseModel):
    """A model in the list of OpenAI's API."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: Literal["erprm"] = "erprm"
    max_model_len: int | None = None


class Models(BaseModel):
    """The list of models of OpenAI's API."""

    object: Literal["list"] = "list"
    data: list[Model]


class Fault(BaseModel):
    """What is wrong with a request."""

    message: str
    type: str
    param: str | None = Field(description="The field of the request at fault, such as rows[3].steps.")
    code: int


class ErrorAnswer(BaseModel):
    """Every error."""

    error: Fault
