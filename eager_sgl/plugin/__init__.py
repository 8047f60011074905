"""The gate inside an SGLang server: a plugin that SGLang finds by its entry point.

A request asks for it by plain numbers (`vocabulary`), and gets its reports in `meta_info`
(`blocks`); both are shared with the client. `register` hooks SGLang's functions (`hooks`) in the
processes of the server. At each step the observed rows are read at once on the device (`signals`),
and each request's `reports` wait until SGLang sends its tokens. Logits are not changed, requests
that ask for nothing pass by, and a fault switches the gate off: for its request, or for those of
the step that could not be read.
"""
