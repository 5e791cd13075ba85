#!/usr/bin/env python3
"""Runs whole manifests beside the reference interpreter, with answers drawn from what the manifest itself says.

  PYTHON corpus.py --cmd 'linkspan manifest' [--shim SHIM] [-v] NAME/manifest.yaml ..        PYTHON has airbyte-cdk 7.39.1

SHIM is a library to preload that stops the reference's clock at 2024-03-15T12:00:00.123456Z. A connector's own files (schemas, an old spec) are
looked for in NAME/pkg. Nothing is fetched: bring the manifests.

Unlike the cases (see play.py) nothing is written down: configs are drawn from the spec (one for each way to log in), answers from schemas, extractors,
cursors and paginators. Every answer is a function of the request (in the phase `faults` also of how often it came), so that both sides see the same.
What the drawn answers make of a manifest may be senseless; it has to be the same.
"""
import argparse, calendar, datetime, json, os, random, re, sys, zlib
from urllib.parse import urlsplit

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import yaml  # noqa: E402
from compare import Program, Reference, differences, key, played  # noqa: E402
from play import Server, asked  # noqa: E402

MOST = 1500
NOW = calendar.timegm((2024, 3, 15, 12, 0, 0))
HOSTS = re.compile(r"https?://(?:\{\{.*?\}\}|[^/\"'\s{}<>\\)])+")


def crc(text):
    return zlib.crc32(str(text).encode())


# ---------------------------------------------------------------- the manifest
def local(text):
    """The manifest with every host of a URL field as HOST, and small pages."""
    out = []
    for line in text.split("\n"):
        if not re.match(r"\s*(-\s*)?(documentation_?url|description|title|\$schema|pattern|examples?|airbyte_hidden)\b", line, re.I):
            line = HOSTS.sub("http://HOST", line)
        line = re.sub(r"(\bpage_size:\s*)\d+\s*$", r"\g<1>2", line)
        out.append(line)
    return "\n".join(out)


def resolved(text):
    from airbyte_cdk.sources.declarative.parsers.manifest_component_transformer import ManifestComponentTransformer
    from airbyte_cdk.sources.declarative.parsers.manifest_reference_resolver import ManifestReferenceResolver
    manifest = ManifestReferenceResolver().preprocess_manifest(yaml.safe_load(text))
    return ManifestComponentTransformer().propagate_types_and_parameters("", manifest, {})


def walk(node, found, wanted):
    if isinstance(node, dict):
        if isinstance(node.get("type"), str) and node["type"] in wanted:
            found.append(node)
        for v in node.values():
            walk(v, found, wanted)
    elif isinstance(node, list):
        for v in node:
            walk(v, found, wanted)
    return found


def texts(node):
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for v in node.values():
            yield from texts(v)
    elif isinstance(node, list):
        for v in node:
            yield from texts(v)


# ---------------------------------------------------------------- configs
DATES = ["2024-03-01T00:00:00Z", "2024-03-01", "2024-03-01T00:00:00.000Z", "2024-03-01T00:00:00.000000Z", "2024-03-01 00:00:00", "2024-03-01T00:00:00", "2024-03",
         "1709251200", "01/03/2024", "2024-03-01T00:00:00+00:00", "20240301"]


