-- The table of the figures for MySQL: the columns of lineitem.sql in MySQL's own types, the same shares of nulls, the same rows at every run.
-- (echo "SET @wanted = 2000000;"; cat benches/lineitem-mysql.sql) | mysql DATABASE
SET SESSION time_zone = '+00:00', cte_max_recursion_depth = 10001, sql_log_bin = 0;
DROP TABLE IF EXISTS lineitem;
CREATE TABLE lineitem (
  l_id bigint NOT NULL PRIMARY KEY, l_orderkey bigint NOT NULL, l_partkey int NOT NULL, l_linenumber smallint NOT NULL,
  l_quantity decimal(12,2) NOT NULL, l_extendedprice decimal(15,2) NOT NULL, l_discount double, l_tax decimal(6,4),
  l_returnflag varchar(10) NOT NULL, l_shipdate date NOT NULL, l_committs timestamp(6) NOT NULL, l_receiptts datetime(6),
  l_gift boolean NOT NULL, l_uid binary(16) NOT NULL, l_comment text, l_attrs json) CHARACTER SET utf8mb4;
INSERT INTO lineitem
WITH RECURSIVE
  low AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM low WHERE n < 10000),
  high AS (SELECT 0 AS n UNION ALL SELECT n + 1 FROM high WHERE n + 1 < @wanted DIV 10000),
  ids AS (SELECT high.n * 10000 + low.n AS g FROM high CROSS JOIN low),
  hashed AS (SELECT g, LEFT(SHA2(g * 7919, 256), 32) AS m, CAST(CONV(SUBSTR(SHA2(g * 31 + 7, 256), 1, 15), 16, 10) AS UNSIGNED) AS h FROM ids)
SELECT g, g DIV 4 + 1, (h & 199999) + 1, g % 7 + 1,
  (h >> 3) % 50 + 1, CAST((h >> 5) % 10490000 AS DECIMAL(15,2)) / 100,
  IF(g % 11 = 0, NULL, ((h >> 7) % 11) / 100e0), IF(g % 13 = 0, NULL, CAST((h >> 9) % 800 AS DECIMAL(10,4)) / 10000),
  ELT(1 + (h >> 11) % 3, 'A', 'N', 'R'), DATE '1992-01-01' + INTERVAL (h >> 13) % 2526 DAY,
  TIMESTAMP '2024-01-01 00:00:00' + INTERVAL (h >> 4) % 63072000 SECOND + INTERVAL g % 1000000 MICROSECOND,
  IF(g % 9 = 0, NULL, TIMESTAMP '2024-01-01 00:00:00' + INTERVAL (h >> 6) % 63072000 SECOND),
  h & 1, UNHEX(LEFT(SHA2(g, 256), 32)),
  IF(g % 10 = 0, NULL, LEFT(CONCAT(m, ' carefully final deposits détroit 東京 ', m), 20 + (h >> 8) % 44)),
  IF(g % 12 = 0, NULL, JSON_OBJECT('ship', ELT(1 + (h >> 10) % 5, 'AIR', 'RAIL', 'SHIP', 'TRUCK', 'MAIL'), 'w', (h >> 12) % 1000,
    'tags', JSON_ARRAY(LEFT(m, 4), h & 7)))
FROM hashed;
ANALYZE TABLE lineitem;
