import { createHash } from 'node:crypto'
import type { LocalAccount } from 'viem'
import { z } from 'zod'
import type { EndEvent, EngineInfo, EngineUsage } from '#compute/engines/engine.ts'
import { engineText } from '#protocol/compute/adapter-name.ts'
import {
  engineHash,
  PROFILES,
  type ReceiptDomain,
  type SignedReceipt,
  STOP_REASONS,
  type StopReason,
  signReceipt,
  ZERO_HASH,
} from '#protocol/compute/receipt.ts'
import { type ResponseSignature, responseText, signResponse } from '#protocol/compute/response-signature.ts'
import { tokenRoot } from '#protocol/compute/token-root.ts'
import type { Hash, Hex } from '#protocol/hex.ts'
import type { ProviderStore } from './provider-store.ts'

/** What is known when an answer has ended. */
export interface AnswerFacts {
  id: string
  user: Hex
  /** The request's body as it came. */
  body: Uint8Array
  /** keccak-256 of it. */
  bodyHash: Hash
  /** SHA-256 of the bytes sent, hex. */
  responseSha256: string
  feeWei: bigint
  usage: EngineUsage
  finish: string
  /** Undefined for answers that did not reach their end. */
  end: EndEvent | undefined
  maxTokens: number
  /** Storage root of the adapter that took part; the receipt names it with the engine. */
  adapter: Hash | undefined
  promptTokenIds: readonly number[] | undefined
  outputTokenIds: readonly number[] | undefined
}

export interface ArtifactStoreParameters extends ReceiptDomain {
  store: ProviderStore
  provider: Hex
  /** Signs receipts and answers: the key the service names as its signer. */
  signer: LocalAccount
  engineInfo: () => Promise<EngineInfo>
  now: () => number
  enabled: boolean
  retentionMs: number
}

const hash = z.string().regex(/^0x[0-9a-f]{64}$/) as unknown as z.ZodType<Hash>
const tokens = z.array(z.number()).nullable()
const storedSchema = z.object({
  ...{ bodyHash: hash, requestSha256: z.string(), responseSha256: z.string(), feeWei: z.string() },
  ...{ promptLen: z.number(), outputLen: z.number(), maxTokens: z.number(), finish: z.string() },
  profile: z.enum(PROFILES),
  settings: z.object({ temperatureQ16: z.number(), cutQ16: z.number(), seed: z.string() }),
  ...{ promptTokens: tokens, outputTokens: tokens, modelId: hash, engine: z.string() },
})

/** Rows deleted at once, so that a request never waits long. */
const PRUNE_ROWS = 500

/**
 * Keeps what receipts and response signatures are made of, for days. Signatures are made when they are asked for: a
 * deterministic signature (RFC 6979) of the same facts is the same signature.
 */
export class ArtifactStore {
  readonly #parameters: ArtifactStoreParameters
  readonly #pending = new Map<string, { user: Hex; createdMs: number; stored: z.input<typeof storedSchema> }>()
  #info: { modelId: Hash; engine: string } | undefined

  constructor(parameters: ArtifactStoreParameters) {
    this.#parameters = parameters
  }

  /** Asks the engine who it is. Call before anything is kept. */
  async prepare(): Promise<void> {
    const { kind, build, modelId } = await this.#parameters.engineInfo()
    this.#info = { modelId, engine: `${kind} ${build}`.slice(0, 256) }
  }

