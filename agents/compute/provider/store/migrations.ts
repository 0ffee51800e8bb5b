/**
 * The provider's tables. Amounts in wei are decimal text, as they pass 2^63. Times are milliseconds since 1970.
 *
 * - `charge`: one row per request, written before its first token leaves; `progress` says what was delivered so far.
 * - `voucher`: what each user was billed by voucher in all, and the best voucher held.
 * - `batch`, `item`: settlements on their way; an item covers whole charges of one user.
 * - `artifact`: what `/v1/receipts` and the signature route need, kept for days.
 */
export const migrations: readonly string[] = [
  `create table charge (
     seq integer primary key,
     id text not null unique,
     user text not null,
     mode text not null check (mode in ('token', 'voucher', 'free')),
     kind text not null check (kind in ('chat', 'completion', 'embedding', 'carry')),
     state text not null check (state in ('open', 'closed', 'settling', 'settled', 'lost')),
     input_price_wei text not null,
     output_price_wei text not null,
     reserved_wei text not null,
     prompt_tokens integer not null default 0,
     cached_tokens integer not null default 0,
     completion_tokens integer not null default 0,
     fee_wei text not null default '0',
     finish text,
     request_hash text not null default '',
     item integer,
     opened_ms integer not null,
     closed_ms integer
   ) strict;
   create index charge_due on charge (mode, user) where state = 'closed';
   create index charge_user on charge (user, seq);
   create index charge_open on charge (seq) where state in ('open', 'settling');
   create index charge_item on charge (item) where item is not null;
   create index charge_old on charge (closed_ms) where state in ('settled', 'lost');
   create table voucher (
     user text primary key,
     billed_wei text not null,
     cumulative_wei text not null default '0',
     expires_s integer not null default 0,
     generation integer not null default 0,
     signature text not null default ''
   ) strict;
   create table batch (
     id integer primary key,
     mode text not null check (mode in ('token', 'voucher')),
     state text not null check (state in ('prepared', 'done', 'dropped')),
     from_block integer not null,
     created_ms integer not null,
     done_ms integer,
     hash text,
     gas_cost_wei text
   ) strict;
   create index batch_open on batch (id) where state = 'prepared';
   create table item (
     id integer primary key,
     batch integer not null references batch (id),
     user text not null,
     owed_wei text not null,
     total_wei text not null,
     nonce text not null default '0',
     requests_hash text not null default '',
     signature text not null,
     paid_before_wei text not null default '0',
     cumulative_wei text not null default '0',
     expires_s integer not null default 0,
     generation integer not null default 0,
     status text,
     paid_wei text
   ) strict;
   create index item_batch on item (batch);
   create index item_user on item (user, id);
   create table artifact (
     id text primary key,
     user text not null,
     created_ms integer not null,
     body text not null
   ) strict, without rowid;
   create index artifact_old on artifact (created_ms);
   create table total (name text primary key, wei text not null) strict, without rowid;
   insert into total (name, wei) values ('billed', '0'), ('earned', '0'), ('lost', '0'), ('gas', '0');`,
  // What marks the transactions of a batch; empty for those begun before there was one.
  `alter table batch add column tag text not null default '';`,
]