def draw(schema, name, choice):
    if "const" in schema:
        return schema["const"]
    if "oneOf" in schema or "anyOf" in schema:
        options = schema.get("oneOf") or schema.get("anyOf")
        merged = {**{k: v for k, v in schema.items() if k not in ("oneOf", "anyOf")}, **options[choice % len(options)]}
        merged["properties"] = {**schema.get("properties", {}), **options[choice % len(options)].get("properties", {})}
        return draw(merged, name, choice)
    if schema.get("enum"):
        return schema["default"] if "default" in schema and choice % 2 == 0 else schema["enum"][choice % len(schema["enum"])]
    kind = schema.get("type")
    kind = next((k for k in kind if k != "null"), "string") if isinstance(kind, list) else kind
    if kind == "object" or (kind is None and "properties" in schema):
        return {k: draw(v, k, choice) for k, v in schema.get("properties", {}).items() if isinstance(v, dict)}
    if kind == "array":
        items = schema.get("items") or {}
        if "default" in schema:
            return schema["default"]
        examples = schema.get("examples") or []
        if examples and isinstance(examples[0], list):
            return examples[0]
        first = draw(items if isinstance(items, dict) else {}, name, choice)
        second = draw(items if isinstance(items, dict) else {}, name, choice + 1)
        return [first] if key(first) == key(second) else [first, second]
    if kind in ("integer", "number"):
        value = schema.get("default", next((e for e in schema.get("examples") or [] if isinstance(e, (int, float))), 2))
        return min(max(value, schema.get("minimum", value)), schema.get("maximum", value)) if isinstance(value, (int, float)) else 2
    if kind == "boolean":
        return schema.get("default", False) if choice % 2 == 0 else not schema.get("default", False)
    pattern = schema.get("pattern")
    fits = lambda t: isinstance(t, str) and (not pattern or re.search(pattern, t))  # noqa: E731
    dated = schema.get("format") in ("date", "date-time") or re.search(r"date|since|start|from|until", name, re.I)
    ends = re.search(r"end|until|_to$", name, re.I)
    if re.search(r"url|domain|host|endpoint|instance|server", name, re.I) and fits("http://HOST"):
        return "http://HOST"
    if dated:
        for t in DATES:
            if ends:
                t = t.replace("03-01", "03-14").replace("1709251200", "1710374400").replace("01/03", "14/03").replace("0301", "0314")
            if fits(t):
                return t
    for t in [schema.get("default"), *(schema.get("examples") or [])]:
        if fits(t) and not str(t).startswith("http"):
            return t
    for t in [f"{name}-{choice}", "abc123", "abc", "12", "https://x.example.com", "x.example.com", "a@b.example", "us-1", "a" * 32, "act_12", "2"]:
        if fits(t):
            return t
    return str(schema.get("default") or (schema.get("examples") or ["x"])[0])


def configs(manifest, most):
    spec = (manifest.get("spec") or {}).get("connection_specification") or {}
    found = []
    for choice in range(most):
        config = draw({**spec, "type": "object"}, "", choice) if spec.get("properties") else {}
        if choice == 1:  # only what has to be there
            config = {k: v for k, v in config.items() if k in spec.get("required", [])}
        if config not in found:
            found.append(config)
    return found


# ---------------------------------------------------------------- answers
def written(ts, form):
    if form == "%s":
        return int(ts)
    if form == "%ms":
        return int(ts) * 1000
    if form == "%s_as_float":
        return float(ts)
    if form == "%epoch_microseconds":
        return int(ts) * 1000000
    out = form.replace("%_ms", "000").replace("%s", str(int(ts)))
    return datetime.datetime.fromtimestamp(ts, datetime.timezone.utc).strftime(out)


def make(schema, name, seed, depth=0):
    if not isinstance(schema, dict) or depth > 6:
        return None
    options = schema.get("oneOf") or schema.get("anyOf")
    if options:
        return make(options[seed % len(options)], name, seed, depth + 1)
    if schema.get("enum"):
        return schema["enum"][seed % len(schema["enum"])]
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kinds = [k for k in kind if k != "null"]
        if "null" in kind and (seed + crc(name)) % 4 == 0 or not kinds:
            return None
        kind = kinds[(seed + crc(name)) % len(kinds)]
    if kind == "object":
        properties = schema.get("properties") or {}
        return {k: make(v, k, seed, depth + 1) for k, v in properties.items()}
    if kind == "array":
        items = schema.get("items") or {}
        return [make(items if isinstance(items, dict) else {}, name, seed + i, depth + 1) for i in range((seed + crc(name)) % 3)]
    if kind == "integer":
        return (seed * 7 + crc(name)) % 1000
    if kind == "number":
        return ((seed * 7 + crc(name)) % 1000) + (0.5 if crc(name) % 2 else 0)
    if kind == "boolean":
        return (seed + crc(name)) % 2 == 0
    ts = NOW - (seed * 86413 + crc(name)) % (20 * 86400)
    if schema.get("format") == "date-time":
        return written(ts, "%Y-%m-%dT%H:%M:%SZ")
    if schema.get("format") == "date":
        return written(ts, "%Y-%m-%d")
    return f"{name} {seed % 97}"


