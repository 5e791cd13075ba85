create table connections (
  id text primary key,
  name text not null unique,
  source text not null,
  destination text not null,
  spec text not null,
  fence bigint not null default 0,
  known bigint not null default 0,
  created_at bigint not null,
  updated_at bigint not null
);
create table runs (
  seq integer primary key autoincrement,
  id text not null unique,
  connection text not null references connections (id) on delete cascade,
  kind text not null,
  spec text not null,
  status text not null,
  fence bigint not null,
  holder text not null,
  started_at bigint not null,
  ended_at bigint,
  stats text,
  error text
);
create index runs_by_connection on runs (connection, seq);
create table leases (
  connection text primary key references connections (id) on delete cascade,
  run text not null unique,
  fence bigint not null,
  holder text not null,
  started_at bigint not null,
  expires_at bigint not null
) without rowid;
create table scopes (
  connection text not null references connections (id) on delete cascade,
  scope text not null,
  stream text,
  generation bigint not null,
  number bigint not null,
  state text not null,
  saved_at bigint not null,
  primary key (connection, scope)
) without rowid;
create table generations (
  connection text not null references connections (id) on delete cascade,
  stream text not null,
  number bigint not null,
  complete bigint not null,
  drawn_by text not null,
  primary key (connection, stream)
) without rowid;
create table schemas (
  connection text not null references connections (id) on delete cascade,
  stream text not null,
  version bigint not null,
  schema_json text not null,
  seen_at bigint not null,
  run text not null,
  primary key (connection, stream, version)
) without rowid;
create table store_versions (version bigint primary key, applied_at bigint not null);
insert into store_versions values (1, 1700000000000);
insert into connections values ('01890000-0000-7000-8000-000000000001', 'old', 'postgres://u@h/db', 'parquet:./out', '{"mode":"incremental"}', 7, 1, 1700000000000, 1700000000000);
insert into runs (id, connection, kind, spec, status, fence, holder, started_at, ended_at, stats, error) values
  ('01890000-0000-7000-8000-000000000002', '01890000-0000-7000-8000-000000000001', 'sync', '{}', 'running', 7,
   '{"host":"h","machine":"","pid":1,"started":null}', 1700000000000, null, null, null);
insert into leases values ('01890000-0000-7000-8000-000000000001', '01890000-0000-7000-8000-000000000002', 7,
   '{"host":"h","machine":"","pid":1,"started":null}', 1700000000000, 1700000030000);
insert into scopes values ('01890000-0000-7000-8000-000000000001', '["public","orders"]', '["public","orders"]', 2, 41,
   '{"version":1,"value":{"cursor":1234}}', 1700000000000);
insert into generations values ('01890000-0000-7000-8000-000000000001', '["public","orders"]', 2, 1, '');
insert into schemas values ('01890000-0000-7000-8000-000000000001', '["public","orders"]', 1,
   '{"fields":[{"name":"id","type":"int64","nullable":false}]}', 1700000000000, '01890000-0000-7000-8000-000000000002');
