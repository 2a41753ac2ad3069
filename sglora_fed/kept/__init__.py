"""One keyed store of whatever is made once and used again.

The key of each thing is a digest of all that went into it (:mod:`~sglora_fed.kept.facts`), never of
where it lies: what has changed is made anew, what was moved is found again.
"""
