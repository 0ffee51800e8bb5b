/** The tables of the user's books; see `OpenDatabaseParameters.migrations`. */
export const MIGRATIONS = [
  `create table account (
     id integer primary key,
     chain_id integer not null, genesis text not null, contract text not null, user text not null, provider text not null,
     billed_wei text not null default '0', signed_wei text not null default '0',
     unique (chain_id, genesis, contract, user, provider)
   ) strict;
   create table request (
     id integer primary key,
     account integer not null references account (id),
     request_hash text not null, max_fee_wei text not null, fee_wei text,
     body_bytes integer not null, max_tokens integer not null,
     input_price_wei text not null, output_price_wei text not null,
     state text not null check (state in ('open', 'settled', 'failed', 'lost')),
     chat_id text, created_ms integer not null
   ) strict;
   create index request_of_account on request (account, state);
   create table receipt (
     id integer primary key,
     account integer not null references account (id),
     chat_id text not null, digest text not null, nonce text not null, signer text not null,
     model text not null, verified integer not null, checks text not null, json text not null,
     fee_wei text not null, created_ms integer not null,
     unique (account, nonce)
   ) strict;
   create index receipt_chat on receipt (chat_id);
   create table performance (
     provider text primary key,
     first_token_ms real, tokens_per_second real,
     successes integer not null default 0, failures integer not null default 0, last_failure_ms integer
   ) strict;`,
  `create table signed_voucher (
     account integer not null references account (id),
     cumulative_fee_wei text not null, expires_s integer not null,
     primary key (account, cumulative_fee_wei, expires_s)
   ) strict, without rowid;`,
]

/** A row of `request`. */
export interface RequestRow {
  id: number
  request_hash: string
  max_fee_wei: string
  body_bytes: number
  max_tokens: number
  input_price_wei: string
  output_price_wei: string
  chat_id: string | null
}

/** A row of `receipt`, with the account it belongs to. */
export interface ReceiptRow {
  chain_id: number
  genesis: string
  contract: string
  user: string
  provider: string
  chat_id: string
  digest: string
  signer: string
  model: string
  verified: number
  checks: string
  json: string
  fee_wei: string
  created_ms: number
}
