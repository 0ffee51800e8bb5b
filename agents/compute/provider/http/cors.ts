import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'

const EXPOSED = [
  ...['ZG-Res-Key', 'Provider', 'Content-Type', 'Content-Encoding', 'Retry-After'],
  ...['X-RateLimit-Limit-Requests', 'X-RateLimit-Remaining-Requests', 'X-RateLimit-Reset-Requests'],
].join(', ')
const METHODS = 'GET, POST, PUT, DELETE, OPTIONS, PATCH'
const ALLOWED =
  'Content-Type, Authorization, X-Requested-With, Accept, Origin, X-Weightless-Voucher, X-Weightless-Randomness'
/** What browser libraries of OpenAI send besides; they ask for it by name. */
const ASKED = /^[A-Za-z0-9-]{1,64}(\s*,\s*[A-Za-z0-9-]{1,64}){0,31}$/

/** The headers that let any page read the answer (compute.md §2.9). A page holds its own token, so none is at risk. */
export function corsHeaders(request: FastifyRequest): Record<string, string> {
  const { origin } = request.headers
  if (origin === undefined) return {}
  return {
    'access-control-allow-origin': origin,
    'access-control-allow-credentials': 'true',
    'access-control-expose-headers': EXPOSED,
    vary: 'Origin',
  }
}

/** Lets pages of every origin call: answers preflights, and marks every answer. */
export function allowEveryOrigin(app: FastifyInstance): void {
  app.addHook('onRequest', async (request: FastifyRequest, reply: FastifyReply) => {
    reply.headers(corsHeaders(request))
    if (request.method !== 'OPTIONS') return
    const asked = request.headers['access-control-request-headers']
    await reply
      .code(204)
      .headers({
        'access-control-allow-methods': METHODS,
        'access-control-allow-headers': asked !== undefined && ASKED.test(asked) ? asked : ALLOWED,
        'access-control-max-age': '86400',
      })
      .send()
  })
}
