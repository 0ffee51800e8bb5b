import { inferenceServingAbi } from '#protocol/abi/inference-serving.ts'
import type { Hash, Hex } from '#protocol/hex.ts'
import { type Known, readCached } from './cached-read.ts'
import { type ComputeConnection, isMissing, readChain } from './connection.ts'
import { NoProviderError } from './errors.ts'

/** A provider's offer as the chain has it. */
export interface ComputeService {
  /** The provider's wallet, lower case. */
  readonly provider: Hex
  /** `chatbot`, `embedding`, … */
  readonly serviceType: string
  /** Without a trailing slash. */
  readonly url: string
  readonly inputPriceWei: bigint
  readonly outputPriceWei: bigint
  readonly model: string
  readonly verifiability: string
  /** The parsed `additionalInfo`; empty where it is no JSON object. */
  readonly info: Readonly<Record<string, unknown>>
  /** Signs answers besides the provider itself. */
  readonly teeSigner: Hex
  /** The signer was approved. Without it nothing can be settled by the signer. */
  readonly acknowledged: boolean
  /** Seconds since 1970. */
  readonly updatedAtS: number
}

const PAGE = 50
/** Services read at most: 100 pages. */
const MAX_SERVICES = 5_000

/**
 * The providers registered on the chain whose signer is approved, in the chain's order. Services with a URL that is no
 * http(s) URL are left out: nobody could reach them.
 *
 * @throws ComputeChainError
 * @example
 * const services = await listServices(connection)
 */
export async function listServices(
  connection: ComputeConnection,
  { includeUnacknowledged = false }: { includeUnacknowledged?: boolean } = {},
): Promise<ComputeService[]> {
  const { client } = await connection.chain()
  const { inference } = await connection.contracts()
  const found: ComputeService[] = []
  for (let offset = 0; offset < MAX_SERVICES; offset += PAGE) {
    const [page, total] = await readChain(`the services of ${inference}`, () =>
      client.readContract({
        address: inference,
        abi: inferenceServingAbi,
        functionName: 'getAllServices',
        args: [BigInt(offset), BigInt(PAGE)],
      }),
    )
    found.push(...page.map(readService))
    if (page.length === 0 || offset + page.length >= Number(total)) break
  }
  return found.filter(({ url, acknowledged }) => isHttp(url) && (acknowledged || includeUnacknowledged))
}

/**
 * One provider's offer.
 *
 * @throws NoProviderError where it has none
 */
export async function getService(connection: ComputeConnection, { provider }: { provider: Hex }) {
  const { client } = await connection.chain()
  const { inference } = await connection.contracts()
  const services = await readChain('the service', async () => {
    try {
      const args = [provider] as const
      return [
        await client.readContract({ address: inference, abi: inferenceServingAbi, functionName: 'getService', args }),
      ]
    } catch (error) {
      if (/ServiceNotExist/.test(error instanceof Error ? error.message : '')) return []
      throw error
    }
  })
  const [service] = services.map(readService)
  if (service !== undefined) return service
  throw new NoProviderError({ message: `${provider} offers no inference service`, attempts: [] })
}

const models = new WeakMap<ComputeConnection, Map<Hex, Known<Hash | undefined>>>()

/**
 * The storage root of the weights a provider claims to run; undefined where it names none.
 *
 * @throws ComputeChainError
 */
export async function serviceModel(
  connection: ComputeConnection,
  { provider }: { provider: Hex },
): Promise<Hash | undefined> {
  const cache = models.get(connection) ?? new Map<Hex, Known<Hash | undefined>>()
  models.set(connection, cache)
  const read = () => readModel(connection, provider)
  const known = await readCached(connection, { known: cache.get(provider), read })
  cache.set(provider, known)
  return known.value
}

async function readModel(connection: ComputeConnection, provider: Hex): Promise<Hash | undefined> {
  const { client } = await connection.chain()
  const { inference } = await connection.contracts()
  return await readChain('the model of the service', async () => {
    try {
      const at = { address: inference, abi: inferenceServingAbi, args: [provider] } as const
      const root = await client.readContract({ ...at, functionName: 'serviceModel' })
      return /^0x0+$/.test(root) ? undefined : root
    } catch (error) {
      // Deployments of the original contracts do not have this view.
      if (isMissing(error)) return undefined
      throw error
    }
  })
}

function readService(raw: {
  provider: Hex
  serviceType: string
  url: string
  inputPrice: bigint
  outputPrice: bigint
  updatedAt: bigint
  model: string
  verifiability: string
  additionalInfo: string
  teeSignerAddress: Hex
  teeSignerAcknowledged: boolean
}): ComputeService {
  return {
    provider: raw.provider.toLowerCase() as Hex,
    serviceType: raw.serviceType.slice(0, 64),
    url: raw.url.replace(/\/+$/, ''),
    inputPriceWei: raw.inputPrice,
    outputPriceWei: raw.outputPrice,
    model: raw.model.slice(0, 256),
    verifiability: raw.verifiability.slice(0, 64),
    info: parseInfo(raw.additionalInfo),
    teeSigner: raw.teeSignerAddress.toLowerCase() as Hex,
    acknowledged: raw.teeSignerAcknowledged,
    updatedAtS: Number(raw.updatedAt),
  }
}

function parseInfo(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {}
  } catch {
    return {}
  }
}

function isHttp(url: string): boolean {
  return url.length <= 2_048 && /^https?:$/.test(URL.parse(url)?.protocol ?? '')
}
