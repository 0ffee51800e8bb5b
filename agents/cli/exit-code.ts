/**
 * Exit codes of the `weightless` command. They are part of its interface: scripts match on them.
 *
 * @example
 * const code = exitCodeOf(error) // 4 for INSUFFICIENT_FUNDS
 */
export const EXIT_CODE = {
  ok: 0,
  failure: 1,
  usage: 2,
  notFound: 3,
  funds: 4,
  network: 5,
  interrupted: 130,
  terminated: 143,
} as const

const CODES: ReadonlyMap<string, number> = new Map([
  ...group(EXIT_CODE.usage, [
    'CLI_USAGE',
    'CONFIG_INVALID',
    'CONFIG_FILE',
    'SETTING_MISSING',
    'SETTING_INVALID',
    'NETWORK_UNKNOWN',
    'KV_STREAM',
    'SIGNER_MISSING',
    'PASSWORD_MISSING',
  ]),
  ...group(EXIT_CODE.notFound, [
    'ROOT_UNKNOWN',
    'FILE_MISSING',
    'PATH_NOT_IN_DIRECTORY',
    'FILE_PRUNED',
    'BLOB_UNKNOWN',
    'BLOB_EXPIRED',
    'RECEIPT_UNKNOWN',
    'KV_KEY_UNKNOWN',
  ]),
  ...group(EXIT_CODE.funds, ['INSUFFICIENT_FUNDS', 'DEPOSIT_INSUFFICIENT', 'FEE_ABOVE_LIMIT']),
  ...group(EXIT_CODE.network, [
    'CHAIN_UNREACHABLE',
    'INDEXER_UNREACHABLE',
    'NODE_UNREACHABLE',
    'NO_COVER',
    'NO_NODES',
    'NODE_LACKS_SEGMENT',
    'WAIT_TIMEOUT',
    'BLOB_UNAVAILABLE',
    'QUORUM_NOT_REACHED',
    'NO_PROVIDER',
    'PROVIDER_UNREACHABLE',
    'PROVIDER_TIMEOUT',
    'PROVIDER_BUSY',
    'KV_UNREACHABLE',
    'DISPERSER_UNREACHABLE',
    'DISPERSER_TIMEOUT',
    'DISPERSAL_FAILED',
  ]),
])

/** The exit code for what a command threw: by its `code`, 130 for an abort, else 1. */
export function exitCodeOf(error: unknown): number {
  if (!(error instanceof Error)) return EXIT_CODE.failure
  if (error.name === 'AbortError') return EXIT_CODE.interrupted
  const code = 'code' in error && typeof error.code === 'string' ? error.code : ''
  if (code.startsWith('commander.')) return EXIT_CODE.usage
  return CODES.get(code) ?? EXIT_CODE.failure
}

/** The table shown by `weightless --help`. */
export const EXIT_CODE_HELP = `Exit codes:
  0    done
  1    failed
  2    wrong usage or settings
  3    root, file, blob, key or receipt not found
  4    not enough funds
  5    chain, indexer, nodes, signers or providers not reachable, or not enough of them
  130  interrupted by Ctrl-C (143 by SIGTERM); run the same command again to resume`

function group(exitCode: number, codes: readonly string[]): [string, number][] {
  return codes.map((code) => [code, exitCode])
}
