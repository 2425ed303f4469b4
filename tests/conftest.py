"""Hypothesis on a machine that is busy with other tests: slowness is no fault of the code's."""

from hypothesis import HealthCheck, settings

settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")
