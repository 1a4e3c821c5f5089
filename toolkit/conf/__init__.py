"""Hydra's primary configuration, as a package so that it is found when installed."""
