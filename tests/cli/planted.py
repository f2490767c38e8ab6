"""Secrets in every place of a recording, and files that hold them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from llmbridge import Cassette
from llmbridge.exchange.call import Headers, Request
from llmbridge.exchange.record import Record

VARIABLE = {"MY_SERVICE_PASSWORD": "tulip-garden-9"}

SECRETS = {
    "request.headers.authorization": "sk-proj-Kq8vJ2mTz4WcXr7b",
    "request.headers.cookie": "session=a8f2c91b",
    "request.headers.x-company-auth": "hunter2hunter2",
    "request.headers.x-note": "ghp_Kq8vJ2mTz4WcXr7bKq8vJ2mTz4WcXr7bAAAA",
    "request.url": "AIzaSyKq8vJ2mTz4WcXr7bKq8vJ2mTz4WcXr7b",
    "request.body $.messages[0].content": "sk-ant-api03-Kq8vJ2mTz4WcXr7b",
    "request.body $.tools[0].api_key": "another-hunter3",
    "request.body $.user": "tulip-garden-9",
    "response.headers.set-cookie": "__cf_bm=b8f2c91b",
    "response.headers.openai-organization": "org-9f8e7d6c",
    "response.body event 1 $.delta.text": "AKIAKQ8VJ2MTZ4WCXR7B",
    "response.body event 2 $.delta.text": "gsk_Kq8vJ2mTz4WcXr7bKq8vJ2mTz4WcXr7b",
}
"""By the place where each stands."""


def event(kind: str, **data: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode()


def said(text: str) -> bytes:
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})


def recording() -> Record:
    """One interaction with a secret in each place; that of event 2 is split over two chunks."""
    at = SECRETS
    request = Request(
        "POST",
        f"https://api.anthropic.com/v1/messages?key={at['request.url']}",
        Headers(
            {
                "authorization": f"Bearer {at['request.headers.authorization']}",
                "content-type": "application/json",
                "cookie": at["request.headers.cookie"],
                "user-agent": "vcr/1",
                "x-company-auth": at["request.headers.x-company-auth"],
                "x-note": f"from {at['request.headers.x-note']}",
            }
        ),
        json.dumps(
            {
                "model": "claude-x",
                "stream": True,
                "messages": [{"role": "user", "content": at["request.body $.messages[0].content"]}],
                "tools": [{"api_key": at["request.body $.tools[0].api_key"]}],
                "user": f"me, {at['request.body $.user']}",
            }
        ).encode(),
    )
    start = event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    split = said(at["response.body event 2 $.delta.text"])
    border = split.index(b"gsk_") + 9
    chunks = (
        (0.1, start + said(at["response.body event 1 $.delta.text"])),
        (0.2, split[:border]),
        (0.3, split[border:]),
        (0.4, event("message_stop")),
    )
    headers = Headers(
        {
            "content-type": "text/event-stream",
            "openai-organization": at["response.headers.openai-organization"],
            "set-cookie": f"{at['response.headers.set-cookie']}; HttpOnly",
        }
    )
    return Record(
        "i",
        "anthropic",
        "anthropic.messages",
        request,
        200,
        headers,
        chunks,
        model="claude-x",
        head_s=0.05,
        duration_s=0.5,
    )


def ours(path: Path, *records: Record) -> Path:
    """A file of our form."""
    Cassette(path, records or [recording()]).save()
    return path


def vcrpys(path: Path, *records: Record, comment: str = "") -> Path:
    """A file as vcrpy writes them, perhaps with a comment somebody wrote."""
    tree: Any = yaml.safe_load(ours(path, *records).read_text("utf-8"))
    for interaction in tree["interactions"]:
        del interaction["response"]["llmbridge"]
    path.write_text(comment + yaml.dump(tree), "utf-8")
    return path


def clean(path: Path) -> Path:
    """A file without any secret."""
    record = recording()
    request = Request("POST", "https://api.anthropic.com/v1/messages", Headers(), b"{}")
    Cassette(
        path, [replace(record, request=request, headers=Headers(), chunks=((0.1, b"{}"),))]
    ).save()
    return path
