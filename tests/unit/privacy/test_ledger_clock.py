"""No clock has a part in what a ledger allows: not the machine's, and not the files' dates."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from sglora_fed.errors import BudgetError
from sglora_fed.privacy import PrivUnitMechanism
from sglora_fed.privacy.ledger import Budget, Ledger, Request, create_ledger

YEARS = 10 * 365 * 86_400.0


@pytest.mark.parametrize("jump", [-YEARS, YEARS])
def test_a_clock_that_is_set_gives_nothing_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    folder, noise, vector = tmp_path / "ledger", PrivUnitMechanism(8, 1.0), np.eye(8)[1]
    create_ledger(folder)
    opened = Ledger(folder, Budget(2.0))
    first = opened.release(Request("ada", "first"), noise, vector)
    now = time.time()
    for name in ("time", "monotonic"):
        monkeypatch.setattr(time, name, lambda: now + jump)
    for file in folder.iterdir():
        os.utime(file, (now + jump, now + jump))
    for ledger in (opened, Ledger(folder, Budget(2.0))):
        assert ledger.spent("ada")[0] == 1
        again = ledger.release(Request("ada", "first"), noise, vector)
        np.testing.assert_array_equal(again, first)
    opened.release(Request("ada", "second"), noise, vector)
    with pytest.raises(BudgetError):
        opened.release(Request("ada", "third"), noise, vector)
