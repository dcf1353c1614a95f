"""Makes calls with the official OpenAI SDK and reports what a caller sees.

Reads {"base_url", "api_key", "calls": [{"name", "kind", "stream", "async", "params"}]} from stdin,
writes {name: report} to stdout. The SDK's version is what PYTHONPATH holds.
"""

import asyncio
import json
import sys

import openai


def failure(error):
    """What a caller can tell from an exception."""
    return {
        "error": {
            "class": type(error).__name__,
            "is_status_error": isinstance(error, openai.APIStatusError),
            "is_api_error": isinstance(error, openai.APIError),
            "status": getattr(error, "status_code", None),
            "code": getattr(error, "code", None),
            "type": getattr(error, "type", None),
            "message": str(error),
            "request_id": getattr(error, "request_id", None),
        }
    }


def usage_of(usage):
    return None if usage is None else usage.model_dump()


def calls_of(tool_calls):
    return [
        {"id": call.id, "name": call.function.name, "arguments": call.function.arguments}
        for call in tool_calls or []
    ]


def completion(answer):
    """A whole chat.completion."""
    choice = answer.choices[0]
    return {
        "id": answer.id,
        "object": answer.object,
        "model": answer.model,
        "role": choice.message.role,
        "content": choice.message.content,
        "finish_reason": choice.finish_reason,
        "tool_calls": calls_of(choice.message.tool_calls),
        "usage": usage_of(answer.usage),
        "request_id": getattr(answer, "_request_id", None),
    }


class Stream:
    """Gathers chunks as a caller would."""

    def __init__(self):
        self.content, self.finish, self.usage, self.count = "", None, None, 0
        self.ids, self.models, self.objects, self.calls = set(), set(), set(), {}

    def take(self, chunk):
        self.count += 1
        self.ids.add(chunk.id)
        self.models.add(chunk.model)
        self.objects.add(chunk.object)
        if chunk.usage is not None:
            self.usage = usage_of(chunk.usage)
        for choice in chunk.choices:
            self.content += choice.delta.content or ""
            self.finish = choice.finish_reason or self.finish
            for part in choice.delta.tool_calls or []:
                call = self.calls.setdefault(part.index, {"id": "", "name": "", "arguments": ""})
                call["id"] += part.id or ""
                call["name"] += part.function.name or ""
                call["arguments"] += part.function.arguments or ""

    def report(self):
        return {
            "content": self.content,
            "finish_reason": self.finish,
            "usage": self.usage,
            "chunks": self.count,
            "ids": sorted(self.ids),
            "model": ",".join(sorted(self.models)),
            "object": ",".join(sorted(self.objects)),
            "tool_calls": [self.calls[index] for index in sorted(self.calls)],
        }


def chat(client, call):
    if not call.get("stream"):
        return completion(client.chat.completions.create(**call["params"]))
    gathered = Stream()
    try:
        for chunk in client.chat.completions.create(stream=True, **call["params"]):
            gathered.take(chunk)
    except Exception as error:  # the report is the point
        return {**gathered.report(), **failure(error)}
    return gathered.report()


async def chat_async(client, call):
    if not call.get("stream"):
        return completion(await client.chat.completions.create(**call["params"]))
    gathered = Stream()
    async for chunk in await client.chat.completions.create(stream=True, **call["params"]):
        gathered.take(chunk)
    return gathered.report()


def response(answer):
    """A whole response."""
    calls = [item for item in answer.output if item.type == "function_call"]
    return {
        "id": answer.id,
        "object": answer.object,
        "model": answer.model,
        "status": answer.status,
        "content": answer.output_text,
        "tool_calls": [
            {"id": call.call_id, "name": call.name, "arguments": call.arguments} for call in calls
        ],
        "usage": usage_of(answer.usage),
        "incomplete": answer.incomplete_details and answer.incomplete_details.model_dump(),
    }


class Events:
    """Gathers the events of a response as a caller would."""

    def __init__(self):
        self.text, self.arguments, self.kinds, self.numbers, self.last = "", "", [], [], None

    def take(self, event):
        self.kinds.append(event.type)
        self.numbers.append(event.sequence_number)
        if event.type == "response.output_text.delta":
            self.text += event.delta
        if event.type == "response.function_call_arguments.delta":
            self.arguments += event.delta
        if event.type in ("response.completed", "response.incomplete"):
            self.last = response(event.response)

    def report(self):
        gapless = self.numbers == list(range(len(self.numbers)))
        seen = {"streamed": self.text, "arguments": self.arguments, "kinds": self.kinds}
        return {**(self.last or {}), **seen, "gapless": gapless}


def respond(client, call):
    if not call.get("stream"):
        return response(client.responses.create(**call["params"]))
    gathered = Events()
    try:
        for event in client.responses.create(stream=True, **call["params"]):
            gathered.take(event)
    except Exception as error:  # the report is the point
        return {**gathered.report(), **failure(error)}
    return gathered.report()


async def respond_async(client, call):
    if not call.get("stream"):
        return response(await client.responses.create(**call["params"]))
    gathered = Events()
    async for event in await client.responses.create(stream=True, **call["params"]):
        gathered.take(event)
    return gathered.report()


def respond_accumulated(client, call):
    """With the helper that puts the events together itself."""
    with client.responses.stream(**call["params"]) as stream:
        kinds = [event.type for event in stream]
        return {**response(stream.get_final_response()), "kinds": kinds}


def model(entry):
    return {"id": entry.id, "object": entry.object, "owned_by": entry.owned_by, "created": entry.created}


def run(options, call):
    kind = call["kind"]
    if call.get("async"):

        async def with_client():
            async with openai.AsyncOpenAI(**options) as client:
                ask = respond_async if kind == "response" else chat_async
                return await ask(client, call)

        return asyncio.run(with_client())
    with openai.OpenAI(**options) as client:
        if kind == "chat":
            return chat(client, call)
        if kind == "response":
            return respond(client, call)
        if kind == "accumulated":
            return respond_accumulated(client, call)
        if kind == "models":
            return {"models": [model(entry) for entry in client.models.list()]}
        if kind == "model":
            return model(client.models.retrieve(call["params"]["model"]))
    raise ValueError(kind)


def main():
    request = json.load(sys.stdin)
    report = {"sdk": f"openai {openai.__version__}"}
    for call in request["calls"]:
        options = {
            "base_url": request["base_url"],
            "api_key": call.get("api_key", request["api_key"]),
            "max_retries": 0,
            "timeout": 60.0,
        }
        try:
            report[call["name"]] = run(options, call)
        except Exception as error:  # the report is the point
            report[call["name"]] = failure(error)
    json.dump(report, sys.stdout)


main()
