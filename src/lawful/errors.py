"""Errors a user can cause; the command line prints them as one line and exits with status 2."""


class InputError(ValueError):
    """A value that cannot be used: the message names it, what was expected, and where."""


class LawfulWarning(UserWarning):
    """Something that is done as asked, and may not be what is meant."""


class StabilityError(InputError):
    """A time step beyond the stability limit of the scheme it was given to."""


class NonFiniteError(ArithmeticError):
    """A loss or a gradient that is not finite; the message names the law and the step."""
