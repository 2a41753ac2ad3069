"""Results on disk and elsewhere (9xx)."""

from __future__ import annotations

from sglora_fed.errors.base import SgloraError


class ResultsError(SgloraError):
    """Results cannot be written or read: no space, no permission, or another schema."""

    code = 900
    title = "results cannot be written or read"
    resolve = (
        "Free some space, or choose an output folder that you may write to. Files already there "
        "are whole: nothing is left half-written."
    )


class TrackingError(SgloraError):
    """The tracker that a run's results are also for is not installed or refuses them."""

    code = 901
    title = "tracker cannot be used"
    resolve = (
        "Install it with `pip install 'sglora-fed[tracking]'`, correct tracking.uri, or leave "
        "tracking out. A run that ended with this error has all its results in its folder."
    )
