/** Bytes of a sector, the unit of the flow: one leaf of every tree. Also called chunk or entry. */
export const SECTOR_BYTES = 256

/** Sectors of a segment, the unit of transfer. */
export const SEGMENT_SECTORS = 1024

/** Bytes of a full segment: 256 KiB. */
export const SEGMENT_BYTES = SECTOR_BYTES * SEGMENT_SECTORS

/** Height of a full segment's subtree over sectors. */
export const SEGMENT_HEIGHT = 10

/** Bytes of a hash. */
export const HASH_BYTES = 32

/**
 * Bytes of the largest file this implementation stores as one submission: 8 TiB, the range a miner may mine at once.
 * Larger content is split into several files. Keeps every segment index within 25 bits and every proof within 25 steps.
 */
export const MAX_FILE_BYTES = 2 ** 43

/** Longest segment proof (steps) the protocol can need: paths travel as 32 bits. */
export const MAX_PROOF_STEPS = 32

/** Most nodes of a submission; heights span less than 4. */
export const MAX_SUBMISSION_NODES = 4

/** Heights of submission nodes are below this. */
export const MAX_NODE_HEIGHT = 63
