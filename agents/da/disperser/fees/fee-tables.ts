/** Tables of fees, beside those of requests: a charge and the request it is for are written in one transaction. */
export const FEE_TABLES = `
  create table charges (
    id integer primary key,
    contentHash text not null,
    user text not null,
    feeWei text not null,
    state text not null,
    openedAtMs integer not null,
    closedAtMs integer
  ) strict;
  create index chargesByContent on charges (contentHash, state);
  create index chargesByUser on charges (user, state);
  create table payers (
    user text primary key,
    chargedWei text not null default '0',
    claimedWei text not null default '0',
    cumulativeWei text not null default '0',
    expiresAtS integer not null default 0,
    signature text not null default '',
    dueSinceMs integer
  ) strict;
  create index payersByDue on payers (dueSinceMs);
  alter table requests add column charge integer;
  create index requestsByCharge on requests (charge);
`
