"""SGLang's frontend on token ids: any `@sgl.function` runs on a `TokenEndpoint`.

`endpoint` connects, `interpreter` has the hooks that SGLang's interpreter calls, `states` keeps the
token ids of a program's states, and `workers` ends their threads and passes on their errors.
"""
