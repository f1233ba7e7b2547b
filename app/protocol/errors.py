"""Every error that Hearth raises on purpose.

The message of each is one line for a person: what, where, what is allowed. An entry prints it and exits with a
non-zero code; anything that is not a `HearthError` is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable


class HearthError(Exception):
    """Base of all errors that a user, a machine or another party can cause."""


class ConfigError(HearthError):
    """A key of the configuration is unknown, has the wrong type, or does not fit the others.

    Parameters
    ----------
    key : str
        The dotted key, as the user types it (``strategy.f``).
    problem : str
        What is wrong with it.
    allowed : str or iterable of str, optional
        What would be right.
    """

    def __init__(self, key: str, problem: str, allowed: str | Iterable[str] | None = None) -> None:
        self.key, self.problem = key, problem
        self.allowed = allowed if isinstance(allowed, str) or allowed is None else ", ".join(allowed)
        super().__init__(f"{key}: {problem}" + (f" (allowed: {self.allowed})" if self.allowed else ""))


class DataError(HearthError):
    """A data set is missing, unreadable, or not what the configuration says."""


class ProtocolError(HearthError):
    """A record from another party is malformed, or is not signed by whom it names."""


class PrivacyError(HearthError):
    """A release was refused: it would exceed the budget, or its randomness is not fit for use."""


class BudgetError(PrivacyError):
    """A release would exceed the budget: what was released before may be used on, and nothing else."""


class StoreError(HearthError):
    """A blob store failed."""


class StoreUnavailableError(StoreError):
    """The store cannot be reached for now; the same call may succeed later."""


class BlobMissingError(StoreError):
    """The store answered that it does not have the blob."""


class BlobTamperedError(StoreError):
    """The bytes that the store gave do not hash to what was asked for."""


class LedgerError(HearthError):
    """The chain refused, or is not the chain that was expected."""


class ContractRevertedError(LedgerError):
    """The contract reverted.

    Parameters
    ----------
    call : str
        The function that was called.
    error : str
        Name of the contract's custom error, for example ``WrongRound``.
    arguments : tuple
        The error's arguments.
    """

    def __init__(self, call: str, error: str, arguments: tuple[object, ...] = ()) -> None:
        self.call, self.error, self.arguments = call, error, arguments
        super().__init__(f"the contract refused {call}: {error}({', '.join(map(str, arguments))})")


class RoundError(HearthError):
    """A round cannot be completed: no quorum, or no update that anything could be learnt from."""


class ServiceError(HearthError):
    """Another party's service answered with an error."""


class ServiceUnavailableError(ServiceError):
    """A service cannot be reached, or not do its work, for now; the same call may succeed later."""


class RefusedError(ServiceError):
    """A service does not let this caller in."""
