"""A catalog of several hundred manifests: adding them, listing them, starting a server on them.

usage: catalog.py PROGRAM [--manifests 400] [--repeat 5] [--folder DIR] [--json FILE]
PROGRAM is the `linkspan` binary. Without --folder the manifests are drawn: 3 to 40 streams each with schemas, 20 to 300 kB of YAML, as
public ones are. With --folder they are what lies there (one folder a connector, `manifest.yaml` in it); nothing of it is kept.
"""
import argparse, json, os, random, signal, statistics, subprocess, sys, tempfile, time, urllib.request

KEY = "benchmark-key-of-the-catalog-0123456789abcdef"


class Server:
    def __init__(self, program, folder):
        began = time.perf_counter()
        args = [program, "serve", "--data-dir", folder, "--bind", "127.0.0.1", "--port", "0", "--output", "json"]
        self.process = subprocess.Popen(args, env={**os.environ, "LINKSPAN_ADMIN_KEY": KEY}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        said = json.loads(self.process.stdout.readline())
        self.said_ms = 1e3 * (time.perf_counter() - began)
        self.port = int(said["url"].rsplit(":", 1)[1])

    def memory(self):
        """Resident now and at most, in MB."""
        lines = dict(l.split(":", 1) for l in open(f"/proc/{self.process.pid}/status") if ":" in l)
        return {name: round(int(lines[field].split()[0]) / 1024, 1) for name, field in (("rss_mb", "VmRSS"), ("peak_mb", "VmHWM"))}

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(40)


def stream(rng, name):
    columns = {f"field_{n}": {"type": ["null", rng.choice(["string", "integer", "number", "boolean"])], "description": "What the vendor calls it. " * rng.randint(1, 4)} for n in range(rng.randint(10, 60))}
    return {
        "type": "DeclarativeStream", "name": name, "primary_key": ["field_0"],
        "schema_loader": {"type": "InlineSchemaLoader", "schema": {"type": "object", "properties": {**columns, "updated_at": {"type": "string"}}}},
        "retriever": {
            "type": "SimpleRetriever",
            "requester": {"type": "HttpRequester", "url_base": "{{ config['url'] }}", "path": f"/{name}", "http_method": "GET",
                          "authenticator": {"type": "BearerAuthenticator", "api_token": "{{ config['api_key'] }}"}},
            "record_selector": {"type": "RecordSelector", "extractor": {"type": "DpathExtractor", "field_path": ["data"]}},
            "paginator": {"type": "DefaultPaginator", "page_token_option": {"type": "RequestOption", "inject_into": "request_parameter", "field_name": "page"},
                          "pagination_strategy": {"type": "PageIncrement", "page_size": 100}}},
        "incremental_sync": {"type": "DatetimeBasedCursor", "cursor_field": "updated_at", "datetime_format": "%Y-%m-%dT%H:%M:%SZ", "start_datetime": "2024-01-01T00:00:00Z"},
    }


def manifest(rng):
    names = [f"stream_{n}" for n in range(rng.randint(3, 40))]
    spec = {"type": "object", "required": ["url", "api_key"], "properties": {"url": {"type": "string"}, "api_key": {"type": "string", "airbyte_secret": True, "description": "A key. " * 20}}}
    return {"version": "6.1.0", "type": "DeclarativeSource", "check": {"type": "CheckStream", "stream_names": names[:1]},
            "spec": {"type": "Spec", "connection_specification": spec}, "streams": [stream(rng, n) for n in names]}


def draw(folder, count):
    """JSON is YAML."""
    rng = random.Random(7)
    for n in range(count):
        os.makedirs(f"{folder}/source-api-{n}")
        json.dump(manifest(rng), open(f"{folder}/source-api-{n}/manifest.yaml", "w"), indent=1)


def timed(command, env):
    began, before = time.perf_counter(), os.times()
    run = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    after = os.times()
    if run.returncode not in (0, 9):
        sys.exit(f"{command}: {run.returncode} {run.stderr.decode()[-2000:]}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return 1e3 * (time.perf_counter() - began), 1e3 * cpu, run.stdout


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("program"); args.add_argument("--manifests", type=int, default=400); args.add_argument("--repeat", type=int, default=5)
    args.add_argument("--folder"); args.add_argument("--json")
    args = args.parse_args()
    program = os.path.abspath(args.program)
    with tempfile.TemporaryDirectory() as home:
        folder, data = args.folder or f"{home}/all", f"{home}/data"
        if not args.folder:
            draw(folder, args.manifests)
        env = {**os.environ, "LINKSPAN_DATA_DIR": data, "HOME": home}
        wall, cpu, out = timed([program, "catalog", "add", folder, "--output", "json"], env)
        actions = [m["action"] for m in json.loads(out)["manifests"]]
        result = {"manifests": len(actions), "added": actions.count("added"), "refused": actions.count("refused"), "add_ms": round(wall), "add_cpu_ms": round(cpu)}
        lists = [timed([program, "catalog", "list", "--output", "json"], env)[:2] for _ in range(args.repeat)]
        result["list_ms"], result["list_cpu_ms"] = (round(statistics.median(column), 1) for column in zip(*lists))
        starts, asked, one, memory = [], [], [], None
        name = next(m["type"] for m in json.loads(out)["manifests"] if m["action"] == "added")
        for _ in range(args.repeat):
            server = Server(program, data)
            starts.append(server.said_ms)

            def ask(path):
                began = time.perf_counter()
                request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", headers={"Authorization": f"Bearer {KEY}"})
                size = len(urllib.request.urlopen(request).read())
                return 1e3 * (time.perf_counter() - began), size
            first, size = ask("/v1/catalog")
            asked += [first] + [ask("/v1/catalog")[0] for _ in range(4)]
            one += [ask(f"/v1/catalog/{name}")[0] for _ in range(5)]
            memory = server.memory()
            server.stop()
        result |= {"serve_ready_ms": round(statistics.median(starts), 1), "http_list_ms": round(statistics.median(asked), 1), "http_list_worst_ms": round(max(asked), 1),
                   "http_list_bytes": size, "http_show_ms": round(statistics.median(one), 1), "memory": memory}
    print(json.dumps(result, indent=1))
    if args.json:
        json.dump(result, open(args.json, "w"))
    if max(result["list_ms"], result["http_list_ms"], result["serve_ready_ms"]) > 200:
        print("beyond the figure: 200 ms", file=sys.stderr)


if __name__ == "__main__":
    main()
