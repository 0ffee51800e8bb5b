export { dACustodyAbi as custodyAbi } from '#protocol/abi/da-custody.ts'
export { dAEntranceAbi as entranceAbi } from '#protocol/abi/da-entrance.ts'
export { dASignersAbi as signersAbi } from '#protocol/abi/da-signers.ts'
