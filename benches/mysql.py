#!/usr/bin/env python3
"""MySQL (or MariaDB) into Parquet, beside the floors and the peers; and ways to merge. Cases are interleaved over the repeats, medians are printed.

    benches/mysql.py --linkspan target/release/linkspan --mysql mysql://USER:PW@127.0.0.1:3306/DATABASE --server-pid PID [--python VENV/bin/python] [--repeat 5] [CASE ...]

The database of the URL is the user's to fill: `lineitem` , `merged` and `staged` are made in it. --python names a Python that
has duckdb, duckdb-extension-mysql-scanner, pyarrow and connectorx. --server-pid is the server's process on this machine."""
import argparse, json, os, re, shutil, subprocess, sys, tempfile
from urllib.parse import unquote, urlsplit

from harness import measure, medians, parquet_rows, say, table

HERE = os.path.dirname(os.path.abspath(__file__))
ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("--linkspan", required=True)
ap.add_argument("--mysql", required=True)
ap.add_argument("--server-pid", type=int, required=True)
ap.add_argument("--python", default=sys.executable)
ap.add_argument("--sling"); ap.add_argument("--dlt-python")
ap.add_argument("--tab", help="a folder that the server may write into (secure_file_priv), for mysqldump --tab")
ap.add_argument("--repeat", type=int, default=5)
ap.add_argument("--rows", type=int, default=2_000_000)
ap.add_argument("--json", help="write the medians here")
ap.add_argument("cases", nargs="*", help="names or regular expressions; default: all that can run")
A = ap.parse_args()
BIN = os.path.abspath(A.linkspan)
URL = urlsplit(A.mysql)
DATABASE = URL.path[1:]
WORK = tempfile.mkdtemp(prefix="linkspan-bench-")
LOGIN = os.path.join(WORK, "login.cnf")  # the password is on no command line
CLIENT = f"mysql --defaults-extra-file={LOGIN} --ssl-mode=DISABLED" if "--ssl-mode" in subprocess.run(["mysql", "--help"], capture_output=True, text=True).stdout else f"mysql --defaults-extra-file={LOGIN} --skip-ssl"
DUMP = CLIENT.replace("mysql ", "mysqldump ", 1)


def sql(text, database=DATABASE):
    done = subprocess.run(f"{CLIENT} -N {database}", shell=True, input=text, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"mysql: {done.stderr}")
    return done.stdout.strip()


def ensure_table():
    with open(LOGIN, "w") as f:
        os.chmod(LOGIN, 0o600)
        f.write(f'[client]\nhost={URL.hostname}\nport={URL.port or 3306}\nuser={unquote(URL.username)}\npassword="{unquote(URL.password or "")}"\n')
    have = "lineitem" in sql("show tables").split()
    if not have or int(sql("select count(*) from lineitem")) != A.rows:
        sql(f"set @wanted = {A.rows};\n" + open(f"{HERE}/lineitem-mysql.sql").read())


