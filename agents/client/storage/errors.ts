import { WeightlessError, type WeightlessErrorParameters } from '#protocol/error.ts'

/** Where the fixes below are explained at length. */
const NODE_HINT = 'check that the node runs and that its URL is right, or name another one'

/** The account cannot pay. `details`: `address`, `haveWei`, `needWei` (decimal strings), `feeWei`, `gasWei`. */
export class InsufficientFundsError extends WeightlessError {
  constructor(facts: { address: string; haveWei: bigint; feeWei: bigint; gasWei: bigint; cause?: unknown }) {
    const needWei = facts.feeWei + facts.gasWei
    super({
      code: 'INSUFFICIENT_FUNDS',
      message: `${facts.address} has ${facts.haveWei} wei and needs ${needWei} (${facts.feeWei} storage fee + ${facts.gasWei} gas)`,
      fix: `send at least ${needWei - facts.haveWei} wei to ${facts.address}`,
      details: {
        address: facts.address,
        haveWei: String(facts.haveWei),
        needWei: String(needWei),
        feeWei: String(facts.feeWei),
        gasWei: String(facts.gasWei),
      },
      cause: facts.cause,
    })
  }
}

/** No node asked knows this file. `details`: `root` or `txSeq`, `nodes` asked. */
export class RootUnknownError extends WeightlessError {
  constructor({ file, nodes, causes }: { file: string; nodes: readonly string[]; causes?: readonly unknown[] }) {
    super({
      code: 'ROOT_UNKNOWN',
      message: `no storage node knows ${file} (asked ${nodes.length}: ${nodes.join(', ') || 'none'})`,
      fix: 'check the root and the network; a file uploaded moments ago appears after the next confirmations',
      details: { file, nodes },
      cause: causes?.[0],
    })
  }
}

/** The file is known, but nodes that hold all of it are not within reach. */
export class FileNotStoredError extends WeightlessError {
  constructor({ file, states }: { file: string; states: readonly { url: string; state: string }[] }) {
    super({
      code: 'FILE_NOT_STORED',
      message: `${file} is recorded on the chain, but its data is not complete: ${states.map(({ url, state }) => `${url} ${state}`).join('; ')}`,
      fix: 'upload the file again: it is not paid twice, and only what is missing is sent',
      details: { file, states },
    })
  }
}

/** The nodes at hand do not hold (or cannot take) every part of the file often enough. */
export class NoCoverError extends WeightlessError {
  constructor(facts: {
    replicas: number
    nodes: readonly { url: string; shard: string }[]
    failed?: readonly { url: string; reason: string }[]
    cause?: unknown
  }) {
    const have = facts.nodes.map(({ url, shard }) => `${url} (shard ${shard})`).join(', ') || 'none'
    const failed = (facts.failed ?? []).map(({ url, reason }) => `${url}: ${reason}`).join('; ')
    super({
      code: 'NO_COVER',
      message: `the storage nodes do not cover every shard ${facts.replicas} time(s): ${have}${failed === '' ? '' : `; failed: ${failed}`}`,
      fix:
        facts.replicas > 1
          ? 'ask for fewer replicas, or add nodes'
          : 'start a node for the shard that is missing, or name more nodes',
      details: { replicas: facts.replicas, nodes: facts.nodes, failed: facts.failed ?? [] },
      cause: facts.cause,
    })
  }
}

/** A failure at one node. `reason` is the message without the node's URL, for lists that name it already. */
export class NodeError extends WeightlessError {
  readonly reason: string

  constructor({ reason, ...parameters }: WeightlessErrorParameters & { reason: string }) {
    super(parameters)
    this.reason = reason
  }
}

/** A node could not be reached, stalled, or broke the connection. `details`: `url`. */
export class NodeUnreachableError extends NodeError {
  constructor({ url, reason, cause }: { url: string; reason: string; cause?: unknown }) {
    super({ code: 'NODE_UNREACHABLE', message: `${url}: ${reason}`, fix: NODE_HINT, details: { url }, cause, reason })
  }
}

/** The indexer could not be reached or did not answer sensibly. `details`: `url`. */
export class IndexerUnreachableError extends WeightlessError {
  constructor({ url, cause }: { url: string; cause: unknown }) {
    super({
      code: 'INDEXER_UNREACHABLE',
      message: `the indexer at ${url} did not answer`,
      fix: 'check the indexer URL, or name storage nodes directly',
      details: { url },
      cause,
    })
  }
}

/** A node answered with an error. `details`: `url`, `nodeCode`. */
export class NodeRefusedError extends NodeError {
  /** The node's own details. */
  readonly nodeDetails: Readonly<Record<string, unknown>> | undefined

  constructor(facts: {
    url: string
    nodeCode: string
    reason: string
    status?: number
    fix?: string
    nodeDetails?: Record<string, unknown> | undefined
    cause?: unknown
  }) {
    super({
      code: 'NODE_REFUSED',
      message: `${facts.url} refused: ${facts.reason}`,
      fix: facts.fix ?? 'see the reason the node gave',
      details: { url: facts.url, nodeCode: facts.nodeCode, status: facts.status },
      cause: facts.cause,
      reason: facts.reason,
    })
    this.nodeDetails = facts.nodeDetails
  }
}

