#!/usr/bin/env python3
"""Linkspan beside its floors and peers: every case is one shell command, cases are interleaved over the repeats, medians are printed.

    benches/run.py --linkspan target/release/linkspan --postgres postgresql://postgres:PW@127.0.0.1:5432/postgres [--python VENV/bin/python] [--repeat 5] [CASE ...]

--python names a Python that has duckdb, duckdb-extension-postgres-scanner, pyarrow, adbc-driver-postgresql and connectorx; peers that are
missing are left out and said so. The server must be on this machine: its CPU is read from /proc. Machines are noisy: quote CPU per row and
ratios inside one run, never wall times of two runs."""
import argparse, json, os, re, shutil, subprocess, sys, tempfile

from harness import measure, medians, parquet_rows, say, table

HERE = os.path.dirname(os.path.abspath(__file__))
ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("--linkspan", required=True)
ap.add_argument("--postgres", required=True)
ap.add_argument("--python", default=sys.executable)
ap.add_argument("--sling"); ap.add_argument("--ingestr"); ap.add_argument("--dlt-python")
ap.add_argument("--repeat", type=int, default=5)
ap.add_argument("--rows", type=int, default=2_000_000)
ap.add_argument("--json", help="write the medians here")
ap.add_argument("cases", nargs="*", help="names or regular expressions; default: all that can run")
A = ap.parse_args()
BIN = os.path.abspath(A.linkspan)
BASE = A.postgres.rsplit("/", 1)[0]
SRC, DST = BASE + "/linkspan_bench_src", BASE + "/linkspan_bench_dst"
WORK = tempfile.mkdtemp(prefix="linkspan-bench-")


def sql(url, text):
    done = subprocess.run(["psql", url, "-qAtX", "-v", "ON_ERROR_STOP=1", "-c", text], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"psql: {done.stderr}")
    return done.stdout.strip()


def ensure_tables():
    have = sql(A.postgres, "select datname from pg_database").split()
    for url in (SRC, DST):
        if url.rsplit("/", 1)[1] not in have:
            sql(A.postgres, f"create database {url.rsplit('/', 1)[1]}")
    if sql(SRC, "select to_regclass('lineitem') is not null") != "t" or int(sql(SRC, "select count(*) from lineitem")) != A.rows:
        subprocess.run(["psql", SRC, "-qX", "-v", f"rows={A.rows}", "-f", f"{HERE}/lineitem.sql"], check=True, stdout=subprocess.DEVNULL)
    if any(c.startswith("csv") for c in NAMES) and not os.path.exists(CSV):
        os.makedirs(os.path.dirname(CSV), exist_ok=True)
        subprocess.run(f"psql {SRC!r} -qXc \"COPY (SELECT * FROM lineitem) TO STDOUT (FORMAT csv, HEADER)\" > {CSV}", shell=True, check=True)


def postmaster():
    backend = subprocess.Popen(["psql", A.postgres, "-qAtXc", "select pg_backend_pid()", "-c", "select pg_sleep(0.5)"], stdout=subprocess.PIPE, text=True)
    pid = int(backend.stdout.readline())
    parent = int(open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[1])
    backend.communicate()
    return parent


