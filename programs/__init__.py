"""SGLang programs to copy.

A verifier (`countdown`), a vote (`vote`), many prompts (`together`), EAGer-init in plain SGLang
(`eager_by_hand`).
"""
