"""Schemas of OpenAI's answers, as the tests validate ours against them.

    python tests/reference/openai_schemas.py

Chats, completions, models and errors: OpenAI's OpenAPI description 2.3.0 (MIT, https://github.com/openai/openai-openapi),
as the package llm-comply (MIT) has it. Videos, which it does not have: the types that OpenAI generates for its client
`openai` (Apache-2.0). Only what the answers need is kept, without descriptions, as JSON Schema.
"""

import json
from importlib.resources import files
from pathlib import Path

from openai.pagination import SyncConversationCursorPage
from openai.types import Video, VideoDeleteResponse

ANSWERS = (
    "CreateChatCompletionResponse",
    "CreateChatCompletionStreamResponse",
    "CreateCompletionResponse",
    "ListModelsResponse",
    "Model",
    "ErrorResponse",
)
KEPT = ("type", "enum", "const", "required", "properties", "items", "additionalProperties", "$ref", "anyOf", "oneOf", "allOf", "minimum", "maximum")  # fmt: skip
TARGET = Path(__file__).resolve().parent.parent / "fixtures" / "openai" / "schemas.json"


def reduced(schema, names: set[str]):
    """The schema without descriptions; `nullable` as a type; adds the names of the schemas it refers to."""
    if not isinstance(schema, dict):
        return schema
    result = {}
    for key in KEPT:
        if key not in schema:
            continue
        value = schema[key]
        if key == "properties":
            value = {name: reduced(part, names) for name, part in value.items()}
        elif key in ("items", "additionalProperties"):
            value = reduced(value, names)
        elif key in ("anyOf", "oneOf", "allOf"):
            value = [reduced(part, names) for part in value]
        elif key == "$ref":
            name = value.rsplit("/", 1)[1]
            names.add(name)
            value = f"#/$defs/{name}"
        result[key] = value
    if result.get("additionalProperties") is True:
        del result["additionalProperties"]
    return {"anyOf": [result, {"type": "null"}]} if schema.get("nullable") else result


def main() -> None:
    published = json.loads(files("llm_comply").joinpath("specs/openai_chat.json").read_text())["components"]["schemas"]
    definitions, waiting = {}, set(ANSWERS)
    while waiting:
        name = waiting.pop()
        found: set[str] = set()
        definitions[name] = reduced(published[name], found)
        waiting |= found - definitions.keys()
    # The description has no schema for the stream of a text completion, in which OpenAI sends null until the end.
    stream = json.loads(json.dumps(definitions["CreateCompletionResponse"]))
    choice = stream["properties"]["choices"]["items"]["properties"]
    choice["finish_reason"] = {"anyOf": [choice["finish_reason"], {"type": "null"}]}
    stream["properties"]["usage"] = {"anyOf": [stream["properties"]["usage"], {"type": "null"}]}
    definitions["CreateCompletionStreamResponse"] = stream
    for name, model in (("Video", Video), ("VideoList", SyncConversationCursorPage[Video]), ("VideoDeleted", VideoDeleteResponse)):
        schema = model.model_json_schema()
        for inner, part in schema.pop("$defs", {}).items():
            definitions[inner] = reduced(part, set())
        definitions[name] = reduced(schema, set())
    # Checkpoints here have other sizes than OpenAI's models.
    definitions["Video"]["properties"]["size"].pop("enum")
    about = "Made by tests/reference/openai_schemas.py from OpenAI's OpenAPI description 2.3.0 (MIT) and its client openai 3.54.0 (Apache-2.0)."
    TARGET.parent.mkdir(exist_ok=True)
    rows = [f" {json.dumps(name)}: {json.dumps(schema)}" for name, schema in sorted(definitions.items())]
    TARGET.write_text(f'{{"$comment": {json.dumps(about)},\n"$defs": {{\n' + ",\n".join(rows) + "\n}}\n")


if __name__ == "__main__":
    main()
