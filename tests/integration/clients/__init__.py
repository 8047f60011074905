"""Real clients of the endpoint in front of the bundled model, in an environment of their own."""