PATHS = re.compile(r"\bresponse((?:\.(?!get\b)[A-Za-z_]\w*|\[['\"][^'\"]+['\"]\]|\.get\(\s*['\"][^'\"]+['\"][^)]*\))+)")
STEP = re.compile(r"\.get\(\s*['\"]([^'\"]+)|\[['\"]([^'\"]+)|\.([A-Za-z_]\w*)")
FIELDS = re.compile(r"\brecord(?:\.(?!get\b)([A-Za-z_]\w*)|\[['\"]([^'\"]+)['\"]\]|\.get\(\s*['\"]([^'\"]+))")


def steps(text):
    return [next(p for p in s if p) for s in STEP.findall(text)]


def put(root, path, value):
    for at, step in enumerate(path):
        if not isinstance(root, dict):
            return
        if at == len(path) - 1:
            if not isinstance(root.get(step), (dict, list)):
                root[step] = value
        else:
            root = root.setdefault(step, {})


class Route:
    """What one requester is answered."""

    def __init__(self, name, path, retriever, stream, needed):
        self.name = name
        parts = re.split(r"\{\{.*?\}\}|\{%.*?%\}", re.sub(r"^\w+://[^/]*", "", path.replace("http://HOST", "")), flags=re.S)
        parts = [p.split("?")[0] for p in parts]
        self.weight = sum(map(len, parts))
        self.path = re.compile(".*" + ".+".join(re.escape(p.strip("/") if at == 0 else p) for at, p in enumerate(parts)) + "/?$", re.S)
        selector = (retriever or {}).get("record_selector") or {}
        extractor = selector.get("extractor") or {}
        self.fields = [f for f in extractor.get("field_path") or []]
        self.schema = self._schema(stream)
        self.names = set(needed)
        for text in texts([retriever, (stream or {}).get("transformations"), (stream or {}).get("incremental_sync")]):
            self.names |= {next(p for p in f if p) for f in FIELDS.findall(text)}
        primary = (stream or {}).get("primary_key")
        for p in texts(primary):
            self.names.add(p)
        cursor = (stream or {}).get("incremental_sync") or {}
        self.cursor = cursor.get("cursor_field") if isinstance(cursor.get("cursor_field"), str) and "{{" not in cursor.get("cursor_field", "") else None
        forms = (cursor.get("cursor_datetime_formats") or []) + [cursor.get("datetime_format") or "%Y-%m-%dT%H:%M:%SZ"]
        self.form, self.counting = forms[0], cursor.get("type") == "IncrementingCountCursor"
        paginator = (retriever or {}).get("paginator") or {}
        strategy = paginator.get("pagination_strategy") or {}
        self.strategy = strategy.get("type")
        size = strategy.get("page_size")
        self.size = size if isinstance(size, int) and size <= 200 else int(size) if isinstance(size, str) and size.isdigit() and int(size) <= 200 else 2
        self.start = strategy.get("start_from_page", 0) or 0
        option = paginator.get("page_token_option") or {}
        self.option, self.by_path = option.get("field_name"), option.get("type") == "RequestPath"
        self.values = [steps(t) for s in texts(strategy.get("cursor_value") or "") for t in PATHS.findall(s)]
        self.stops = [steps(t) for s in texts(strategy.get("stop_condition") or "") for t in PATHS.findall(s)]
        self.xml = "Xml" in str(((retriever or {}).get("decoder") or {}).get("type"))

    def _schema(self, stream):
        loader = (stream or {}).get("schema_loader") or {}
        loader = loader[0] if isinstance(loader, list) and loader else loader
        schema = loader.get("schema") if isinstance(loader, dict) else None
        return schema if isinstance(schema, dict) else {}

    def page(self, query, body, target):
        text = json.dumps([query, body, target])
        found = re.search(r"lstok-(\d+)|lspage=(\d+)", text)
        if found:
            return int(found[1] or found[2])
        value = next((v for k, v in query if k == self.option), None)
        if value is None and isinstance(body, dict):
            value = (body.get("json") or {}).get(self.option) if isinstance(body.get("json"), dict) else dict(body.get("form") or []).get(self.option)
        try:
            value = int(value)
        except (TypeError, ValueError):
            return 1 if value is None else 3
        return value - self.start + 1 if self.strategy == "PageIncrement" else value // self.size + 1 if self.strategy == "OffsetIncrement" else 1

    def body(self, method, target, query, body, host):
        page = self.page(query, body, target)
        base = crc((self.name, urlsplit(target).path.replace(host, "HOST"), sorted((k, v) for k, v in query if k != self.option and "lstok" not in v and k != "lspage")))
        count = self.size if page == 1 else 1 if page == 2 else 0
        if not self.strategy:
            count = 3 if page == 1 else 0
        records = []
        for j in range(count):
            seed = base % 1000 * 100 + page * 10 + j
            record = make({**self.schema, "type": "object"}, self.name, seed)
            for name in self.names:
                if record.get(name) is None:
                    path = name.split(".") if name not in record and "/" not in name else [name]
                    put(record, path, f"{name}-{seed % 1000}" if crc(name) % 2 else seed)
            if self.cursor:
                ts = NOW - 14 * 86400 + (seed * 7919) % (13 * 86400)
                record[self.cursor] = 1 + seed % 1000 if self.counting else written(ts, self.form)
                if isinstance(make(self.schema.get("properties", {}).get(self.cursor, {}), "", 1), str):
                    record[self.cursor] = str(record[self.cursor])
            if all(v is None for v in record.values()):  # the reference ends the whole sync at an empty record
                record["id"] = seed
            records.append(record)
        inner = records
        literal = [f for f in self.fields if "{{" not in f]
        for step in reversed(literal):
            if step == "*":
                inner = {f"k{i}": r for i, r in enumerate(inner)} if isinstance(inner, list) and literal[-1] == "*" else {"k0": inner}
            else:
                inner = {step: inner}
        if isinstance(inner, dict):
            more = page < 2
            url = f"http://{host}{urlsplit(target).path}?lspage={page + 1}"
            for path in self.values:
                put(inner, path, (url if self.by_path or re.search(r"url|link|href|^next$", path[-1], re.I) else f"lstok-{page + 1}") if more else None)
            for path in self.stops:
                if path in self.values:
                    continue
                last = path[-1].lower()
                put(inner, path, more if re.search("more|next", last) else not more if re.search("last|done|final|end|complete", last) else (page if re.search("page|current", last) and "total" not in last else 2))
        headers = {}
        if page < 2 and any("link" in t for t in texts(self.name)) or (page < 2 and self.strategy == "CursorPagination"):
            headers["Link"] = f'<http://{host}{urlsplit(target).path}?lspage={page + 1}>; rel="next"'
        return inner, headers


