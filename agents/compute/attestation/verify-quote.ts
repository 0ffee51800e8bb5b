import { timingSafeEqual } from 'node:crypto'
import {
  type Collateral,
  Quote,
  QuoteVerifier,
  type TcbStatus,
  type TDReport10,
  type VerifiedReport,
} from '@phala/dcap-qvl'
import type { Hex } from '#protocol/hex.ts'
import { AttestationError, type AttestationReport, DEVELOPMENT_CHAIN_ID, reportDataFor } from './attestor.ts'

export type { Collateral } from '@phala/dcap-qvl'

/** States of a platform's firmware that count as sound. */
export const ACCEPTED_TCB: readonly TcbStatus[] = ['UpToDate', 'SWHardeningNeeded']

/** What a verified TDX quote says; measurements in lower-case hex. */
export interface VerifiedQuote {
  readonly tcbStatus: TcbStatus
  /** Intel's advisories that apply to the platform. */
  readonly advisories: readonly string[]
  readonly mrTd: string
  /** RTMR 0 to 3. */
  readonly rtmr: readonly [string, string, string, string]
  readonly reportData: Uint8Array
}

export interface VerifyTdxQuoteParameters {
  quote: Uint8Array
  /** Intel's certificates, revocation lists and TCB data for this platform, from a PCCS. */
  collateral: Collateral
  /** What the quote must be bound to: 64 bytes. */
  reportData: Uint8Array
  nowMs: number
  /** Default {@link ACCEPTED_TCB}. */
  acceptedTcb?: readonly TcbStatus[] | undefined
  /** `MRTD`s and `RTMR3`s accepted, lower-case hex; left out, any. */
  measurements?: { mrTd?: readonly string[] | undefined; rtmr3?: readonly string[] | undefined } | undefined
}

/** Largest quote looked at. Those of today have about 5,000 bytes. */
const MAX_QUOTE_BYTES = 65_536

/**
 * Verifies a TDX quote wholly: certificate chain to Intel's root with revocation lists, signatures of the quoting enclave
 * and of the quote, TCB level, no debugging, report data, and measurements where any are expected.
 *
 * @throws AttestationError `QUOTE_FORMAT`, `QUOTE_SIGNATURE` (chain, signature, collateral or TCB data do not hold),
 * `QUOTE_TCB`, `QUOTE_DEBUG`, `QUOTE_REPORT_DATA`, `QUOTE_MEASUREMENT`
 */
export function verifyTdxQuote(parameters: VerifyTdxQuoteParameters): VerifiedQuote {
  const { quote, collateral, nowMs, reportData, acceptedTcb = ACCEPTED_TCB, measurements = {} } = parameters
  if (quote.length === 0 || quote.length > MAX_QUOTE_BYTES) {
    throw refused('QUOTE_FORMAT', `a quote has 1 to ${MAX_QUOTE_BYTES} bytes, not ${quote.length}`, 'quote')
  }
  let verified: VerifiedReport
  try {
    const parsed = Quote.parse(quote)
    if (parsed.header.isSgx()) throw refused('QUOTE_FORMAT', 'this is an SGX quote, not a TDX one', 'quote')
    verified = QuoteVerifier.newProd().verify(quote, collateral, Math.floor(nowMs / 1000))
  } catch (cause) {
    if (cause instanceof AttestationError) throw cause
    const reason = cause instanceof Error ? cause.message.slice(0, 300) : 'no reason given'
    throw refused('QUOTE_SIGNATURE', `the quote does not hold: ${reason}`, 'quote', cause)
  }
  const { status, advisory_ids: advisories, report } = verified
  const body: TDReport10 | undefined = report.asTd10() ?? report.asTd15()?.base
  if (body === undefined) throw refused('QUOTE_FORMAT', 'the quote holds no TD report', 'quote')
  if (!acceptedTcb.includes(status)) {
    throw new AttestationError({
      code: 'QUOTE_TCB',
      message: `the platform's firmware is ${status}${advisories.length > 0 ? ` (${advisories.join(', ')})` : ''}`,
      fix: "update the platform's firmware and microcode",
      details: { field: 'tcb', status, advisories },
    })
  }
  // Bit 0 of the attributes: the host can read and change a TD under debugging.
  if (((body.tdAttributes[0] ?? 0) & 1) !== 0) throw refused('QUOTE_DEBUG', 'the TD runs under debugging', 'attributes')
  if (reportData.length !== 64 || !timingSafeEqual(body.reportData, reportData)) {
    throw refused('QUOTE_REPORT_DATA', 'the quote is bound to another key', 'report_data')
  }
  const mrTd = hex(body.mrTd)
  const rtmr = [hex(body.rtMr0), hex(body.rtMr1), hex(body.rtMr2), hex(body.rtMr3)] as const
  if (measurements.mrTd !== undefined && !measurements.mrTd.includes(mrTd)) {
    throw refused('QUOTE_MEASUREMENT', `MRTD ${mrTd} is not one of those expected`, 'mrTd')
  }
  if (measurements.rtmr3 !== undefined && !measurements.rtmr3.includes(rtmr[3])) {
    throw refused('QUOTE_MEASUREMENT', `RTMR3 ${rtmr[3]} is not one of those expected`, 'rtmr3')
  }
  return { tcbStatus: status, advisories, mrTd, rtmr, reportData: body.reportData }
}

