"""What the user is told of a wrong command: ours as a list, and Hydra's on one line."""

from __future__ import annotations

from tl_runner.errors import ConfigError, UserError


def joined(error: UserError) -> str:
    """Every problem, under one head where there are several."""
    problems = error.problems if isinstance(error, ConfigError) else [str(error)]
    head = "" if len(problems) == 1 else f"{len(problems)} things to mend\n  "
    return head + "\n  ".join(problems)


def hydras(error: Exception) -> str:
    """Hydra's complaint on one line, with the word it is about."""
    lines = [
        line.strip()
        for line in str(error).splitlines()
        if line.strip() and set(line.strip()) - set("^~ ")
    ]
    message = " ".join(line for line in lines if not line.startswith("See https"))
    word = getattr(error, "override", None)
    if "hydra/launcher/" in message:
        message += (
            " A launcher is a plugin: pip install 'tl-run[sweep]' brings processes, "
            "'tl-run[cluster]' the others."
        )
    return (
        f"{word}: cannot be read ({message}). Quote the whole word for the shell: 'key=[1, 2]'."
        if word
        else message
    )
