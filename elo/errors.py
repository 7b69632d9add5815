"""What can be wrong with what a user gives us.

InputError (ValueError)
  + VotesError      the votes: a file, a frame or a database
  + SizesError      the sizes of the methods
  + MetricsError    the automatic metrics of the images
  + SettingsError   a setting that does not fit the votes, or is no such setting

Each message is one line that names the place. That the votes have no finite maximum is no bad
input: see `elo.existence.NoMaximum`.
"""


class InputError(ValueError):
    """Base of everything that the command answers with one line and exit code 2."""


class VotesError(InputError):
    """The votes cannot be read; the message names source, row and column."""


class SizesError(InputError):
    """The sizes cannot be read; the message names file, entry and what is expected."""


class MetricsError(InputError):
    """The metrics cannot be read; the message names file and row, or what is missing."""


class SettingsError(InputError):
    """A setting is unknown, out of range, or asks for something the votes do not have."""
