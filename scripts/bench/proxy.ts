import type { ChildProcess } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { maximumFee } from '#protocol/compute/fees.ts'
import {
  INPUT_PRICE_WEI,
  type Market,
  OUTPUT_PRICE_WEI,
  openMarket,
} from '../../test/agents/compute-provider/market.ts'
import { startChild, stopChild } from './child-process.ts'
import type { BenchContext } from './context.ts'
import { benchBody, Load, quantile, type StreamSample, type Target } from './proxy-load.ts'

/** Streams at the same time, for each of which latency and speed are measured. */
const STREAMS = [1, 50]
/** A token every so often: a model that writes 50 tokens per second for each of its streams. */
const EVERY_MS = 20
const USER = 3
/** Short streams through each target before its latency is measured: it is measured as of a process that has run. */
const WARM_UP = 200
/** Tokens of an answer whose latency is measured. */
const LATENCY_TOKENS = 20

/**
 * What a provider adds to its upstream: `proxy.latency-p50`, `proxy.latency-p99` (first token and tokens, against the
 * upstream called directly), `proxy.tokens-ratio` (its tokens per second at full speed), `proxy.requests` (whole answers
 * per second by session token and by voucher, against a bare fastify proxy). Upstream, provider and proxy are processes
 * of their own; the targets take turns.
 */
export async function bench(context: BenchContext): Promise<void> {
  const children: ChildProcess[] = []
  const market = await openMarket()
  const load = new Load()
  try {
    const user = market.user(USER)
    const upstreamUrl = await startChild(children, ['upstream'])
    const config = {
      ...{ port: 0, dataDir: join(market.folder, 'provider'), upstream: upstreamUrl, minimumReserveWei: '0' },
      chain: { rpcUrls: [market.anvil.url], inference: market.contracts.inference },
      settlement: { enabled: false, embeddedQueue: false },
      limits: { requestsPerMinute: 0, concurrentPerUser: 1_000, concurrent: 1_000, addressRequestsPerMinute: 0 },
    }
    await market.register(market.config({ dataDir: config.dataDir, upstream: upstreamUrl }))
    await user.fund('900')
    const configPath = join(market.folder, 'bench.json')
    await writeFile(configPath, JSON.stringify({ ...config, modelName: 'bench' }))
    const providerUrl = await startChild(children, ['provider', configPath])
    const bareUrl = await startChild(children, ['bare', upstreamUrl])
    const token = `Bearer ${await user.token()}`
    const targets = {
      direct: { url: upstreamUrl, headers: () => ({}) },
      bare: { url: bareUrl, headers: () => ({}) },
      provider: { url: providerUrl, headers: () => ({ authorization: token }) },
    }
    await latency(context, load, targets)
    await tokensRatio(context, load, targets)
    await requests(context, load, { ...targets, market, token })
  } finally {
    load.close()
    await Promise.all(children.map(stopChild))
    await market.close()
  }
}

interface Targets {
  direct: Target
  provider: Target
  bare: Target
}

async function latency({ quick, signal, report }: BenchContext, load: Load, targets: Targets): Promise<void> {
  const body = benchBody({ tokens: LATENCY_TOKENS, everyMs: EVERY_MS, stream: true })
  const measured: Record<string, { first: number[]; transit: number[] }> = {}
  const warmUp = benchBody({ tokens: 4, everyMs: 0, stream: true })
  for (let turn = 0; turn < WARM_UP; turn += 1) {
    for (const name of ['direct', 'provider'] as const) await load.stream(targets[name], warmUp)
  }
  for (const streams of STREAMS) {
    for (const name of ['direct', 'provider'] as const) {
      // Connections for all of them.
      await staggered(streams, 1, () => load.stream(targets[name], body))
      measured[`${name}-${streams}`] = { first: [], transit: [] }
    }
    const turns = streams === 1 ? (quick ? 10 : 20) : quick ? 2 : 5
    for (let turn = 0; turn < (quick ? 2 : 4); turn += 1) {
      for (const name of ['direct', 'provider'] as const) {
        signal.throwIfAborted()
        const samples = await staggered(streams, turns, () => load.stream(targets[name], body))
        const into = measured[`${name}-${streams}`]
        into?.first.push(...samples.map(({ firstTokenMs }) => firstTokenMs))
        into?.transit.push(...samples.flatMap(({ transitMs }) => transitMs.slice(1)))
      }
    }
  }
  for (const [figure, q] of [
    ['proxy.latency-p50', 0.5],
    ['proxy.latency-p99', 0.99],
  ] as const) {
    const detail: Record<string, unknown> = {}
    let worst = { value: Number.NEGATIVE_INFINITY, direct: 0, through: 0 }
    for (const streams of STREAMS) {
      for (const kind of ['first', 'transit'] as const) {
        const direct = quantile(measured[`direct-${streams}`]?.[kind] ?? [], q)
        const through = quantile(measured[`provider-${streams}`]?.[kind] ?? [], q)
        const name = kind === 'first' ? 'firstToken' : 'token'
        detail[`${name}${streams}Ms`] = {
          direct: round(direct),
          provider: round(through),
          added: round(through - direct),
        }
        if (through - direct > worst.value) worst = { value: through - direct, direct, through }
      }
    }
    report({
      ...{ name: figure, value: round(worst.value), unit: 'ms added' },
      detail: { ...detail, tokensPerSecondAndStream: 1_000 / EVERY_MS },
    })
  }
}

