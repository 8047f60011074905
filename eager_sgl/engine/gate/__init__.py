"""The entropy gate: the server itself reports the steps that a method observes.

Without it, the client observes the distributions of chunks after the fact: the top K of every step
are transferred, every chunk of a monitored sequence costs a request, and tokens generated past a
branch point may be discarded. A request with a gate (`eager_sgl.plugin.vocabulary.Gate`) asks for
no logprobs and runs to its end. The server reports the steps that may branch as soon as they are
drawn, and those that a search stores together with the tokens. The sequence continues without a
pause as one of the two that a branch opens, or alone if the branch is not taken; its rest is
discarded only where it drew neither of the two most likely tokens.

The server's part is a plugin, `eager_sgl.plugin`; `reports` reads what it sends. Where it is not
installed, `pickled` can send a custom logit processor with every request, which serves EAGer-init
alone; `processor` is its text. `probe` finds out which of them a server has.
"""
