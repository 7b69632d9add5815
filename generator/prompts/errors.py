"""The one error of this package."""


class PromptError(ValueError):
    """Prompts that cannot be used; the message names file, line and field."""
