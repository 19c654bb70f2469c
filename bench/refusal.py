"""What a command cannot do, in one line that names the cure."""


class Refusal(Exception):  # noqa: N818  (said to a person, not handled as an error)
    pass
