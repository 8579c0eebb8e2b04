"""Errors of mlverify: every message says what is wrong, where, and the remedy."""


class MlverifyError(Exception):
    """Root of all errors that a user can cause or meet; the command line prints it in one line."""


class InputError(MlverifyError):
    """A file, option or argument that cannot be used (exit code 2)."""


class ModelFormatError(InputError):
    """A network file that is missing, is not an ONNX file, or is damaged."""


class UnsupportedOperatorError(InputError):
    """An operator outside the supported subset; names the node and the operator."""

    def __init__(self, operator: str, node: str, hint: str) -> None:
        """Remember which operator of which node is not supported and what to do about it."""
        super().__init__(f"operator {operator} of node '{node}' is not supported: {hint}")
        self.operator = operator
        self.node = node


class ImageError(InputError):
    """An image or mask that cannot be read or does not fit the network."""


class PropertyError(InputError):
    """A question that makes no sense for the network or the image."""


class SolverUnavailableError(MlverifyError):
    """A solver that is not installed or whose licence does not admit the model."""


class DisagreementError(MlverifyError):
    """Two independent computations contradict one another: a bug or numerics (exit code 4)."""
