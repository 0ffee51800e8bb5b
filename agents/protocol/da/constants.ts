/** Data rows of a blob: they are the payload itself, zero-filled to the end. */
export const DATA_ROWS = 1024

/** Parity rows of a blob. Any {@link DATA_ROWS} of all rows give the payload back. */
export const PARITY_ROWS = 2048

/** All rows: data rows 0 … 1023, then the parity rows. */
export const TOTAL_ROWS = DATA_ROWS + PARITY_ROWS

/** Cosets of {@link DATA_ROWS} rows each: the data and two of parity. */
export const COSETS = TOTAL_ROWS / DATA_ROWS

/** Bytes of the part of a row that can be proved alone. The last one of a row may be shorter. */
export const SUBLINE_BYTES = 1024

/** Largest payload of a blob, in bytes. */
export const MAX_BLOB_BYTES = 32 * 1024 * 1024

/** Row lengths are multiples of this: 32 symbols of 16 bits, their low bytes first. */
export const ROW_UNIT_BYTES = 64

/** Bytes of the combination of a row: eight 16-bit words, little-endian. */
export const COMBINATION_BYTES = 16

/** Bytes of the combinations of all data rows. */
export const RLC_BYTES = DATA_ROWS * COMBINATION_BYTES

/** Bytes of a SHA-256 hash. */
export const HASH_BYTES = 32

/** Largest path of a row: rows 0 … 2047 have 12 hashes, the others 11. */
export const MAX_PATH_HASHES = 12
