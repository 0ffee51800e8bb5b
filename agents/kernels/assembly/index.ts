// All kernels, portable. Every instance needs a memory of its own: the scratch of lanes.ts lies at fixed addresses.
// The statics of everything exported here must end below 48 KiB, where those of the wide modules begin (build.ts).
export { foldLevel, fold, leafHashes, nodeHashes, segmentRoots } from './merkle';
export { padSeeds, sealHashes } from './pora';
export { scratchpads } from './scratchpad';
export { seal } from './seal';
