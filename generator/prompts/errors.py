"""The one error of this package."""

from generator.errors import InputError


class PromptError(InputError):
    """Prompts that cannot be used; the message names file, line and field."""
