"""A service that anonymizes pictures: POST a JPEG or PNG to /anonymize, get a JPEG back. Nothing is kept.

    pip install 'trt-anon[cpu]' fastapi uvicorn python-multipart
    uvicorn fastapi_service:app

Endpoints that are plain functions run in FastAPI's thread pool, and an `Anonymizer` may be used from several threads.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import numpy as np
from fastapi import FastAPI, File, HTTPException, Response
from PIL import Image

from trt_anon import Anonymizer

MOST_PIXELS = 50_000_000
_loaded: dict[str, Anonymizer] = {}


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Load the detectors once, before the first request."""
    with Anonymizer(classes=("face",)) as anonymizer:
        _loaded["anonymizer"] = anonymizer
        yield
        _loaded.clear()


app = FastAPI(lifespan=lifespan)


@app.post("/anonymize")
def anonymize(picture: Annotated[bytes, File()]) -> Response:
    """The picture with its faces destroyed; its metadata does not come back."""
    try:
        image = Image.open(io.BytesIO(picture))
        if image.width * image.height > MOST_PIXELS:
            raise HTTPException(413, "the picture is too large")
        pixels = np.array(image.convert("RGB"))
    except (OSError, ValueError) as error:
        raise HTTPException(415, "this is no picture") from error
    frames = pixels[np.newaxis]
    anonymizer = _loaded["anonymizer"]
    anonymizer.redact(frames, anonymizer.detect(frames), out=frames)
    buffer = io.BytesIO()
    Image.fromarray(frames[0]).save(buffer, "jpeg", quality=92)
    return Response(buffer.getvalue(), media_type="image/jpeg")
