"""What every request passes, and what is seen of it from outside.

Low to high: `guard` (keys, bodies, clients that leave), `admission` (which requests run, and which
wait), `metrics` (Prometheus), `access` (the log), `lines` (its form),
`readiness` (why SGLang servers cannot be used).
"""
