"""The endpoint beside Flower: a privatised request in, adapters out, for programs that are no node.

It is the same service as that of :mod:`sglora_fed.federation.adopt`: what a client sends is what
its mechanism releases to anybody (:class:`~sglora_fed.privacy.mechanisms.base.Form`).
"""
