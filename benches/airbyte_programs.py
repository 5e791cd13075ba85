#!/usr/bin/env python3
"""Runs the suites of others against Linkspan's programs, and counts what passed.

  python benches/airbyte_programs.py --linkspan target/release/linkspan [--postgres URL] [SUITE ...]

SUITE: specs, validate, benchmark, smoke, cdk, singer (all of them when none is named).

  specs      the CDK's lint of every source's spec
  validate   PyAirbyte's `pyab validate`: sources, a manifest, destinations
  benchmark  PyAirbyte's `pyab benchmark` of sources, of a manifest (a small local API) and of destinations, with a stand-in for the container that
             it starts at the other end; `pyab sync` from a source of ours into a destination of ours
  smoke      PyAirbyte's `pyab destination-smoke-test`, every scenario, into PostgreSQL (read back by PyAirbyte) and Parquet (read back with
             pyarrow, since PyAirbyte has no reader for it)
  cdk        the CDK's standard tests of sources (`SourceTestSuiteBase`), but for those that build and run a container image (skipped)
  singer     the Singer SDK's tests of targets, against `linkspan singer-target`

Needs a Python with airbyte 0.71.3 (which brings airbyte-cdk), singer-sdk 0.54.9, pytest and, for `smoke`, pyarrow. Nothing is fetched.
"""
import argparse
import http.server
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import urllib.parse

SUITES = ["specs", "validate", "benchmark", "smoke", "cdk", "singer"]
COUNTS = {}


def count(suite, name, ok, why=""):
    passed, failed, skipped = COUNTS.get(suite, (0, 0, 0))
    COUNTS[suite] = (passed + (ok is True), failed + (ok is False), skipped + (ok is None))
    print(f"{suite}: {name}: {'ok' if ok else 'skipped' if ok is None else 'FAILED'} {why}".rstrip(), flush=True)


class Place:
    """A folder with one executable for each program."""

    def __init__(self, linkspan, postgres):
        self.linkspan, self.postgres = os.path.abspath(linkspan), postgres
        self.folder = tempfile.TemporaryDirectory()
        self.path = pathlib.Path(self.folder.name)

    def program(self, name, *words):
        path = self.path / name
        path.write_text(f"#!/bin/sh\nexec {self.linkspan} {' '.join(words)} \"$@\"\n")
        path.chmod(0o755)
        return str(path)

    def config(self, name, config):
        path = self.path / f"{name}.json"
        path.write_text(json.dumps(config))
        return str(path)

    def postgres_config(self):
        url = urllib.parse.urlsplit(self.postgres)
        unquote = urllib.parse.unquote
        return {"host": url.hostname, "port": url.port or 5432, "database": url.path.strip("/"), "username": unquote(url.username),
                "password": unquote(url.password or "")}


def run(*command, beside=None, **options):
    # Nothing is looked up in a registry, nobody is told.
    env = {**os.environ, "AIRBYTE_OFFLINE_MODE": "1", "DO_NOT_TRACK": "1", "PYTHONWARNINGS": "ignore"}
    folders = [beside, str(pathlib.Path(sys.executable).parent), env["PATH"]]
    env["PATH"] = os.pathsep.join(folder for folder in folders if folder)
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False, env=env, **options)


def last_line(done):
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""


def specs(place):
    from airbyte_cdk.models import AirbyteMessageSerializer
    from airbyte_cdk.test.standard_tests._spec_lint import assert_spec_is_valid

    listed = run(place.linkspan, "catalog", "list", "--output", "json").stdout
    for kind in json.loads(listed)["types"]:
        done = run(place.linkspan, "airbyte", "source", kind["name"], "spec")
        try:
            spec = AirbyteMessageSerializer.load(json.loads(done.stdout.splitlines()[0])).spec
            assert_spec_is_valid(spec, connector_name=kind["name"])
            count("specs", kind["name"], True)
        except (AssertionError, IndexError, ValueError) as problem:
            count("specs", kind["name"], False, str(problem)[:200])


