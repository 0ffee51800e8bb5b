/** The signer's tables, oldest version first. Blobs of bytes are hashes and signatures; times are milliseconds. */
export const MIGRATIONS: readonly string[] = [
  `
  create table meta (key text primary key, value text not null) without rowid;

  -- Blocks applied, for going on after a crash and for finding the common block after a reorganisation.
  create table checkpoint (number integer primary key, hash text not null);

  -- Paid submissions (BlobSubmitted). A blob may be submitted in several epochs.
  create table submission (
    data_root blob not null,
    epoch integer not null,
    quorum integer not null,
    size_bytes integer not null,
    row_root blob not null,
    rlc_root blob not null,
    expiry_epoch integer not null,
    block integer not null,
    primary key (data_root, epoch, quorum)
  ) without rowid;
  create index submission_block on submission (block);

  -- Commitments recorded on the chain (BlobConfirmed); signed: whether this signer's bit is among them, null where it
  -- had no part in the epoch.
  create table recorded (
    data_root blob not null,
    epoch integer not null,
    quorum integer not null,
    signed integer,
    block integer not null,
    primary key (data_root, epoch, quorum)
  ) without rowid;
  create index recorded_block on recorded (block);

  -- Rows on disk, each blob's in one file. The signature is here before it leaves.
  create table held (
    data_root blob not null,
    epoch integer not null,
    quorum integer not null,
    size_bytes integer not null,
    row_root blob not null,
    rlc_root blob not null,
    first_row integer not null,
    row_count integer not null,
    file_bytes integer not null,
    signature blob not null,
    stored_ms integer not null,
    damaged_ms integer,
    primary key (data_root, epoch, quorum)
  ) without rowid;
  create index held_epoch on held (epoch);

  -- Custody requests to this signer. outcome: null while open, answered or failed. The same pieces may be asked for
  -- again later, under the same id.
  create table custody (
    id blob not null,
    data_root blob not null,
    epoch integer not null,
    quorum integer not null,
    row_index integer not null,
    from_subline integer not null,
    to_subline integer not null,
    deadline_block integer not null,
    bond_wei text not null,
    block integer not null,
    outcome text,
    outcome_block integer,
    slashed_wei text,
    primary key (id, block)
  ) without rowid;
  create index custody_block on custody (block);

  -- Samples the chain credited to this signer.
  create table reward (
    block integer not null,
    log_index integer not null,
    wei text not null,
    primary key (block, log_index)
  ) without rowid;
  `,
]
