"""Modules past the type checker of the tests."""

import importlib.util
import pathlib
import sys

import hydrajax


def load(name):
    """A module of the command line: tyro marks a missing value of any type by one of its own."""
    path = pathlib.Path(hydrajax.__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"unchecked_{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
