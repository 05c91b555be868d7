"""What is wrong with an object, by the strict schema of a Kubernetes, or of the project its kind comes from."""

import json
import os
from functools import cache
from pathlib import Path

import jsonschema
import kubernetes_validate
import yaml

# Where `.ci/tools chart` puts the definitions of kinds that are not Kubernetes' own.
CRDS = Path(os.environ["CRDS"])


def problems(item, version):
    """Sentences, each with the place; none if nothing is wrong."""
    return _problems(json.dumps(item, sort_keys=True), version)


@cache
def _problems(text, version):
    """Of an object as text, since most are the same in many renders, and the schemas are large."""
    item = json.loads(text)
    definition = definitions().get((item["apiVersion"], item["kind"]))
    if definition:
        errors = jsonschema.Draft202012Validator(definition).iter_errors(item)
        return [f"{error.json_path}: {error.message}" for error in errors]
    try:
        kubernetes_validate.validate(item, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{error.path}: {error.message}"]
    return []


@cache
def definitions():
    """Schemas of kinds that are not Kubernetes' own, by version and kind."""
    found = {}
    for file in CRDS.glob("*.yaml"):
        for document in yaml.safe_load_all(file.read_text()):
            spec = document["spec"]
            for version in spec["versions"]:
                name = f"{spec['group']}/{version['name']}", spec["names"]["kind"]
                found[name] = strict(version["schema"]["openAPIV3Schema"])
    assert found, f"no definitions in {CRDS}"
    return found


def strict(schema):
    """The schema as JSON Schema, in which an unknown field is an error."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: part if key in ("default", "enum", "required") else strict(part) for key, part in schema.items()}
    open_ended = "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields")
    # `metadata` of the object itself has no properties there, and anything may stand in it.
    if schema.get("type") == "object" and "properties" in schema and not open_ended:
        schema["additionalProperties"] = False
    return schema
