// The kernels of one module. Every instance needs a memory of its own: the scratch of lanes.ts lies at fixed addresses.
export { foldLevel, fold, leafHashes, nodeHashes, segmentRoots } from './merkle';
export { padSeeds, sealHashes } from './pora';
export { scratchpads } from './scratchpad';
export { seal } from './seal';
