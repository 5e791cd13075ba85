#!/usr/bin/env python3
"""Asks the Airbyte CDK's own checks about Linkspan's connectors as programs: every spec, and the catalogs of the configs given.

  python benches/airbyte_programs.py --linkspan target/release/linkspan [postgresql=config.json ...]

Needs a Python with airbyte-cdk (7.39 or later) and pytest.
"""
import argparse
import json
import subprocess
import sys

from airbyte_cdk.models import AirbyteMessageSerializer
from airbyte_cdk.test.standard_tests._catalog_checks import find_catalog_problems
from airbyte_cdk.test.standard_tests._spec_lint import assert_spec_is_valid


def main():
    asked = argparse.ArgumentParser()
    asked.add_argument("--linkspan", required=True)
    asked.add_argument("catalogs", nargs="*", metavar="TYPE=CONFIG")
    asked = asked.parse_args()

    def say(*words):
        out = subprocess.run([asked.linkspan, *words], stdout=subprocess.PIPE, check=False).stdout
        return [AirbyteMessageSerializer.load(json.loads(line)) for line in out.decode().splitlines()]

    listed = subprocess.run([asked.linkspan, "catalog", "list", "--output", "json"], stdout=subprocess.PIPE, check=True).stdout
    wrong = 0
    for kind in json.loads(listed)["types"]:
        try:
            assert_spec_is_valid(say("airbyte", "source", kind["name"], "spec")[0].spec, connector_name=kind["name"])
            print(f"{kind['name']}: spec ok")
        except AssertionError as problem:
            wrong += 1
            print(f"{kind['name']}: {problem}")
    for kind, config in (one.split("=", 1) for one in asked.catalogs):
        message = say("airbyte", "source", kind, "discover", "--config", config)[0]
        problems = find_catalog_problems(message.catalog)
        wrong += bool(problems)
        print(f"{kind}: {len(message.catalog.streams)} streams, {problems or 'catalog ok'}")
    return 1 if wrong else 0


sys.exit(main())
