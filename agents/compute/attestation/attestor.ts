import { createHash } from 'node:crypto'
import { request } from 'node:http'
import { WeightlessError } from '#protocol/error.ts'
import type { Hex } from '#protocol/hex.ts'

/** An attestation that cannot be made or does not hold. See the functions for the codes. */
export class AttestationError extends WeightlessError {}

/** What stands behind a signing key. */
export type AttestationKind = 'none' | 'simulated' | 'tdx'

/** What `GET /v1/quote` answers: the fields of dstack's report that clients read, and `attestation` in every case. */
export interface AttestationReport {
  /** `none`: no hardware vouches for the key. `simulated`: nothing does, for development. `tdx`: an Intel TDX quote. */
  attestation: AttestationKind
  /** True for a simulated report, absent otherwise. */
  simulated?: true
  signing_address: Hex
  /** Base64 of the signing address as ASCII, filled to 64 bytes with zeros. */
  report_data: string
  /** TDX quote, hex. Absent without hardware. */
  quote?: string
  intel_quote?: string
  /** dstack's event log: `compose-hash` names what runs. */
  event_log?: unknown
  tcb_info?: unknown
  vm_config?: unknown
  warning?: string
}

/** Makes reports about the key of this process. */
export interface Attestor {
  readonly kind: AttestationKind
  report(): Promise<AttestationReport>
}

/** The chain on which simulated attestations exist, and no other. */
export const DEVELOPMENT_CHAIN_ID = 31_337
/** Largest answer of the guest agent. */
const MAX_ANSWER_BYTES = 4 * 2 ** 20
/** The quote's 64 bytes of report data: the address as ASCII, then zeros (compute.md §3.1). */
const REPORT_DATA_BYTES = 64

/** The report data that binds a quote to a signing key: the address as ASCII text, then zeros. */
export function reportDataFor(signer: Hex): Uint8Array {
  const data = new Uint8Array(REPORT_DATA_BYTES)
  data.set(new TextEncoder().encode(signer))
  return data
}

/** Says plainly that nothing vouches for the key. */
export function noAttestor({ signer }: { signer: Hex }): Attestor {
  return {
    kind: 'none',
    report: async () => ({
      attestation: 'none',
      signing_address: signer,
      report_data: base64(reportDataFor(signer)),
      warning: 'no trusted hardware: the signing key is an ordinary key of the operator',
    }),
  }
}

/**
 * A report that passes the SDK's two checks and says in every answer that it is simulated. For development.
 *
 * @throws AttestationError `ATTESTATION_SIMULATED` on any chain but 31337
 */
export function simulatedAttestor({ signer, chainId }: { signer: Hex; chainId: number }): Attestor {
  if (chainId !== DEVELOPMENT_CHAIN_ID) {
    throw new AttestationError({
      code: 'ATTESTATION_SIMULATED',
      message: `a simulated attestation exists on chain ${DEVELOPMENT_CHAIN_ID} only, this is chain ${chainId}`,
      fix: "set attestation.kind to 'none', or run in a TDX guest with 'dstack'",
      details: { chainId },
    })
  }
  const appCompose = JSON.stringify({ runner: 'simulated', docker_compose_file: 'services: {}' })
  const composeHash = createHash('sha256').update(appCompose).digest('hex')
  return {
    kind: 'simulated',
    report: async () => ({
      attestation: 'simulated',
      simulated: true,
      signing_address: signer,
      report_data: base64(reportDataFor(signer)),
      event_log: [{ imr: 3, event_type: 0, digest: '', event: 'compose-hash', event_payload: composeHash }],
      tcb_info: { app_compose: appCompose },
      warning: 'simulated for development: no hardware vouches for this key',
    }),
  }
}

/**
 * Reports of a TDX guest, from dstack's guest agent (`POST /GetQuote` and `/Info` on its Unix socket).
 *
 * @throws AttestationError from `report`: `ATTESTATION_AGENT` when the agent does not answer, `ATTESTATION_FORMAT`
 */
export function dstackAttestor({
  signer,
  socketPath,
  timeoutMs = 30_000,
}: {
  signer: Hex
  socketPath: string
  /** Of one call to the agent. */
  timeoutMs?: number | undefined
}): Attestor {
  return {
    kind: 'tdx',
    report: async () => {
      const data = Buffer.from(reportDataFor(signer)).toString('hex')
      const [answer, info] = await Promise.all([
        callAgent({ socketPath, path: '/GetQuote', body: { report_data: data }, timeoutMs }),
        callAgent({ socketPath, path: '/Info', body: {}, timeoutMs }),
      ])
      const quote = answer.quote
      if (typeof quote !== 'string' || !/^(0x)?[0-9a-fA-F]+$/.test(quote)) {
        throw new AttestationError({
          code: 'ATTESTATION_FORMAT',
          message: "the guest agent's answer holds no quote in hex",
          details: { field: 'quote' },
        })
      }
      return {
        attestation: 'tdx',
        signing_address: signer,
        report_data: base64(reportDataFor(signer)),
        ...{ quote, intel_quote: quote, event_log: answer.event_log, tcb_info: info.tcb_info },
        vm_config: answer.vm_config ?? info.vm_config,
      }
    },
  }
}

function callAgent(parameters: {
  socketPath: string
  path: string
  body: Record<string, unknown>
  timeoutMs: number
}): Promise<Record<string, unknown>> {
  const { socketPath, path, body, timeoutMs } = parameters
  return new Promise((resolve, reject) => {
    const fail = (reason: string, cause?: unknown) =>
      reject(
        new AttestationError({
          code: 'ATTESTATION_AGENT',
          message: `the guest agent at ${socketPath} gave no answer to ${path}: ${reason}`,
          fix: 'run inside a dstack guest with its socket mounted, or choose another attestation.kind',
          details: { socketPath, path },
          cause,
        }),
      )
    const call = request(
      { socketPath, path, method: 'POST', headers: { 'content-type': 'application/json' }, timeout: timeoutMs },
      (response) => {
        const parts: Buffer[] = []
        let length = 0
        response.on('data', (part: Buffer) => {
          length += part.length
          if (length > MAX_ANSWER_BYTES) call.destroy(new Error('its answer is too large'))
          else parts.push(part)
        })
        response.on('end', () => {
          if (response.statusCode !== 200) {
            fail(`status ${response.statusCode}`)
            return
          }
          try {
            const answer: unknown = JSON.parse(Buffer.concat(parts).toString('utf8'))
            if (typeof answer !== 'object' || answer === null) throw new Error('no object')
            resolve(answer as Record<string, unknown>)
          } catch (error) {
            fail('no JSON object', error)
          }
        })
      },
    )
    call.on('timeout', () => call.destroy(new Error(`nothing within ${timeoutMs} ms`)))
    call.on('error', (error) => fail(error.message, error))
    call.end(JSON.stringify(body))
  })
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64')
}
