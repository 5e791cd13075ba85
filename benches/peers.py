"""The peers of benches/run.py and benches/mysql.py, each as its own documentation shows it. usage: peers.py CASE; reads SRC, DST, TABLE, OUT, CSV."""
import glob, os, sys

SRC, DST, TABLE, OUT, CSV = (os.environ.get(k, "") for k in ("SRC", "DST", "TABLE", "OUT", "CSV"))
QUERY = f"SELECT * FROM {TABLE}"


def duckdb(*attach):
    import duckdb as d
    import duckdb_extension_postgres_scanner as e
    ext = glob.glob(os.path.join(list(e.__path__)[0], "extensions", "*", "*.duckdb_extension"))[0]
    c = d.connect(config={"allow_unsigned_extensions": True})
    c.execute(f"LOAD '{ext}'")
    for name, url, mode in attach:
        c.execute(f"ATTACH '{url}' AS {name} (TYPE postgres{mode})")
    return c


def duckdb_parquet():
    duckdb(("pg", SRC, ", READ_ONLY")).execute(f"COPY (SELECT * FROM pg.public.{TABLE}) TO '{OUT}/o.parquet' (FORMAT parquet, COMPRESSION zstd)")


def duckdb_pg():
    duckdb(("pg", SRC, ", READ_ONLY"), ("dst", DST, "")).execute(f"CREATE TABLE dst.public.{TABLE} AS SELECT * FROM pg.public.{TABLE}")


def duckdb_csv():
    import duckdb as d
    d.connect().execute(f"COPY (FROM read_csv('{CSV}')) TO '{OUT}/o.parquet' (FORMAT parquet, COMPRESSION zstd)")


def adbc_parquet():
    import adbc_driver_postgresql.dbapi as d, pyarrow.parquet as pq
    with d.connect(SRC) as c, c.cursor() as cur:
        cur.execute(QUERY)
        rows = cur.fetch_record_batch()
        with pq.ParquetWriter(f"{OUT}/o.parquet", rows.schema, compression="zstd") as w:
            for b in rows:
                w.write_batch(b)


def adbc_pg():
    import adbc_driver_postgresql.dbapi as d
    with d.connect(SRC) as a, a.cursor() as read, d.connect(DST) as b, b.cursor() as write:
        read.execute(QUERY)
        write.adbc_ingest(TABLE, read.fetch_record_batch(), mode="create")
        b.commit()


def duckdb_mysql_parquet():
    """SRC is a URL; the extension wants words."""
    import duckdb as d
    from urllib.parse import unquote, urlsplit
    import duckdb_extension_mysql_scanner as e
    ext = glob.glob(os.path.join(list(e.__path__)[0], "extensions", "*", "*.duckdb_extension"))[0]
    c, u = d.connect(config={"allow_unsigned_extensions": True}), urlsplit(SRC)
    c.execute(f"LOAD '{ext}'")
    words = f"host={u.hostname} port={u.port} user={unquote(u.username)} password={unquote(u.password or '')} database={u.path[1:]}"
    c.execute(f"ATTACH '{words}' AS my (TYPE mysql, READ_ONLY)")
    c.execute(f"COPY (SELECT * FROM my.{TABLE}) TO '{OUT}/o.parquet' (FORMAT parquet, COMPRESSION zstd)")


def dlt_mysql_parquet():
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    import dlt
    from dlt.sources.sql_database import sql_table
    table = sql_table(credentials=SRC.replace("mysql:", "mysql+pymysql:"), table=TABLE, backend="pyarrow", reflection_level="full")
    pipeline = dlt.pipeline("bench", destination=dlt.destinations.filesystem("file://" + OUT + "/o"), dataset_name="public", pipelines_dir=OUT + "/.dlt")
    pipeline.run(table, write_disposition="replace", loader_file_format="parquet").raise_on_failed_jobs()


def connectorx_parquet():
    import connectorx as cx, pyarrow.parquet as pq
    pq.write_table(cx.read_sql(SRC, QUERY, return_type="arrow"), f"{OUT}/o.parquet", compression="zstd")


def dlt_pg():
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    import dlt
    from dlt.sources.sql_database import sql_table
    table = sql_table(credentials=SRC, table=TABLE, backend="connectorx", reflection_level="full", backend_kwargs={"return_type": "arrow"})
    pipeline = dlt.pipeline("bench", destination=dlt.destinations.postgres(DST), dataset_name="public", pipelines_dir=OUT + "/.dlt")
    pipeline.run(table, write_disposition="append").raise_on_failed_jobs()


globals()[sys.argv[1]]()
