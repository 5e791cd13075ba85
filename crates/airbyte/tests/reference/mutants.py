#!/usr/bin/env python3
"""Changes manifests at random, as their language allows it, and runs what comes of it beside the reference interpreter.

  PYTHON mutants.py --cmd 'linkspan manifest' [--shim SHIM] [--seed N] [--many N] [--kit FOLDER] [NAME.case ..]      PYTHON has airbyte-cdk 7.39.1

The cases of this folder are what is changed, and those of a kit (its FOLDER has `goldens` and `mock.py`). A mutant has one to three changes: a
property gets another value that the language's schema has for it, or none; a component becomes another one that fits its place; answers get odd values.
Each prints one line, and below it what differs; `--seed N --many 1` repeats one.
"""
import argparse, copy, glob, importlib.util, json, os, random, re, sys, traceback, zlib

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import yaml  # noqa: E402
from compare import Program, Reference, differences, played  # noqa: E402
from play import Case, Server  # noqa: E402

MOST = 150  # requests of a phase


def language():
    import airbyte_cdk
    at = os.path.join(os.path.dirname(airbyte_cdk.__file__), "sources", "declarative", "declarative_component_schema.yaml")
    return yaml.safe_load(open(at))["definitions"]


# ---------------------------------------------------------------- what is changed
class Seed:
    """Of the cases of this folder."""

    def __init__(self, path):
        self.name, case = os.path.basename(path)[:-5], Case(path)
        self.case, self.text, self.config, self.states = case, case.manifest, case.config, list(case.states.values())
        self.files = {section[5:]: text for section, text in case.sections.items() if section.startswith("file ")}
        self.folders, self.catalog = {}, case.catalog
        self.paths = sorted({a.path for a in case.answers("first") if isinstance(a.path, str)})

    def server(self, odd):
        return Odd(self.case.answers("first"), odd)


class KitSeed:
    def __init__(self, folder, mock):
        read = lambda name: open(os.path.join(folder, name), encoding="utf-8").read().replace("127.0.0.1:__PORT__", "HOST")  # noqa: E731
        self.name, self.mock = os.path.basename(folder), mock
        self.text, self.config = read("manifest.yaml"), json.loads(read("config.json"))
        self.plan = json.loads(open(os.path.join(folder, "plan.json")).read())
        self.states = [{s["stream"]["stream_descriptor"]["name"]: s["stream"]["stream_state"] for s in json.loads(read("state2.json"))}] if os.path.exists(os.path.join(folder, "state2.json")) else []
        self.catalog = {s["stream"]["name"]: s["sync_mode"] for s in json.loads(read("catalog.json"))["streams"]}
        self.files = {}
        self.folders = {d: os.path.join(folder, d) for d in os.listdir(folder) if os.path.isdir(os.path.join(folder, d))}
        self.paths = sorted({r.split(" ", 1)[1] for r in self.plan.get("routes", {})})

    def server(self, odd):
        return OddKit(self.plan, self.mock, odd)


# Where anything else than a plain value is a mistake of the manifest: what then still works differs on purpose.
PLAIN = {
    "expand_records_from_field": [], "truncation_indicator_path": [], "parent_path": [], "record_path": [], "lazy_read_pointer": [], "extra_fields": [], "stream_names": ["a"], "dynamic_stream_name": ["a"],
    "delimiter": [",", ";", "\t", "|"], "encoding": ["utf-8", "latin-1", "utf-8-sig"], "old": ["a", "_", "{{ 'a' }}"], "new": ["b", "", "{{ config.get('x', 'y') }}"],
    "record_merge_strategy": ["x"], "request_authentication": ["x"],
}
ODD = [None, 0, 1, -1, 1.5, 1e20, "", " ", "0", "1", "12", "null", "None", "true", "x", "ä€😀", "{{ 1 }}", True, False, [], {}, [None], ["a", "b"], {"a": None}, {"a": {"b": 1}},
       "2024-03-02T00:00:00Z", "2024-03-02", 1709337600, "1709337600", "2024-03-02T01:02:03.456+02:00", "a.b", "A B", "a/b"]


