"""Everything that can be wrong with a call, as one table: a code, an HTTP status and a sentence for people.

Used by every process. The fronts translate these into their protocols; nothing here knows a protocol but for the
status numbers, which are the lingua franca of the fronts.
"""


class IngleError(Exception):
    """A fault that a caller is told about. `str(error)` is a sentence: what was wrong, expected, to be done."""

    code = "internal"
    status = 500

    def __init__(self, sentence: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.retry_after_s = retry_after_s
        self.call = ""  # the id of the call that failed, where there was one


class BadInputError(IngleError):
    """The request itself is wrong; it is never retried."""

    code = "bad_input"
    status = 400


class UnauthenticatedError(IngleError):
    code = "unauthenticated"
    status = 401


class ForbiddenError(IngleError):
    code = "forbidden"
    status = 403


class NotFoundError(IngleError):
    code = "not_found"
    status = 404


class ConflictError(IngleError):
    """What is stored says otherwise, and what is stored does not change."""

    code = "conflict"
    status = 409


class SequenceLostError(IngleError):
    """The state that was kept for a sequence is gone; only a new start helps."""

    code = "sequence_lost"
    status = 410


class TooLargeError(IngleError):
    code = "too_large"
    status = 413


class UnsupportedError(IngleError):
    """Understood, but not offered here."""

    code = "unsupported"
    status = 415


class RefusedError(IngleError):
    """A model that was looked at and not taken: validation, parity, signature."""

    code = "refused"
    status = 422


class BusyError(IngleError):
    """A bound was reached; the same call may pass later. Carries `retry_after_s`."""

    code = "busy"
    status = 429


class WorkerFailedError(IngleError):
    """The model ran and failed, or its worker was lost and the retry was lost too."""

    code = "worker_failed"
    status = 500


class UnavailableError(IngleError):
    """The node drains, or the model is set aside."""

    code = "unavailable"
    status = 503


class DeadlineError(IngleError):
    code = "deadline"
    status = 504


ERRORS: dict[str, type[IngleError]] = {
    error.code: error
    for error in (
        IngleError,
        BadInputError,
        UnauthenticatedError,
        ForbiddenError,
        NotFoundError,
        ConflictError,
        SequenceLostError,
        TooLargeError,
        UnsupportedError,
        RefusedError,
        BusyError,
        WorkerFailedError,
        UnavailableError,
        DeadlineError,
    )
}


def error_from_code(code: str, sentence: str) -> IngleError:
    """The error that a worker or a peer named by its code; an unknown code becomes a plain IngleError."""
    return ERRORS.get(code, IngleError)(sentence)
