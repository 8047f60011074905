"""Real clients before the endpoint and the bundled model, in an environment of their own."""