export interface VerifyReportParameters {
  report: AttestationReport
  /** The signer that the service names on the chain. */
  signer: Hex
  chainId: number
  /** For a TDX report: Intel's data for the platform. */
  collateral?: Collateral | undefined
  nowMs: number
  acceptedTcb?: readonly TcbStatus[] | undefined
  measurements?: VerifyTdxQuoteParameters['measurements']
}

/**
 * Judges what `GET /v1/quote` answered. `none` is an answer, not an error: nothing vouches for the key. A simulated
 * report counts on the development chain alone.
 *
 * @throws AttestationError `ATTESTATION_FORMAT`, `ATTESTATION_SIGNER`, `ATTESTATION_SIMULATED`, `ATTESTATION_COLLATERAL`,
 * and those of {@link verifyTdxQuote}
 */
export function verifyAttestationReport(
  parameters: VerifyReportParameters,
): { kind: 'none' } | { kind: 'simulated' } | { kind: 'tdx'; quote: VerifiedQuote } {
  const { report, signer, chainId, collateral, nowMs, acceptedTcb, measurements } = parameters
  const kind: unknown = report.attestation
  if (kind !== 'none' && kind !== 'simulated' && kind !== 'tdx') {
    throw refused('ATTESTATION_FORMAT', 'the report does not say what kind it is', 'attestation')
  }
  const named = Buffer.from(String(report.report_data), 'base64').toString('latin1').replaceAll('\0', '')
  if (named.toLowerCase() !== signer.toLowerCase()) {
    throw refused('ATTESTATION_SIGNER', `the report is about ${named.slice(0, 64)}, not ${signer}`, 'report_data')
  }
  if (kind === 'none') return { kind }
  if (kind === 'simulated' || report.simulated === true) {
    if (chainId === DEVELOPMENT_CHAIN_ID) return { kind: 'simulated' }
    throw refused('ATTESTATION_SIMULATED', `a simulated report counts for nothing on chain ${chainId}`, 'simulated')
  }
  const text = String(report.quote ?? report.intel_quote ?? '').replace(/^0x/, '')
  if (!/^([0-9a-fA-F]{2})+$/.test(text)) throw refused('ATTESTATION_FORMAT', 'the report holds no quote', 'quote')
  if (collateral === undefined) {
    throw refused('ATTESTATION_COLLATERAL', "Intel's data for the platform is missing", 'collateral')
  }
  // The address is written in the case the report used; what is compared is what the quote was made over.
  const reportData = reportDataFor(named as Hex)
  const quote = Buffer.from(text, 'hex')
  return { kind, quote: verifyTdxQuote({ quote, collateral, reportData, nowMs, acceptedTcb, measurements }) }
}

function refused(code: string, message: string, field: string, cause?: unknown): AttestationError {
  return new AttestationError({
    code,
    message,
    fix: 'do not trust this signing key; use another provider',
    details: { field },
    cause,
  })
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}
