"""The hub under load: requests per second, latency and CPU of list, get and create; memory; start to first answer.

usage: hub.py PROGRAM [--connectors 1000] [--rate 500] [--seconds 10] [--clients 16] [--json FILE]
       hub.py PROGRAM --schedules 10000 [--minutes 5] [--json FILE]
PROGRAM is the `linkspan` binary. A data dir of its own is filled over HTTP, the server is restarted on it, then asked at a fixed rate
(latency counts from the moment a request was due, so a stall is not hidden) and as fast as it answers. CPU is the server's alone: on a
shared machine it is the figure that repeats.

With --schedules, so many connections are due once: spread over the seconds of some minutes, then all in the same second. Their source is
disabled, so that a run ends as soon as it begins and it is the ticks that are measured: how long after its time each is queued, minute by
minute (a drift would rise), whether each had its run, and the CPU of the server while it waits and while they fire.
"""
import argparse, asyncio, datetime, json, os, signal, subprocess, sys, tempfile, time

KEY = "benchmark-key-of-the-hub-0123456789abcdef"
TICK = os.sysconf("SC_CLK_TCK")


class Server:
    def __init__(self, program, folder):
        self.began = time.perf_counter()
        env = {**os.environ, "LINKSPAN_ADMIN_KEY": KEY, "LINKSPAN_RUNS_AT_ONCE": "64"}
        args = [program, "serve", "--data-dir", folder, "--bind", "127.0.0.1", "--port", "0", "--output", "json"]
        self.process = subprocess.Popen(args, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        said = json.loads(self.process.stdout.readline())
        self.said_ms = 1e3 * (time.perf_counter() - self.began)
        self.port = int(said["url"].rsplit(":", 1)[1])

    def cpu(self):
        """Seconds of CPU so far."""
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def memory(self):
        """Resident now and at most, in MB; the part that is its own (not the program's file)."""
        lines = dict(l.split(":", 1) for l in open(f"/proc/{self.process.pid}/status") if ":" in l)
        kb = lambda name: int(lines[name].split()[0]) / 1024
        return {"rss_mb": round(kb("VmRSS"), 1), "own_mb": round(kb("RssAnon"), 1), "peak_mb": round(kb("VmHWM"), 1)}

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(40)


class Client:
    """One connection that is kept."""

    async def open(self, port):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)
        return self

    async def ask(self, method, path, body=b""):
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.writer.write(head.encode() + body)
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next((int(l.split(b":")[1]) for l in head.lower().split(b"\r\n") if l.startswith(b"content-length")), 0)
        body = await self.reader.readexactly(length)
        status = int(head.split(b" ", 2)[1])
        if status >= 300:
            sys.exit(f"{method} {path}: {status} {body[:500]}")
        return body


def figures(name, server, latencies, took, cpu):
    latencies.sort()
    at = lambda share: round(1e3 * latencies[min(len(latencies) - 1, int(len(latencies) * share))], 2)
    line = {"what": name, "requests": len(latencies), "per_s": round(len(latencies) / took), "p50_ms": at(0.5), "p99_ms": at(0.99),
            "max_ms": at(1), "cpu_us": round(1e6 * cpu / len(latencies)), **server.memory()}
    print(json.dumps(line), flush=True)
    return line


