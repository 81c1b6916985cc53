"""The errors that a user can cause; the command line shows each as one sentence and exits with its code."""

import operator
from typing import Any


class VqaudioError(Exception):
    """Base of everything that vqaudio raises on purpose. The message is one complete sentence for a person."""

    exit_code = 1


class UsageError(VqaudioError):
    """An argument or an option that cannot be meant: exit code 2."""

    exit_code = 2


class AudioError(VqaudioError):
    """Audio that cannot be read, written or coded."""


class FormatError(VqaudioError):
    """A `.codes` file that is damaged, of a future version, or not a `.codes` file at all."""


class ModelError(VqaudioError):
    """A model file that is missing, damaged or not ours, or that does not fit the codes given to it."""


class RecipeError(UsageError):
    """A recipe that cannot be found, resolved or run as asked."""


class TrainingError(VqaudioError):
    """Training that cannot go on: a corpus without audio, losses that are not finite, a full disk."""


def whole(number: Any, what: str) -> int:
    """A number, of numpy for example, as a plain one.

    Raises:
        UsageError: for one that is not whole; the sentence begins with `what`.
    """
    try:
        return operator.index(number)
    except TypeError:
        raise UsageError(f"{what} has to be a whole number, not {number!r}.") from None