def routes(manifest):
    found = []
    streams = walk(manifest, [], {"DeclarativeStream"})
    needed = {}
    for parent in walk(manifest, [], {"ParentStreamConfig"}):
        owner = (parent.get("stream") or {}).get("name")
        for name in [parent.get("parent_key"), *[f[0] for f in parent.get("extra_fields") or [] if f]]:
            if isinstance(name, str) and "{{" not in name:
                needed.setdefault(owner, set()).add(name)
    seen = set()
    for stream in streams:
        retriever = stream.get("retriever") or {}
        for part in ("requester", "creation_requester", "polling_requester", "download_requester"):
            requester = retriever.get(part)
            if isinstance(requester, dict):
                path = "/".join(p for p in ((requester.get("url_base") or requester.get("url") or "").rstrip("/"), (requester.get("path") or "").lstrip("/")) if p)
                mark = (stream.get("name"), path)
                if mark not in seen:
                    seen.add(mark)
                    found.append(Route(str(stream.get("name")), path, retriever, stream, needed.get(stream.get("name"), ())))
    return sorted(found, key=lambda r: -r.weight)


def logins(manifest):
    """What endpoints that give tokens say: every field that any of them looks for."""
    answer = {"access_token": "tok-1", "expires_in": 3600, "token_type": "bearer", "refresh_token": "ref-1", "token": "tok-1", "id": "sess-1"}
    for auth in walk(manifest, [], {"OAuthAuthenticator", "SessionTokenAuthenticator", "LegacySessionTokenAuthenticator"}):
        for field in ("access_token_name", "expires_in_name", "session_token_response_key"):
            if isinstance(auth.get(field), str) and "{{" not in auth[field]:
                answer[auth[field]] = 3600 if "expires" in field else "tok-1"
        if auth.get("session_token_path"):
            put(answer, [s for s in auth["session_token_path"] if isinstance(s, str)], "tok-1")
        if auth.get("token_expiry_date_format"):
            answer[auth.get("expires_in_name") or "expires_in"] = written(NOW + 3600, auth["token_expiry_date_format"])
    return answer


