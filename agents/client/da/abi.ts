export { daCustodyAbi as custodyAbi } from '#protocol/abi/da-custody.ts'
export { daEntranceAbi as entranceAbi } from '#protocol/abi/da-entrance.ts'
export { daSignersAbi as signersAbi } from '#protocol/abi/da-signers.ts'
export { dispersalAccountsAbi as accountsAbi } from '#protocol/abi/dispersal-accounts.ts'
