"""SGLang programs to copy: a verifier (`countdown`), a vote (`vote`), many prompts (`together`), branching by hand."""
