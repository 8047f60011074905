"""The files in `deploy`: what they name exists, and the endpoint runs on its image's packages."""
