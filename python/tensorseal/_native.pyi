"""The native part. Private: the package's modules give it a face."""

__version__: str
