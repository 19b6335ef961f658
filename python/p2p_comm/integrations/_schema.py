"""The arguments of a tool as a Pydantic model, for frameworks that read no docstring."""

import inspect
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, Field, create_model

from ..tools import described


def arguments(tool: Callable[..., Any]) -> type[BaseModel]:
    """A model with a described field for each argument."""
    _, words = described(tool)
    fields: dict[str, Any] = {
        name: (each.annotation, Field(... if each.default is each.empty else each.default, description=words[name]))
        for name, each in inspect.signature(tool).parameters.items()
    }
    return create_model(tool.__name__, **fields)