/** A node sent something that is not an answer to what was asked. `details`: `url`. */
export class NodeAnswerError extends NodeError {
  constructor({ url, reason, cause }: { url: string; reason: string; cause?: unknown }) {
    super({
      code: 'NODE_ANSWER_INVALID',
      message: `${url} sent an invalid answer: ${reason}`,
      fix: 'use another node, and tell the operator of this one',
      details: { url },
      cause,
      reason: `invalid answer: ${reason}`,
    })
  }
}

/** No node gave this segment. `details`: `segment`, `attempts` (what happened at each node). */
export class NodeLacksSegmentError extends WeightlessError {
  constructor({ file, segment, attempts }: { file: string; segment: number; attempts: readonly NodeAttempt[] }) {
    super({
      code: 'NODE_LACKS_SEGMENT',
      message: `segment ${segment} of ${file} could not be had from any node: ${attempts.map(({ url, reason }) => `${url}: ${reason}`).join('; ')}`,
      fix: 'run the download again: it resumes where it stopped; name more nodes if these stay without the segment',
      details: { file, segment, attempts },
    })
  }
}

/** Every node that gave this segment gave wrong bytes. `details`: `segment`, `attempts`. */
export class SegmentCorruptError extends WeightlessError {
  constructor(facts: { file: string; segment: number; attempts: readonly NodeAttempt[]; cause?: unknown }) {
    super({
      code: 'SEGMENT_CORRUPT',
      message: `segment ${facts.segment} of ${facts.file} does not match the root: ${facts.attempts.map(({ url, reason }) => `${url}: ${reason}`).join('; ')}`,
      fix: 'name a node that is honest; nothing wrong was written to the file',
      details: { file: facts.file, segment: facts.segment, attempts: facts.attempts },
      cause: facts.cause,
    })
  }
}

/** What one node did when it was asked. */
export interface NodeAttempt {
  url: string
  reason: string
}

/** A wait ran into its limit. `details`: `waitedMs`, `missing`. */
export class WaitTimeoutError extends WeightlessError {
  constructor(facts: { what: string; waitedMs: number; missing: readonly NodeAttempt[]; fix?: string }) {
    super({
      code: 'WAIT_TIMEOUT',
      message: `gave up after ${Math.round(facts.waitedMs / 1000)} s waiting for ${facts.what}: ${facts.missing.map(({ url, reason }) => `${url} ${reason}`).join('; ')}`,
      fix: facts.fix ?? 'run the same command again: it goes on where it stopped and does not pay again',
      details: { waitedMs: facts.waitedMs, missing: facts.missing },
    })
  }
}

/** The source gives other bytes than when it was hashed. `details`: `root`, `nodeCode`. */
export class SourceChangedError extends WeightlessError {
  constructor({ root, cause }: { root: string; cause: unknown }) {
    super({
      code: 'SOURCE_CHANGED',
      message: `the file is not what it was when its root ${root} was computed`,
      fix: 'leave the file alone while it is uploaded, then run the upload again: the changed file is new content',
      details: { root },
      cause,
    })
  }
}

/** Chain, Flow contract and nodes do not belong together. `details` name both sides. */
export class NetworkMismatchError extends WeightlessError {
  constructor({ message, fix, details }: { message: string; fix: string; details: Record<string, unknown> }) {
    super({ code: 'NETWORK_MISMATCH', message, fix, details })
  }
}

/** The Flow contract took neither the current nor the legacy `submit`. */
export class FlowRefusedError extends WeightlessError {
  constructor({ flow, reason, cause }: { flow: string; reason: string; cause?: unknown }) {
    super({
      code: 'FLOW_REFUSED',
      message: `the Flow contract ${flow} refuses the submission: ${reason}`,
      fix: 'check the Flow address; nothing was paid',
      details: { flow },
      cause,
    })
  }
}

/** The action needs a part the client was not given (`rpcUrl`, `account`, `indexerUrl` or `nodes`). */
export class SettingMissingError extends WeightlessError {
  constructor({ setting, purpose }: { setting: string; purpose: string }) {
    super({
      code: 'SETTING_MISSING',
      message: `${setting} is needed to ${purpose}`,
      fix: `give ${setting}`,
      details: { setting },
    })
  }
}

/** The download cannot be decrypted with the key at hand. `details`: `have`, `need`. */
export class DecryptionKeyError extends WeightlessError {
  constructor({
    message,
    fix,
    details,
    cause,
  }: { message: string; fix: string; details?: Record<string, unknown>; cause?: unknown }) {
    super({ code: 'KEY_DOES_NOT_FIT', message, fix, details, cause })
  }
}

/** The text of an error for a list of attempts; never longer than a line. */
export function reasonOf(error: unknown): string {
  const text = error instanceof NodeError ? error.reason : error instanceof Error ? error.message : String(error)
  return text.replaceAll(/\s+/g, ' ').slice(0, 300)
}

/** Something is at the path to write to. `details`: `path`. */
export class FileExistsError extends WeightlessError {
  constructor({ path }: { path: string }) {
    super({
      code: 'FILE_EXISTS',
      message: `${path} exists already`,
      fix: 'choose another path, or allow it to be replaced (--force)',
      details: { path },
    })
  }
}
