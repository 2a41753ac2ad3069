"""Errors of sglora-fed: one base class, a stable code each, listed in the docs.

Every error names the offending value and what is allowed; ``resolve`` says what to do next. Codes
never change their meaning; hundreds group them by part: 1xx configuration, 2xx tasks, 3xx
backbones, 4xx adapters, 5xx zoo, 6xx generators, 7xx privacy, 8xx federation, 9xx results on disk.
"""

from sglora_fed.errors.attacks import (
    AttackError,
    AuditError,
    RefutedError,
)
from sglora_fed.errors.base import (
    SgloraError,
)
from sglora_fed.errors.edge import (
    AuthorityError,
    FolderBusyError,
    NoAdapterError,
    NodeFileError,
)
from sglora_fed.errors.inputs import (
    ConfigError,
    HomeMissingError,
    PluginError,
    TaskError,
    TaskFileError,
    TextsAlikeError,
)
from sglora_fed.errors.models import (
    AdapterFileError,
    AdapterValueError,
    BackboneFileError,
    BackboneHashError,
    BackboneInputError,
    BackboneMissingError,
    GeneratorError,
    GeneratorFileError,
    LayoutError,
    SearchError,
    VocabularyError,
    ZooDamagedError,
    ZooForeignError,
    ZooSizeError,
    ZooTooLargeError,
)
from sglora_fed.errors.privacy import (
    BudgetError,
    CatalogueError,
    FloorError,
    LedgerError,
    PrivacyError,
    PromiseError,
)
from sglora_fed.errors.results import (
    ResultsError,
    TrackingError,
)
from sglora_fed.errors.running import (
    ClientTaskError,
    InterpreterPathError,
    LaunchError,
    MessageError,
    PathNameError,
    ProxyError,
    RepliesError,
    SweepError,
)
from sglora_fed.errors.serving import (
    BodyError,
    CertificateError,
    EndpointError,
    ExportError,
    GenerationError,
    ProofError,
    QuotaError,
    RateError,
    ReplyError,
    RequestError,
    RouteError,
    SigningKeyError,
    ZooSignatureError,
)

__all__ = [
    "AdapterFileError",
    "AdapterValueError",
    "AttackError",
    "AuditError",
    "AuthorityError",
    "BackboneFileError",
    "BackboneHashError",
    "BackboneInputError",
    "BackboneMissingError",
    "BodyError",
    "BudgetError",
    "CatalogueError",
    "CertificateError",
    "ClientTaskError",
    "ConfigError",
    "EndpointError",
    "ExportError",
    "FloorError",
    "FolderBusyError",
    "GenerationError",
    "GeneratorError",
    "GeneratorFileError",
    "HomeMissingError",
    "InterpreterPathError",
    "LaunchError",
    "LayoutError",
    "LedgerError",
    "MessageError",
    "NoAdapterError",
    "NodeFileError",
    "PathNameError",
    "PluginError",
    "PrivacyError",
    "PromiseError",
    "ProofError",
    "ProxyError",
    "QuotaError",
    "RateError",
    "RefutedError",
    "RepliesError",
    "ReplyError",
    "RequestError",
    "ResultsError",
    "RouteError",
    "SearchError",
    "SgloraError",
    "SigningKeyError",
    "SweepError",
    "TaskError",
    "TaskFileError",
    "TextsAlikeError",
    "TrackingError",
    "VocabularyError",
    "ZooDamagedError",
    "ZooForeignError",
    "ZooSignatureError",
    "ZooSizeError",
    "ZooTooLargeError",
]