DATA = '--data-dir "$OUT/data"'
PEER = f"{A.python} {HERE}/peers.py"
CASES = {  # name: (command, what is checked afterwards)
    "floor_client": (f"{CLIENT} --quick -B -e 'SELECT * FROM lineitem' {DATABASE} > /dev/null", None),
    "floor_dump_tab": (f"{DUMP} --tab={A.tab} --no-tablespaces {DATABASE} lineitem; s=$?; rm -f {A.tab}/lineitem.*; exit $s", None) if A.tab else None,
    "parquet_linkspan": (f'"$BIN" sync "$SRC" parquet:$OUT/o --stream {DATABASE}.lineitem --write replace {DATA}', "parquet"),
    "parquet_linkspan_1lane": (f'"$BIN" sync "$SRC" parquet:$OUT/o --stream {DATABASE}.lineitem --write replace --concurrency 1 {DATA}', "parquet"),
    "parquet_duckdb": (f"{PEER} duckdb_mysql_parquet", "parquet"),
    "parquet_connectorx": (f"{PEER} connectorx_parquet", "parquet"),
    "parquet_sling": (f'HOME=$OUT SLING_HOME_DIR=$OUT/.sling {A.sling} run --src-conn "$SRC" --src-stream {DATABASE}.lineitem --tgt-object "file://$OUT/o.parquet"', "parquet") if A.sling else None,
    "parquet_dlt": (f"{A.dlt_python} {HERE}/peers.py dlt_mysql_parquet", "parquet") if A.dlt_python else None,
}
# Two ways to merge a staged tenth, of which half is new; the connector takes the faster.
COLUMNS = "l_id l_orderkey l_partkey l_linenumber l_quantity l_extendedprice l_discount l_tax l_returnflag l_shipdate l_committs l_receiptts l_gift l_uid l_comment l_attrs".split()
ALL, REST = ", ".join(COLUMNS), COLUMNS[1:]
MERGES = {
    "merge_on_duplicate_key": f"INSERT INTO merged ({ALL}) SELECT {ALL} FROM staged AS s ON DUPLICATE KEY UPDATE {', '.join(f'{c} = s.{c}' for c in REST)}",
    "merge_staging_join": f"UPDATE merged m JOIN staged s ON m.l_id = s.l_id SET {', '.join(f'm.{c} = s.{c}' for c in REST)}; "
    f"INSERT INTO merged ({ALL}) SELECT {', '.join(f's.{c}' for c in COLUMNS)} FROM staged s LEFT JOIN merged m ON m.l_id = s.l_id WHERE m.l_id IS NULL",
}
CASES |= {name: (f"{CLIENT} {DATABASE} -e 'BEGIN; {statement}; COMMIT'", "merged") for name, statement in MERGES.items()}
CASES = {n: c for n, c in CASES.items() if c}
NAMES = [n for n in CASES if not A.cases or any(re.fullmatch(p, n) for p in A.cases)]


def stage(turn):
    """The merge's target as it was, and rows that really differ from it."""
    tenth = A.rows // 10
    if "merged" not in sql("show tables").split():
        sql("create table merged like lineitem; insert into merged select * from lineitem; create table staged like lineitem")
    sql(f"delete from merged where l_id > {A.rows}; truncate staged;"
        f"insert into staged select * from lineitem where l_id % 20 = 0; update staged set l_linenumber = {100 + turn};"
        f"insert into staged select {ALL.replace('l_id', f'l_id + {A.rows}', 1)} from lineitem where l_id % 20 = 1; analyze table staged, merged")
    assert int(sql("select count(*) from staged")) == tenth


def merged(turn):
    found = sql(f"select count(*), sum(l_linenumber = {100 + turn}) from merged").split()
    return A.rows if found == [str(A.rows + A.rows // 20), str(A.rows // 20)] else -1


def run(name, turn):
    command, check = CASES[name]
    if check == "merged":
        stage(turn)
    env = {**os.environ, "SRC": A.mysql, "OUT": os.path.join(WORK, name), "BIN": BIN, "TABLE": "lineitem"}
    os.makedirs(env["OUT"])
    x = measure(command, env, A.server_pid)
    checks = {"parquet": lambda: parquet_rows(A.python, env["OUT"]), "merged": lambda: merged(turn)}
    got = checks.get(check, lambda: A.rows)() if x["ok"] else -1
    shutil.rmtree(env["OUT"], ignore_errors=True)
    return x | {"ok": x["ok"] and got == A.rows, "got": got}


ensure_table()
results = {n: [] for n in NAMES}
for repeat in range(A.repeat):
    for name in NAMES:
        x = run(name, 2 * repeat + NAMES.index(name) % 2)
        say(repeat, name, x)
        if x["ok"]:
            results[name].append(x)
found = medians(results)
table(found, A.rows, lambda name: "merge_on_duplicate_key" if name.startswith("merge") else "floor_client")
if A.json:
    json.dump(found, open(A.json, "w"), indent=1)
shutil.rmtree(WORK, ignore_errors=True)