async function tokensRatio({ quick, signal, report }: BenchContext, load: Load, targets: Targets): Promise<void> {
  const tokens = quick ? 100 : 200
  const body = benchBody({ tokens, everyMs: EVERY_MS, stream: true })
  const rates: Record<'direct' | 'provider', number[]> = { direct: [], provider: [] }
  const streams = Math.max(...STREAMS)
  for (let turn = 0; turn < (quick ? 1 : 3); turn += 1) {
    for (const name of ['direct', 'provider'] as const) {
      signal.throwIfAborted()
      const startedAt = performance.now()
      const samples: StreamSample[] = await together(streams, () => load.stream(targets[name], body))
      const seconds = (performance.now() - startedAt) / 1_000
      rates[name].push(samples.reduce((sum, sample) => sum + sample.tokens, 0) / seconds)
    }
  }
  const direct = Math.max(...rates.direct)
  const through = Math.max(...rates.provider)
  report({
    ...{ name: 'proxy.tokens-ratio', value: round(through), unit: 'tokens/s' },
    ...{ peer: 'the upstream called directly', peerValue: round(direct), ratio: round(through / direct) },
    detail: { streams, tokensPerStream: tokens, everyMs: EVERY_MS },
  })
}

async function requests(
  { quick, signal, report }: BenchContext,
  load: Load,
  { bare, provider, market, token }: Targets & { market: Market; token: string },
): Promise<void> {
  const streams = 50
  const body = benchBody({ tokens: 4, everyMs: 0, stream: false })
  const feeWei = maximumFee({
    ...{ bodyBytes: body.length, maxTokens: 5, inputPriceWei: INPUT_PRICE_WEI, outputPriceWei: OUTPUT_PRICE_WEI },
  })
  const count = quick ? 300 : 1_500
  const vouchers: string[] = []
  for (let index = 0; index < count + streams; index += 1) {
    vouchers.push(await market.user(USER).voucher(feeWei * BigInt(index + 1 + streams)))
  }
  let used = 0
  const byVoucher: Target = {
    url: provider.url,
    headers: () => ({ authorization: token, 'x-weightless-voucher': vouchers[used++] ?? '' }),
  }
  const rates: Record<string, number> = {}
  const targets = { bare, token: provider, voucher: byVoucher }
  for (const name of ['bare', 'token'] as const) await together(streams, () => load.whole(targets[name], body))
  for (const [name, target] of Object.entries(targets)) {
    signal.throwIfAborted()
    let left = count
    const startedAt = performance.now()
    await together(streams, async () => {
      while (left-- > 0) await load.whole(target, body)
    })
    rates[name] = count / ((performance.now() - startedAt) / 1_000)
  }
  const { token: byToken = 0, bare: plain = 0, voucher = 0 } = rates
  report({
    ...{ name: 'proxy.requests', value: round(byToken), unit: 'requests/s' },
    ...{ peer: 'a bare fastify proxy', peerValue: round(plain), ratio: round(byToken / plain) },
    detail: { connections: streams, requests: count, byVoucher: round(voucher), voucherRatio: round(voucher / plain) },
  })
}

/** So many streams at every moment, each begun anew when it ends, their beginnings spread evenly over time. */
async function staggered<T>(streams: number, turns: number, work: () => Promise<T>): Promise<T[]> {
  const results: T[] = []
  await Promise.all(
    Array.from({ length: streams }, async (_, index) => {
      await delay((index / streams) * LATENCY_TOKENS * EVERY_MS)
      for (let turn = 0; turn < turns; turn += 1) results.push(await work())
    }),
  )
  return results
}

async function together<T>(count: number, work: () => Promise<T>): Promise<T[]> {
  return await Promise.all(Array.from({ length: count }, work))
}

function round(value: number): number {
  return Math.round(value * 1_000) / 1_000
}
