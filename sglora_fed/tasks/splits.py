"""Who is an expert and who an unseen client, when the tasks do not say it themselves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sglora_fed.errors import TaskError
from sglora_fed.seeds import derive_seed
from sglora_fed.tasks.types import EXPERT_SPLIT, Role

CLIENT_SHARE = 0.25
UNSEEN_SPLIT = "unseen"


def seeded_roles(ids: Sequence[str], seed: int) -> dict[str, tuple[Role, str]]:
    """A quarter of the tasks (one at least) become clients of the split ``unseen``.

    Depends on the ids and the seed, not on the order of the ids.

    Returns:
        id -> (role, split).

    Raises:
        TaskError: with fewer than two tasks.
    """
    if len(ids) < 2:
        raise TaskError(f"{len(ids)} task(s) cannot be split into experts and clients; need 2")
    ordered = sorted(ids)
    rng = np.random.default_rng(derive_seed(seed, "split", *ordered))
    count = max(1, round(CLIENT_SHARE * len(ordered)))
    clients = {ordered[i] for i in rng.permutation(len(ordered))[:count]}
    return {
        name: ("client", UNSEEN_SPLIT) if name in clients else ("expert", EXPERT_SPLIT)
        for name in ids
    }
