// The kernels of data availability, portable. None keeps anything at fixed addresses between calls or writes to its
// statics, so that instances may share one memory, each with a scratch of its own.
import { TABLE_BYTES, buildTable, buildTables, initField } from './gf16';
export { buildTablesOf } from './gf16';
export { decodeColumns, encodeColumns } from './reed-solomon';
export { combineRows } from './combination';
export { climb, foldTree, hashCombinations, hashRows } from './sha256-tree';

/** Everything the others look up: the field, tables of the labels [0, count), tables of the 16 single bits. */
export function initErasure(field: usize, tables: usize, count: u32, bits: usize): void {
  initField(field);
  buildTables(field, count, tables);
  for (let bit: u32 = 0; bit < 16; bit++) buildTable(field, <u32>1 << bit, bits + <usize>bit * TABLE_BYTES);
}
