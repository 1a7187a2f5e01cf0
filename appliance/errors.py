"""Errors that are shown to people: one line that says what was wrong and what to do."""


class UserError(Exception):
    """Something a person can mend; the message is complete and is shown as it is."""


class ConfigError(UserError):
    """The configuration file can't be used; the message names the file and the key."""


class Unavailable(UserError):
    """A service this one needs doesn't answer; worth trying again."""


class Conflict(UserError):
    """What was asked for doesn't fit what is there: a name that is taken, a thing in use."""


class Missing(UserError):
    """What was asked for isn't there, or not for who asks."""
