"""What the benches of two databases share: one command is run, its time, its memory and its server's time are taken."""
import os, subprocess, sys, threading, time

TICK = os.sysconf("SC_CLK_TCK")


def server_cpu(pid):
    """Seconds of the whole server: the postmaster with its reaped children, and the children that live."""
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    total = sum(map(int, fields[11:15]))
    for child in open(f"/proc/{pid}/task/{pid}/children").read().split():
        try:
            f = open(f"/proc/{child}/stat").read().rsplit(")", 1)[1].split()
            total += int(f[11]) + int(f[12])
        except OSError:
            pass
    return total / TICK


def measure(command, env, server_pid):
    """Runs a shell command: exit status, wall and CPU seconds of it and of the server, peak memory of its largest process."""
    server, start = server_cpu(server_pid), time.monotonic()
    child = subprocess.Popen(["bash", "-c", command], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peak = watch_memory(child.pid)
    err = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.monotonic() - start
    time.sleep(0.2)
    return {"ok": status == 0, "wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "server": server_cpu(server_pid) - server, "rss": peak(), "err": err.decode()[-400:]}


def watch_memory(pid):
    """Peak memory of the largest process of the command, by polling: rusage of bash would hide its children's."""
    peak, done = [0], threading.Event()

    def poll():
        while not done.wait(0.02):
            for p in tree(pid):
                try:
                    for line in open(f"/proc/{p}/status"):
                        if line.startswith("VmHWM:"):
                            peak[0] = max(peak[0], int(line.split()[1]) / 1024)
                except OSError:
                    pass

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()

    def stop():
        done.set(); thread.join()
        return peak[0]
    return stop


def tree(pid):
    out = [pid]
    try:
        for child in open(f"/proc/{pid}/task/{pid}/children").read().split():
            out += tree(int(child))
    except OSError:
        pass
    return out


def say(repeat, name, x):
    print(f"{repeat} {name:28} {'ok ' if x['ok'] else 'BAD'} {x['wall']:6.2f} s  cpu {x['cpu']:6.2f}  server {x['server']:6.2f}  rss {x['rss']:5.0f} MB", file=sys.stderr, flush=True)
    if not x["ok"]:
        print("   ", x["got"], x["err"].replace("\n", "\n    "), file=sys.stderr)


def medians(results):
    import statistics
    return {n: {k: statistics.median(x[k] for x in xs) for k in ("wall", "cpu", "server", "rss")} | {"runs": len(xs)} for n, xs in results.items() if xs}


def table(medians, rows, floor_of):
    print("| case | runs | wall s | client us/row | client + server us/row | total CPU x floor | wall x floor | peak MB |\n|---|---|---|---|---|---|---|---|")
    us = 1e6 / rows
    for n, m in medians.items():
        floor = medians.get(floor_of(n), m)
        print(f"| {n} | {m['runs']} | {m['wall']:.2f} | {m['cpu'] * us:.2f} | {(m['cpu'] + m['server']) * us:.2f} | {(m['cpu'] + m['server']) / (floor['cpu'] + floor['server']):.2f} | {m['wall'] / floor['wall']:.2f} | {m['rss']:.0f} |")


def parquet_rows(python, folder):
    code = f"import glob,pyarrow.parquet as q\nprint(sum(q.read_metadata(f).num_rows for f in glob.glob('{folder}/**/*.parquet', recursive=True)))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return int(done.stdout.strip() or -1)