FAULTS = [(500, {}), (429, {"Retry-After": "1"}), (503, {}), (404, {}), (403, {}), (401, {}), (400, {}), (502, {}), (409, {}), (422, {})]


class Drawn(Server):
    def __init__(self, routes, login, faults):
        self.routes, self.login, self.faults, self.tries = routes, login, faults, {}
        super().__init__()

    def choose(self, method, target, headers, body):
        status, value, more = self.answer(method, target, headers, body)
        return status, list(more.items()), json.dumps(value).encode()

    def answer(self, method, target, headers, body):
        request = asked(method, target, headers, body, self.host)
        with self.lock:
            self.log.append(request)
            many = len(self.log) > MOST
            mark = key({k: v for k, v in request.items() if k != "headers"})
            self.tries[mark] = self.tries.get(mark, 0) + 1
            times = self.tries[mark]
        if many:
            return 404, {"no_answer": True}, {}
        path = request["path"]
        if re.search(r"oauth|/token|login|/auth|session", path, re.I) and not any(r.path.match(path) and r.weight > 12 for r in self.routes):
            return 200, self.login, {}
        route = next((r for r in self.routes if r.path.match(path)), None)
        if route is None:
            return 200, {"unrouted": True, **self.login}, {}
        if self.faults:
            drawn = crc((route.name, mark)) % 20
            status, more = FAULTS[drawn % len(FAULTS)]
            # What is tried again succeeds then; the rest fails for ever, so that it does not matter which stream asks first.
            if drawn < len(FAULTS) and (times == 1 if status in (500, 429, 503, 502) else True):
                return status, {"error": {"message": "fault", "code": status}, "message": "rate limit exceeded" if status == 403 else "fault"}, more
        value, more = route.body(method, target, request["query"], request["body"], self.host)
        return 200, value, more


# ---------------------------------------------------------------- phases
def phase(runner, one, verb, config, start, catalog, faults, timeout):
    server = Drawn(one.routes, one.login, faults)
    package = "source_" + one.name.replace("-", "_")
    files, folders = {"manifest.yaml": one.text, "config.json": config}, {}
    if one.files:
        files[f"{package}/__init__.py"], folders[package] = "", one.files
        if os.path.isdir(os.path.join(one.files, "schemas")):
            folders["schemas"] = os.path.join(one.files, "schemas")
    return played(runner, server, files, folders, verb, start, catalog, {}, timeout)