class Api(http.server.BaseHTTPRequestHandler):
    """Pages of a hundred records."""

    def do_GET(self):
        page = int(urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query).get("page", ["1"])[0])
        rows = [{"id": n, "name": f"n{n}"} for n in range((page - 1) * 100, page * 100)] if page <= 20 else []
        body = json.dumps({"data": rows}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


MANIFEST = """
version: 6.0.0
type: DeclarativeSource
check: {type: CheckStream, stream_names: [rows]}
spec:
  type: Spec
  connection_specification: {type: object, required: [url], properties: {url: {type: string}}}
streams:
  - type: DeclarativeStream
    name: rows
    primary_key: [id]
    schema_loader:
      type: InlineSchemaLoader
      schema: {type: object, properties: {id: {type: integer}, name: {type: string}}}
    retriever:
      type: SimpleRetriever
      requester: {type: HttpRequester, url_base: "{{ config['url'] }}", path: /rows, http_method: GET}
      record_selector: {type: RecordSelector, extractor: {type: DpathExtractor, field_path: [data]}}
      paginator:
        type: DefaultPaginator
        page_token_option: {type: RequestOption, inject_into: request_parameter, field_name: page}
        pagination_strategy: {type: PageIncrement, page_size: 100, start_from_page: 1}
"""


def sources(place):
    """Programs that are sources, with configs that work."""
    api = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=api.serve_forever, daemon=True).start()
    manifest = place.path / "manifest.yaml"
    manifest.write_text(MANIFEST)
    rows = place.path / "orders.csv"
    rows.write_text("id,note\n" + "".join(f"{n},n{n}\n" for n in range(100)))
    # A manifest's program takes the file as one more argument.
    shim = place.path / "source-rows"
    shim.write_text(f"#!/bin/sh\nverb=$1; shift\nexec {place.linkspan} manifest \"$verb\" --manifest {manifest} \"$@\"\n")
    shim.chmod(0o755)
    return {
        "source-faker": (place.program("source-faker", "airbyte", "source", "faker"), {"customers": 300, "orders": 1000}),
        "source-csv": (place.program("source-csv", "airbyte", "source", "csv"), {"path": str(rows)}),
        "source-rows": (str(shim), {"url": f"http://127.0.0.1:{api.server_port}"}),
    }


def destinations(place):
    found = {"destination-parquet": (place.program("destination-parquet", "airbyte", "destination", "parquet"), {"path": str(place.path / "lake")})}
    if place.postgres:
        program = place.program("destination-postgres", "airbyte", "destination", "postgresql")
        found["destination-postgres"] = (program, place.postgres_config())
    return found


def validate(place):
    for name, (program, config) in {**sources(place), **destinations(place)}.items():
        done = run("pyab", "validate", f"--connector={program}", f"--config={place.config(name, config)}")
        count("validate", name, done.returncode == 0, last_line(done) if done.returncode else "")


# What `pyab benchmark` starts as a container on the other side: nothing but that other side is stood in for.
STAND_IN = """#!{python}
import json, os, subprocess, sys
words, mounts = sys.argv[1:], []
assert words.pop(0) == "run"
while words[0].startswith("-"):
    if words.pop(0) == "--volume":
        mounts.append(words.pop(0).rsplit(":", 1))
image, verb, rest = words[0].split(":")[0], words[1], words[2:]
for host, inside in mounts:
    rest = [host + word[len(inside):] if word.startswith(inside + "/") else word for word in rest]
read = lambda option: json.load(open(rest[rest.index(option) + 1]))
def say(kind, **body): print(json.dumps({{"type": kind, **body}}))
if verb == "spec":
    say("SPEC", spec={{"connectionSpecification": {{"type": "object"}}}})
elif verb == "check":
    say("CONNECTION_STATUS", connectionStatus={{"status": "SUCCEEDED"}})
elif image.endswith("/destination-dev-null"):
    for line in sys.stdin:
        if line.startswith('{{"type":"STATE"'):
            sys.stdout.write(line)
elif image.endswith("/source-e2e-test"):
    columns = ["field%d" % n for n in range(1, 6)]
    schema = {{"type": "object", "properties": {{c: {{"type": "string"}} for c in columns}}}}
    if verb == "discover":
        say("CATALOG", catalog={{"streams": [{{"name": "stream1", "json_schema": schema, "supported_sync_modes": ["full_refresh"]}}]}})
    else:
        many = read("--config")["terminationCondition"]["max"]
        for n in range(many):
            say("RECORD", record={{"stream": "stream1", "emitted_at": 1, "data": {{c: "%s_%d" % (c, n) for c in columns}}}})
        say("STATE", state={{"type": "STREAM", "stream": {{"stream_descriptor": {{"name": "stream1"}}, "stream_state": {{"n": many}}}}}})
"""


