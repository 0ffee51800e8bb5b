/**
 * Tables of the node's database, oldest script first; a published script never changes.
 *
 * - `object`: content, by root and size, whichever submissions name it. `unclaimed_at` (ms) is set while no submission
 *   does: uploaded before its submission (`origin` 1) or left over from a reverted one (2).
 * - `piece`: a durable, verified segment of an object: where it lies, its checksum, its root and its proof's siblings.
 *   A row here is the completion bit of the segment.
 * - `quarantine`: slots whose content no longer matches; never used again.
 * - `tx`: submissions in flow order. `needed` and `held` count the segments of the own shard while `status` is 0.
 * - `flow_node`: every completed subtree of the flow, by its end (in sectors) and level.
 * - `block`: blocks whose logs have been applied; `next_seq` is the first submission after the block.
 */
export const MIGRATIONS: readonly string[] = [
  `
  create table meta (key text primary key, value text not null) strict, without rowid;

  create table object (
    id integer primary key,
    root blob not null,
    size integer not null,
    origin integer not null default 0,
    unclaimed_at integer,
    unclaimed_bytes integer not null default 0,
    unique (root, size)
  ) strict;
  create index object_unclaimed on object (unclaimed_at) where unclaimed_at is not null;

  create table piece (
    object integer not null references object (id),
    idx integer not null,
    class integer not null,
    slot integer not null,
    bytes integer not null,
    crc integer not null,
    root blob not null,
    siblings blob not null,
    checked_at integer not null,
    primary key (object, idx)
  ) strict, without rowid;
  create unique index piece_slot on piece (class, slot);

  create table quarantine (
    class integer not null,
    slot integer not null,
    object integer not null,
    idx integer not null,
    reason text not null,
    found_at integer not null,
    primary key (class, slot)
  ) strict, without rowid;

  create table tx (
    seq integer primary key,
    object integer references object (id),
    root blob not null,
    size integer not null,
    start_sector integer not null,
    sectors integer not null,
    nodes blob not null,
    status integer not null,
    needed integer not null,
    held integer not null,
    block integer not null,
    logged_at integer not null,
    flow_root blob not null
  ) strict;
  create index tx_object on tx (object);
  create index tx_root on tx (root);
  create index tx_pending on tx (seq) where status = 0;
  create index tx_pruned on tx (seq) where status = 2;
  create index tx_start on tx (start_sector);
  create index tx_flow_root on tx (flow_root);

  create table flow_node (
    end_sector integer not null,
    level integer not null,
    hash blob not null,
    primary key (end_sector, level)
  ) strict, without rowid;

  create table block (number integer primary key, hash blob not null, next_seq integer not null) strict;
  `,
]