def bent(value, draw, share):
    """Some of the values of an answer are others."""
    if isinstance(value, dict):
        return {k: (copy.deepcopy(draw.choice(ODD)) if draw.random() < share else bent(v, draw, share)) for k, v in value.items()}
    if isinstance(value, list):
        return [bent(v, draw, share) for v in value]
    return value


class Odd(Server):
    def __init__(self, answers, odd):
        super().__init__(answers)
        self.odd = odd

    def choose(self, method, target, headers, body):
        if len(self.log) > MOST:
            return 404, [], b'{"no_answer": true}'
        answer = self.fitting(method, target, headers, body)
        return answer.status, answer.headers, self.bend(answer.bytes(self.host), answer.status)

    def bend(self, data, status):
        if not self.odd or status != 200:
            return data
        try:
            value = json.loads(data)
        except ValueError:
            return data
        draw = random.Random(self.odd ^ zlib.crc32(json.dumps(value, sort_keys=True).replace(self.host, "HOST").encode()))
        return json.dumps(bent(value, draw, 0.03)).encode()


class OddKit(Odd):
    def __init__(self, plan, mock, odd):
        super().__init__((), odd)
        self.plan, self.mock = plan, mock

    def choose(self, method, target, headers, body):
        self.fitting(method, target, headers, body)
        port = int(self.host.split(":")[1])
        rq = self.mock.canon_request(method, target, headers, body, port)
        spec = self.plan.get("exact", {}).get(self.mock.request_key(rq)) or (self.plan.get("routes", {}).get(method + " " + rq["path"]) or [None])[0]
        if len(self.log) > MOST:
            return 404, [], b'{"no_answer": true}'
        if spec is None:
            if rq["path"] == "/token":
                return 200, [], json.dumps({"access_token": "tok", "expires_in": 3600, "data": {"token": "tok"}}).encode()
            return 404, [], b'{"no_answer": true}'
        try:
            status, more, data = self.mock.answer(self.plan, rq, spec, port)
        except Exception as e:  # noqa
            return 404, [], json.dumps({"error": repr(e)}).encode()
        return status, list(more.items()), self.bend(data, status)


