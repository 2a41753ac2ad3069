"""What a service that stays up tells of a failure: the kind and the places, nothing of a request.

An error's text may hold what somebody has sent, and so may the lines that Python prints of a local
value. The kind of the error and where in the code it was raised are enough to find the fault.
"""

from __future__ import annotations

import traceback

from sglora_fed.errors import GenerationError, SgloraError


def code_of(error: Exception) -> int:
    """The code that whoever has asked may be told: an error's own, or that of a failed service."""
    return error.code if isinstance(error, SgloraError) else GenerationError.code


def told(error: BaseException) -> str:
    """The kinds and places of an error and of what led to it, one a line, the first cause first.

    Args:
        error: that was raised.
    """
    before = error.__cause__ or error.__context__
    lines = [] if before is None else [told(before)]
    places = traceback.extract_tb(error.__traceback__)
    lines += [f"  {place.filename}:{place.lineno} in {place.name}" for place in places]
    return "\n".join([*lines, type(error).__name__])
