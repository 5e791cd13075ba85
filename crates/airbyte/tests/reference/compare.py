#!/usr/bin/env python3
"""Runs a program on cases (see play.py) and compares what it says with what the reference interpreter said.

  compare.py --cmd 'program' [CASE ..]           the program is called as `program spec|check|discover|read --config .. --manifest ..`
  compare.py --record PYTHON [CASE ..]           PYTHON has airbyte-cdk 7.39.1: its answers become the goldens
A golden is beside its case: NAME.case, NAME.golden.json. With neither, both run and nothing is written: --record PYTHON --cmd .. --dry
"""
import argparse, json, os, shlex, shutil, signal, subprocess, sys, tempfile
from concurrent.futures import ThreadPoolExecutor

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from play import Case, Server  # noqa: E402

NOW = "2024-03-15T12:00:00.123456Z"


class Reference:
    def __init__(self, python, shim):
        env = {**os.environ, "LD_PRELOAD": shim, "FROZEN_EPOCH": "1710504000", "TZ": "UTC", "NO_PROXY": "*", "PYTHONHASHSEED": "0"}
        self.process = subprocess.Popen([python, os.path.join(HERE, "reference.py")], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, folder, argv, timeout):
        out, err = os.path.join(folder, "out"), os.path.join(folder, "err")
        self.process.stdin.write(json.dumps({"argv": argv, "cwd": folder, "out": out, "err": err, "timeout": int(timeout)}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline()), open(out).read(), open(err).read()


class Program:
    def __init__(self, command):
        self.command = shlex.split(command)

    def run(self, folder, argv, timeout):
        env = {**os.environ, "LINKSPAN_NOW": NOW, "LINKSPAN_SLEEP_SCALE": "0", "TZ": "UTC"}
        p = subprocess.Popen([*self.command, *argv, "--manifest", "manifest.yaml"], cwd=folder, env=env, text=True, errors="replace",
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        try:
            out, err = p.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, signal.SIGKILL)
            out, err = p.communicate()
            return "timeout", out, err
        return p.returncode, out, err


def number(v):
    if isinstance(v, float) and v.is_integer() and abs(v) < 1e15:
        return int(v)
    if isinstance(v, dict):
        return {k: number(x) for k, x in v.items()}
    return [number(x) for x in v] if isinstance(v, list) else v


def key(v):
    return json.dumps(number(v), sort_keys=True)


def state(v):
    if isinstance(v, dict):
        v = {k: state(x) for k, x in v.items() if not (k == "lookback_window" and "use_global_cursor" in v)}
        if isinstance(v.get("states"), list):
            v["states"] = sorted(v["states"], key=key)
        return v
    return [state(x) for x in v] if isinstance(v, list) else number(v)


def said(code, out, host):
    got = {"exit": code, "records": {}, "state": {}, "status": {}, "errors": [], "control": [], "said": None}
    for line in out.replace(host, "HOST").splitlines():
        try:
            m = json.loads(line)
            kind = m["type"]
        except (ValueError, TypeError, KeyError):
            continue
        if kind == "RECORD":
            kept = {k: v for k, v in m["record"]["data"].items() if v is not None}
            extra = {k: v for k, v in m["record"].items() if k in ("file_reference",) and v}
            got["records"].setdefault(m["record"]["stream"], []).append({**kept, **extra})
        elif kind == "STATE":
            s = m["state"]["stream"]
            got["state"][s["stream_descriptor"]["name"]] = s.get("stream_state")
        elif kind == "TRACE" and m["trace"]["type"] == "STREAM_STATUS":
            s = m["trace"]["stream_status"]
            got["status"][s["stream_descriptor"]["name"]] = s["status"]
        elif kind == "TRACE" and m["trace"]["type"] == "ERROR":
            e = m["trace"]["error"]
            stream = (e.get("stream_descriptor") or {}).get("name")
            got["errors"].append({"stream": stream, "failure_type": e.get("failure_type"), "message": e.get("message"), "internal": (e.get("internal_message") or "")[:600]})
        elif kind == "CONTROL":
            got["control"].append(m["control"]["connectorConfig"]["config"])
        elif kind == "CONNECTION_STATUS":
            got["said"] = {"status": m["connectionStatus"]["status"], "message": m["connectionStatus"].get("message")}
        elif kind == "SPEC":
            got["said"] = {k: v for k, v in m["spec"].items() if v is not None and not k.startswith("supports")}
        elif kind == "CATALOG":
            got["said"] = {s["name"]: {k: v for k, v in s.items() if v not in (None, [])} for s in m["catalog"]["streams"]}
    for rows in got["records"].values():
        rows.sort(key=key)
    return got


def played(runner, server, files, folders, verb, start, catalog, schemas, timeout):
    """What a program says that reads `files` (by name, `HOST` for the server's address) and asks the server; `folders` are copied beside them."""
    folder = tempfile.mkdtemp(prefix="lsdiff")
    try:
        def put(file, value):
            os.makedirs(os.path.dirname(os.path.join(folder, file)) or folder, exist_ok=True)
            with open(os.path.join(folder, file), "w", encoding="utf-8") as f:
                f.write((value if isinstance(value, str) else json.dumps(value)).replace("HOST", server.host))
        for name, source in folders.items():
            shutil.copytree(source, os.path.join(folder, name), dirs_exist_ok=True)
        for name, value in files.items():
            put(name, value)
        argv = [verb] + ([] if verb == "spec" else ["--config", "config.json"])
        if verb == "read":
            put("catalog.json", {"streams": [{"stream": {"name": n, "json_schema": schemas.get(n, {}), "supported_sync_modes": ["full_refresh", "incremental"]},
                                              "sync_mode": m, "destination_sync_mode": "append"} for n, m in catalog.items()]})
            argv += ["--catalog", "catalog.json"]
            if start is not None:
                put("state.json", [{"type": "STREAM", "stream": {"stream_descriptor": {"name": n}, "stream_state": s}} for n, s in start.items()])
                argv += ["--state", "state.json"]
        code, out, err = runner.run(folder, argv, timeout)
        got = said(code, out, server.host)
        got["requests"] = sorted(server.log, key=key)
        got["_err"] = err[-1500:]
        return got
    finally:
        server.close()
        shutil.rmtree(folder, ignore_errors=True)


def phase(runner, case, name, verb, start, catalog, timeout):
    own = {section[5:]: text for section, text in case.sections.items() if section.startswith("file ")}
    files = {"manifest.yaml": case.manifest, "config.json": case.config, **own}
    return played(runner, Server(case.answers(name)), files, {}, verb, start, catalog, case.schemas, timeout)


def whole(runner, case, golden, timeout):
    """Every phase of a case. States and catalogs are the golden's, where there is one."""
    got = {verb: phase(runner, case, verb, verb, None, None, timeout) for verb in ("spec", "check", "discover")}
    streams = ((golden or got)["discover"]["said"]) or {}
    catalog = case.catalog or {n: "incremental" if "incremental" in s.get("supported_sync_modes", []) else "full_refresh" for n, s in streams.items()}
    for name in case.phases:
        start = case.states.get(name) if name in case.states else (golden or got)["first"]["state"] if name == "resume" else None
        got[name] = phase(runner, case, name, "read", start, catalog, timeout)
    return got


def counted(rows):
    found = {}
    for row in rows:
        found[key(row)] = found.get(key(row), 0) + 1
    return found


def unlike(want, got, of):
    a, b = counted(want), counted(got)
    missing = [f"{k} x{n - b.get(k, 0)}" for k, n in a.items() if n > b.get(k, 0)]
    extra = [f"{k} x{n - a.get(k, 0)}" for k, n in b.items() if n > a.get(k, 0)]
    if of == "requests" and set(a) == set(b):
        return [f"~ {of}: as often {m[:300]}" for m in missing[:1] + extra[:1]]
    return [f"{of}: missing {m[:700]}" for m in missing[:2]] + [f"{of}: unexpected {e[:700]}" for e in extra[:2]]


def differences(want, got, name, catalog=None):
    """Texts of what differs; those that begin with ~ do not fail a case."""
    found = []
    if want["exit"] != got["exit"]:
        found.append(f"exit: {want['exit']} / {got['exit']}")
    for stream in sorted({*want["records"], *got["records"]}):
        found += unlike(want["records"].get(stream, []), got["records"].get(stream, []), f"records of {stream}")
    asked = unlike(want["requests"], got["requests"], "requests")
    # A check reads one record; a page is what is asked for here.
    found += [f"~ {text}" if name == "check" and "unexpected" in text else text for text in asked]
    for what in ("state", "status") if name not in ("spec", "check", "discover") else ():
        # The platform does not know the parents that are not in the catalog.
        for stream in sorted({*want[what], *got[what]} & catalog if catalog else {*want[what], *got[what]}):
            a, b = state(want[what].get(stream)), state(got[what].get(stream))
            if key(a) != key(b):
                found.append(f"{what} of {stream}: {key(a)[:700]} / {key(b)[:700]}")
    # What the reference did not foresee is a system error there, whatever it is.
    unforeseen = {e["stream"] for e in want["errors"] if (e["message"] or "").startswith(("An unexpected error", "One or more async jobs"))}
    kinds = lambda side: sorted({(e["stream"], e["failure_type"]) for e in side["errors"] if e["stream"] in want["status"] and e["stream"] not in unforeseen})  # noqa: E731
    if kinds(want) != kinds(got):
        found.append(f"errors: {kinds(want)} / {kinds(got)}")
    if key(want["control"]) != key(got["control"]):
        found.append(f"control: {key(want['control'])[:600]} / {key(got['control'])[:600]}")
    if name in ("spec", "discover"):
        if key(want["said"]) != key(got["said"]):
            found.append(f"said: {key(want['said'])[:1500]} / {key(got['said'])[:1500]}")
    elif name == "check" and (want["said"] or {}).get("status", "FAILED") != (got["said"] or {}).get("status", "FAILED"):
        found.append(f"said: {want['said']} / {got['said']}")
    return found


def main():
    p = argparse.ArgumentParser()
    p.add_argument("cases", nargs="*")
    p.add_argument("--cmd")
    p.add_argument("--record")
    p.add_argument("--shim", default=os.environ.get("LINKSPAN_CLOCK_SHIM", ""))
    p.add_argument("--dry", action="store_true")
    p.add_argument("--jobs", type=int, default=2)
    p.add_argument("--timeout", type=float, default=60)
    p.add_argument("-v", action="store_true")
    a = p.parse_args()
    folder = os.path.join(HERE, "cases")
    names = [os.path.abspath(n) for n in a.cases] or sorted(os.path.join(folder, f) for f in os.listdir(folder) if f.endswith(".case"))
    reference = Reference(a.record, a.shim) if a.record else None
    program = Program(a.cmd) if a.cmd else None

    def one(path):
        try:
            case, at = Case(path), path[:-5] + ".golden.json"
            golden = None
            if reference:
                golden = whole(reference, case, None, a.timeout)
                if not a.dry:
                    with open(at, "w") as f:
                        kept = {n: {k: v for k, v in g.items() if k != "_err"} for n, g in golden.items()}
                        f.write("{\n" + ",\n".join(f"{json.dumps(n)}: {json.dumps(g, sort_keys=True)}" for n, g in kept.items()) + "\n}\n")
            else:
                golden = json.load(open(at))
            got = whole(program, case, golden, a.timeout) if program else golden
            return path, {n: differences(golden[n], got[n], n, set(golden["discover"]["said"] or ())) for n in golden}, golden, got
        except Exception as e:  # noqa
            import traceback
            return path, {"case": [traceback.format_exc()[-800:] if a.v else repr(e)]}, {}, {}

    failed = 0
    with ThreadPoolExecutor(1 if reference else a.jobs) as pool:
        for path, found, golden, got in pool.map(one, names):
            bad = {n: texts for n, texts in found.items() if texts}
            is_bad = any(not t.startswith("~") for texts in bad.values() for t in texts)
            failed += is_bad
            print(f"{'FAIL' if is_bad else 'PASS'} {os.path.basename(path)[:-5]}", flush=True)
            for n, texts in bad.items() if is_bad or a.v else []:
                for text in texts[:12 if a.v else 3]:
                    print(f"    {n}: {text}")
                if a.v and is_bad and n in golden:
                    for who, side in (("reference", golden[n]), ("program", got[n])):
                        for e in side["errors"][:6]:
                            print(f"      {who}: {e['stream']} {e['failure_type']} {e['message']} | {e['internal'][-260:]}")
                        if side.get("_err", "").strip() and not side["errors"]:
                            print(f"      {who} stderr: {side['_err'][-500:]}")
    print(f"{len(names) - failed} of {len(names)} cases are as the reference has them")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