  keep(facts: AnswerFacts): void {
    const { now, enabled } = this.#parameters
    if (!enabled || this.#info === undefined) return
    const { id, user, body, bodyHash, responseSha256, feeWei, usage, finish, end, maxTokens } = facts
    const { modelId, engine } = this.#info
    const stored: z.input<typeof storedSchema> = {
      ...{
        bodyHash,
        responseSha256,
        maxTokens,
        finish,
        modelId,
        engine: engineText({ engine, adapter: facts.adapter }),
      },
      requestSha256: createHash('sha256').update(body).digest('hex'),
      feeWei: String(feeWei),
      profile: end?.profile ?? 'none',
      settings: {
        temperatureQ16: end?.settings.temperatureQ16 ?? 0,
        cutQ16: end?.settings.cutQ16 ?? 0,
        seed: String(end?.settings.seed ?? 0n),
      },
      ...{ promptLen: usage.promptTokens, outputLen: usage.completionTokens },
      promptTokens: listed(facts.promptTokenIds, usage.promptTokens),
      outputTokens: listed(facts.outputTokenIds, usage.completionTokens),
    }
    this.#pending.set(id, { user, createdMs: now(), stored })
    if (this.#pending.size === 1) setImmediate(() => this.flush())
  }

  /** Writes what waits: answers that end in one turn of the event loop share one transaction. */
  flush(): void {
    if (this.#pending.size === 0) return
    const { database } = this.#parameters.store
    database.transaction(() => {
      for (const [id, { user, createdMs, stored }] of this.#pending) {
        const sql = 'insert or replace into artifact (id, user, created_ms, body) values (?, ?, ?, ?)'
        database.run(sql, id, user, createdMs, JSON.stringify(stored))
      }
    })
    this.#pending.clear()
  }

  /** The signed receipt of an answer; undefined when it is not known (any more). */
  async receipt(id: string): Promise<SignedReceipt | undefined> {
    const { provider, signer, chainId, contract } = this.#parameters
    const found = this.#find(id)
    if (found === undefined) return undefined
    const { stored, user, createdMs } = found
    const { settings, profile, modelId, bodyHash, promptTokens, outputTokens, maxTokens } = stored
    const repeatable = profile !== 'none' && promptTokens !== null && outputTokens !== null
    const receipt = {
      ...{ modelId, user, provider, requestHash: bodyHash, promptLen: stored.promptLen, outputLen: stored.outputLen },
      engine: engineHash(stored.engine),
      promptRoot: promptTokens === null ? ZERO_HASH : tokenRoot(promptTokens),
      outputRoot: outputTokens === null ? ZERO_HASH : tokenRoot(outputTokens),
      settings: { ...settings, seed: BigInt(settings.seed), maxTokens, stopIds: ZERO_HASH, bias: ZERO_HASH },
      stopReason: stopReasonOf(stored.finish),
      level: repeatable ? 2 : 1,
      profile,
      issuedAtS: Math.floor(createdMs / 1000),
      feeWei: BigInt(stored.feeWei),
      coverageWei: 0n,
      plaintextRoot: ZERO_HASH,
      nonce: BigInt(`0x${id.replaceAll('-', '')}`),
    }
    const signature = await signReceipt({ chainId, contract, receipt, signer })
    return {
      ...{ receipt, signature, engine: stored.engine },
      promptTokens: promptTokens ?? undefined,
      outputTokens: outputTokens ?? undefined,
    }
  }

  /** The older signature over request and answer (compute.md §2.6); undefined when it is not known (any more). */
  async signature(id: string): Promise<ResponseSignature | undefined> {
    const found = this.#find(id)
    if (found === undefined) return undefined
    const { requestSha256, responseSha256 } = found.stored
    const text = responseText({ engineRequest: requestSha256, response: responseSha256 })
    return await signResponse({ signer: this.#parameters.signer, text, requestSha256 })
  }

  /** Deletes what is older than the retention; bounded, so call it again and again. */
  prune(): number {
    const { store, now, retentionMs } = this.#parameters
    const { changes } = store.database.run(
      'delete from artifact where id in (select id from artifact where created_ms < ? order by created_ms limit ?)',
      ...[now() - retentionMs, PRUNE_ROWS],
    )
    return Number(changes)
  }

  #find(id: string) {
    this.flush()
    const row = this.#parameters.store.database.get<{ user: Hex; created_ms: number; body: string }>(
      'select user, created_ms, body from artifact where id = ?',
      plainId(id),
    )
    if (row === undefined) return undefined
    return { stored: storedSchema.parse(JSON.parse(row.body)), user: row.user, createdMs: row.created_ms }
  }
}

/** Clients name a chat by the header's id or by the body's, in any case. */
function plainId(id: string): string {
  return id.toLowerCase().replace(/^(chatcmpl|cmpl)-/, '')
}

/** Token ids count only where they are as many as were billed. */
function listed(ids: readonly number[] | undefined, billed: number): number[] | null {
  return ids !== undefined && ids.length === billed ? [...ids] : null
}

function stopReasonOf(finish: string): StopReason {
  const named = STOP_REASONS.find((reason) => reason === finish.replaceAll('_', '-'))
  if (named !== undefined) return named
  return finish === 'failed' || finish === 'interrupted' ? 'error' : 'stop'
}
