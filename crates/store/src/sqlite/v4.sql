create table documents (
  seq integer primary key autoincrement,
  id text not null unique,
  kind text not null,
  project text not null,
  name text,
  facet text not null,
  version bigint not null,
  body text not null,
  observed text not null,
  created_at bigint not null,
  updated_at bigint not null
);
create unique index documents_by_name on documents (kind, project, name);
create index documents_by_project on documents (kind, project, seq);
create index documents_by_kind on documents (kind, seq);
create table links (
  document text not null references documents (id) on delete cascade,
  role text not null,
  target text not null,
  primary key (document, role, target)
) without rowid;
create index links_by_target on links (target);
create table secrets (
  document text primary key references documents (id) on delete cascade,
  data_key text not null,
  token text not null
) without rowid;
create index secrets_by_key on secrets (data_key, document);
create table entries (
  seq integer primary key autoincrement,
  kind text not null,
  project text not null,
  about text not null,
  at bigint not null,
  body text not null
);
create index entries_by_about on entries (kind, about, seq);
create index entries_by_project on entries (kind, project, seq);
create table idempotency (
  project text not null,
  caller text not null,
  idempotency_key text not null,
  hash text not null,
  answer text not null,
  at bigint not null,
  primary key (project, caller, idempotency_key)
) without rowid;
create index idempotency_by_age on idempotency (at);
create table changes (
  id text primary key,
  at bigint not null
) without rowid;
create index changes_by_age on changes (at);
