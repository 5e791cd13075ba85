"""CPU per record, peak memory and start of a low-code manifest, beside the reference interpreter.

usage: manifest.py PROGRAM [--pages 200] [--long 20000] [--reference PYTHON]
PROGRAM is called as `PROGRAM spec|read --manifest .. --config .. --catalog ..` (`linkspan manifest` works, quoted).
PYTHON is an interpreter that has airbyte-cdk. Records have ~350 bytes, 1,000 to a page; the server answers from memory.
"""
import argparse, json, os, shlex, socket, subprocess, sys, tempfile, threading, time

PAGE = 1000
REFERENCE = """
import json, sys, yaml
from airbyte_cdk.entrypoint import launch
from airbyte_cdk.models import ConfiguredAirbyteCatalogSerializer
from airbyte_cdk.sources.declarative.concurrent_declarative_source import ConcurrentDeclarativeSource
verb, o = sys.argv[1], dict(zip(sys.argv[2::2], sys.argv[3::2]))
catalog = ConfiguredAirbyteCatalogSerializer.load(json.load(open(o["--catalog"]))) if verb == "read" else None
config = json.load(open(o["--config"]))
source = ConcurrentDeclarativeSource(catalog=catalog, config=config, state=None, source_config=yaml.safe_load(open(o["--manifest"])))
launch(source, [verb] + (["--config", o["--config"], "--catalog", o["--catalog"]] if verb == "read" else []))
"""


def record(i, nulls):
    more = {"deleted_at": None} if nulls else {}
    return {**more,"id": i, "name": f"customer number {i}", "email": f"someone.{i}@example.com", "active": i % 2 == 0, "score": i * 1.25,
            "created_at": "2024-03-01T12:00:00Z", "updated_at": "2024-03-10T08:30:00Z", "tags": ["a", "b", "c"],
            "address": {"street": f"{i} Long Street", "city": "Springfield", "zip": "12345", "country": "Nowhere"}, "note": "x" * 22}


def body(nulls):
    rows = json.dumps([record(i, nulls) for i in range(PAGE)]).encode()
    # No two pages are alike: an API that answers the same page again and again is a circle, and refused.
    full = b'{"page":%08d,"data":' % 10000000 + rows + b"}"
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(full) + b'{"page":', b',"data":' + rows + b"}", head % 11 + b'{"data":[]}', len(full)


def serve(pages):
    """Answers `?offset=N` with a full page below pages * PAGE, and with none from there on; below /nulls each record has a null."""
    bodies = {nulls: body(nulls) for nulls in (False, True)}
    listener = socket.create_server(("127.0.0.1", 0))

    def talk(peer):
        left = b""
        while True:
            while b"\r\n\r\n" not in left:
                got = peer.recv(65536)
                if not got:
                    return
                left += got
            ask, left = left.split(b"\r\n\r\n", 1)
            line = ask.split(b"\r\n", 1)[0]
            offset = int(line.split(b"offset=")[1].split(b"&")[0].split(b" ")[0]) if b"offset=" in line else 0
            before, after, none, _ = bodies[b"/nulls" in line]
            peer.sendall(before + b"%08d" % (10000000 + offset // PAGE) + after if offset < pages[0] * PAGE else none)

    def accept():
        while True:
            threading.Thread(target=talk, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1], bodies[False][3] // PAGE


def manifest(port, changes, path):
    selector = {"type": "RecordSelector", "extractor": {"type": "DpathExtractor", "field_path": ["data"]}}
    stream = {
        "type": "DeclarativeStream", "name": "rows", "primary_key": "id",
        "retriever": {
            "type": "SimpleRetriever", "record_selector": selector,
            "requester": {"type": "HttpRequester", "url_base": f"http://127.0.0.1:{port}/", "path": path, "http_method": "GET"},
            "paginator": {
                "type": "DefaultPaginator",
                "page_token_option": {"type": "RequestOption", "inject_into": "request_parameter", "field_name": "offset"},
                "pagination_strategy": {"type": "OffsetIncrement", "page_size": PAGE}}},
        "schema_loader": {"type": "InlineSchemaLoader", "schema": {"type": "object", "properties": {}}}}
    if changes:
        selector["record_filter"] = {"type": "RecordFilter", "condition": "{{ record['id'] >= 0 }}"}
        stream["transformations"] = [
            {"type": "AddFields", "fields": [{"path": ["source"], "value": "{{ config['name'] }}-{{ record['id'] }}"}]},
            {"type": "RemoveFields", "field_pointers": [["note"]]}]
    return {"version": "6.0.0", "type": "DeclarativeSource", "check": {"type": "CheckStream", "stream_names": ["rows"]}, "streams": [stream],
            "spec": {"type": "Spec", "connection_specification": {"type": "object", "properties": {}}}}


def run(command, verb, folder):
    """Wall seconds, CPU seconds, peak MiB, records."""
    files = ["--manifest", f"{folder}/manifest.yaml"]
    if verb == "read":
        files += ["--config", f"{folder}/config.json", "--catalog", f"{folder}/catalog.json"]
    elif "-c" in command:
        files += ["--config", f"{folder}/config.json"]
    begun = time.monotonic()
    child = subprocess.Popen(command + [verb] + files, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    records, rest = 0, b""
    while chunk := os.read(child.stdout.fileno(), 1 << 20):
        rest += chunk
        records += rest.count(b'"type":"RECORD"')
        rest = rest[-14:]  # too short for a whole one: none is counted twice
    _, status, used = os.wait4(child.pid, 0)
    assert status == 0, f"{command[0]} {verb} ended with {status}"
    return time.monotonic() - begun, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, records


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("program")
    ap.add_argument("--pages", type=int, default=200)
    ap.add_argument("--long", type=int, default=20000)
    ap.add_argument("--reference", default="")
    a = ap.parse_args()
    programs = {"linkspan": shlex.split(a.program)}
    if a.reference:
        programs["reference"] = [a.reference, "-c", REFERENCE]
    pages = [a.pages]
    port, size = serve(pages)
    print(f"records of {size} bytes, {PAGE} a page")
    with tempfile.TemporaryDirectory() as folder:
        write = lambda name, value: json.dump(value, open(f"{folder}/{name}", "w"))  # noqa: E731
        write("config.json", {"name": "bench"})
        write("catalog.json", {"streams": [{"stream": {"name": "rows", "json_schema": {}, "supported_sync_modes": ["full_refresh"]},
                                            "sync_mode": "full_refresh", "destination_sync_mode": "append"}]})
        for name, command in programs.items():
            write("manifest.yaml", manifest(port, False, "rows"))
            spec = min(run(command, "spec", folder)[0] for _ in range(5))
            print(f"{name:10} spec                    {spec * 1000:8.1f} ms")
            for what, changes, path, count in (("plain", False, "rows", a.pages), ("with a null", False, "nulls", a.pages),
                                               ("filter+add+remove", True, "rows", a.pages), ("the same with a null", True, "nulls", a.pages),
                                               ("plain, long", False, "rows", a.long)):
                if name == "reference" and count > a.pages:
                    continue
                write("manifest.yaml", manifest(port, changes, path))
                pages[0] = count
                wall, cpu, rss, records = run(command, "read", folder)
                assert records == count * PAGE, f"{records} records of {count * PAGE}"
                print(f"{name:10} {what:20} {count:6} pages {cpu / records * 1e6:8.2f} us CPU a record {rss:7.1f} MiB peak {wall:7.1f} s", flush=True)


main()
