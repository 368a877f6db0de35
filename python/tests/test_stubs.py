"""The stubs say what the functions take."""

import ast
import inspect
import pathlib

import pytest

import etude

PACKAGE = pathlib.Path(etude.__file__).parent


def stubs(name):
    """What is declared in a stub: functions, and those of classes, by name."""
    found = {}

    def look(body, of=""):
        for node in body:
            if isinstance(node, ast.ClassDef):
                look(node.body, f"{of}{node.name}.")
            elif isinstance(node, ast.FunctionDef):
                found.setdefault(of + node.name, []).append(node)

    look(ast.parse((PACKAGE / name).read_text()).body)
    return found


def parameters(node):
    a = node.args
    return {p.arg for p in (*a.posonlyargs, *a.args, *a.kwonlyargs)}


@pytest.mark.parametrize("stub", ["__init__.pyi", "nn.pyi"])
def test_stubs_say_what_functions_take(stub):
    module = etude
    if stub == "nn.pyi":
        pytest.importorskip("torch")
        module = etude.nn
    seen = set()
    for name, declared in stubs(stub).items():
        function = module
        for part in name.split("."):
            function = getattr(function, part)
        overloaded = [any(getattr(d, "id", "") == "overload" for d in of.decorator_list) for of in declared]
        assert all(overloaded) if len(declared) > 1 else not any(overloaded), name
        taken = set(inspect.signature(function).parameters)
        assert set().union(*map(parameters, declared)) == taken, name
        seen.add(name)
    of_module = {n for n in module.__all__ if inspect.isfunction(getattr(module, n))}
    assert of_module <= seen
