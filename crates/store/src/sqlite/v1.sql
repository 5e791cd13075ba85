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
