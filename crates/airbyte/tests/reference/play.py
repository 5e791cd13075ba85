"""A case, and the server that answers its requests. Standard library only.

A case is one text file of sections, each begun by a line `--- NAME`:
  manifest           YAML; `HOST` stands for the server's address
  config             JSON (`{}` without one)
  answers            one answer a line, the first that fits is given:  METHOD PATH[?k=v&..] [once|xN] [STATUS] [Header: value |] BODY
  answers PHASE      put before them in that phase
  state NAME         JSON: {stream: state}; a phase that begins there. The phase `resume` begins where `first` ended, `first` with nothing
  phases             names, where not all of: first, resume, faults (with `answers faults`), and one for each `state`
  catalog            JSON: {stream: "full_refresh" | "incremental"}, where not every stream that is discovered, incremental where it can be
  catalog schemas    JSON: {stream: JSON schema}: the `json_schema` of the catalog's streams, else {}
"""
import base64, gzip, http.server, io, json, re, threading, zipfile, zlib
from urllib.parse import parse_qsl, unquote, urlsplit

MOST = 500  # requests of a phase: an endless one ends in 404s
UNLIKE = {"user-agent", "accept-encoding", "connection", "content-length", "host", "transfer-encoding", "cookie", "keep-alive"}
LINE = re.compile(r"(?P<method>[A-Z]+) (?P<target>\S+)(?: (?P<times>once|x\d+))?(?: (?P<status>\d{3}))?"
                  r"(?: (?P<headers>(?:[A-Za-z][A-Za-z0-9-]*: [^|]*\|\s*)+))?(?: ?(?P<body>.*))?$")


class Case:
    def __init__(self, path):
        self.path, sections, name = path, {}, None
        for line in open(path, encoding="utf-8").read().split("\n"):
            if line.startswith("--- "):
                name = line[4:].strip()
                sections[name] = []
            elif name:
                sections[name].append(line)
        self.sections = {name: "\n".join(lines) for name, lines in sections.items()}
        self.manifest = self.sections["manifest"]
        self.config = self._json("config", {})
        self.catalog = self._json("catalog", None)
        self.schemas = self._json("catalog schemas", {})
        self.states = {n[6:]: json.loads(t) for n, t in self.sections.items() if n.startswith("state ")}
        every = ["first", "resume"] + (["faults"] if "answers faults" in self.sections else []) + list(self.states)
        self.phases = self.sections["phases"].split() if "phases" in self.sections else every

    def _json(self, name, default):
        return json.loads(self.sections[name]) if name in self.sections else default

    def answers(self, phase):
        text = self.sections.get("answers " + phase, "") + "\n" + self.sections.get("answers", "")
        return [Answer(line) for line in text.split("\n") if line.strip() and not line.startswith("#")]


class Answer:
    def __init__(self, line):
        found = LINE.match(line)
        if not found:
            raise ValueError("no answer: " + line)
        self.method = found["method"]
        path, _, query = found["target"].partition("?")
        self.path = re.compile(path.replace("*", "[^/]*") + "$") if "*" in path else path
        self.query = parse_qsl(query, keep_blank_values=True)
        self.left = None if not found["times"] else 1 if found["times"] == "once" else int(found["times"][1:])
        self.status = int(found["status"] or 200)
        self.headers = [h.split(": ", 1) for h in re.findall(r"[A-Za-z][A-Za-z0-9-]*: [^|]*(?=\|)", found["headers"] or "")]
        self.body = found["body"] or ""

    def fits(self, method, path, query):
        same = self.path == path if isinstance(self.path, str) else self.path.match(path)
        return self.left != 0 and method == self.method and same and all(pair in query for pair in self.query)

    def bytes(self, host):
        return encoded(self.body.replace("HOST", host))


def encoded(text):
    """`!gzip !text ..`: what is not plain."""
    kind, _, rest = text.partition(" ")
    if kind == "!gzip":
        return gzip.compress(encoded(rest), mtime=0)
    if kind == "!deflate":
        return zlib.compress(encoded(rest))
    if kind == "!zip":
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as z:
            for at, part in enumerate(rest.split(" !and ")):
                z.writestr(zipfile.ZipInfo(f"part{at}", (2024, 3, 1, 0, 0, 0)), encoded(part))
        return made.getvalue()
    if kind == "!text":
        return json.loads('"' + rest.replace('"', '\\"') + '"').encode()
    if kind == "!latin1":
        return json.loads('"' + rest.replace('"', '\\"') + '"').encode("latin-1")
    if kind == "!base64":
        return base64.b64decode(rest)
    return text.encode()


def asked(method, target, headers, body, host):
    """A request as it is compared."""
    url = urlsplit(target)
    kept = {}
    for name, value in headers.items():
        name = name.lower()
        if name in UNLIKE or (name, value) == ("accept", "*/*") or (name == "content-type" and not body):
            continue
        kept[name] = re.sub(r"boundary=.*", "boundary", value)
    text, kind = body.decode("utf-8", "replace"), headers.get("Content-Type") or ""
    try:
        body = {"json": json.loads(text)} if text else None
    except ValueError:
        edge = re.search(r"boundary=([^;]+)", kind)
        body = {"form": sorted(parse_qsl(text, keep_blank_values=True))} if "urlencoded" in kind else {"text": text.replace(edge[1], "EDGE") if edge else text}
    pairs = sorted(parse_qsl(url.query, keep_blank_values=True))
    request = {"method": method, "path": unquote(url.path), "query": pairs, "headers": dict(sorted(kept.items())), "body": body}
    return json.loads(json.dumps(request).replace(host, "HOST"))


class Server:
    """Gives the answers of a case, and logs what was asked. Others choose their answers by `choose`, which tells status, headers and body."""

    def __init__(self, answers=()):
        self.answers, self.log, self.lock, outer = answers, [], threading.Lock(), self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version, wbufsize, disable_nagle_algorithm = "HTTP/1.1", 1 << 16, True

            def log_message(self, *_):
                pass

            def go(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                while (self.headers.get("Transfer-Encoding") or "").lower() == "chunked":
                    size = int(self.rfile.readline().split(b";")[0], 16)
                    body += self.rfile.read(size)
                    self.rfile.readline()
                    if not size:
                        break
                status, headers, data = outer.choose(self.command, self.path, self.headers, body)
                self.send_response_only(status)
                names = {name.lower() for name, _ in headers}
                for name, value in headers:
                    self.send_header(name, value.strip().replace("HOST", outer.host))
                if "content-type" not in names:
                    self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = go

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads, request_queue_size = True, 128

            def handle_error(self, *_):
                pass

        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def choose(self, method, target, headers, body):
        answer = self.fitting(method, target, headers, body)
        return answer.status, answer.headers, answer.bytes(self.host)

    def fitting(self, method, target, headers, body):
        url = urlsplit(target)
        query = parse_qsl(url.query, keep_blank_values=True)
        with self.lock:
            self.log.append(asked(method, target, headers, body, self.host))
            for answer in self.answers if len(self.log) <= MOST else []:
                if answer.fits(method, unquote(url.path), query):
                    if answer.left is not None:
                        answer.left -= 1
                    return answer
        return Answer("GET / 404 {\"no_answer\": true}")

    def close(self):
        self.http.shutdown()
        self.http.server_close()
