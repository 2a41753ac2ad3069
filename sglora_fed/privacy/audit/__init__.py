"""Does a mechanism keep its promise? What its own draws prove, beside what it claims."""

from sglora_fed.privacy.audit.bounds import certified, one_run, one_run_gaussian
from sglora_fed.privacy.audit.canaries import canary_bound
from sglora_fed.privacy.audit.many import Subject, Verdict, audit
from sglora_fed.privacy.audit.noise import cosine_pvalue, scale_pvalue
from sglora_fed.privacy.audit.subjects import subject

__all__ = [
    "Subject",
    "Verdict",
    "audit",
    "canary_bound",
    "certified",
    "cosine_pvalue",
    "one_run",
    "one_run_gaussian",
    "scale_pvalue",
    "subject",
]