async def asked(name, server, requests, clients, rate=None):
    """Asks all of them over `clients` connections, at `rate` per second or as fast as they are answered."""
    queue, latencies = asyncio.Queue(), []

    async def work():
        client = await Client().open(server.port)
        while (due := await queue.get()) is not None:
            when, request = due
            start = when or time.perf_counter()
            await client.ask(*request)
            latencies.append(time.perf_counter() - start)
        client.writer.close()

    workers = [asyncio.create_task(work()) for _ in range(clients)]
    cpu, start = server.cpu(), time.perf_counter()
    for i, request in enumerate(requests):
        when = start + i / rate if rate else None
        if when and (wait := when - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        queue.put_nowait((when, request))
    for _ in workers:
        queue.put_nowait(None)
    await asyncio.gather(*workers)
    return figures(name, server, latencies, time.perf_counter() - start, server.cpu() - cpu)


def creation(i):
    config = {"host": "127.0.0.1", "port": 5432, "database": "shop", "username": "reader", "password": f"secret-{i}"}
    return "POST", "/v1/connectors", json.dumps({"name": f"c{i:05}", "type": "postgresql", "config": config}).encode()


async def first_answer(server):
    await (await Client().open(server.port)).ask("GET", "/v1/ready")
    return 1e3 * (time.perf_counter() - server.began)


async def measure(options, folder):
    out = []
    server = Server(options.program, folder)
    await first_answer(server)
    out.append({"what": "idle, empty", **server.memory()})
    print(json.dumps(out[-1]), flush=True)
    out.append(await asked("create", server, [creation(i) for i in range(options.connectors)], options.clients))
    server.stop()
    starts = []
    for _ in range(options.starts):
        server = Server(options.program, folder)
        starts.append(await first_answer(server))
        server.stop()
    server = Server(options.program, folder)
    await first_answer(server)
    await asyncio.sleep(1)
    starts.sort()
    out.append({"what": f"start with {options.connectors} connectors", "ready_ms_median": round(starts[len(starts) // 2], 1),
                "ready_ms_max": round(starts[-1], 1), **server.memory()})
    print(json.dumps(out[-1]), flush=True)
    one = f"/v1/connectors/c{options.connectors // 2:05}"
    paths = [("list 100", "/v1/connectors"), ("list 10", "/v1/connectors?limit=10"), ("list 1000", "/v1/connectors?limit=1000"), ("get", one)]
    for name, path in paths:
        count = max(50, int(options.rate * options.seconds) // (10 if name == "list 1000" else 1))
        rate = options.rate / (10 if name == "list 1000" else 1)
        out.append(await asked(f"{name}, {rate:g}/s", server, [("GET", path)] * count, options.clients, rate))
        await asyncio.sleep(2)  # a caller has 4,000 requests at once and 2,000 a second
        out.append(await asked(f"{name}, closed loop", server, [("GET", path)] * min(count, 3_500), options.clients))
    server.stop()
    return out


def seconds_of(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


async def each(server, count, request_of):
    """One request for each of them, over connections of its own: idle ones are closed by the server."""
    left = iter(range(count))

    async def work():
        client = await Client().open(server.port)
        for i in left:
            await client.ask(*request_of(i))
            # A caller has 2,000 requests a second at most.
            await asyncio.sleep(0.01)
        client.writer.close()

    await asyncio.gather(*[work() for _ in range(8)])


def scheduled(i):
    """Out of a connector that nobody may use."""
    connection = {"name": f"f{i:05}", "from": "off", "dest": f"lake:t{i:05}", "schedule": "0 * * * * *", "enabled": False}
    return "POST", "/v1/connections", json.dumps(connection).encode()


async def ticked(server, count, name, minutes, due_in):
    """Starts the clock for all of them, each due in a minute and second of the coming ones, and looks at every run that it queued."""
    change = lambda i, fields: ("PATCH", f"/v1/connections/f{i:05}", json.dumps(fields).encode())
    # Early enough that all are started before the first is due.
    first = (int(time.time()) // 60 + 2 + count // 5000) * 60

    def schedule(i):
        minute, second = due_in(i)
        return f"{second} {(first // 60 + minute) % 60} * * * *"

    await each(server, count, lambda i: change(i, {"schedule": schedule(i), "enabled": True}))
    if time.time() > first - 2:
        sys.exit("the schedules were not started in time: the machine is too busy")
    await asyncio.sleep(first - time.time() - 2)
    cpu, began = server.cpu(), time.time()
    last = first + 60 * minutes
    # What is due in the last second is queued a little later.
    await asyncio.sleep(last - time.time() + 5)
    share = (server.cpu() - cpu) / (time.time() - began)
    await each(server, count, lambda i: change(i, {"enabled": False}))
    client = await Client().open(server.port)
    late, cursor, reached = {}, "", False
    while not reached:
        page = json.loads(await client.ask("GET", f"/v1/runs?limit=1000{cursor}"))
        for run in page["runs"]:
            due, queued = seconds_of(run["scheduled_for"]), seconds_of(run["queued_at"])
            if first <= due < last:
                late.setdefault(int(due) // 60 * 60, {})[run["connection"], due] = queued - due
            reached |= queued < first
        reached |= not page.get("next_cursor")
        cursor = f"&cursor={page.get('next_cursor')}"
    all_of = sorted(1e3 * l for minute in late.values() for l in minute.values())
    at = lambda part: round(all_of[min(len(all_of) - 1, int(len(all_of) * part))], 1)
    line = {"what": f"{count} schedules, {name}", "ticks": count, "queued": len(all_of), "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1),
            "max_ms_by_minute": [round(1e3 * max(late[m].values()), 1) for m in sorted(late)], "cpu_share": round(share, 3), **server.memory()}
    print(json.dumps(line), flush=True)
    return line


async def schedules(options, folder):
    server, count, out = Server(options.program, folder), options.schedules, []
    await each(server, 1, lambda _: ("POST", "/v1/connectors", json.dumps({"name": "off", "type": "faker", "enabled": False}).encode()))
    await each(server, count, scheduled)
    await asyncio.sleep(20)
    cpu = server.cpu()
    await asyncio.sleep(20)
    out.append({"what": f"{count} schedules, all disabled", "cpu_share": round((server.cpu() - cpu) / 20, 3), **server.memory()})
    print(json.dumps(out[-1]), flush=True)
    minutes = options.minutes
    out.append(await ticked(server, count, f"spread over {minutes} minutes", minutes, lambda i: (i % minutes, i // minutes % 60)))
    out.append(await ticked(server, count, "all in one second", 1, lambda i: (0, 30)))
    server.stop()
    return out


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("program")
    parser.add_argument("--connectors", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=500)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--schedules", type=int)
    parser.add_argument("--minutes", type=int, default=5)
    parser.add_argument("--json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as folder:
        out = asyncio.run((schedules if options.schedules else measure)(options, folder))
    if options.json:
        json.dump(out, open(options.json, "w"), indent=1)


main()