def benchmark(place):
    docker = place.path / "docker"
    docker.write_text(STAND_IN.format(python=sys.executable))
    docker.chmod(0o755)
    for name, (program, config) in sources(place).items():
        done = run("pyab", "benchmark", f"--source={program}", f"--config={place.config(name, config)}", beside=str(place.path))
        count("benchmark", name, done.returncode == 0, rate_of(done) if done.returncode == 0 else last_line(done))
    for name, (program, config) in destinations(place).items():
        done = run("pyab", "benchmark", f"--destination={program}", f"--config={place.config(name, config)}", "--num-records=1e5", beside=str(place.path))
        count("benchmark", name, done.returncode == 0, rate_of(done) if done.returncode == 0 else last_line(done))
    # Both ends are programs of Linkspan.
    (source, of), (target, to) = sources(place)["source-faker"], destinations(place)["destination-parquet"]
    done = run("pyab", "sync", f"--source={source}", f"--destination={target}", f"--Sconfig={place.config('of', of)}", f"--Dconfig={place.config('to', to)}")
    count("benchmark", "sync from source-faker to destination-parquet", done.returncode == 0, "" if done.returncode == 0 else last_line(done))


def rate_of(done):
    """PyAirbyte's own last word on how fast it was."""
    said = re.findall(r"[\d,.]+ records[^\n]*", re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr))
    return f"({said[-1].strip()})" if said else ""


def smoke(place):
    for name, (program, config) in destinations(place).items():
        done = run("pyab", "destination-smoke-test", f"--destination={program}", f"--config={place.config(name, config)}", "--scenarios=all",
                   "--namespace-suffix=linkspan")
        found = re.search(r"^\{.*^\}", done.stdout, re.M | re.S)
        if not found:
            count("smoke", name, False, last_line(done))
            continue
        said = json.loads(found.group(0))
        count("smoke", f"{name}: {said['records_delivered']} records delivered", said["success"], said["error"] or "")
        if said["table_statistics"] is not None:
            for stream, table in said["table_statistics"].items():
                count("smoke", f"{name}: {stream} read back, {table['row_count']} rows", True)
            for stream, table in said["tables_not_found"].items():
                count("smoke", f"{name}: {stream}", False, f"no table {table}")
        if name == "destination-parquet":
            read_back(config["path"])


def read_back(lake):
    import pyarrow.parquet

    for stream in sorted({path.parent for path in pathlib.Path(lake).rglob("*.parquet")}):
        tables = [pyarrow.parquet.read_table(path) for path in stream.glob("*.parquet")]
        marked = all("_airbyte_raw_id" in table.column_names for table in tables)
        count("smoke", f"destination-parquet: {stream.name} read back, {sum(t.num_rows for t in tables)} rows", marked)


CDK = '''
import json, logging, pathlib, subprocess, sys
import pytest
from airbyte_cdk.models import AirbyteMessageSerializer, ConnectorSpecification
from airbyte_cdk.test.models import ConnectorTestScenario
from airbyte_cdk.test.standard_tests.source_base import SourceTestSuiteBase
from airbyte_cdk.test import entrypoint_wrapper

PROGRAMS = json.loads(pathlib.Path(__file__).with_name("programs.json").read_text())

class Program:
    """A connector that is somebody else's executable."""
    def __init__(self, path): self.path = path
    def spec(self, logger): raise NotImplementedError

def run_command(source, args, expected_outcome=None, **_):
    done = subprocess.run([source.path, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    output = entrypoint_wrapper.EntrypointOutput(messages=done.stdout.splitlines())
    if expected_outcome is not None and expected_outcome.expect_success() and output.errors:
        raise output.as_exception()
    if expected_outcome is not None and expected_outcome.expect_exception() and not output.errors:
        raise AssertionError("expected an error")
    return output

entrypoint_wrapper._run_command = run_command
from airbyte_cdk.test.standard_tests import _job_runner
_job_runner.entrypoint_wrapper._run_command = run_command

def suite(name):
    path, config = PROGRAMS[name]
    class Suite(SourceTestSuiteBase):
        @classmethod
        def create_connector(cls, scenario): return Program(path)
        @classmethod
        def get_connector_root_dir(cls): return pathlib.Path(__file__).parent
        @classmethod
        def get_scenarios(cls): return [ConnectorTestScenario(config_path=pathlib.Path(config))]
    Suite.connector_name = name
    Suite.__name__ = "Test" + "".join(w.title() for w in name.split("-"))
    return Suite

for name in PROGRAMS:
    globals()["Test" + "".join(w.title() for w in name.split("-"))] = suite(name)
'''


