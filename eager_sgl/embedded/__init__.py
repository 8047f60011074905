"""The embedded runtime: an SGLang server that this process starts, supervises and ends.

Others use `runtime.EmbeddedRuntime` alone. Below it: `address` (where the server listens),
`arguments` (fields of `ServerArgs`), `environment`, `log` (stages of the start, advice on errors)
and `process`, which runs in the server's own process. SGLang loads `cpu_platform` and
`cpu_steps` through their entry points, and on machines without an accelerator `cpu_torch` and
`cpu_attention`; `cpu_steps` hooks `cpu_sampler` and `cpu_mixed` there.
"""
