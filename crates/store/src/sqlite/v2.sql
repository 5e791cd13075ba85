create table run_logs (
  run text primary key references runs (id) on delete cascade,
  connection text not null references connections (id) on delete cascade,
  lines bigint not null,
  bytes bigint not null,
  dropped bigint not null,
  rejects bigint not null,
  rejects_dropped bigint not null,
  closed_at bigint not null
) without rowid;
create index run_logs_by_connection on run_logs (connection, closed_at);
