// The trees once more, over the wide compression of SHA-256. Only what is listed here is compiled ahead of its use.
export { climb, foldTree, hashCombinations, hashRows } from './sha256-tree';
