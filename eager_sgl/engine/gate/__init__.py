"""The entropy gate: the server itself reports the steps at which a branch may be.

Without it, the client monitors the distributions of chunks after the fact: the top K of every step
are transferred, every chunk costs a request, and tokens generated past a branch point may be
discarded. A request with a gate asks for no logprobs and runs to its end: a *custom logit
processor* (an extension point of SGLang, `--enable-custom-logit-processor`) computes the entropies
inside the server, and where one reaches θ, the request's stream reports that step. The sequence
continues without a pause as one of the two that a branch opens, or alone if the branch is not
taken; its rest is discarded only where it drew neither of the two most likely tokens.

`parameters.Gate` is the client's part, `processor` runs in the server, `probe` finds out whether a
server has a gate.
"""
