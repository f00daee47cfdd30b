"""KneeXRay grades knee radiographs, and makes, audits and evaluates the models that do it. For research use."""

__version__ = "0.1.0"
