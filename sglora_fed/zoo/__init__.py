"""The zoo: experts on disk, their statistics, nearest-description search."""

from sglora_fed.zoo.screening import trusted
from sglora_fed.zoo.search import Nearest, Search, entropy, similarities, softmax, topk_weights
from sglora_fed.zoo.store import ZooStore, open_zoo, read_store
from sglora_fed.zoo.types import Zoo, ZooIdentity

__all__ = [
    "Nearest",
    "Search",
    "Zoo",
    "ZooIdentity",
    "ZooStore",
    "entropy",
    "open_zoo",
    "read_store",
    "similarities",
    "softmax",
    "topk_weights",
    "trusted",
]