CSV = os.path.join(tempfile.gettempdir(), "linkspan-bench-input", "lineitem.csv")
DATA = '--data-dir "$OUT/data"'
DDL = 'psql "$DST" -qXc "create table lineitem (l_id bigint not null,l_orderkey bigint not null,l_partkey int not null,l_linenumber smallint not null,l_quantity numeric(12,2) not null,l_extendedprice numeric(15,2) not null,l_discount double precision,l_tax numeric(6,4),l_returnflag text not null,l_shipdate date not null,l_committs timestamptz not null,l_receiptts timestamp,l_gift boolean not null,l_uid uuid not null,l_comment text,l_attrs jsonb)"'
PEER = f"{A.python} {HERE}/peers.py"
CASES = {  # name: (command, what is checked afterwards, set-up that is not timed)
    "floor_copy_binary": ('psql "$SRC" -qXc "COPY lineitem TO STDOUT (FORMAT binary)" > /dev/null', None, None),
    "parquet_linkspan": (f'"$BIN" sync "$SRC" parquet:$OUT/o --stream public.lineitem --write replace {DATA}', "parquet", None),
    "parquet_linkspan_1lane": (f'"$BIN" sync "$SRC" parquet:$OUT/o --stream public.lineitem --write replace --concurrency 1 {DATA}', "parquet", None),
    "parquet_duckdb": (f"{PEER} duckdb_parquet", "parquet", None),
    "parquet_adbc": (f"{PEER} adbc_parquet", "parquet", None),
    "parquet_connectorx": (f"{PEER} connectorx_parquet", "parquet", None),
    "floor_pg_pipe": ('psql "$SRC" -qXc "COPY lineitem TO STDOUT (FORMAT binary)" | psql "$DST" -qXc "COPY lineitem FROM STDIN (FORMAT binary)"', "pg", DDL),
    "pg_linkspan": (f'"$BIN" sync "$SRC" "$DST" --stream public.lineitem --write append {DATA}', "pg", None),
    "pg_linkspan_merge": (f'"$BIN" sync "$SRC" "$DST" --stream public.lineitem --write merge --key l_id {DATA}', "pg", "FULL"),
    "pg_duckdb": (f"{PEER} duckdb_pg", "pg", None),
    "pg_adbc": (f"{PEER} adbc_pg", "pg", None),
    "pg_sling": (f'HOME=$OUT SLING_HOME_DIR=$OUT/.sling {A.sling} run --src-conn "$SRC" --src-stream public.lineitem --tgt-conn "$DST" --tgt-object public.lineitem --mode full-refresh', "pg", None) if A.sling else None,
    "pg_ingestr": (f'HOME=$OUT {A.ingestr} ingest --yes --progress log --sql-exclude-columns l_uid --source-uri "$SRC" --source-table public.lineitem --dest-uri "$DST" --dest-table public.lineitem', "pg", None) if A.ingestr else None,
    "pg_dlt": (f"{A.dlt_python} {HERE}/peers.py dlt_pg", "pg", None) if A.dlt_python else None,
    "csv_linkspan": (f'"$BIN" sync csv:$CSV parquet:$OUT/o --write replace {DATA}', "parquet", None),
    "csv_duckdb": (f"{PEER} duckdb_csv", "parquet", None),
}
CASES = {n: c for n, c in CASES.items() if c}
NAMES = [n for n in CASES if not A.cases or any(re.fullmatch(p, n) for p in A.cases)]


def run(name, env):
    command, check, setup = CASES[name]
    shutil.rmtree(env["OUT"], ignore_errors=True)
    os.makedirs(env["OUT"])
    sql(DST, "drop schema if exists public cascade; drop schema if exists _linkspan cascade; create schema public; checkpoint")
    if setup == "FULL":  # the merge meets a table that is already full
        subprocess.run(DDL, shell=True, env=env, check=True)
        subprocess.run('psql "$SRC" -qXc "COPY lineitem TO STDOUT (FORMAT binary)" | psql "$DST" -qXc "COPY lineitem FROM STDIN (FORMAT binary)" -c "alter table lineitem add primary key (l_id)"; psql "$DST" -qXc "vacuum analyze lineitem" -c checkpoint', shell=True, env=env, check=True)
    elif setup:
        subprocess.run(setup, shell=True, env=env, check=True)
    x = measure(command, env, PM)
    got = {"parquet": lambda: parquet_rows(A.python, env["OUT"]), "pg": lambda: int(sql(DST, "select count(*) from lineitem"))}.get(check, lambda: A.rows)() if x["ok"] else -1
    return x | {"ok": x["ok"] and got == A.rows, "got": got}



ensure_tables()
PM = postmaster()
results = {n: [] for n in NAMES}
for repeat in range(A.repeat):
    for name in NAMES:
        env = {**os.environ, "SRC": SRC, "DST": DST, "OUT": os.path.join(WORK, name), "BIN": BIN, "CSV": CSV, "TABLE": "lineitem"}
        x = run(name, env)
        shutil.rmtree(env["OUT"], ignore_errors=True)
        say(repeat, name, x)
        if x["ok"]:
            results[name].append(x)

found = medians(results)
FLOOR = {"parquet": "floor_copy_binary", "pg": "floor_pg_pipe", "csv": "csv_duckdb"}
table(found, A.rows, lambda name: FLOOR.get(name.split("_")[0], name))
if A.json:
    json.dump(found, open(A.json, "w"), indent=1)
shutil.rmtree(WORK, ignore_errors=True)
