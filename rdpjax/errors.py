"""`UserError`, the exception for users' mistakes, and how a command reports it."""

from __future__ import annotations

import difflib
import functools
import os
import sys
from collections.abc import Callable, Sequence


class UserError(Exception):
    """Error that the user can mend: in a file, a row, a column, a flag or a configuration key.

    The message is one line that names the place and the mend. Commands print it and exit with 2.

    Examples:
      >>> raise UserError("cardio.csv: no such file; give --data PATH")
      Traceback (most recent call last):
      ...
      rdpjax.errors.UserError: cardio.csv: no such file; give --data PATH
    """


def nearest(word: str, words: list[str] | tuple[str, ...]) -> str:
    """Return `"; did you mean 'x'?"` for the nearest of `words`, or an empty string.

    Examples:
      >>> nearest("wieght", ["height", "weight"])
      "; did you mean 'weight'?"
      >>> nearest("zzz", ["height"])
      ''
    """
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def command(main: Callable[[Sequence[str] | None], int]) -> Callable[..., int]:
    """Wrap a command so that a `UserError` becomes one line on stderr and exit status 2.

    Ctrl-C exits with 130, the shell's code for SIGINT, and prints the interruption's message on how
    to resume. Where standard output is closed, by `head` say, it ends with 141, SIGPIPE's code.

    Examples:
      >>> @command
      ... def main(argv=None):
      ...     raise UserError("epsilon must be positive")
      >>> main([])
      2
    """

    @functools.wraps(main)
    def wrapped(argv: Sequence[str] | None = None) -> int:
        try:
            status = main(argv)
            sys.stdout.flush()  # here, where a closed pipe is still caught
            return status
        except UserError as error:
            print(f"rdpjax: error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt as interruption:
            advice = f"; {interruption}" if interruption.args else ""
            print(f"rdpjax: interrupted{advice}", file=sys.stderr)
            return 130
        except BrokenPipeError:
            # Whoever read standard output, `head` say, has enough; nothing more may be flushed.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return 141

    return wrapped
