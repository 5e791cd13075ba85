#!/usr/bin/env python3
"""MySQL (or MariaDB) into Parquet, beside the floors and the peers; and ways to merge. Cases are interleaved over the repeats, medians are printed.

    benches/mysql.py --linkspan target/release/linkspan --mysql mysql://USER:PW@127.0.0.1:3306/DATABASE --server-pid PID [--python VENV/bin/python] [--repeat 5] [CASE ...]
    benches/mysql.py ... --flat 20000000      the memory of a read that is ten times as long, beside that of --rows

The database of the URL is the user's to fill: `lineitem`, `merged` and `staged` are made in it, for --flat `lineitem_flat`. --python names a
Python that has duckdb, duckdb-extension-mysql-scanner, pyarrow and connectorx. --server-pid is the server's process on this machine.
`mysqldump --tab` runs where the login has FILE and the server may write into a folder (secure_file_priv)."""
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
ap.add_argument("--tab", help="a folder that the server may write into, for mysqldump --tab; found by secure_file_priv when left out")
ap.add_argument("--repeat", type=int, default=5)
ap.add_argument("--rows", type=int, default=2_000_000)
ap.add_argument("--flat", type=int, metavar="ROWS", help="read a table of so many rows beside the one of --rows, and compare the peaks of memory")
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


def write_login():
    with open(LOGIN, "w") as f:
        os.chmod(LOGIN, 0o600)
        f.write(f'[client]\nhost={URL.hostname}\nport={URL.port or 3306}\nuser={unquote(URL.username)}\npassword="{unquote(URL.password or "")}"\n')


def count(table):
    return int(sql(f"select count(*) from {table}")) if table in sql("show tables").split() else -1


def ensure_table():
    if count("lineitem") != A.rows:
        sql(f"set @wanted = {A.rows};\n" + open(f"{HERE}/lineitem-mysql.sql").read())


def ensure_flat():
    """The same rows over and over under new ids: doubled until there are enough, in transactions that no server minds."""
    if count("lineitem_flat") == A.flat:
        return
    sql("drop table if exists lineitem_flat; create table lineitem_flat like lineitem; insert into lineitem_flat select * from lineitem")
    have, piece = A.rows, 2_000_000
    while have < A.flat:
        more = min(have, A.flat - have)
        for low in range(0, more, piece):
            high = min(low + piece, more)
            sql(f"set session sql_log_bin = 0; insert into lineitem_flat select l_id + {have}, {', '.join(REST)} from lineitem_flat where l_id > {low} and l_id <= {high}")
        have += more
        print(f"lineitem_flat has {have} rows", file=sys.stderr, flush=True)
    sql("analyze table lineitem_flat")


def tab_folder():
    """A folder that both this program and the server may write into; none where the server may write nowhere."""
    allowed = sql("select ifnull(@@secure_file_priv, 'NULL')")
    if A.tab or allowed == "NULL":
        return A.tab
    folder = tempfile.mkdtemp(prefix="linkspan-tab-", dir=allowed or None)
    os.chmod(folder, 0o777)
    return folder


write_login()
TAB = tab_folder()
DATA = '--data-dir "$OUT/data"'
PEER = f"{A.python} {HERE}/peers.py"
CASES = {  # name: (command, what is checked afterwards)
    "floor_client": (f"{CLIENT} --quick -B -e 'SELECT * FROM lineitem' {DATABASE} > /dev/null", None),
    "floor_dump_tab": (f"{DUMP} --tab={TAB} --no-tablespaces {DATABASE} lineitem; s=$?; rm -f {TAB}/lineitem.*; exit $s", None) if TAB else None,
    "parquet_linkspan": (f'"$BIN" sync "$SRC" parquet:$OUT/o --stream {DATABASE}.lineitem --write replace {DATA}', "parquet"),
    "parquet_linkspan_1lane": (f'"$BIN" sync "$SRC" parquet:$OUT/o --stream {DATABASE}.lineitem --write replace --concurrency 1 {DATA}', "parquet"),
    "parquet_linkspan_flat": (f'"$BIN" sync "$SRC" parquet:$OUT/o --stream {DATABASE}.lineitem_flat --write replace {DATA}', "parquet"),
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
WANTED = A.cases or (["parquet_linkspan", "parquet_linkspan_flat"] if A.flat else [".*"])
NAMES = [n for n in CASES if any(re.fullmatch(p, n) for p in WANTED) and (A.flat or not n.endswith("_flat"))]


def rows_of(name):
    return A.flat if name.endswith("_flat") else A.rows


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
    got = checks.get(check, lambda: rows_of(name))() if x["ok"] else -1
    shutil.rmtree(env["OUT"], ignore_errors=True)
    return x | {"ok": x["ok"] and got == rows_of(name), "got": got}


ensure_table()
if A.flat:
    ensure_flat()
results = {n: [] for n in NAMES}
for repeat in range(A.repeat):
    for name in NAMES:
        x = run(name, 2 * repeat + NAMES.index(name) % 2)
        say(repeat, name, x)
        if x["ok"]:
            results[name].append(x)
found = medians(results)
table({n: m for n, m in found.items() if rows_of(n) == A.rows}, A.rows, lambda name: "merge_on_duplicate_key" if name.startswith("merge") else "floor_client")
if A.flat and {"parquet_linkspan", "parquet_linkspan_flat"} <= found.keys():
    short, long = found["parquet_linkspan"]["rss"], found["parquet_linkspan_flat"]["rss"]
    print(f"\npeak memory: {short:.0f} MB at {A.rows} rows, {long:.0f} MB at {A.flat} rows; {found['parquet_linkspan_flat']['wall']:.1f} s")
if A.json:
    json.dump(found, open(A.json, "w"), indent=1)
shutil.rmtree(WORK, ignore_errors=True)
if TAB and not A.tab:
    shutil.rmtree(TAB, ignore_errors=True)
