import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import {
  AttestationError,
  dstackAttestor,
  noAttestor,
  reportDataFor,
  simulatedAttestor,
} from '#compute/attestation/attestor.ts'
import { type Collateral, verifyAttestationReport, verifyTdxQuote } from '#compute/attestation/verify-quote.ts'

const SIGNER = '0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC'
const NOW = Date.parse('2025-06-25T00:00:00Z')

/** A quote of a real machine with Intel's data of that month, as published with the dcap-qvl library. */
function sample(name: string): { quote: Uint8Array; collateral: Collateral } {
  const file = (ending: string) => new URL(`./fixtures/${name}${ending}`, import.meta.url)
  return {
    quote: new Uint8Array(readFileSync(file('.bin'))),
    collateral: JSON.parse(readFileSync(file('-collateral.json'), 'utf8')),
  }
}
const { quote, collateral } = sample('tdx-quote')
const REPORT_DATA = Buffer.from(
  '9a9d48e7f6799642d3d1b34e1e5e1742d4bb02dd6ddd551862c1211d35c304f9eca3efdbb481601c163cf52493d6e44aed55d51ec39b7e518fadb92c2b523f20',
  'hex',
)
const good = { quote, collateral, reportData: REPORT_DATA, nowMs: NOW }

function codeOf(work: () => unknown): string {
  try {
    work()
  } catch (error) {
    assert.ok(error instanceof AttestationError, String(error))
    return error.code
  }
  return 'accepted'
}

test('accepts the published quote of a real TDX machine', () => {
  const verified = verifyTdxQuote(good)
  assert.equal(verified.tcbStatus, 'UpToDate')
  assert.match(verified.mrTd, /^[0-9a-f]{96}$/)
  assert.equal(verifyTdxQuote({ ...good, measurements: { mrTd: [verified.mrTd] } }).mrTd, verified.mrTd)
})

test('refuses a quote bound to another key', () => {
  assert.equal(
    codeOf(() => verifyTdxQuote({ ...good, reportData: reportDataFor(SIGNER) })),
    'QUOTE_REPORT_DATA',
  )
})

test('refuses measurements that are not expected', () => {
  assert.equal(
    codeOf(() => verifyTdxQuote({ ...good, measurements: { rtmr3: ['00'] } })),
    'QUOTE_MEASUREMENT',
  )
})

test('refuses a platform whose firmware Intel calls out of date', () => {
  const old = sample('tdx-quote-outdated')
  const nowMs = Date.parse('2026-02-20T00:00:00Z')
  const code = codeOf(() => verifyTdxQuote({ ...old, nowMs, reportData: REPORT_DATA }))
  assert.match(code, /^QUOTE_(TCB|SIGNATURE)$/)
})

test("refuses Intel's data after its time", () => {
  assert.equal(
    codeOf(() => verifyTdxQuote({ ...good, nowMs: Date.parse('2026-11-21T00:00:00Z') })),
    'QUOTE_SIGNATURE',
  )
})

// Wherever one bit of what the quote signs is changed, it is refused.
test('refuses the quote with any bit of its signed part changed', () => {
  for (let at = 0; at < 632; at += 61) {
    const changed = quote.slice()
    changed[at] = (changed[at] ?? 0) ^ 0x10
    assert.notEqual(
      codeOf(() => verifyTdxQuote({ ...good, quote: changed })),
      'accepted',
      `bit of byte ${at}`,
    )
  }
})

test('refuses truncated, empty and oversized quotes', () => {
  for (const length of [0, 1, 47, 631, 1_000, quote.length - 2_000]) {
    assert.notEqual(
      codeOf(() => verifyTdxQuote({ ...good, quote: quote.slice(0, length) })),
      'accepted',
      `${length}`,
    )
  }
  assert.equal(
    codeOf(() => verifyTdxQuote({ ...good, quote: new Uint8Array(100_000) })),
    'QUOTE_FORMAT',
  )
})

test('a provider without hardware says so, bound to its key', async () => {
  const report = await noAttestor({ signer: SIGNER }).report()
  assert.equal(report.attestation, 'none')
  assert.equal(Buffer.from(report.report_data, 'base64').toString('latin1').replaceAll('\0', ''), SIGNER)
  assert.deepEqual(verifyAttestationReport({ report, signer: SIGNER, chainId: 1, nowMs: NOW }), { kind: 'none' })
})

test('a simulated report is marked, and exists and counts on the development chain alone', async () => {
  const report = await simulatedAttestor({ signer: SIGNER, chainId: 31_337 }).report()
  assert.equal(report.simulated, true)
  assert.equal(
    codeOf(() => simulatedAttestor({ signer: SIGNER, chainId: 16_661 })),
    'ATTESTATION_SIMULATED',
  )
  const judge = (chainId: number, kind = report.attestation) =>
    verifyAttestationReport({ report: { ...report, attestation: kind }, signer: SIGNER, chainId, nowMs: NOW })
  assert.deepEqual(judge(31_337), { kind: 'simulated' })
  assert.equal(
    codeOf(() => judge(16_661)),
    'ATTESTATION_SIMULATED',
  )
  // Calling it hardware does not help.
  assert.equal(
    codeOf(() => judge(16_661, 'tdx')),
    'ATTESTATION_SIMULATED',
  )
})

test('a report about another key is refused', async () => {
  const report = await noAttestor({ signer: SIGNER }).report()
  const other = `0x${'11'.repeat(20)}` as const
  const code = codeOf(() => verifyAttestationReport({ report, signer: other, chainId: 1, nowMs: NOW }))
  assert.equal(code, 'ATTESTATION_SIGNER')
})

test('asks the guest agent for a quote over its own address, and says when the agent is gone', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'agent-'))
  const socketPath = join(folder, 'agent.sock')
  const asked: string[] = []
  const agent = createServer((request, response) => {
    let body = ''
    request.on('data', (part: Buffer) => {
      body += part.toString()
    })
    request.on('end', () => {
      asked.push(`${request.url} ${body}`)
      const quoteHex = Buffer.from(quote).toString('hex')
      response.end(JSON.stringify(request.url === '/Info' ? { tcb_info: '{}' } : { quote: quoteHex, event_log: '[]' }))
    })
  })
  await new Promise<void>((resolve) => agent.listen(socketPath, resolve))
  after(() => {
    agent.close()
    rmSync(folder, { recursive: true, force: true })
  })
  const report = await dstackAttestor({ signer: SIGNER, socketPath }).report()
  assert.equal(report.attestation, 'tdx')
  assert.ok(asked.some((call) => call.includes(Buffer.from(reportDataFor(SIGNER)).toString('hex'))))
  // This agent gave a quote over something else.
  const judge = () => verifyAttestationReport({ report, signer: SIGNER, chainId: 16_661, collateral, nowMs: NOW })
  assert.equal(codeOf(judge), 'QUOTE_REPORT_DATA')
  agent.close()
  const gone = dstackAttestor({ signer: SIGNER, socketPath: join(folder, 'none.sock'), timeoutMs: 1_000 })
  await assert.rejects(gone.report(), { code: 'ATTESTATION_AGENT' })
})
