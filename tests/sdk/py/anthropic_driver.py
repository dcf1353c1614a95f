"""Makes calls with the official Anthropic SDK and reports what a caller sees.

Input and output as in openai_driver.py. With "auth": "token" the key goes as a bearer token.
"""

import asyncio
import json
import sys

import anthropic


def failure(error):
    """What a caller can tell from an exception."""
    body = getattr(error, "body", None)
    inner = body.get("error") if isinstance(body, dict) else None
    return {
        "error": {
            "class": type(error).__name__,
            "is_status_error": isinstance(error, anthropic.APIStatusError),
            "status": getattr(error, "status_code", None),
            "type": inner.get("type") if isinstance(inner, dict) else None,
            "message": str(error),
            "request_id": getattr(error, "request_id", None),
        }
    }


def message(answer):
    """A whole message."""
    return {
        "id": answer.id,
        "model": answer.model,
        "role": answer.role,
        "content": "".join(block.text for block in answer.content if block.type == "text"),
        "tool_calls": [
            {"id": block.id, "name": block.name, "input": block.input}
            for block in answer.content
            if block.type == "tool_use"
        ],
        "stop_reason": answer.stop_reason,
        "usage": {
            "input_tokens": answer.usage.input_tokens,
            "output_tokens": answer.usage.output_tokens,
        },
    }


def create(client, call):
    if not call.get("stream"):
        return message(client.messages.create(**call["params"]))
    text = ""
    with client.messages.stream(**call["params"]) as stream:
        for piece in stream.text_stream:
            text += piece
        return {**message(stream.get_final_message()), "streamed": text}


async def create_async(options, call):
    async with anthropic.AsyncAnthropic(**options) as client:
        if not call.get("stream"):
            return message(await client.messages.create(**call["params"]))
        async with client.messages.stream(**call["params"]) as stream:
            text = "".join([piece async for piece in stream.text_stream])
            return {**message(await stream.get_final_message()), "streamed": text}


def run(options, call):
    kind = call["kind"]
    if call.get("async"):
        return asyncio.run(create_async(options, call))
    with anthropic.Anthropic(**options) as client:
        if kind == "message":
            return create(client, call)
        if kind == "count":
            return {"input_tokens": client.messages.count_tokens(**call["params"]).input_tokens}
        if kind == "models":
            return {"models": [{"id": entry.id, "type": entry.type} for entry in client.models.list()]}
    raise ValueError(kind)


def main():
    request = json.load(sys.stdin)
    report = {"sdk": f"anthropic {anthropic.__version__}"}
    for call in request["calls"]:
        key = call.get("api_key", request["api_key"])
        auth = {"auth_token": key} if call.get("auth") == "token" else {"api_key": key}
        options = {"base_url": request["base_url"], "max_retries": 0, "timeout": 60.0, **auth}
        try:
            report[call["name"]] = run(options, call)
        except Exception as error:  # the report is the point
            report[call["name"]] = failure(error)
    json.dump(report, sys.stdout)


main()
