// The kernels on keccak once more, over the wide permutation. Only what is listed here is compiled ahead of its use.
export { foldLevel, fold, leafHashes, nodeHashes, segmentRoots } from './merkle';
export { scratchpads } from './scratchpad';
export { seal } from './seal';
