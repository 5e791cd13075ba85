-- The table of the figures: 16 columns of mixed types, about a tenth of the nullable values null; the same rows at every run.
-- psql URL -v rows=2000000 -f benches/lineitem.sql
DROP TABLE IF EXISTS lineitem;
CREATE TABLE lineitem (
  l_id bigint NOT NULL, l_orderkey bigint NOT NULL, l_partkey integer NOT NULL, l_linenumber smallint NOT NULL,
  l_quantity numeric(12,2) NOT NULL, l_extendedprice numeric(15,2) NOT NULL, l_discount double precision, l_tax numeric(6,4),
  l_returnflag text NOT NULL, l_shipdate date NOT NULL, l_committs timestamptz NOT NULL, l_receiptts timestamp,
  l_gift boolean NOT NULL, l_uid uuid NOT NULL, l_comment text, l_attrs jsonb);
INSERT INTO lineitem
SELECT g, g / 4 + 1, (h & 199999)::int + 1, (g % 7 + 1)::smallint,
  ((h >> 3) % 50 + 1)::numeric(12,2), (((h >> 5) % 10490000) / 100.0)::numeric(15,2),
  CASE WHEN g % 11 = 0 THEN NULL ELSE ((h >> 7) % 11) / 100.0 END,
  CASE WHEN g % 13 = 0 THEN NULL ELSE (((h >> 9) % 800) / 10000.0)::numeric(6,4) END,
  (ARRAY['A','N','R'])[1 + (h >> 11) % 3], date '1992-01-01' + ((h >> 13) % 2526)::int,
  timestamptz '2024-01-01 00:00:00+00' + ((h >> 4) % 63072000) * interval '1 second' + (g % 1000000) * interval '1 microsecond',
  CASE WHEN g % 9 = 0 THEN NULL ELSE timestamp '2024-01-01' + ((h >> 6) % 63072000) * interval '1 second' END,
  (h & 1) = 1, md5(g::text)::uuid,
  CASE WHEN g % 10 = 0 THEN NULL ELSE left(m || ' carefully final deposits détroit 東京 ' || m, 20 + ((h >> 8) % 44)::int) END,
  CASE WHEN g % 12 = 0 THEN NULL ELSE jsonb_build_object('ship', (ARRAY['AIR','RAIL','SHIP','TRUCK','MAIL'])[1 + (h >> 10) % 5],
    'w', (h >> 12) % 1000, 'tags', jsonb_build_array(left(m, 4), (h & 7))) END
FROM (SELECT g, md5((g * 7919)::text) AS m, (('x' || substr(md5((g * 31 + 7)::text), 1, 15))::bit(60)::bigint) AS h
      FROM generate_series(1::bigint, :rows::bigint) g) s;
ALTER TABLE lineitem ADD PRIMARY KEY (l_id);
VACUUM (FREEZE, ANALYZE) lineitem;
