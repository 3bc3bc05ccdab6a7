"""The metadata at the beginning of a card (README.md) on the Hugging Face Hub."""

import json
from typing import Any


def front_matter(metadata: dict[str, Any]) -> str:
    """Return the YAML block of `metadata`, without the fields that are None. JSON values are YAML.

    >>> print(front_matter({"library_name": "transformers", "license": None, "tags": ["erprm"]}), end="")
    ---
    library_name: "transformers"
    tags: ["erprm"]
    ---
    """
    lines = [
        f"{name}: {json.dumps(value, ensure_ascii=False)}\n"
        for name, value in metadata.items()
        if value is not None
    ]
    return "".join(["---\n", *lines, "---\n"])