class One:
    def __init__(self, path):
        self.name = os.path.basename(os.path.dirname(os.path.abspath(path)))
        self.text = local(open(path, encoding="utf-8").read())
        beside = os.path.join(os.path.dirname(path), "pkg")
        for name in ("spec.yaml", "spec.json"):
            if not re.search(r"^spec:", self.text, re.M) and os.path.exists(os.path.join(beside, name)):
                spec = yaml.safe_load(open(os.path.join(beside, name)))
                given = spec.get("connectionSpecification") or spec.get("connection_specification")
                self.text += "\nspec: " + json.dumps({"type": "Spec", "connection_specification": given}) + "\n"
        self.manifest = resolved(self.text)
        self.routes, self.login = routes(self.manifest), logins(self.manifest)
        files = os.path.join(os.path.dirname(path), "pkg")
        self.files = files if os.path.isdir(files) else None


def run(one, config, runner, golden, timeout, most):
    got = {verb: phase(runner, one, verb, config, None, None, False, timeout) for verb in ("spec", "check", "discover")}
    streams = ((golden or got)["discover"]["said"]) or {}
    names = sorted(streams)
    random.Random(one.name).shuffle(names)
    catalog = {n: "incremental" if "incremental" in streams[n].get("supported_sync_modes", []) else "full_refresh" for n in names[:most]}
    if not catalog:
        return got
    got["first"] = phase(runner, one, "read", config, None, catalog, False, timeout)
    got["resume"] = phase(runner, one, "read", config, (golden or got)["first"]["state"], catalog, False, timeout)
    got["faults"] = phase(runner, one, "read", config, None, catalog, True, timeout)
    return got


def main():
    p = argparse.ArgumentParser()
    p.add_argument("manifests", nargs="+")
    p.add_argument("--cmd", required=True)
    p.add_argument("--shim", default=os.environ.get("LINKSPAN_CLOCK_SHIM", ""))
    p.add_argument("--configs", type=int, default=2)
    p.add_argument("--streams", type=int, default=8)
    p.add_argument("--timeout", type=float, default=60)
    p.add_argument("-v", action="store_true")
    a = p.parse_args()
    reference, program = Reference(sys.executable, a.shim), Program(a.cmd)
    bad, rows = 0, 0
    for path in a.manifests:
        try:
            one = One(path)
            drawn = configs(one.manifest, a.configs)
        except Exception as e:  # noqa
            print(f"SKIP {path}: {type(e).__name__} {str(e)[:200]}", flush=True)
            continue
        for at, config in enumerate(drawn):
            try:
                golden = run(one, config, reference, None, a.timeout, a.streams)
                got = run(one, config, program, golden, a.timeout, a.streams)
            except Exception as e:  # noqa
                import traceback
                print(f"ERROR {one.name}/{at}: {traceback.format_exc()[-600:]}", flush=True)
                continue
            found = {n: differences(golden[n], got[n], n, set(golden["discover"]["said"] or ())) for n in golden}
            real = {n: [t for t in ts if a.v or not t.startswith("~")] for n, ts in found.items()}
            found = {n: [("~ " + t if t.startswith("errors:") else t) for t in ts] for n, ts in found.items()}
            found["check"] = ["~ " + t if t.startswith("exit") else t for t in found["check"]]
            failed = any(not t.startswith("~") for ts in found.values() for t in ts)
            bad += failed
            rows += 1
            count = sum(len(r) for g in golden.values() for r in g["records"].values())
            ends = {s: list(golden.get("first", {}).get("status", {}).values()).count(s) for s in ("COMPLETE", "INCOMPLETE")}
            print(f"{'FAIL' if failed else 'PASS'} {one.name}/{at} records {count} requests {sum(len(g['requests']) for g in golden.values())} first {ends}", flush=True)
            if failed:
                print("    config " + json.dumps(config)[:300])
            for n, ts in real.items() if failed else []:
                for t in ts[:6]:
                    print(f"    {n}: {t[:900]}")
                if ts:
                    for who, side in (("reference", golden[n]), ("program", got[n])):
                        for e in side["errors"][:3]:
                            print(f"      {who}: {e['stream']} {e['failure_type']} {e['message']} | {e['internal'][-260:]}")
                        if side.get("_err", "").strip() and not side["errors"]:
                            print(f"      {who} stderr: {side['_err'][-300:]}")
    print(f"{rows - bad} of {rows} runs are as the reference has them")


main()
