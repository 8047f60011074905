"""The code that runs inside the sandbox, where no other module of the project exists.

It uses the standard library only. The host starts `start.main` and shares `protocol` with it; the
two processes in the sandbox exchange `messages`.
"""

__all__: list[str] = []
