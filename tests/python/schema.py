"""Validates bundles against the JSON schemas of the OMS specification: schema.py SCHEMAS BUNDLE...

Prints {bundle: [fault, ...]}. The schema of the bundle leaves the payload as text, so it is decoded and validated too.
"""

import base64
import json
import pathlib
import sys

import jsonschema
from referencing import Registry, Resource

schemas = {p.name.split(".")[0]: json.loads(p.read_text()) for p in pathlib.Path(sys.argv[1]).glob("*.schema.json")}
registry = Registry().with_resources((s["$id"], Resource.from_contents(s)) for s in schemas.values())


def faults(kind, value):
    validator = jsonschema.Draft202012Validator(schemas[kind], registry=registry)
    found = []
    for error in validator.iter_errors(value):
        found += [f"{kind}: {e.json_path}: {e.message}" for e in (error.context or []) + [error]]
    return found


def check(text):
    bundle = json.loads(text)
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"], validate=True))
    return (
        faults("bundle", bundle)
        + faults("envelope", bundle["dsseEnvelope"])
        + faults("statement", statement)
        + faults("predicate", statement["predicate"])
    )


print(json.dumps({name: check(pathlib.Path(name).read_text()) for name in sys.argv[2:]}))