# ---------------------------------------------------------------- changes
class Maker:
    def __init__(self, definitions, seed, draw):
        self.definitions, self.seed, self.draw = definitions, seed, draw
        self.fields = sorted(set(re.findall(r"[\"'](\w{2,20})[\"']\s*\]", seed.text)) | set(re.findall(r"cursor_field: [\"']?(\w+)", seed.text)) | {"id", "name", "updated_at", "data"})[:40]

    def template(self, contexts=None, name=None):
        config = [k for k, v in self.seed.config.items() if isinstance(v, (str, int))] or ["nothing"]
        field = self.draw.choice(self.fields)
        pool = [f"{{{{ config['{self.draw.choice(config)}'] }}}}", f"{{{{ config.get('{self.draw.choice(config)}', 'x') }}}}", "{{ parameters['name'] }}", "{{ parameters.get('path') or 'none' }}",
                "{{ now_utc().strftime('%Y-%m-%d') }}", "{{ day_delta(-3, '%Y-%m-%d') }}", "{{ today_utc() }}", "{{ timestamp('2024-03-02T00:00:00Z') }}", "{{ 'a' if 1 > 0 else 'b' }}",
                "{{ [1, 2, 3] | join('-') }}", "{{ 5 // 2 }}", "{{ {'a': 1} }}", "{{ 'x' | hash('md5') }}", "{{ none }}", "{{ '' }}", "{{ ' 1 ' }}", "{{ 1.0 }}", "{{ 'True' }}", "plain", "007", "a{{ 1 }}b",
                "{{ now_utc() - duration('P2D') }}", "{{ format_datetime('2024-03-02T00:00:00Z', '%s') }}", "{{ max(1, 2) }}", "{{ config }}"]
        record = [f"{{{{ record['{field}'] }}}}", f"{{{{ record.{field} }}}}", f"{{{{ record.get('{field}') }}}}", f"{{{{ record['{field}'] | string | upper }}}}", f"{{{{ record['{field}'] is not none }}}}",
                  f"{{{{ record.{field} | default('none') }}}}", f"{{{{ '{field}' in record }}}}", f"{{{{ record['{field}'] | int }}}}", f"{{{{ record['{field}'] >= stream_interval.start_time }}}}",
                  f"{{{{ record.get('{field}') == 'x' or record['id'] }}}}", f"{{{{ record | length }}}}", f"{{{{ record.{field}.a }}}}", f"{{{{ record['{field}'] ~ '-' ~ record.get('id') }}}}"]
        slices = ["{{ stream_interval.start_time }}", "{{ stream_interval['end_time'] }}", "{{ stream_partition.id }}", "{{ stream_slice['start_time'] }}", "{{ stream_partition['parent_id'] }}", "{{ stream_slice }}",
                  "{{ stream_partition }}", "{{ stream_interval.extra_fields }}", "{{ stream_slice.get('start_time', 'none') }}"]
        pages = ["{{ next_page_token['next_page_token'] }}", "{{ next_page_token }}"]
        answers = ["{{ response.next }}", "{{ response['data'] | length }}", "{{ response.get('next') }}", "{{ headers['link'] }}", "{{ headers.get('Link') }}", "{{ last_record['id'] }}", "{{ last_page_size }}", "{{ last_record.id }}", "{{ response }}",
                   "{{ not response.data }}", "{{ last_page_size == 0 }}", "{{ last_page_size < 2 }}"]
        contexts = contexts or []
        if not contexts and name in ("value", "condition", "request_parameters", "request_headers", "request_body_json", "request_body_data"):
            contexts = ["record", "stream_slice"] if name in ("value", "condition") else ["stream_slice", "next_page_token"]
        for name, more in (("record", record), ("stream_slice", slices), ("stream_interval", slices), ("stream_partition", slices), ("next_page_token", pages), ("response", answers), ("headers", answers), ("last_page_size", answers)):
            if any(name in c for c in contexts):
                pool = pool[::3] + more
        return self.draw.choice(pool)

    def text(self, schema, name):
        draw = self.draw
        if name in PLAIN:
            return draw.choice(PLAIN[name] or self.fields)
        if name in ("url_base", "url"):
            return "http://HOST" + draw.choice(["", "/", draw.choice(self.seed.paths or ["/a"])])
        if name == "token_refresh_endpoint":
            return "http://HOST/token"
        if name == "path":
            return draw.choice(self.seed.paths or ["/a"]).lstrip(draw.choice(["", "/"]))
        if name == "$ref" or name == "$schema":
            return "#/definitions/nothing"
        if name in ("cursor_field", "parent_key", "partition_field", "field_name", "field_path") and draw.random() < 0.8:
            return draw.choice(self.fields)
        if name in ("datetime_format", "cursor_datetime_formats", "token_expiry_date_format"):
            return draw.choice(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ", "%s", "%ms", "%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%dT%H:%M:%S%z", "%s_as_float", "%Y-%m-%dT%H:%M:%S.%_msZ", "%Y%m%d", "%d/%m/%Y"])
        if name in ("step", "cursor_granularity", "lookback_window"):
            return draw.choice(["P1D", "PT1S", "P1W", "P3D", "PT12H", "P1M", "PT0.000001S", "P0D", "P30D", "P1Y"])
        if name == "datetime" or name in ("start_datetime", "end_datetime"):
            return draw.choice(["2024-03-01", "2024-03-10T00:00:00Z", "2024-02-01T00:00:00Z", "1709251200", "{{ now_utc() }}", "{{ day_delta(-2) }}", "2024-03-20", "{{ config['start_date'] }}"])
        examples = [e for e in schema.get("examples") or [] if isinstance(e, str) and "://" not in e]
        if examples and draw.random() < 0.5:
            return draw.choice(examples)
        return self.template(schema.get("interpolation_context"), name)

    def value(self, schema, name, depth):
        draw = self.draw
        if "$ref" in schema:
            return self.component(schema["$ref"].split("/")[-1], depth)
        for many in ("anyOf", "oneOf"):
            if many in schema:
                fitting = [s for s in schema[many] if not s.get("$ref", "").split("/")[-1].startswith("Custom")]
                return self.value({**{k: v for k, v in schema.items() if k in ("examples", "interpolation_context")}, **draw.choice(fitting or schema[many])}, name, depth)
        if "enum" in schema:
            return draw.choice(schema["enum"])
        kind = schema.get("type")
        if kind == "boolean":
            return draw.random() < 0.5
        if kind in ("integer", "number"):
            return draw.choice([0, 1, 2, 3, 5, 10])
        if kind == "array":
            items = schema.get("items") or {}
            if name == "http_codes":
                return draw.sample([200, 400, 404, 429, 500], draw.randint(1, 2))
            return [self.value(items, name, depth + 1) for _ in range(draw.choice([1, 1, 1, 2, 2, 0]))]
        if kind == "object":
            if schema.get("properties"):
                return self.filled(schema, depth)
            return {draw.choice(["a", "b", "x-y", "id", *self.fields[:5]]): self.template(schema.get("interpolation_context"), name) for _ in range(draw.randint(1, 2))}
        return self.text(schema, name)

    def filled(self, definition, depth):
        made = {}
        for name, schema in definition.get("properties", {}).items():
            if name in ("$parameters",) or not isinstance(schema, dict):
                continue
            wanted = name in definition.get("required", ())
            if name == "type":
                made[name] = (schema.get("enum") or [""])[0]
            elif wanted or (depth < 5 and self.draw.random() < 0.25):
                made[name] = self.value(schema, name, depth + 1)
        return made

    def component(self, name, depth):
        if depth > 8 or name.startswith("Custom"):
            raise Impossible
        definition = self.definitions[name]
        if definition.get("type") == "object" and "properties" in definition:
            return self.filled(definition, depth)
        return self.value(definition, name, depth)

    def places(self, node, found):
        if isinstance(node, dict):
            if isinstance(node.get("type"), str) and node["type"] in self.definitions and node["type"] != "Spec" and "properties" in self.definitions[node["type"]]:
                found.append(node)
            for key, v in node.items():
                if key not in ("connection_specification", "schema"):
                    self.places(v, found)
        elif isinstance(node, list):
            for v in node:
                self.places(v, found)
        return found

    def change(self, manifest):
        """Changes one thing in place; what was done."""
        draw = self.draw
        for _ in range(50):
            places = self.places(manifest, [])
            if not places:
                return None
            kinds = sorted({p["type"] for p in places})
            kind = draw.choice(kinds) if draw.random() < 0.6 else draw.choice(places)["type"]
            it = draw.choice([p for p in places if p["type"] == kind])
            definition = self.definitions[kind]
            names = [n for n in definition["properties"] if n not in ("type", "$parameters", "name", "stream_names", "config_overrides") and isinstance(definition["properties"][n], dict)]
            if not names:
                continue
            name = draw.choice(names)
            if name in ("url_base", "path", "url") and draw.random() < 0.8:
                continue
            if name in it and name not in definition.get("required", ()) and draw.random() < 0.3:
                was = it.pop(name)
                return f"{kind}.{name} gone (was {json.dumps(was, default=str)[:80]})"
            old = it.get(name)
            if isinstance(old, list) and old and draw.random() < 0.5:
                at = draw.randrange(len(old))
                how = draw.choice(["gone", "twice", "turned"])
                it[name] = old[:at] + old[at + 1:] if how == "gone" else old + [copy.deepcopy(old[at])] if how == "twice" else old[::-1]
                return f"{kind}.{name}[{at}] {how}"
            try:
                made = self.value(definition["properties"][name], name, 1)
            except Impossible:
                continue
            if made == old:
                continue
            it[name] = made
            return f"{kind}.{name} = {json.dumps(made, default=str)[:260]}"
        return None


class Impossible(Exception):
    pass


# ---------------------------------------------------------------- runs
def run(seed, text, odd, runner, golden, start, draw_catalog, timeout):
    def phase(verb, start, catalog):
        return played(runner, seed.server(odd), {"manifest.yaml": text, "config.json": seed.config, **seed.files}, seed.folders, verb, start, catalog, {}, timeout)
    got = {"check": phase("check", None, None), "discover": phase("discover", None, None)}
    streams = ((golden or got)["discover"]["said"]) or {}
    catalog = draw_catalog(streams)
    if catalog:
        got["first"] = phase("read", None, catalog)
        got["resume"] = phase("read", start or (golden or got)["first"]["state"], catalog)
    return got


def main():
    p = argparse.ArgumentParser()
    p.add_argument("cases", nargs="*")
    p.add_argument("--cmd", required=True)
    p.add_argument("--kit")
    p.add_argument("--shim", default=os.environ.get("LINKSPAN_CLOCK_SHIM", ""))
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--many", type=int, default=100)
    p.add_argument("--timeout", type=float, default=20)
    p.add_argument("--show", help="writes the mutant's files into this folder")
    p.add_argument("-v", action="store_true")
    a = p.parse_args()
    seeds = [Seed(path) for path in a.cases or sorted(glob.glob(os.path.join(HERE, "cases", "*.case")))]
    if a.kit:
        spec = importlib.util.spec_from_file_location("mock", os.path.join(a.kit, "mock.py"))
        mock = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(mock)
        seeds += [KitSeed(f, mock) for f in sorted(glob.glob(os.path.join(a.kit, "goldens", "*")))]
    definitions = language()
    reference, program = Reference(sys.executable, a.shim), Program(a.cmd)
    bad = rows = 0
    for number in range(a.seed, a.seed + a.many):
        draw = random.Random(number)
        seed = draw.choice(seeds)
        try:
            manifest = yaml.safe_load(seed.text)
            maker = Maker(definitions, seed, draw)
            done = [d for d in (maker.change(manifest) for _ in range(draw.choice([0, 1, 1, 2, 3]))) if d]
            odd = draw.randrange(1, 1 << 30) if not done or draw.random() < 0.3 else 0
            text = yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True)
            start = draw.choice(seed.states) if seed.states and draw.random() < 0.5 else None
            shuffle = draw.random()

            def catalog(streams):
                names = sorted(n for n in streams if not seed.catalog or n in seed.catalog) or sorted(streams)
                random.Random(shuffle).shuffle(names)
                return {n: "incremental" if "incremental" in streams[n].get("supported_sync_modes", []) and zlib.crc32(f"{number}{n}".encode()) % 8 else "full_refresh" for n in names[:4]}
            if a.show:
                os.makedirs(a.show, exist_ok=True)
                open(os.path.join(a.show, "manifest.yaml"), "w").write(text)
                open(os.path.join(a.show, "config.json"), "w").write(json.dumps(seed.config))
            golden = run(seed, text, odd, reference, None, start, catalog, a.timeout)
            got = run(seed, text, odd, program, golden, start, catalog, a.timeout)
        except Exception:  # noqa
            print(f"ERROR {number} {seed.name}: {traceback.format_exc()[-500:]}", flush=True)
            continue
        found = {n: differences(golden[n], got[n], n, set(golden["discover"]["said"] or ())) for n in golden}
        if len(golden.get("first", {"requests": []})["requests"]) >= MOST:
            found = {}
        for n in list(found):
            # The reference ended in the middle, without a word about its streams.
            if n in ("first", "resume") and any(s in ("STARTED", "RUNNING") for s in golden[n]["status"].values()):
                del found[n]
        failed = any(not t.startswith("~") for ts in found.values() for t in ts)
        bad += failed
        rows += 1
        ends = "".join(s[0] for s in golden.get("first", {"status": {}})["status"].values())
        count = sum(len(r) for g in golden.values() for r in g["records"].values())
        print(f"{'FAIL' if failed else 'PASS'} {number} {seed.name} check {(golden['check']['said'] or {}).get('status')} {ends} records {count}{' odd' if odd else ''} | {' | '.join(done)}", flush=True)
        for n, ts in found.items() if failed else []:
            ts = [t for t in ts if a.v or not t.startswith("~")]
            for t in ts[:4]:
                print(f"    {n}: {t[:3000 if a.v else 500]}")
            if ts:
                for who, side in (("reference", golden[n]), ("program", got[n])):
                    if side["said"] and n == "check":
                        print(f"      {who}: {str(side['said'])[:500]}")
                    for e in side["errors"][:2]:
                        print(f"      {who}: {e['stream']} {e['failure_type']} {str(e['message'])[:250]} | {e['internal'][-260:]}")
                    if side.get("_err", "").strip() and not side["errors"]:
                        print(f"      {who} stderr: {side['_err'][-300:]}")
    print(f"{rows - bad} of {rows} mutants are as the reference has them")


if __name__ == "__main__":
    main()
