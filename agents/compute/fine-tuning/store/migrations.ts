/** Tables of a fine-tuning provider, oldest first. Times in milliseconds since 1970, amounts in wei as text. */
export const migrations: readonly string[] = [
  `
  create table dataset (
    user text not null, hash text not null, path text not null, size_bytes integer not null, created_at integer not null,
    primary key (user, hash)
  ) strict;
  create table task (
    seq integer primary key autoincrement,
    id text not null unique,
    user text not null,
    user_key blob not null,
    dataset_hash text not null,
    params text not null,
    model_hash text not null,
    nonce text not null,
    terms text,
    progress text not null,
    created_at integer not null,
    updated_at integer not null,
    fee text not null default '0',
    tokens integer not null default 0,
    examples integer not null default 0,
    crashes integer not null default 0,
    step integer not null default 0,
    steps integer not null default 0,
    failure text,
    result text,
    secret blob,
    artefact_root text,
    artefact_kind text,
    artefact_bytes integer not null default 0,
    lineage_root text,
    deliver_index integer,
    delivered_at integer,
    settle_try_at integer not null default 0,
    settle_error text,
    outcome text,
    held integer not null default 0
  ) strict;
  create index task_user on task (user, seq);
  create index task_progress on task (progress);
  create table log_line (
    seq integer primary key autoincrement, task text not null, at integer not null, text text not null
  ) strict;
  create index log_task on log_line (task, seq);
  create table curve (
    task text not null, step integer not null, loss real not null, held_out_loss real, primary key (task, step)
  ) strict, without rowid;
  create table checkpoint (
    task text not null, step integer not null, root text not null, primary key (task, step)
  ) strict, without rowid;
  create table figure (name text primary key, value real not null) strict, without rowid;
  `,
  'alter table task add column trained_tokens integer not null default 0',
]