def counted_by_pytest(suite, done):
    said = re.findall(r"(\d+) (passed|failed|skipped|error|deselected)", done.stdout.splitlines()[-1] if done.stdout else "")
    for number, word in said:
        passed, failed, skipped = COUNTS.get(suite, (0, 0, 0))
        n = int(number)
        COUNTS[suite] = (passed + n * (word == "passed"), failed + n * (word in ("failed", "error")), skipped + n * (word in ("skipped", "deselected")))
    print(done.stdout[-6000:])
    if not said:
        count(suite, "pytest", False, last_line(done))


def cdk(place):
    programs = {name: (program, place.config(name, config)) for name, (program, config) in sources(place).items()}
    (place.path / "programs.json").write_text(json.dumps(programs))
    (place.path / "metadata.yaml").write_text("data: {dockerRepository: linkspan/source, tags: []}\n")
    (place.path / "acceptance-test-config.yml").write_text("connector_image: linkspan/source\nacceptance_tests: {}\n")
    (place.path / "test_cdk.py").write_text(CDK)
    plugin = "airbyte_cdk.test.standard_tests.pytest_hooks"
    counted_by_pytest("cdk", run(sys.executable, "-m", "pytest", "-q", "-rfEs", "-p", plugin, "-W", "ignore", "-k", "not docker",
                                 "test_cdk.py", cwd=place.path))


SINGER = '''
import io, json, pathlib, subprocess, sys
from singer_sdk import typing as th
from singer_sdk.exceptions import MissingKeyPropertiesError
from singer_sdk.exceptions import RecordsWithoutSchemaException
from singer_sdk.target_base import Target
from singer_sdk.sinks import RecordSink
from singer_sdk.testing import get_target_test_class

SAID = json.loads(pathlib.Path(__file__).with_name("singer.json").read_text())

class Sink(RecordSink):
    def process_record(self, record, context): raise AssertionError("the program takes the records")

class TargetLinkspan(Target):
    """The program stands where the SDK's own loop would: what it is given, and what it says, are the SDK's to judge."""
    name = "target-linkspan"
    config_jsonschema = th.PropertiesList().to_dict()
    default_sink_class = Sink

    def process_lines(self, file_input):
        done = subprocess.run(SAID["command"], input=file_input.read(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raises = {"before the schema": RecordsWithoutSchemaException, "lacks a property of its key": MissingKeyPropertiesError}
            raise next((error for words, error in raises.items() if words in done.stderr), RuntimeError)(done.stderr)
        for line in done.stdout.splitlines():
            json.loads(line)
            sys.stdout.write(line + "\\n")
            sys.stdout.flush()

    def process_endofpipe(self):
        pass

    _process_endofpipe = process_endofpipe

TestTargetLinkspan = get_target_test_class(TargetLinkspan, config={})
'''


def singer(place):
    to = place.config("target", {"url": place.postgres}) if place.postgres else place.config("target", {"path": str(place.path / "singer.db")})
    kind = "postgresql" if place.postgres else "sqlite"
    (place.path / "singer.json").write_text(json.dumps({"command": [place.linkspan, "singer-target", kind, "--config", to]}))
    (place.path / "test_singer.py").write_text(SINGER)
    counted_by_pytest("singer", run(sys.executable, "-m", "pytest", "-q", "-rfEs", "-W", "ignore", "test_singer.py", cwd=place.path))


def main():
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--linkspan", required=True)
    asked.add_argument("--postgres", default=os.environ.get("LINKSPAN_TEST_POSTGRES_URL"))
    asked.add_argument("suites", nargs="*", choices=[*SUITES, []])
    asked = asked.parse_args()
    place = Place(asked.linkspan, asked.postgres)
    for suite in asked.suites or SUITES:
        globals()[suite](place)
    for suite, (passed, failed, skipped) in COUNTS.items():
        print(f"{suite}: {passed} passed, {failed} failed, {skipped} skipped")
    return 1 if any(failed for _, failed, _ in COUNTS.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
