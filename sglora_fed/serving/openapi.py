"""What ``/openapi.json`` says of bodies that FastAPI does not read."""

from __future__ import annotations

from typing import Any

from sglora_fed.serving.proof import AUDIENCE, NONCE, PROOF, TIME, VERSION
from sglora_fed.serving.wire import (
    CATALOGUE,
    EMBEDDING,
    JSON,
    LONGEST_BODY,
    MOST_PLACES,
    PLACES,
    READINGS,
    SAFETENSORS,
)

DESCRIPTION = (
    "Send what your mechanism has released, an embedding or places in the catalogue, and get "
    "adapters. Each request is signed with the key of your certificate: the signature covers, a "
    f"line each, the words `{VERSION}`, `{AUDIENCE}` (sha256 of the certificate, in DER, that the "
    "endpoint shows you, in hexadecimal), your name, method, path, type of content, sha256 of the "
    f"body in hexadecimal, `{NONCE}` and `{TIME}`."
)

_READINGS = {"type": "integer", "minimum": 1, "maximum": MOST_PLACES}

_EITHER = {
    "oneOf": [
        {
            "type": "object",
            "additionalProperties": False,
            "required": [EMBEDDING],
            "properties": {
                EMBEDDING: {"type": "array", "items": {"type": "number"}},
                READINGS: _READINGS | {"description": "for the nearest entries, and for it"},
            },
        },
        {
            "type": "object",
            "additionalProperties": False,
            "required": [PLACES, CATALOGUE],
            "properties": {
                PLACES: {
                    "type": "array",
                    "items": {"type": "integer", "minimum": 0},
                    "minItems": 1,
                    "maxItems": MOST_PLACES,
                    "uniqueItems": True,
                    "description": "ascending",
                },
                CATALOGUE: {"type": "string", "description": "sha256 of the catalogue"},
                READINGS: _READINGS
                | {"description": "of a single place: for it, and for the entries nearest to it"},
            },
        },
    ]
}

_FILE = {"schema": {"type": "string", "format": "binary"}}


def _header(name: str, pattern: str) -> dict[str, Any]:
    schema = {"type": "string", "pattern": pattern}
    return {"in": "header", "name": name, "required": True, "schema": schema}


REQUEST: dict[str, Any] = {
    "parameters": [
        _header(AUDIENCE, "^[0-9a-f]{64}$"),
        _header(NONCE, "^[0-9a-f]{32}$"),
        _header(TIME, "^[0-9]{13}$"),
        _header(PROOF, "^[A-Za-z0-9_=-]{80,160}$"),
    ],
    "requestBody": {
        "required": True,
        "description": f"at most {LONGEST_BODY} bytes",
        "content": {JSON: {"schema": _EITHER}, SAFETENSORS: _FILE},
    },
}

_REFUSED = {
    "content": {
        JSON: {
            "schema": {
                "type": "object",
                "required": ["error"],
                "properties": {"error": {"type": "string", "pattern": "^SGL-[0-9]{3}$"}},
            }
        }
    }
}

REPLY: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "`adapters`, F16 [m, D], and which generator made them",
        "content": {SAFETENSORS: _FILE},
    },
    400: {"description": "not a request (SGL-830)", **_REFUSED},
    401: {"description": "not proven (SGL-831), or for another endpoint (SGL-839)", **_REFUSED},
    403: {"description": "all is spent that the endpoint answers (SGL-840)", **_REFUSED},
    413: {"description": "too long or too slow (SGL-832)", **_REFUSED},
    429: {
        "description": "too many requests (SGL-833)",
        "headers": {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}},
        **_REFUSED,
    },
}

TAKEN: dict[int | str, dict[str, Any]] = {
    200: {"description": "hashes, sizes and the layout of the adapters"}
}
