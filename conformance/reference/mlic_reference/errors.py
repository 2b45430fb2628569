"""Errors as data."""


class Refusal(Exception):
    """A stream or package that is refused (SPEC 1.2), with the code that SPEC gives the error."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code
        self.message = message


class PackageRefusal(Refusal):
    """A model package that SPEC 2 or 4.9 refuses. SPEC has one verdict for all of these, not one code each."""

    def __init__(self, message):
        super().__init__("model", message)


def refuse_unless(condition, message):
    if not condition:
        raise PackageRefusal(message)


class WidthExceeded(ArithmeticError):
    """A value left the width that SPEC states for it: a defect of this program or of SPEC 4.9, never of a stream."""


def require(condition, what):
    """Raises WidthExceeded unless the condition holds. Unlike `assert` it does not vanish under `python -O`."""
    if not condition:
        raise WidthExceeded(what)
